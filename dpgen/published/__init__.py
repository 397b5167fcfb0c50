"""The algorithms of the papers as published, which no certificate covers: negative controls."""
