"""The contract of every model: what it is asked, and what it must write.

    class Mine:
        def fit(self, train): ...       # learns from cells, returns itself
        def predict(self, query): ...   # the law of the genes asked about

A query without a perturbation asks for a law in each cell, given the counts of the other genes in
that cell. A query with a perturbation shows control cells, and asks for the law of each gene over
the cells that were perturbed. `lib.predict.answers` adapts simpler forms of `predict`, and answers
that are no laws.
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
    """What was done to the cells of an arm.

    name: a drug, a gene, or genes joined by "+"
    strength: relative dose of a drug, 1 for the effect that it is defined by; of a knockdown the
        share of expression that it takes away, of an activation the fold
    perturbation_type: knockdown, knockout or activation in a screen
    """

    name: str
    strength: float = 1.0
    perturbation_type: str = ""


class Query(NamedTuple):
    """What a model is asked.

    cells: cells that it may see: after an intervention, or controls of one type
    genes: names of the genes asked about
    perturbation: what was done to the arm; None where one law a cell is asked for
    """

    cells: ad.AnnData
    genes: list[str]
    perturbation: Perturbation | None = None

    @property
    def cell_type(self) -> str:
        """The type of the first cell, which is that of all where an arm is asked about."""
        return str(self.cells.obs["cell_type"].iloc[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the law that answers: (n_cells, n_genes), or (n_genes,) under a perturbation."""
        n_genes = len(self.genes)
        return (n_genes,) if self.perturbation else (self.cells.n_obs, n_genes)


@runtime_checkable
class Predictor(Protocol):
    """A model. Its `predict` raises NotImplementedError where it has no answer."""

    def fit(self, train: ad.AnnData) -> Self:
        """Learn from cells: counts in `X`, what an experimenter knows in `obs`. Returns itself."""

    def predict(self, query: Query) -> Law:
        """The law of the genes asked about, of shape `query.shape`."""


class Conditional(abc.ABC):
    """A model that predicts one gene at a time, from other genes of the same cell.

    A subclass writes `fit` and `law_of`.

    inputs: genes whose counts it may see, by default all
    """

    def __init__(self, inputs: list[str] | None = None):
        self.inputs = inputs

    @abc.abstractmethod
    def fit(self, train: ad.AnnData) -> Self:
        """Learn from the counts of `train`."""

    @abc.abstractmethod
    def law_of(self, cells: ad.AnnData, gene: str) -> Law:
        """The law of `gene` in each cell, (n_cells,), given counts of other genes."""

    def predict(self, query: Query) -> Law:
        """The law of each gene in each cell, (n_cells, n_genes)."""
        if query.perturbation:
            raise NotImplementedError(f"{type(self).__name__}: answers for cells, not for an arm")
        return Stacked([self.law_of(query.cells, gene) for gene in query.genes])


class Constant(Conditional):
    """A model with one law a gene, the same in every cell.

    A subclass writes `fit`, which sets `laws`: gene -> ZINB of shape ().
    """

    def law_of(self, cells, gene):
        law = self.laws[checks.genes("gene", gene, list(self.laws))[0]]
        return ZINB(*(np.full(cells.n_obs, p) for p in (law.mu, law.theta, law.pi)))


def around(mean: np.ndarray) -> Empirical:
    """The narrowest laws of whole counts with given means, each to within 1 / (2 ONE_MEAN).

    mean: (...) at least 0
    """
    mean = np.asarray(mean, dtype=float)
    above = np.arange(ONE_MEAN) < np.round(ONE_MEAN * (mean % 1))[..., None]
    return Empirical(np.floor(mean)[..., None] + above)


def gene_counts(cells: ad.AnnData, gene: str) -> np.ndarray:
    """Counts of one gene, (n_cells,) float64."""
    return dense(cells[:, [gene]].X)[:, 0].astype(float)
