"""A real model with real pairs, by hand: `make real`."""
