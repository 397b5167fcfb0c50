"""The commands of the program, one family to a module; each imports what it uses when it runs."""
