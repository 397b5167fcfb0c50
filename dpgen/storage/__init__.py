"""Bytes on disk: opened safely, replaced atomically, locked."""
