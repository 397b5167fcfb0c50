"""Decides which copy of a charged run may continue."""
