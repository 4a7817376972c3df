"""Figures of one run: curves, layers, distributions, the plane, tokens, one pair."""
