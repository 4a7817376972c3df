"""Measurements beside training: held-out pairs, sampled answers, the panel and gradient probes."""
