"""A gene regulatory network learned from a screen, and knockdowns carried through it."""
