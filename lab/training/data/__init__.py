"""Pairs as training data: tokens, the batch schedule, held-out pairs, statistics, and edits in mid-run."""
