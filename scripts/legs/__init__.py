"""Pieces of `gpu_legs.py`."""
