"""Measures what synthetic images are worth: how they look, and what can be learnt from them.

Nothing here imports a method. A score against private images is a release of them without noise: it
belongs to benchmarks on public data, and says so where it is reported.
"""
