"""Tests of lab.diagnosis."""
