"""Fits from released values and public numbers; they never see a record."""
