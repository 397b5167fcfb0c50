"""Fits networks from released values and public numbers, never from a record."""
