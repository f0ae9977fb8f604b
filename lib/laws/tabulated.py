"""Laws given by their probabilities, count by count."""

from __future__ import annotations

import itertools

import numpy as np

from lib.laws.base import BLOCK, Law


class Tabulated(Law):
    """Laws of counts that have an end, (n_laws,).

    rows: probabilities of the counts 0, 1, ..., an array a law, which may differ in length
    """

    def __init__(self, rows: list[np.ndarray]):
        self.rows = list(rows)
        self.shape = (len(self.rows),)

    def __getitem__(self, index):
        places = np.atleast_1d(np.arange(len(self.rows))[index])
        return Tabulated([self.rows[place] for place in places])

    def padded(self, n_counts: int) -> np.ndarray:
        """Probabilities of the counts 0 ... n_counts - 1, (n_laws, n_counts)."""
        table = np.zeros((len(self.rows), n_counts))
        for values, row in zip(table, self.rows):
            values[: len(row)] = row[:n_counts]
        return table

    @property
    def n_counts(self) -> int:
        """Counts of the longest row."""
        return max(map(len, self.rows), default=1)

    def log_prob(self, k):
        k = self._over(k)
        p = self._at(k, [np.append(row, 0.0) for row in self.rows])
        with np.errstate(divide="ignore"):
            return np.where((k >= 0) & (k == np.floor(k)), np.log(p), -np.inf)

    def cdf(self, k):
        k = self._over(k)
        found = self._at(k, [np.append(np.cumsum(row), 1.0) for row in self.rows])
        return np.where(k < 0, 0.0, found)

    def _over(self, values):
        """Values for each law, broadcast to the laws' shape."""
        values = np.asarray(values, dtype=float)
        return np.broadcast_to(values, np.broadcast_shapes(values.shape, self.shape))

    def _at(self, k, rows):
        """Entries of rows at counts, the last one where there is none."""
        found = np.empty(k.shape)
        for place, row in enumerate(rows):
            at = np.clip(np.floor(k[..., place]), 0, len(row) - 1).astype(np.int64)
            found[..., place] = row[at]
        return found

    @property
    def mean(self):
        return np.array([np.arange(len(row)) @ row for row in self.rows])

    def reach(self, tail):
        return np.array([int((row[::-1].cumsum() >= tail).sum()) for row in self.rows])

    def quantile(self, u):
        u = self._over(u)
        found = np.empty(u.shape, dtype=np.int64)
        for place, row in enumerate(self.rows):
            at = np.searchsorted(np.cumsum(row), u[..., place])
            found[..., place] = np.minimum(at, len(row) - 1)
        return found

    def sample(self, rng: np.random.Generator, size=None):
        size = self.shape if size is None else np.broadcast_shapes(size)
        return self.quantile(rng.random(size))

    def pmf_blocks(self):
        table = np.ascontiguousarray(self.padded(self.n_counts).T)
        for start in itertools.count(0, BLOCK):
            block = np.zeros((BLOCK, *self.shape))
            part = table[start : start + BLOCK]
            block[: len(part)] = part
            yield block
