"""Mechanisms: a parameter of one gene's law as a function of its parents' counts.

Each is a pure function `mechanism(x, **parameters)` of the parents' counts x, (n_cells, n_parents),
which returns (n_cells,). Beside it stands a `draw_...` that makes random parameters for given
counts. A mechanism of one's own is named by its import string, `package.module:function`.
"""

from collections.abc import Callable

import numpy as np

from lib import checks

FLOOR = 0.1  # counts; the mean that a mechanism can't fall below


def linear(x, weights, floor=FLOOR):
    """max(floor, sum_i w_i x_i)."""
    return np.maximum(floor, _weighted(x, weights))


def polynomial(x, weights, squares, floor=FLOOR):
    """max(floor, sum_i w_i x_i + s_i x_i^2)."""
    return np.maximum(floor, _weighted(x, weights) + _weighted(x**2, squares))


def interaction(x, weights, first, second, products, floor=FLOOR):
    """max(floor, sum_i w_i x_i + sum_j v_j x_first(j) x_second(j))."""
    return np.maximum(
        floor, _weighted(x, weights) + _weighted(x[:, first] * x[:, second], products)
    )


def hill(x, weights, top, half, power, floor=FLOOR):
    """floor + top a^n / (half^n + a^n), with activation a = max(0, sum_i w_i x_i)."""
    activation = np.maximum(0, _weighted(x, weights)) ** power
    return floor + top * activation / (half**power + activation)


def threshold(x, weights, cut, low, high):
    """`high` where sum_i w_i x_i is above `cut`, else `low`."""
    return np.where(_weighted(x, weights) > cut, high, low)


def gate(x, weights, top, half_on, half_off, floor=FLOOR):
    """floor + top a / (half_on + a) * half_off / (half_off + r).

    a and r are the sums over activators and repressors: see `_sides`.
    """
    on, off = _sides(x, weights)
    return floor + top * on / (half_on + on) * half_off / (half_off + off)


def draw_linear(rng, x, low=-2.0):
    return {"weights": rng.uniform(low, 2.0, x.shape[1])}


def draw_polynomial(rng, x):
    return draw_linear(rng, x) | {"squares": rng.uniform(-0.1, 0.1, x.shape[1])}


def draw_interaction(rng, x):
    n_pairs = x.shape[1] // 2
    if n_pairs == 0:
        raise ValueError("parents: the interaction mechanism needs at least two")
    order = rng.permutation(x.shape[1])
    pairs = {"first": order[:n_pairs], "second": order[n_pairs : 2 * n_pairs]}
    return draw_linear(rng, x) | pairs | {"products": rng.uniform(-1.0, 1.0, n_pairs)}


def draw_hill(rng, x):
    drawn = draw_linear(rng, x, low=0.0)
    half = _median(_weighted(x, drawn["weights"]))
    return drawn | {"top": rng.uniform(10, 20), "half": half, "power": rng.uniform(2, 4)}


def draw_threshold(rng, x):
    drawn = draw_linear(rng, x)
    cut = float(np.median(_weighted(x, drawn["weights"])))
    return drawn | {"cut": cut, "low": rng.uniform(1, 4), "high": rng.uniform(8, 16)}


def draw_gate(rng, x):
    drawn = draw_linear(rng, x)
    on, off = _sides(x, drawn["weights"])
    return drawn | {"top": rng.uniform(20, 40), "half_on": _median(on), "half_off": _median(off)}


def _weighted(x, weights):
    """sum_i w_i x_i for each cell, without BLAS, whose last digits depend on the processor."""
    return np.einsum("ij,j->i", x, weights)


def _sides(x, weights):
    """sum_i w_i x_i over positive weights, and sum_i -w_i x_i over negative ones."""
    weights = np.asarray(weights)
    activators = _weighted(x, np.maximum(weights, 0))
    repressors = _weighted(x, np.maximum(-weights, 0))
    return activators, repressors


def _median(activation):
    return max(float(np.median(activation)), FLOOR)


MECHANISMS: dict[str, tuple[Callable, Callable]] = {
    "linear": (linear, draw_linear),
    "polynomial": (polynomial, draw_polynomial),
    "interaction": (interaction, draw_interaction),
    "hill": (hill, draw_hill),
    "threshold": (threshold, draw_threshold),
    "gate": (gate, draw_gate),
}


def resolve(mechanism: str, name: str = "mechanism") -> Callable:
    """The function of a mechanism. Raises ValueError where there is none.

    mechanism: its name, or an import string
    name: the parameter's name in messages
    """
    if mechanism in MECHANISMS:
        return MECHANISMS[mechanism][0]
    return checks.imported(name, mechanism, MECHANISMS)


def evaluate(mechanism: str, x, parameters: dict) -> np.ndarray:
    """The mechanism's value for each cell, (n_cells,).

    Raises ValueError where it isn't finite and at least 0.
    """
    function = resolve(mechanism)
    value = np.asarray(function(np.asarray(x, dtype=float), **parameters), dtype=float)
    if value.shape != (len(x),):
        allowed = f"must be one value a cell, ({len(x)},)"
        raise ValueError(f"mechanism = {mechanism!r}: returned shape {value.shape}, {allowed}")
    wrong = ~np.isfinite(value) | (value < 0)
    if wrong.any():
        given = f"returned {value[wrong][0]:g} for {wrong.sum()} of {len(x)} cells"
        raise ValueError(f"mechanism = {mechanism!r}: {given}, must be finite and at least 0")
    return value
