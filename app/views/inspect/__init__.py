"""The Inspect page: one pair of a run."""
