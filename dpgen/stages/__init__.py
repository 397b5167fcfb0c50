"""What several methods share and what touches records: one file, one priced stage."""
