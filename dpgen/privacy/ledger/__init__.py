"""Records what was spent, and on which records."""
