"""How far predictions are from the truth, and tables of it."""
