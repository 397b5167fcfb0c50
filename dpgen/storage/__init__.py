"""Bytes on disk: opened safely, replaced whole, held alone."""
