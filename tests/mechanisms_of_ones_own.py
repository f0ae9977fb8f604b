"""Mechanisms that a user might write, good and bad, named by import strings in the tests."""

import numpy as np

NOT_A_FUNCTION = 3


def saturating(x):
    total = x.sum(axis=1)
    return 1 + 20 * total / (10 + total)


def growing_theta(x):
    return 0.5 + x.sum(axis=1)


def returns_nan(x):
    return np.full(len(x), np.nan)


def returns_negative(x):
    return np.full(len(x), -1.0)


def returns_wrong_shape(x):
    return x
