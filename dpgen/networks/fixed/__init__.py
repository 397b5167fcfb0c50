"""Fixed functions of one image: nothing in them is learned."""
