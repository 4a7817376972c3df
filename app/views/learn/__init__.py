"""The Learn page: objectives in the plane of both log-ratios, as formulas with numbers, on small batches and on real tokens."""
