"""Figures 12 and 13: metrics by charge, and four cases that everyone should know."""
