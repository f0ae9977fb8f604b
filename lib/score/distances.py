"""Distances of a predicted law to the true one, computed from the laws, not from samples.

With F and G the true and predicted cdf of one gene in one cell, f and g their pmfs:

    kl_nats      sum_k f(k) log f(k) / g(k)
    excess_crps  sum_k (F(k) - G(k))^2, the expected CRPS less the truth's (Gneiting and Raftery
                 2007, JASA 102, 4.2)
    skill        1 - distance(model) / distance(marginal): oracle 1, marginal 0, below 0: harm
"""

import itertools

import numpy as np
import pandas as pd
import scipy.integrate

from lib.laws import ZINB, Law
from lib.laws.base import BLOCK, TINY

TAIL = 1e-9  # the support is cut where the true law has less than this above it
CRPS_TAIL = 1e-4  # and, for the CRPS, where the predicted one has less than this
_MAX_COUNTS = 2**15  # summed count by count, where a prediction goes on after the truth has ended
_CHUNK = 2**14  # laws, or components of laws, at a time: few enough for the processor's cache


def between(true: Law, predicted: Law) -> pd.DataFrame:
    """Distances of the predicted to the true laws, a row a law: of a gene in cells, or of genes.

    true: (n_laws,), ZINB or a mixture of these, such as `laws.population.Population`
    predicted: (n_laws,)

    Columns are kl_nats, excess_crps, mse_mean, and, where both have parameters, mse_mu, mse_pi and
    mse_log_theta: squared errors of a law. A law without density has no kl_nats,
    since one count that was never drawn would make it infinite. Raises ValueError for a true law of
    NaN, and for other shapes.
    """
    if np.isnan(true.mean).any():
        reason = "the law of a count that an intervention set can't be predicted"
        raise ValueError(f"true: has NaN parameters; {reason}")
    if predicted.shape != true.shape or len(true.shape) != 1:
        must = f"must be as many as the true laws, {true.shape}"
        raise ValueError(f"predicted: shape {predicted.shape}; {must}")
    kl, crps, apart = np.empty((3, *true.shape))
    has_kl = predicted.has_density
    for rows in _groups(true.reach(TAIL), true, predicted):
        kl[rows], crps[rows], apart[rows], _ = _sums(true[rows], predicted[rows], has_kl)
    long = np.flatnonzero(apart > CRPS_TAIL)  # predictions that go on where the truth has ended
    for group in _groups(predicted[long].reach(CRPS_TAIL), true, predicted):
        rows = long[group]
        sums = _sums(true[rows], predicted[rows], False, open_end=CRPS_TAIL)
        _, crps[rows], apart[rows], end = sums
        for row in rows[apart[rows] > CRPS_TAIL]:
            crps[row] += _far_tail(predicted[row], end)
    values = {"kl_nats": kl} if predicted.has_density else {}
    values |= {"excess_crps": crps, "mse_mean": (predicted.mean - true.mean) ** 2}
    point = predicted.parameters()
    exact = true.parameters() if true.n_components == 1 else None
    if point is not None and exact is not None:
        values |= {"mse_mu": (point.mu - exact.mu) ** 2, "mse_pi": (point.pi - exact.pi) ** 2}
        values["mse_log_theta"] = (np.log(point.theta) - np.log(exact.theta)) ** 2
    return pd.DataFrame(values)


def _groups(reach, true, predicted):
    """Indices of laws in groups of similar reach, each small enough for the cache."""
    # the sums' own arrays are as large as 8 laws
    n_components = max(predicted.n_components, true.n_components, 8)
    n_groups = -(-len(reach) * n_components // _CHUNK)
    return np.array_split(np.argsort(reach, kind="stable"), n_groups) if n_groups else []


def _sums(true, predicted, has_kl, open_end=np.inf):
    """KL, CRPS, the last F - G, and the number of counts that were summed.

    The sums end where no true law has more than TAIL above.

    open_end: the sums go on while a last F - G is above this, to _MAX_COUNTS at most
    """
    kl, crps, apart = np.zeros((3, *true.shape))
    difference = np.empty((BLOCK, *true.shape))
    ends = itertools.count(BLOCK, BLOCK)
    for end, f, g in zip(ends, true.pmf_blocks(), predicted.pmf_blocks()):
        if has_kl:
            kl += _kl(f, g, predicted, end - BLOCK, difference)
        np.subtract(f, g, out=difference)
        for row in difference:  # cumsum would go through memory law by law
            apart += row
            row[:] = apart
        crps += np.einsum("kn,kn->n", difference, difference)
        less = true.decay(end)  # so that the rest is below a geometric series
        goes_on = (apart > open_end).any() and end < _MAX_COUNTS
        if (f[-1] <= TAIL * less).all() and not goes_on:
            return np.maximum(kl, 0.0), crps, apart, end


def _kl(f, g, predicted, start, scratch):
    """Sum of f log f / g over the counts, the first axis.

    start: count of the first row
    scratch: array of the shape of f, overwritten
    """
    if f.min() > TINY and g.min() > TINY:
        np.divide(f, g, out=scratch)
        return np.einsum("kn,kn->n", f, np.log(scratch, out=scratch))
    counted = f > TINY
    lost = counted & (g < TINY)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_g = np.log(g)
        if lost.any():  # too small for a float, not for its logarithm
            counts, rows = np.nonzero(lost)
            log_g[lost] = predicted[rows].log_prob(start + counts)
        return np.where(counted, f * (np.log(f) - log_g), 0.0).sum(0)


def _far_tail(predicted, start):
    """Sum of (1 - G(k))^2 over k >= start, where the true cdf is 1.

    By Simpson's rule on a fine geometric grid.
    """
    k = np.unique(np.floor(start * np.geomspace(1, 1e6, 4001)))
    rest = (1 - predicted.cdf(k)) ** 2
    # the sum has the whole of its first term, the integral half of it
    return scipy.integrate.simpson(rest, k) + rest[0] / 2


def skill(distance: float, marginal: float) -> float:
    """1 - distance / distance of the marginal; NaN where the marginal is exact itself."""
    return float(1 - distance / marginal) if marginal > 0 else float("nan")


def slope_ratio(dose, predicted, true) -> float:
    """Least-squares slope of the predicted mean over the dose, divided by the true slope.

    It is 1 for the right slope, below 1 where the effect is shrunk, and NaN where the true response
    is flat.

    dose: (n_cells,)
    predicted, true: (n_cells,) mean counts
    """
    centred = np.asarray(dose, dtype=float) - np.mean(dose)
    true_slope = _slope(centred, np.asarray(true))
    if true_slope == 0:
        return float("nan")
    return float(_slope(centred, np.asarray(predicted)) / true_slope) + 0.0  # never -0


def _slope(centred, values):
    """A least-squares slope but for its scale; 0 where it is rounding, which differs by machine."""
    slope = (centred * values).sum()  # a product by BLAS would have the processor's last digits
    rounding = 1e-10 * np.sqrt((centred**2).sum() * (values**2).sum())
    return slope if abs(slope) > rounding else 0.0


def scores(
    true: ZINB, predictions: dict[str, Law], counts: np.ndarray | None = None
) -> pd.DataFrame:
    """Mean distances and skills of predictions of one gene in the same cells.

    true: (n_cells,)
    predictions: model -> (n_cells,); skill is measured against the model "marginal"
    counts: (n_cells,) observed counts. With them there is nll_nats too, their mean negative
        log-probability: a score that needs no truth

    Returns rows of model, metric, value. Raises ValueError without "marginal", and for a law of
    NaN.
    """
    if "marginal" not in predictions:
        must = "must have 'marginal', against which skill is measured"
        raise ValueError(f"predictions = {list(predictions)}: {must}")
    means = {model: between(true, law).mean(skipna=False) for model, law in predictions.items()}
    rows = []
    for model, mean in means.items():
        if mean.isna().any():
            lacks = f"has no {mean.index[mean.isna()][0]} in some cells"
            raise ValueError(f"predictions[{model!r}]: {lacks}; must be a law in every cell")
        values = dict(mean)
        if counts is not None:
            values["nll_nats"] = -predictions[model].log_prob(counts).mean()
        if "kl_nats" in mean:
            values["skill_kl"] = skill(mean["kl_nats"], means["marginal"]["kl_nats"])
        values["skill_crps"] = skill(mean["excess_crps"], means["marginal"]["excess_crps"])
        rows += [(model, metric, value) for metric, value in values.items()]
    return pd.DataFrame(rows, columns=["model", "metric", "value"])
