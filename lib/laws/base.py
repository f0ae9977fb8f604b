"""What every law of a count can do."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod

import numpy as np

BLOCK = 16  # counts at a time in `pmf_blocks`
TINY = 1e-290  # below this a probability is at the end of what a float can be


class Law(ABC):
    """The law of a count, or an array of laws, one an entry.

    A law of one's own must write

        shape           tuple of int, an attribute: (n_cells,), (n_cells, n_genes), (n_genes,), ...
        law[index]      the laws at a NumPy index, new axes included
        log_prob(k)     natural log of the pmf; k broadcasts against the law's shape
        cdf(k)          probability of a count of at most k
        mean            mean count, a property
        sample(rng, size=None)

    and inherits the rest, to be overridden where it knows better.
    """

    shape: tuple[int, ...]
    has_density = True  # False: a finite number of draws, whose KL is infinite at one undrawn count
    n_components = 1  # laws that one entry is made of

    @abstractmethod
    def __getitem__(self, index) -> Law: ...

    @abstractmethod
    def log_prob(self, k): ...

    @abstractmethod
    def cdf(self, k): ...

    @property
    @abstractmethod
    def mean(self): ...

    @abstractmethod
    def sample(self, rng: np.random.Generator, size=None):
        """Draw counts of shape `size`, whose last axes are the law's; by default the law's own."""

    def sample_cells(self, rng: np.random.Generator, n_cells: int):
        """Draw cells from laws (n_genes,).

        Genes are independent, unless the law overrides this and knows how they vary together.
        """
        return self.sample(rng, (n_cells, *self.shape))

    def parameters(self):
        """The ZINB, of the law's shape, whose mu, theta and pi stand for it; None: it has none."""
        return None

    def reach(self, tail: float):
        """About the count above which less than `tail` is left."""
        return self.quantile(1 - tail)

    def decay(self, k):
        """A share by which each count from k on is less likely than the one before, at least.

        0: not known, so that no sum over the counts of such a true law would end.
        """
        return np.zeros(self.shape)

    def pmf(self, k):
        """Probability of the count k. Broadcasts k against the law's shape."""
        return np.exp(self.log_prob(k))

    @property
    def zero_prob(self):
        """Probability of a zero."""
        return self.pmf(0)

    def pmf_blocks(self):
        """Yield probabilities of the counts 0, 1, ... without end, BLOCK counts at a time.

        The counts are along a new first axis; a block may overwrite the one before.
        """
        for start in itertools.count(0, BLOCK):
            yield np.moveaxis(self[..., None].pmf(np.arange(start, start + BLOCK)), -1, 0)

    def pmf_table(self, n_counts: int):
        """Probabilities of the counts 0 ... n_counts - 1, along a new last axis."""
        table = np.empty((n_counts, *self.shape))
        for start, block in zip(range(0, n_counts, BLOCK), self.pmf_blocks()):
            table[start : start + BLOCK] = block[: n_counts - start]
        return np.moveaxis(table, 0, -1)

    def as_components(self):
        """The law as a mixture: laws along a new first axis, and their weights (None: equal)."""
        return self[None], None

    def mixed_pmf_blocks(self, weights=None):
        """`pmf_blocks` of the mixture of the laws along the first axis.

        weights: array that broadcasts against the laws; None: all equal
        """
        if weights is None:
            return (block.mean(axis=1) for block in self.pmf_blocks())
        return ((weights * block).sum(axis=1) for block in self.pmf_blocks())

    def sample_rows(self, rng: np.random.Generator, rows):
        """Draw a count for each of `rows`.

        rows: places along the law's first axis; their last axes are the law's other axes
        """
        return self[(rows, *np.indices(self.shape[1:], sparse=True))].sample(rng)

    def quantile(self, u):
        """Smallest count whose cdf is at least u, by bisection.

        u: probabilities in [0, 1), which broadcast with the law
        """
        u = np.asarray(u, dtype=float)
        wrong = ~((u >= 0) & (u < 1))
        if wrong.any():
            raise ValueError(f"u = {u[wrong].flat[0]:g}: must be at least 0 and below 1")
        shape = np.broadcast_shapes(u.shape, self.shape)
        low, high = np.full(shape, -1.0), np.ones(shape)
        while (short := self.cdf(high) < u).any():
            low = np.where(short, high, low)
            high = np.where(short, 2 * high, high)
        return bisect(low, high, lambda k: self.cdf(k) >= u).astype(np.int64)


def bisect(low, high, enough):
    """The smallest whole numbers above `low` for which `enough` is true.

    enough: function of whole numbers, true for `high` and from some number below it on
    """
    while ((high - low) > 1).any():
        middle = np.floor((low + high) / 2)
        reached = enough(middle)
        low = np.where(reached, low, middle)
        high = np.where(reached, middle, high)
    return high
