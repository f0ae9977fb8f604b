"""Perturbation prediction, scored against the exact answer."""
