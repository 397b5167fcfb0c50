"""Keeps account of what was spent, and on which records."""
