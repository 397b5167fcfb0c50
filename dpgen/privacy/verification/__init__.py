"""Checks again what is said."""
