"""Models of what a drug does."""

from __future__ import annotations

import anndata as ad
import numpy as np
import scipy.sparse as sparse
import torch

from lib import checks, dataset, model
from lib.laws import ZINB, Cells, Law, Mixture, maximum_likelihood
from lib.predict import neural
from lib.seeds import stream


def answer(predictor, control: ad.AnnData, name: str = "model") -> Law:
    """A predictor's answer for control cells of one type, as the law of each gene, (n_genes,), checked.

    Cells, an array (n_cells, n_genes) of counts, become their empirical law. Raises ValueError in one line for anything else.
    """
    predicted = predictor.predict(control.copy())
    if not isinstance(predicted, Law):
        try:
            counts = np.asarray(predicted, dtype=float)
        except (TypeError, ValueError):
            raise ValueError(f"{name}: predicts a {type(predicted).__name__}; must be a law a gene, or cells (n_cells, {control.n_vars} genes)") from None
        if counts.ndim != 2 or counts.shape[1] != control.n_vars or len(counts) == 0:
            raise ValueError(f"{name}: predicts shape {counts.shape}; must be a law a gene, or cells (n_cells, {control.n_vars} genes)")
        wrong = ~np.isfinite(counts) | (counts < 0) | (counts != np.floor(counts))
        if wrong.any():
            raise ValueError(f"{name}: predicts {counts[wrong][0]:g} in a cell; must be whole counts of at least 0")
        predicted = Cells(counts)
    if predicted.shape != (control.n_vars,):
        raise ValueError(f"{name}: predicts laws of shape {predicted.shape}; must be one law a gene, ({control.n_vars},)")
    return predicted


class NoChange:
    """The law of the control cells, by maximum likelihood on those given and those trained on."""

    def fit(self, adata: ad.AnnData) -> NoChange:
        self.controls = adata[(adata.obs["drug"].astype(str) == dataset.CONTROL).to_numpy()].copy()
        return self

    def predict(self, control: ad.AnnData) -> Law:
        return self.control_law(control)

    def control_law(self, control: ad.AnnData) -> ZINB:
        """The law of each gene in the controls' cell type, (n_genes,)."""
        checks.same_genes("control", control, self.controls.var_names)
        same = self.controls.obs["cell_type"].isin(control.obs["cell_type"].unique()).to_numpy()
        return maximum_likelihood.fit(sparse.vstack([sparse.csr_matrix(control.X), sparse.csr_matrix(self.controls.X[same])]))


class MeanShift(NoChange):
    """The control law, with its mean count shifted by the treated less the control mean."""

    def fit(self, adata):
        self.shift = np.mean([after - before for before, after in _means(adata, dataset.dense(adata.X))], axis=0)
        return super().fit(adata)

    def predict(self, control):
        law = self.control_law(control)
        return ZINB(np.maximum(law.mu + self.shift / (1 - law.pi), 1e-3), law.theta, law.pi)


class FoldChange(NoChange):
    """The control law, with its mean count multiplied by the treated over the control mean."""

    def fit(self, adata):
        ratios = [np.log(np.maximum(after, 1e-3) / np.maximum(before, 1e-3)) for before, after in _means(adata, dataset.dense(adata.X))]
        self.fold = np.exp(np.mean(ratios, axis=0))
        return super().fit(adata)

    def predict(self, control):
        law = self.control_law(control)
        return ZINB(law.mu * self.fold, law.theta, law.pi)


class LatentArithmetic:
    """scGen's latent arithmetic (Lotfollahi et al. 2019, Nature Methods 16) with a ZINB VAE.

    The effect is the mean of q(z | treated) less that of q(z | control); it is added to the latent
    position of each control cell and decoded. The law of a gene is the mixture over these cells.
    `options` as of `neural.VAE`.
    """

    def __init__(self, **options):
        options["vae_options"] = {"hide": 0.0} | options.get("vae_options", {})
        self.vae = neural.VAE(**options)

    def fit(self, adata):
        _means(adata, np.zeros((adata.n_obs, 1)))  # says at once where there is no effect to learn
        self.vae.fit(adata)
        self.effect = np.mean([after - before for before, after in _means(adata, self.latent(adata))], axis=0)
        return self

    @torch.no_grad()
    def latent(self, adata: ad.AnnData) -> np.ndarray:
        """Posterior mean of each cell, (n_cells, n_latent)."""
        checks.same_genes("control", adata, self.vae.genes)
        module = self.vae.module
        x = model.to_tensor(adata.X, module.is_input.device)
        return module.inference(x, module.visible(x))[0].double().cpu().numpy()

    @torch.no_grad()
    def cells(self, control: ad.AnnData) -> ZINB:
        """The law of every gene in each control cell, were it treated: (n_cells, n_genes)."""
        module = self.vae.module
        z = torch.as_tensor(self.latent(control) + self.effect, dtype=torch.float32, device=module.is_input.device)
        return model.to_law(*module.generative(z))

    def predict(self, control):
        return Mixture(self.cells(control))


class Oracle:
    """The true treated law. `drug` is a function of control cells that treats them."""

    def __init__(self, drug):
        self.drug = drug

    def fit(self, adata):
        return self

    def predict(self, control):
        if control.obs["cell_type"].nunique() != 1:
            raise ValueError("control: must be cells of one type")
        return dataset.law(self.drug(control))[0]


def draw(law: Law, n_cells: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Counts of new cells, (n_cells, n_genes), from laws (n_genes,)."""
    rng = stream(seed, "cells drawn from a predicted law")
    if isinstance(law, Mixture):  # whole cells, so that their genes vary together
        rows = rng.integers(law.components.shape[0], size=n_cells)
        return law.components[rows].sample(rng)
    return law.sample(rng, (n_cells, *law.shape))


def _means(adata, values):
    """Mean (control, treated) row of `values` in each cell type that was seen both ways."""
    types, treated = adata.obs["cell_type"].astype(str).to_numpy(), (adata.obs["drug"].astype(str) != dataset.CONTROL).to_numpy()
    groups = [((types == t) & ~treated, (types == t) & treated) for t in np.unique(types)]
    pairs = [(values[before].mean(0), values[after].mean(0)) for before, after in groups if before.any() and after.any()]
    if not pairs:
        raise ValueError("adata: has no cell type with both control and treated cells")
    return pairs
