"""Laws of draws."""

import itertools

import numpy as np

from lib.laws.base import BLOCK, Law


class Empirical(Law):
    """The law of draws, by which a model that only samples is scored.

    draws: (..., n_draws) counts; the leading axes are the law's shape

    Raises ValueError for draws that aren't finite and at least 0.
    """

    has_density = False

    def __init__(self, draws):
        self.draws = np.sort(np.asarray(draws), axis=-1)
        if self.draws.ndim < 1 or self.draws.shape[-1] == 0:
            raise ValueError(f"draws of shape {self.draws.shape}: need at least one draw an entry")
        if not np.isfinite(self.draws).all() or (self.draws < 0).any():
            raise ValueError("draws must be finite and at least 0")
        self.shape = self.draws.shape[:-1]

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        return Empirical(self.draws[(*index, slice(None))])

    def log_prob(self, k):
        """Natural log of the pmf; -inf for a count that was never drawn."""
        with np.errstate(divide="ignore"):
            return np.log((self.draws == np.asarray(k)[..., None]).mean(-1))

    def pmf_blocks(self):
        n_draws, n_laws = self.draws.shape[-1], self.draws[..., 0].size
        order = np.argsort(self.draws, axis=None, kind="stable")
        draws, law = self.draws.ravel()[order], order // n_draws
        whole = draws == np.floor(draws)
        draws, law = draws[whole], law[whole]
        for start in itertools.count(0, BLOCK):
            now = slice(*np.searchsorted(draws, (start, start + BLOCK)))
            place = (draws[now] - start).astype(np.int64) * n_laws + law[now]
            yield np.bincount(place, minlength=BLOCK * n_laws).reshape(BLOCK, *self.shape) / n_draws

    def cdf(self, k):
        return (self.draws <= np.asarray(k)[..., None]).mean(-1)

    @property
    def mean(self):
        return self.draws.mean(-1)

    def sample(self, rng: np.random.Generator, size=None):
        size = self.shape if size is None else np.broadcast_shapes(size)
        n_draws = self.draws.shape[-1]
        pick = rng.integers(n_draws, size=(*size, 1))
        draws = np.broadcast_to(self.draws, (*size, n_draws))
        return np.take_along_axis(draws, pick, axis=-1)[..., 0]


class Cells(Empirical):
    """The laws of the genes, (n_genes,), in predicted cells; draws are whole cells.

    counts: (n_cells, n_genes) counts of the predicted cells
    """

    def __init__(self, counts):
        self.counts = np.asarray(counts)
        super().__init__(self.counts.T)

    def sample(self, rng: np.random.Generator, size=None):
        size = self.shape if size is None else size
        return self.counts[rng.integers(len(self.counts), size=size[:-1])]
