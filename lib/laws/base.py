"""What every law of a count can do."""

from __future__ import annotations

import itertools

import numpy as np

BLOCK = 16  # counts at a time in `pmf_blocks`
TINY = 1e-290  # below this a probability is at the end of what a float can be


class Law:
    """What every law can do, given ``log_prob`` and ``cdf``."""

    shape: tuple[int, ...]

    def pmf(self, k):
        """Probability of the count k. Broadcasts k against the law's shape."""
        return np.exp(self.log_prob(k))

    def pmf_blocks(self):
        """Probabilities of the counts 0, 1, ... without end, BLOCK of them at a time along a new first axis.

        What is yielded is overwritten by the next block.
        """
        for start in itertools.count(0, BLOCK):
            yield np.moveaxis(self[..., None].pmf(np.arange(start, start + BLOCK)), -1, 0)

    def pmf_table(self, n_counts: int):
        """Probabilities of the counts 0 ... n_counts - 1, along a new last axis."""
        table = np.empty((n_counts, *self.shape))
        for start, block in zip(range(0, n_counts, BLOCK), self.pmf_blocks()):
            table[start : start + BLOCK] = block[: n_counts - start]
        return np.moveaxis(table, 0, -1)

    def quantile(self, u):
        """Smallest count whose cdf is at least u, by bisection.

        u : array that broadcasts with the law, in [0, 1)
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
        while ((high - low) > 1).any():
            middle = np.floor((low + high) / 2)
            enough = self.cdf(middle) >= u
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return high.astype(np.int64)
