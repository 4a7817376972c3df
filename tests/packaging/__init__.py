"""Trial of the package as others install it."""
