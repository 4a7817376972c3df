"""Checks before the first step, by running the model: is it causal, deterministic, and computed correctly in a layout?"""
