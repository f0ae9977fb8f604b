"""Models: one contract, one row each."""
