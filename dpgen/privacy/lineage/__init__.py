"""Who may go on with a charged run."""
