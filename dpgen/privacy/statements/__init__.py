"""States the privacy guarantee of a run or a set, and why it holds."""
