"""From a run to another run: what is made of released networks, without their records."""
