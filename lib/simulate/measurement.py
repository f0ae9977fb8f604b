"""From molecules to counts: capture, factors of batches, dropout, depth.

A molecule of gene g in a cell c of batch b is counted with probability p = capture_c factor_gb, at
most 1. Thinning keeps the law in closed form: molecules NB(mu, theta) give counts NB(p mu, theta),
and counts that are dropped with probability pi then are ZINB(p mu, theta, pi).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse as sparse
import scipy.special as special

from lib import checks
from lib.seeds import stream
from lib.simulate.arrays import Arrays


@dataclass(frozen=True, eq=False)
class Measurement(Arrays):
    """How cells are measured, in plain arrays, which can't be written to.

    genes: (n_genes,) names
    batches: (n_batches,) names
    median: (n_batches,) median of capture, but for what is cut off
    spread: (n_batches,) sd of the log of capture, which is normal, cut off where capture times the
        batch's largest factor is 1
    factors: (n_genes, n_batches) how much better a gene is captured
    pi: (n_genes,) probability that a gene's counts in a cell are dropped

    Raises ValueError in one line for values that can't be.
    """

    genes: np.ndarray
    batches: np.ndarray
    median: np.ndarray
    spread: np.ndarray
    factors: np.ndarray
    pi: np.ndarray

    def __post_init__(self):
        for field in fields(self):
            kind = object if field.name in ("genes", "batches") else float
            self._keep(field.name, getattr(self, field.name), kind)
        n_genes, n_batches = len(self.genes), len(self.batches)
        checks.listed("genes", [str(gene) for gene in self.genes])
        checks.listed("batches", [str(batch) for batch in self.batches])
        shapes = {"median": (n_batches,), "spread": (n_batches,), "pi": (n_genes,)}
        self._check_shapes(shapes | {"factors": (n_genes, n_batches)})
        for batch, (median, spread, factors) in enumerate(
            zip(self.median, self.spread, self.factors.T)
        ):
            name = f"of batch {self.batches[batch]}"
            checks.number(f"capture {name}", median, 1e-6, 1)
            checks.number(f"spread {name}", spread, 0, 5)
            checks.number(f"smallest factor {name}", factors.min(), 1e-6)
            if median * factors.max() > 1:
                times = f"times the largest factor, {factors.max():.3g}, is above 1"
                raise ValueError(f"capture {name} = {median:g}: {times}; must be at most 1")
        checks.number("smallest pi", self.pi.min(), 0, 1)
        checks.number("largest pi", self.pi.max(), 0, 1)

    def batch_of(self, cells: np.ndarray) -> np.ndarray:
        """Places of the batches of these names, (n_cells,). Raises ValueError for another one."""
        places = {str(name): place for place, name in enumerate(self.batches)}
        for name in np.unique(cells):
            checks.choice("batch", str(name), places)
        return np.array([places[str(name)] for name in cells], dtype=int)

    def captures(self, uniforms: np.ndarray, batch: np.ndarray) -> np.ndarray:
        """Capture of each cell, (n_cells,): quantiles of the batches' laws.

        uniforms: (n_cells,) in [0, 1)
        batch: (n_cells,) places of batches
        """
        most = 1 / self.factors.max(axis=0)
        highest = np.log(most / self.median)  # of log capture / median
        spread = np.maximum(self.spread, 1e-12)
        below = special.ndtr(highest / spread)[batch]
        log_relative = spread[batch] * special.ndtri(np.maximum(uniforms, 1e-16) * below)
        return np.minimum(self.median[batch] * np.exp(log_relative), most[batch])


def draw(
    genes: Iterable[str],
    batches: int = 1,
    *,
    median: float | list[float] = 0.15,
    spread: float | list[float] = 0.3,
    batch_spread: float = 0.2,
    pi: float | np.ndarray = 0.0,
    seed: int | tuple[int, ...] = 0,
) -> Measurement:
    """A measurement of batches "1", "2", ...

    genes: names
    batches: number of batches
    median, spread: of capture, one or a batch each
    batch_spread: sd of the logs of genes' factors in each batch, which are normal, of mean 0, and
        cut at 3 sd; a single batch has factors of 1
    pi: probability of dropout, one or a gene each
    """
    genes = [str(gene) for gene in genes]
    n_batches = checks.integer("batches", batches, 1, 10_000)
    batch_spread = checks.number("batch_spread", batch_spread, 0, 2)
    normal = stream(seed, "factors of batches").normal(0, 1, (len(genes), n_batches))
    logs = batch_spread * np.clip(normal, -3, 3) if n_batches > 1 else np.zeros(normal.shape)
    return Measurement(
        genes=genes,
        batches=[str(1 + batch) for batch in range(n_batches)],
        median=_each("median", median, n_batches),
        spread=_each("spread", spread, n_batches),
        factors=np.exp(logs),
        pi=_each("pi", pi, len(genes)),
    )


def thinned(counts: sparse.csr_matrix, depth: float, rng) -> sparse.csr_matrix:
    """Counts of which each is kept with probability `depth`: fewer reads of the same cells."""
    depth = checks.number("depth", depth, 1e-9, 1)
    if depth == 1:
        return counts
    thin = counts.copy()  # dropping zeros moves indices in place
    thin.data[:] = rng.binomial(counts.data.astype(np.int64), depth)
    thin.eliminate_zeros()
    return thin


def _each(name, value, n):
    values = np.asarray(value)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{name} = {checks.shown(value)}: must be a number, or {n}")
    values = values.astype(float)
    if values.shape not in ((), (n,)):
        raise ValueError(f"{name}: {values.size} values; must be one, or {n}")
    return np.broadcast_to(values, (n,)).copy()
