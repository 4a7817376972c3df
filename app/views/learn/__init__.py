"""The Learn page: preference objectives by experiment, without a run."""
