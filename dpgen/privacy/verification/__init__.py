"""Checks privacy statements: recomputes what they say, and compares."""
