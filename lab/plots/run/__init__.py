"""Figures of one run: curves, layers, distributions, the plane of log-ratios, tokens, one pair."""
