"""The pages of the dashboard, one folder each."""
