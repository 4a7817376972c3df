"""Hypothesis on a machine that does other things too: examples may take their time."""

from hypothesis import settings

settings.register_profile("objectives", deadline=None)
settings.load_profile("objectives")
