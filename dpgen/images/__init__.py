"""Images in memory, and what is public about them."""
