"""Sections of `scripts/speed.py`."""
