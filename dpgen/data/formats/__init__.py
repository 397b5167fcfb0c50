"""One file for each format of image data."""
