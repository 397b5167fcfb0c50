"""From a run to a set on disk."""
