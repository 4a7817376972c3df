"""Checkpoints: written whole or not at all, found, restored and removed."""
