"""The published flows of the papers, which no certificate covers: negative controls."""
