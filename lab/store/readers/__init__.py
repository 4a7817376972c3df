"""Read-only access to a run store, one reader per family of data."""
