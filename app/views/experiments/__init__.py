"""The Experiments page: declare, follow and read experiments."""
