"""The Pairs page: the pairs of a set, searched and edited."""
