"""Defines what every method is, and what a fitted one can do."""
