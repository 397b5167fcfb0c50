"""Games against a claim of epsilon. A game can refute a claim and never prove one."""
