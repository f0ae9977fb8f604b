"""Mixtures of Poisson laws: what counts are where nothing is known of how their rates are spread.

The nonparametric maximum likelihood estimate of a mixing distribution (Kiefer and Wolfowitz 1956,
Annals of Mathematical Statistics 27, 887; for single-cell counts Sarkar and Stephens 2021, Nature
Genetics 53, 770), by expectation and maximisation on a grid of rates.
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy.special as special

from lib.laws.base import BLOCK, Law

_RATIO = 1.25  # of the grid's neighbouring rates
_STEPS = 400
_SPREAD = 0.1  # cells whose rates are spread evenly over the grid, so that no count is impossible
_NEGLIGIBLE = 1e-6  # weight of a rate, over the largest, that is left out


class PoissonMixture(Law):
    """Mixture of Poisson laws, one an entry.

    rates: (n_rates, ...) at least 0
    weights: (n_rates, ...) of sum 1 over the first axis
    """

    def __init__(self, rates, weights):
        self.rates = np.asarray(rates, dtype=float)
        self.weights = np.asarray(weights, dtype=float)
        if self.rates.shape != self.weights.shape or not self.rates.ndim:
            given = f"{self.rates.shape} and {self.weights.shape}"
            raise ValueError(f"rates and weights of shapes {given}: must be of one shape")
        if not (np.isfinite(self.rates) & (self.rates >= 0)).all():
            raise ValueError("rates: must be finite and at least 0")
        self.shape = self.rates.shape[1:]
        self.n_components = len(self.rates)

    def __getitem__(self, index):
        index = (slice(None), *(index if isinstance(index, tuple) else (index,)))
        return PoissonMixture(self.rates[index], self.weights[index])

    def scaled(self, fold) -> PoissonMixture:
        """The law with every rate multiplied.

        fold: at least 0, broadcasts with the law's shape
        """
        fold = np.asarray(fold, dtype=float)
        shape = np.broadcast_shapes(fold.shape, self.shape)
        axes = (len(self.rates), *[1] * (len(shape) - len(self.shape)), *self.shape)
        weights = np.broadcast_to(self.weights.reshape(axes), (len(self.rates), *shape))
        return PoissonMixture(self.rates.reshape(axes) * fold, weights)

    def log_prob(self, k):
        k = np.asarray(k, dtype=float)
        allowed = (k >= 0) & (k == np.floor(k))
        k = np.where(allowed, k, 0)
        n_new = max(0, k.ndim - len(self.shape))
        axes = (len(self.rates), *[1] * n_new, *self.shape)
        rates, weights = self.rates.reshape(axes), self.weights.reshape(axes)
        log_p = special.xlogy(k, rates) - rates - special.gammaln(k + 1)
        with np.errstate(divide="ignore"):
            return np.where(allowed, special.logsumexp(log_p, axis=0, b=weights), -np.inf)

    def cdf(self, k):
        k = np.floor(np.asarray(k, dtype=float))
        n_new = max(0, k.ndim - len(self.shape))
        axes = (len(self.rates), *[1] * n_new, *self.shape)
        rates, weights = self.rates.reshape(axes), self.weights.reshape(axes)
        below = np.where(k < 0, 0.0, special.pdtr(np.maximum(k, 0), rates))
        return (weights * below).sum(axis=0)

    @property
    def mean(self):
        return (self.weights * self.rates).sum(axis=0)

    def reach(self, tail):
        some = np.where(self.weights > tail / 10, self.rates, 0).max(axis=0)
        wide = np.sqrt(-2 * np.log(tail))  # of a Poisson law's tail: Bernstein's bound
        return np.ceil(some + wide * np.sqrt(some) + wide**2 / 3)

    def sample(self, rng: np.random.Generator, size=None):
        size = self.shape if size is None else np.broadcast_shapes(size)
        u, rows = rng.random(size), np.zeros(size, dtype=np.int64)
        for below in np.cumsum(self.weights, axis=0)[:-1]:
            rows += u >= below
        n_new = len(size) - len(self.shape)
        rates = self.rates.reshape((len(self.rates), *[1] * n_new, *self.shape))
        rates = np.broadcast_to(rates, (len(self.rates), *size))
        return rng.poisson(np.take_along_axis(rates, rows[None], axis=0)[0])

    def pmf_blocks(self):
        rates = np.ascontiguousarray(self.rates.reshape(len(self.rates), -1))
        weights = self.weights.reshape(rates.shape)
        with np.errstate(divide="ignore"):
            logs = np.log(rates)
        table = np.empty((BLOCK, rates.shape[1]))
        for start in itertools.count(0, BLOCK):
            # a product of rates would start from 0 where exp(-rate) is none
            log_p = special.xlogy(start, rates) if start == 0 else start * logs
            part = np.exp(log_p - rates - special.gammaln(start + 1))
            part *= weights
            for row, k in zip(table, itertools.count(start + 1)):
                np.add.reduce(part, axis=0, out=row)
                part *= rates
                part /= k
            yield table.reshape(BLOCK, *self.shape)


def fit(counts: np.ndarray) -> PoissonMixture:
    """The law of each gene by nonparametric maximum likelihood, (n_genes,).

    counts: (n_cells, n_genes) whole numbers

    Rates stand on a geometric grid up to the largest count. A tenth of a cell is spread over it,
    so that a count beyond those seen has a probability above 0.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or not len(counts):
        raise ValueError(f"counts of shape {counts.shape}: must be (n_cells, n_genes)")
    found = [_fit_gene(column.astype(np.int64)) for column in counts.T]
    n_rates = max((len(rates) for rates, _ in found), default=1)
    rates, weights = np.zeros((2, n_rates, len(found)))
    for gene, (its_rates, its_weights) in enumerate(found):
        rates[: len(its_rates), gene] = its_rates
        rates[len(its_rates) :, gene] = its_rates[-1]
        weights[: len(its_weights), gene] = its_weights
    return PoissonMixture(rates, weights)


def _fit_gene(counts):
    """Rates and weights of one gene."""
    values, n = np.unique(counts, return_counts=True)
    low = 0.05 / len(counts)  # as good as no rate, for zeros beside large counts
    high = max(counts.max(), 20 * low)
    n_rates = int(np.ceil(np.log(high / low) / np.log(_RATIO))) + 1
    rates = np.geomspace(low, high, n_rates)
    p = np.exp(special.xlogy(values[:, None], rates) - rates - special.gammaln(values + 1)[:, None])
    weights = np.full(n_rates, 1 / n_rates)
    for _ in range(_STEPS):
        weights = weights * ((n / (p @ weights)) @ p) + _SPREAD / n_rates
        weights /= n.sum() + _SPREAD
    kept = weights > _NEGLIGIBLE * weights.max()
    return rates[kept], weights[kept] / weights[kept].sum()
