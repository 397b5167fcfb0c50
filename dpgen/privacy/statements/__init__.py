"""States what is promised about privacy, and why it holds."""
