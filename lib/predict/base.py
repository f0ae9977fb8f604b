"""The contract of every model."""

from __future__ import annotations

import anndata as ad
import numpy as np

from lib import checks, dataset
from lib.laws import Law


class Predictor:
    """What the predictors share: which genes they may see."""

    def __init__(self, inputs: list[str] | None = None):
        self.inputs = inputs

    def fit(self, adata: ad.AnnData) -> Predictor:
        """Learn from the counts of `adata`. Returns itself."""
        raise NotImplementedError

    def predict(self, adata: ad.AnnData, gene: str) -> Law:
        """The law of `gene` in each cell, (n_cells,), from the other genes' counts."""
        raise NotImplementedError

    def features(self, adata: ad.AnnData, gene: str) -> np.ndarray:
        """Counts of the inputs other than `gene`, (n_cells, n_inputs), in the order of the training cells."""
        inputs = checks.genes("inputs", self.genes if self.inputs is None else self.inputs, list(adata.var_names))
        return dataset.dense(adata[:, [g for g in inputs if g != gene]].X).astype(float)
