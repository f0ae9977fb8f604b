"""scGen as a model of a drug's effect."""

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks
from lib.counts import dense
from lib.laws import Cells
from lib.predict import drug
from lib.seeds import stream
from peers.environment import QUIET, apart, package


class ScGen:
    """scGen (Lotfollahi et al. 2019, Nature Methods 16), as in pertpy, as in `lib/predict/drug.py`.

    It predicts no law but cells, one for each control cell: log1p expression decoded at the latent
    position of the control cell plus the effect. Score it by `excess_crps` and the mean; a count
    that was never drawn makes the KL infinite.

    The effect is the mean of the latent treated less that of the control cells, over the cell types
    seen both ways, each with the same weight. pertpy's own `predict` takes the mean over cells
    drawn with a generator that can't be seeded. The effect here is what that mean estimates, with
    `restrict_arithmetic_to` these types.

    normalise: whether to divide each cell's counts by their sum, times the median sum, before
        log1p, as scGen's authors recommend for sequenced cells; the predicted cell is given the
        control cell's sum. Off, since simulated cells have no library size, and an effect of the
        drug on the sum would be lost
    max_epochs: epochs of training
    model_options, training_options: arguments of `pertpy.tools.Scgen` and of its `train`
    """

    def __init__(
        self, *, normalise=False, max_epochs=100, model_options=None, training_options=None, seed=0
    ):
        self.normalise = normalise
        self.max_epochs = checks.integer("max_epochs", max_epochs, low=1)
        self.model_options = model_options or {}
        self.training_options = training_options or {}
        self.seed = seed

    def fit(self, adata):
        drug.groups(adata)  # raises before training where there is no effect to learn
        scgen = package("pertpy.tools").Scgen
        self.genes = list(adata.var_names)
        self.median_sum = float(np.median(dense(adata.X).sum(1)))
        with apart(self.seed, "scGen"):
            cells = self._expression(adata)
            scgen.setup_anndata(cells, batch_key="drug", labels_key="cell_type")
            self.scgen = scgen(cells, **self.model_options)
            self.scgen.train(max_epochs=self.max_epochs, **(QUIET | self.training_options))
            self.history = pd.concat(self.scgen.history.values(), axis=1).astype(float)
        self.effect = drug.mean_change(adata, self.latent(adata))
        return self

    def latent(self, adata: ad.AnnData) -> np.ndarray:
        """Posterior mean of each cell, (n_cells, n_latent)."""
        checks.same_genes("control", adata, self.genes)
        with apart(self.seed, "scGen's own draws, not used"):
            latent = self.scgen.get_latent_representation(self._expression(adata))
        return np.asarray(latent, dtype=float)

    def predict(self, query):
        z = (self.latent(query.cells) + self.effect).astype(np.float32)
        logs = np.asarray(self.scgen.module.as_bound().generative(z)["px"], dtype=float)
        counts = np.maximum(np.expm1(logs) * self._scale(query.cells), 0)
        # laws are of whole counts: rounded up or down at random, which leaves the mean where it is
        up = stream(self.seed, "scGen's counts rounded").random(counts.shape) < counts % 1
        return Cells((np.floor(counts) + up)[:, query.cells.var_names.get_indexer(query.genes)])

    def _expression(self, adata):
        """log1p expression, with the labels that scGen asks for."""
        labels = adata.obs[["drug", "cell_type"]].astype(str).astype("category")
        x = np.log1p(dense(adata.X) / self._scale(adata)).astype(np.float32)
        return ad.AnnData(x, obs=labels, var=pd.DataFrame(index=self.genes))

    def _scale(self, adata):
        """Factor of each cell's counts, (n_cells, 1)."""
        sums = dense(adata.X).sum(1, keepdims=True)
        if not self.normalise:
            return np.ones_like(sums)
        return np.where(sums > 0, sums, self.median_sum) / self.median_sum
