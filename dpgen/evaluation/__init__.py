"""Measures the quality of synthetic images: their fidelity, and their utility for learning.

Nothing here imports a method. A score against private images is a release without noise: it belongs
in benchmarks on public data, and reports say so.
"""
