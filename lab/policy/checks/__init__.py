"""Checks by behaviour that a model is what the lab takes it for, before the first step."""
