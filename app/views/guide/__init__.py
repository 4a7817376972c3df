"""The Guide page: the user guide with a search."""
