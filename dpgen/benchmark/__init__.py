"""Benchmarks: every method at every budget with every seed."""
