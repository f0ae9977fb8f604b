"""What ours is measured against: plain code that anyone would write, and published packages."""

from __future__ import annotations

import logging
import math
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse
import torch
import torch.nn.functional as F
from torch import nn

from lib import dataset

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def simulate(mu, theta, pi, n_cells: int, seed: int) -> sparse.csr_matrix:
    """Counts of ZINB genes in plain vectorised NumPy: all are drawn, then dropped."""
    rng = np.random.default_rng(seed)
    shape = n_cells, len(mu)
    counts = rng.poisson(rng.gamma(theta, mu / theta, shape))
    counts[rng.random(shape) < pi] = 0
    return sparse.csr_matrix(counts.astype(np.float32))


def plain_log_likelihood(
    counts: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor, logit_pi: torch.Tensor
) -> torch.Tensor:
    """The ZINB log-likelihood by the one formula for zeros and counts alike, with torch's own gradient."""
    a, b = torch.log1p(counts / theta), torch.log1p(mu / theta)
    near = torch.log1p(((counts - mu) / (theta + mu)).clamp(min=-0.6))  # a - b, to more digits
    k1 = counts + 1
    log_nb = (
        (counts + theta) * torch.where(2 * counts >= mu, near, a - b)
        - 0.5 * a
        + counts * (torch.log(mu) - torch.log(k1))
        - 0.5 * torch.log(k1)
        + (1 - _HALF_LOG_2PI)
        + _rest(theta + counts)
        - _rest(theta)
        - _rest(k1)
    )
    log_pi, log_not_pi = -F.softplus(-logit_pi), -F.softplus(logit_pi)
    return torch.where(
        counts == 0, torch.logaddexp(log_pi, log_not_pi + log_nb), log_not_pi + log_nb
    )


def _rest(x: torch.Tensor) -> torch.Tensor:
    """log Gamma(x) less Stirling's (x - 1/2) log x - x + log(2 pi) / 2."""
    small, large = x.clamp(max=8.0), x.clamp(min=8.0)
    inverse = 1 / large
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square / 1260))
    direct = torch.lgamma(small) - (small - 0.5) * torch.log(small) + small - _HALF_LOG_2PI
    return torch.where(x > 8.0, series, direct)


class PlainVAE(nn.Module):
    """The proof of concept's kind: one hidden layer, means over entries, KL weight 1e-3 (a beta of 0.02 at 20 genes)."""

    def __init__(self, n_genes: int, n_hidden: int = 128, n_latent: int = 10):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(n_genes, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 2 * n_latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(n_latent, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 3 * n_genes)
        )

    def forward(self, x):
        mean, log_var = self.encoder(torch.log1p(x)).chunk(2, -1)
        mu, theta, logit_pi = self.decoder(
            mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        ).chunk(3, -1)
        mu, theta = F.softplus(mu) + 1e-4, F.softplus(theta) + 1e-4
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var)
        return mu, -plain_log_likelihood(x, mu, theta, logit_pi).mean() + 1e-3 * kl.mean()


def full_batch(counts: torch.Tensor, n_epochs: int, seed: int = 0):
    """Train `PlainVAE` by full-batch Adam at 1e-3. Yields after each epoch: the decoded mu, and the loss."""
    torch.manual_seed(seed)
    module = PlainVAE(counts.shape[1])
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    for _ in range(n_epochs):
        mu, loss = module(counts)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield mu.detach(), loss.item()


class ScVI:
    """scVI with its default sizes (1 x 128 hidden, 10 latent) and a ZINB likelihood, size factor 1, else its defaults."""

    def __init__(self, cells: ad.AnnData, seed: int = 0):
        warnings.simplefilter("ignore")
        import scvi

        for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
            logging.getLogger(name).setLevel(logging.ERROR)
        scvi.settings.seed = seed
        own = self._own(cells)
        scvi.model.SCVI.setup_anndata(own, size_factor_key="size_factor")
        self.model = scvi.model.SCVI(own, gene_likelihood="zinb")

    def train(self, n_epochs: int) -> None:
        """So many epochs more."""
        self.model.train(
            max_epochs=n_epochs, accelerator="cpu", devices=1, train_size=1.0, enable_progress_bar=False, enable_model_summary=False,
            plan_kwargs={"n_epochs_kl_warmup": 10},
        )  # fmt: skip

    def negative_elbo(self, cells: ad.AnnData) -> float:
        """Of cells, in nats a cell."""
        return -float(self.model.get_elbo(self._own(cells)))

    def _own(self, cells):
        obs = pd.DataFrame({"size_factor": 1.0}, index=cells.obs_names)
        return ad.AnnData(
            dataset.dense(cells.X).astype(np.float32),
            obs=obs,
            var=pd.DataFrame(index=cells.var_names),
        )


def statsmodels_fit(counts: np.ndarray) -> float:
    """Log-likelihood of one gene's counts (n_cells,) at the ZINB that statsmodels fits, from its default start."""
    from statsmodels.discrete.count_model import ZeroInflatedNegativeBinomialP

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            ZeroInflatedNegativeBinomialP(counts, np.ones((len(counts), 1)))
            .fit(disp=0, maxiter=200)
            .llf
        )
