"""Figures of several runs: overlaid curves, and one run against another."""
