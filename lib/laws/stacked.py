"""Laws side by side, a gene each."""

from __future__ import annotations

import numpy as np

from lib.laws.base import Law
from lib.laws.zinb import ZINB


def stack(laws: list[Law]) -> Law:
    """The laws of several genes in the same cells, (n_cells, n_genes), `[:, i]` that of gene i.

    laws: one a gene, of any kinds, each of shape (n_cells,)
    """
    return Stacked(laws)


class Stacked(Law):
    """Laws of one shape along a new axis.

    axis: place of that axis, counted from the end, -1 or below
    """

    def __init__(self, laws: list[Law], axis: int = -1):
        shapes = {law.shape for law in laws}
        if len(shapes) != 1:
            raise ValueError(f"laws: of shapes {sorted(shapes)}; must be one or more of one shape")
        self.laws = list(laws)
        self.axis = axis
        shape = list(shapes.pop())
        shape.insert(len(shape) + 1 + axis, len(self.laws))
        self.shape = tuple(shape)
        self.has_density = all(law.has_density for law in self.laws)
        self.n_components = max(law.n_components for law in self.laws)

    def __getitem__(self, index):
        index = list(index) if isinstance(index, tuple) else [index]
        n_left_out = len(self.shape) - sum(i is not None and i is not Ellipsis for i in index)
        start = next((n for n, i in enumerate(index) if i is Ellipsis), len(index))
        index[start : start + 1] = [slice(None)] * n_left_out
        place = [n for n, i in enumerate(index) if i is not None][self.axis]
        genes = index.pop(place)
        rest = tuple(index)
        if np.ndim(genes) and any(np.ndim(i) for i in rest):
            raise IndexError("index: arrays for cells and genes at once; take law[cells][:, genes]")
        chosen = np.arange(len(self.laws))[genes]
        if chosen.ndim == 0:
            return self.laws[chosen][rest]
        axis = -1 - sum(not isinstance(i, int | np.integer) for i in rest[place:])
        return Stacked([self.laws[i][rest] for i in chosen], axis)

    def log_prob(self, k):
        return self._at("log_prob", k)

    def pmf(self, k):
        return self._at("pmf", k)

    def cdf(self, k):
        return self._at("cdf", k)

    def _at(self, name, k):
        k = np.broadcast_to(k, np.broadcast_shapes(np.shape(k), self.shape))
        laws = self.laws * (k.shape[self.axis] // len(self.laws))  # many counts can face one law
        each = zip(laws, np.moveaxis(k, self.axis, 0))
        return np.stack([getattr(law, name)(of_law) for law, of_law in each], self.axis)

    def pmf_blocks(self):
        for blocks in zip(*(law.pmf_blocks() for law in self.laws)):
            yield np.stack(blocks, self.axis)

    @property
    def mean(self):
        return self._joined([law.mean for law in self.laws])

    def parameters(self) -> ZINB | None:
        """The parameters of the laws, if all have them."""
        points = [law.parameters() for law in self.laws]
        if any(point is None for point in points):
            return None
        each = [[p.mu, p.theta, p.pi] for p in points]
        return ZINB(*(self._joined(values) for values in zip(*each)))

    def sample(self, rng: np.random.Generator, size=None):
        size = list(self.shape if size is None else np.broadcast_shapes(size))
        del size[self.axis]
        return np.stack([law.sample(rng, tuple(size)) for law in self.laws], self.axis)

    def sample_rows(self, rng: np.random.Generator, rows):
        each = zip(self.laws, np.moveaxis(rows, self.axis, 0))
        return np.stack([law.sample_rows(rng, of_law) for law, of_law in each], self.axis)

    def _joined(self, values):
        shape = self.laws[0].shape
        return np.stack([np.broadcast_to(v, shape) for v in values], self.axis)
