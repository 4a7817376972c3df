"""The New run page: a form that starts a run."""
