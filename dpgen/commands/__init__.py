"""The commands of the program, one family per module; each imports its libraries when it runs."""
