"""Touches records, one file for each priced stage, and holds what several methods share."""
