"""Exports a trained model in the formats of other libraries."""
