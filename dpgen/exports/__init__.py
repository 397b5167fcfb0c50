"""Writes a trained model as the parts of another library."""
