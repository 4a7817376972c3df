"""Figures of an objective without a run: the field over both log-ratios, and slices through it."""
