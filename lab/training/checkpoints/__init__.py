"""Checkpoints: written completely or not at all, read, restored and removed."""
