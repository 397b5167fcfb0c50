"""Images: their sources, public facts, private records, synthetic sets."""
