"""Mixtures of Poisson laws: what counts are whose rates are spread in any way.

(For single-cell counts Sarkar and Stephens 2021, Nature Genetics 53, 770.)
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy.optimize as optimize
import scipy.special as special

from lib.laws.base import BLOCK, Law
from lib.laws.tabulated import Tabulated

_RATIO = 1.1  # of the grid's neighbouring rates
_LOWEST = 1e-3  # of them, where the mean isn't lower
_RAREST = 1e-9  # lowest mean, which lets a law be scaled
_RARE = 1e-7  # probability below which errors aren't held to be larger
_EXACT = 100.0  # weight of the sum and of the mean


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
        rates, weights = self._over(k.ndim)
        log_p = special.xlogy(k, rates) - rates - special.gammaln(k + 1)
        with np.errstate(divide="ignore"):
            return np.where(allowed, special.logsumexp(log_p, axis=0, b=weights), -np.inf)

    def cdf(self, k):
        k = np.floor(np.asarray(k, dtype=float))
        rates, weights = self._over(k.ndim)
        below = np.where(k < 0, 0.0, special.pdtr(np.maximum(k, 0), rates))
        return (weights * below).sum(axis=0)

    def _over(self, n_axes):
        """Rates and weights, to be broadcast with counts of so many axes."""
        n_new = max(0, n_axes - len(self.shape))
        axes = (len(self.rates), *[1] * n_new, *self.shape)
        return self.rates.reshape(axes), self.weights.reshape(axes)

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


def of_table(table: Tabulated) -> PoissonMixture:
    """Laws as Poisson mixtures, (n_genes,), of the same means.

    table: laws that are mixtures of Poisson laws, or near to it

    Rates stand on a geometric grid up to the largest count, and at the mean. Their weights have the
    least sum of squared errors over probabilities, which is twice the KL divergence to second
    order: about 1e-10 nats for laws of controls. Few of them are above 0.
    """
    found = [_of_row(row) for row in table.rows]
    n_rates = max((len(rates) for rates, _ in found), default=1)
    rates, weights = np.zeros((2, n_rates, len(found)))
    for gene, (its_rates, its_weights) in enumerate(found):
        rates[: len(its_rates), gene] = its_rates
        rates[len(its_rates) :, gene] = its_rates[-1]
        weights[: len(its_weights), gene] = its_weights
    return PoissonMixture(rates, weights)


def _of_row(row):
    """Rates and weights of one gene."""
    values = np.arange(len(row))
    mean = max(row @ values, _RAREST)
    low = min(_LOWEST, mean)
    high = max(len(row) - 1, 20 * low)
    n_rates = int(np.ceil(np.log(high / low) / np.log(_RATIO))) + 2
    rates = np.append(np.geomspace(low, high, n_rates - 1), mean)
    p = np.exp(special.xlogy(values[:, None], rates) - rates - special.gammaln(values + 1)[:, None])
    scale = 1 / np.sqrt(np.maximum(row, _RARE))
    sums = _EXACT * np.vstack([np.ones(n_rates), rates / mean])  # of all weights, and their mean
    a = np.vstack([p * scale[:, None], sums])
    b = np.concatenate([row * scale, [_EXACT, _EXACT]])
    weights, _ = optimize.nnls(a, b, maxiter=50 * n_rates)
    some = weights > 0
    weights = weights[some] / weights[some].sum()
    return rates[some] * (mean / (weights @ rates[some])), weights
