"""What is said about privacy, and why it holds."""
