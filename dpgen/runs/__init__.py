"""One training run, on disk and on a machine."""
