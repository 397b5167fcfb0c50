"""Fixed functions of one image, without learned parameters."""
