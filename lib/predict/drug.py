"""Models of what a drug does to cells of one type, fitted to control and treated cells.

`obs["drug"]` and `obs["cell_type"]` tell the cells apart. The model may be asked about a type that
was never seen treated. Effects are means over the cell types that were seen both as control and
treated, each with the same weight.
"""

from typing import Self

import anndata as ad
import numpy as np
import scipy.sparse as sparse
import torch

from lib import checks, model
from lib.counts import CONTROL, dense
from lib.laws import ZINB, Law, Mixture, maximum_likelihood
from lib.predict import neural
from lib.predict.base import Query


class NoChange:
    """The law of the control cells, by maximum likelihood: of the given and the training cells."""

    def fit(self, train: ad.AnnData) -> Self:
        self.controls = train[(train.obs["drug"].astype(str) == CONTROL).to_numpy()].copy()
        return self

    def predict(self, query: Query) -> Law:
        control = query.cells
        checks.same_genes("control", control, self.controls.var_names)
        same = self.controls.obs["cell_type"].isin(control.obs["cell_type"].unique()).to_numpy()
        both = [sparse.csr_matrix(counts) for counts in (control.X, self.controls.X[same])]
        law = maximum_likelihood.fit(sparse.vstack(both))
        return _asked_about(self.changed(law), query)

    def changed(self, law: ZINB) -> ZINB:
        """The law of each gene under the drug, (n_genes,), from the law without it."""
        return law


class MeanShift(NoChange):
    """The control law, with its mean count shifted by the treated less the control mean."""

    def fit(self, train):
        self.shift = mean_change(train, dense(train.X))
        return super().fit(train)

    def changed(self, law):
        return ZINB(np.maximum(law.mu + self.shift / (1 - law.pi), 1e-3), law.theta, law.pi)


class FoldChange(NoChange):
    """The control law, with its mean count multiplied by the treated over the control mean."""

    def fit(self, train):
        logs = []
        for before, after in means(train, dense(train.X)):
            logs.append(np.log(np.maximum(after, 1e-3) / np.maximum(before, 1e-3)))
        self.fold = np.exp(np.mean(logs, axis=0))
        return super().fit(train)

    def changed(self, law):
        return ZINB(law.mu * self.fold, law.theta, law.pi)


class LatentArithmetic:
    """scGen's latent arithmetic (Lotfollahi et al. 2019, Nature Methods 16) with a ZINB VAE.

    The effect is the mean of q(z | treated) less that of q(z | control). It is added to the latent
    position of each control cell, which is then decoded. The law of a gene is the mixture over
    these cells.

    vae_options, training_options, device, seed: arguments of `neural.VAE`
    """

    def __init__(self, *, vae_options=None, training_options=None, device="auto", seed=0):
        self.vae = neural.VAE(
            vae_options={"hide": 0.0} | (vae_options or {}),
            training_options=training_options,
            device=device,
            seed=seed,
        )

    def fit(self, train: ad.AnnData) -> Self:
        groups(train)  # raises before training where there is no effect to learn
        self.vae.fit(train)
        self.effect = mean_change(train, self.latent(train))
        return self

    @torch.no_grad()
    def latent(self, cells: ad.AnnData) -> np.ndarray:
        """Posterior mean of each cell, (n_cells, n_latent)."""
        checks.same_genes("control", cells, self.vae.genes)
        module = self.vae.module
        x = model.to_tensor(cells.X, module.is_input.device)
        return module.inference(x, module.visible(x))[0].double().cpu().numpy()

    @torch.no_grad()
    def predict(self, query: Query) -> Law:
        module = self.vae.module
        moved = self.latent(query.cells) + self.effect
        z = torch.as_tensor(moved, dtype=torch.float32, device=module.is_input.device)
        return _asked_about(Mixture(model.to_law(*module.generative(z))), query)


def groups(cells: ad.AnnData) -> list[tuple[np.ndarray, np.ndarray]]:
    """Which cells are control and which treated, (n_cells,) bool each, by cell type.

    Types without both are left out. Raises ValueError where none is left.
    """
    types = cells.obs["cell_type"].astype(str).to_numpy()
    treated = (cells.obs["drug"].astype(str) != CONTROL).to_numpy()
    pairs = [((types == t) & ~treated, (types == t) & treated) for t in np.unique(types)]
    both = [(before, after) for before, after in pairs if before.any() and after.any()]
    if not both:
        raise ValueError("adata: has no cell type with both control and treated cells")
    return both


def means(cells: ad.AnnData, values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean rows of control and of treated cells, by cell type. Raises ValueError as `groups`.

    values: (n_cells, n) numbers of the cells
    """
    return [(values[before].mean(0), values[after].mean(0)) for before, after in groups(cells)]


def mean_change(cells: ad.AnnData, values: np.ndarray) -> np.ndarray:
    """Treated less control mean, averaged over cell types, (n,). Takes and raises as `means`."""
    return np.mean([after - before for before, after in means(cells, values)], axis=0)


def _asked_about(law, query):
    """The laws of the genes asked about, from those of all genes."""
    return law[query.cells.var_names.get_indexer(query.genes)]
