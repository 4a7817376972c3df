"""Pairs as training data: tokens, batches, the schedule of steps, held-out pairs and edits in mid-run."""
