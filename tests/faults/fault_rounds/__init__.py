"""Real faults on the real command line, and what must hold on the disk after each of them."""
