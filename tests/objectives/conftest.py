"""Hypothesis without deadlines, because the machine may be busy; TRL without its start-up notice."""

import os

from hypothesis import settings

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
settings.register_profile("objectives", deadline=None, max_examples=50)
settings.load_profile("objectives")
