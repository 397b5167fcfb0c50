"""Images in memory, and the public facts about them."""
