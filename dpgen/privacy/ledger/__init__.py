"""What was spent, and on which records."""
