"""What is said, checked again."""
