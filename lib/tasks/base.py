"""A question: what a model is asked, and the truth about it."""

from __future__ import annotations

from typing import NamedTuple

import anndata as ad
import numpy as np

from lib.laws import ZINB
from lib.predict.base import Query


class Question(NamedTuple):
    """A query with its answer.

    true: exact law, of shape `query.shape`
    split: kind of question, such as "held_out"
    mechanism: kind of the gene's mechanism, "" for a base gene or an arm
    dose: (n_cells,) count that a gene was set to, where one was
    """

    query: Query
    true: ZINB
    split: str
    mechanism: str = ""
    dose: np.ndarray | None = None

    @property
    def cells(self) -> ad.AnnData:
        """The query's cells."""
        return self.query.cells

    @property
    def gene(self) -> str:
        """The one gene that is asked about."""
        (gene,) = self.query.genes
        return gene
