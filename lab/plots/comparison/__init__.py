"""Figures of several runs: curves overlaid, one run against another."""
