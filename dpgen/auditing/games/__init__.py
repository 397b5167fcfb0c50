"""Games against a claim: each can refute an epsilon, none can prove one."""
