"""Draws sets of images from runs, writes them to disk, and mixes them."""
