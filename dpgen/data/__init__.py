"""Images, where they come from and how they are written: sources, public facts, private records, synthetic sets."""
