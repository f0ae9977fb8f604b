"""The contract of every model: what it is asked, and what it must write.

    class Mine:
        def fit(self, train): ...       # learns from cells, returns itself
        def predict(self, query): ...   # the law of the genes asked about

A query without a perturbation asks for a law in each cell, from the counts of the other genes of that very cell. One
with a perturbation shows control cells, and asks for the law of each gene over the cells that had it. Simpler forms of
`predict`, and other answers than laws, are adapted by `lib.predict.guard`.
"""

import abc
from typing import NamedTuple, Protocol, Self, runtime_checkable

import anndata as ad
import numpy as np

from lib import checks
from lib.counts import dense
from lib.laws import ZINB, Empirical, Law, Stacked

ONE_MEAN = 20  # draws in the law that stands for a mean


class Perturbation(NamedTuple):
    """What was done to the cells of an arm: a drug, a gene, or genes joined by "+", and how strongly."""

    name: str
    strength: float = 1.0


class Query(NamedTuple):
    """What a model is asked.

    cells: what it may see: the cells after an intervention, or control cells of one type
    genes: those asked about
    perturbation: told to the model; None where a law a cell is asked for
    """

    cells: ad.AnnData
    genes: list[str]
    perturbation: Perturbation | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the law that answers: (n_cells, n_genes), or (n_genes,) under a perturbation."""
        return (len(self.genes),) if self.perturbation else (self.cells.n_obs, len(self.genes))


@runtime_checkable
class Predictor(Protocol):
    """A model. It says `NotImplementedError` where it has no answer."""

    def fit(self, train: ad.AnnData) -> Self:
        """Learn from cells: counts in `X`, and what an experimenter knows in `obs`."""

    def predict(self, query: Query) -> Law:
        """The law of the genes asked about, of shape `query.shape`."""


class Conditional(abc.ABC):
    """A model that says one gene's law at a time, from the other genes of the cell: it writes `fit` and `law_of`.

    inputs: genes whose counts it may see, by default all
    """

    def __init__(self, inputs: list[str] | None = None):
        self.inputs = inputs

    @abc.abstractmethod
    def fit(self, train: ad.AnnData) -> Self:
        """Learn from the counts of `train`."""

    @abc.abstractmethod
    def law_of(self, cells: ad.AnnData, gene: str) -> Law:
        """The law of `gene` in each cell, (n_cells,), from counts of other genes."""

    def predict(self, query: Query) -> Law:
        """The law of each gene in each cell, (n_cells, n_genes)."""
        if query.perturbation:
            raise NotImplementedError(f"{type(self).__name__}: answers for cells, not for an arm")
        return Stacked([self.law_of(query.cells, gene) for gene in query.genes])


class Constant(Conditional):
    """A model with one law a gene, the same in every cell: `fit` sets `laws`, of shape (), by gene."""

    def law_of(self, cells, gene):
        law = self.laws[checks.genes("gene", gene, list(self.laws))[0]]
        return ZINB(*(np.full(cells.n_obs, p) for p in (law.mu, law.theta, law.pi)))


def around(mean: np.ndarray) -> Empirical:
    """The narrowest law of whole counts with a given mean of at least 0, to within half of 1 / ONE_MEAN."""
    mean = np.asarray(mean, dtype=float)
    above = np.arange(ONE_MEAN) < np.round(ONE_MEAN * (mean % 1))[..., None]
    return Empirical(np.floor(mean)[..., None] + above)


def gene_counts(cells: ad.AnnData, gene: str) -> np.ndarray:
    """Counts of one gene, (n_cells,) float64."""
    return dense(cells[:, [gene]].X)[:, 0].astype(float)
