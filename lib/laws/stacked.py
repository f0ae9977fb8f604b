"""Laws side by side, a gene each."""

import numpy as np

from lib.laws.base import Law
from lib.laws.zinb import ZINB


class Stacked(Law):
    """Laws of several genes in the same cells as one law, (n_cells, n_genes).

    laws: law of each gene, of any kind and of one shape, (n_cells,)

    An index may not hold an ellipsis, nor a new axis behind the genes.
    """

    def __init__(self, laws: list[Law]):
        shapes = {law.shape for law in laws}
        if len(shapes) != 1:
            raise ValueError(f"laws: of shapes {sorted(shapes)}; must be one or more of one shape")
        self.laws = list(laws)
        self.shape = (*shapes.pop(), len(self.laws))
        self.has_density = all(law.has_density for law in self.laws)
        self.n_components = max(law.n_components for law in self.laws)

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        index += (slice(None),) * (len(self.shape) - sum(i is not None for i in index))
        *cells, genes = index
        cells = tuple(cells)
        if genes is None or any(i is Ellipsis for i in index):
            raise IndexError("index: has an ellipsis or a new last axis; must have neither")
        if np.ndim(genes) and any(np.ndim(i) for i in cells):
            raise IndexError("index: arrays for cells and genes at once; take law[cells][:, genes]")
        if isinstance(genes, int | np.integer):
            return self.laws[genes][cells]
        return Stacked([self.laws[i][cells] for i in np.arange(len(self.laws))[genes]])

    def log_prob(self, k):
        return self._each("log_prob", k)

    def pmf(self, k):
        return self._each("pmf", k)

    def cdf(self, k):
        return self._each("cdf", k)

    def _each(self, name, k):
        k = np.broadcast_to(k, np.broadcast_shapes(np.shape(k), self.shape))
        each = zip(self.laws, np.moveaxis(k, -1, 0), strict=True)
        return np.stack([getattr(law, name)(column) for law, column in each], -1)

    def pmf_blocks(self):
        return (np.stack(blocks, -1) for blocks in zip(*(law.pmf_blocks() for law in self.laws)))

    @property
    def mean(self):
        return self._joined([law.mean for law in self.laws])

    def parameters(self) -> ZINB | None:
        points = [law.parameters() for law in self.laws]
        if any(point is None for point in points):
            return None
        names = ("mu", "theta", "pi")
        return ZINB(*(self._joined([getattr(p, name) for p in points]) for name in names))

    def sample(self, rng: np.random.Generator, size=None):
        *size, _ = self.shape if size is None else np.broadcast_shapes(size)
        return np.stack([law.sample(rng, tuple(size)) for law in self.laws], -1)

    def sample_rows(self, rng: np.random.Generator, rows):
        each = zip(self.laws, np.moveaxis(rows, -1, 0))
        return np.stack([law.sample_rows(rng, its_rows) for law, its_rows in each], -1)

    def _joined(self, values):
        return np.stack([np.broadcast_to(v, self.shape[:-1]) for v in values], -1)
