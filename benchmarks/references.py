"""What ours is measured against: plain code that anyone would write, and published packages."""

from __future__ import annotations

import logging
import math
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import optimize, sparse, special

from lib import dataset
from lib.counts import with_columns
from lib.laws import ZINB
from lib.seeds import stream
from lib.simulate.arms import Screen

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def simulate(mu, theta, pi, n_cells: int, seed: int) -> sparse.csr_matrix:
    """Counts of ZINB genes in plain vectorised NumPy: all are drawn, then dropped."""
    rng = np.random.default_rng(seed)
    shape = n_cells, len(mu)
    counts = rng.poisson(rng.gamma(theta, mu / theta, shape))
    counts[rng.random(shape) < pi] = 0
    return sparse.csr_matrix(counts.astype(np.float32))


def intervene(cells: ad.AnnData, gene: str, count: int, seed: int) -> ad.AnnData:
    """`perturb.do` gene by gene: the law of the cells so far, a draw, and the counts rewritten."""
    after = dataset.with_counts(cells, {gene: np.full(cells.n_obs, count)})
    for child in dataset.descendants(cells, [gene]):
        rng = stream(seed, f"counts of {child} after an intervention")
        drawn = dataset.law(after, child)[:, 0].sample(rng)
        after.X = with_columns(after.X, {after.var_names.get_loc(child): drawn}, np.float32)
    return after


def screen(network, measurement, arms: Screen, acting: np.ndarray, seed: int):
    """Cells of a screen in a plain loop over genes, regulators first, each vectorised over cells.

    Of arms of one gene, one cell type and one batch, without a bias of controls.

    acting: (n_cells,) guide of each cell; below 0: none

    Returns counts and the regulators' molecules.
    """
    rng, n_cells = np.random.default_rng(seed), len(acting)
    phase, stress = rng.uniform(0, 2 * np.pi, n_cells), rng.normal(size=n_cells)
    stress += np.where(acting >= 0, arms.shift[arms.arm[acting]], 0)
    activities = np.array([2**0.5 * np.cos(phase), 2**0.5 * np.sin(phase), stress])
    capture = measurement.median[0] * np.exp(rng.normal(0, measurement.spread[0], n_cells))
    capture = np.minimum(capture, 1)
    usual = network.log_mean_fold
    regulates = set(network.regulator.tolist())
    counts = np.zeros((n_cells, len(network.genes)), dtype=np.float32)
    molecules = {}
    for gene in (place for places in network.generations for place in places):
        edges = np.flatnonzero(network.target == gene)
        mu = network.base[gene, 0] * np.exp(network.loadings[gene] @ activities - usual[gene])
        if len(edges):
            mu *= _plain_fold(network, edges, molecules)
        for guide in np.flatnonzero(arms.perturbation[arms.arm] == network.genes[gene]):
            mu[acting == guide] *= arms.folds[guide, 0]
        theta = network.theta[gene, 0]
        if gene in regulates:
            molecules[gene] = rng.poisson(rng.gamma(theta, mu / theta))
            counts[:, gene] = rng.binomial(molecules[gene], capture)
        else:
            counts[:, gene] = rng.poisson(rng.gamma(theta, capture * mu / theta))
    return sparse.csr_matrix(counts), np.array(list(molecules.values()))


def _plain_fold(network, edges, molecules):
    """The fold of a target's mean by its regulators."""
    bound, folds = [], []
    for edge in edges:
        x = molecules[network.regulator[edge]].astype(float) ** network.power[edge]
        h = x / (x + network.half[edge] ** network.power[edge])
        more = 2.0 ** network.effect[edge] - 1
        bound.append(h if more > 0 else 1 - h)
        folds.append((1 + more * h) / (1 + more / 2))
    logic = network.logic[network.target[edges[0]]]
    if logic in ("product", "sum"):
        return np.prod(folds, axis=0) if logic == "product" else np.mean(folds, axis=0)
    more = 2.0 ** np.abs(network.effect[edges]).mean() - 1
    on, usual = np.prod(bound, axis=0), 0.5 ** len(edges)
    if logic == "or":
        on, usual = 1 - np.prod(1 - np.array(bound), axis=0), 1 - usual
    return (1 + more * on) / (1 + more * usual)


def plain_log_likelihood(
    counts: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor, logit_pi: torch.Tensor
) -> torch.Tensor:
    """The ZINB log-likelihood by one formula for zeros and counts, with torch's own gradient."""
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


def published_log_likelihood():
    """The ZINB log-likelihood that scVI trains on, and its name; else the plain formula's."""
    try:
        from scvi.distributions._negative_binomial import log_zinb_positive
    except ImportError:
        return plain_log_likelihood, "the plain formula"
    return log_zinb_positive, "scvi-tools' log_zinb_positive"


class ScVI:
    """scVI with its default sizes (1 x 128 hidden, 10 latent) and optimiser, and a ZINB likelihood.

    Size factors are 1, as ours has none, and the KL term has its full weight from the first step:
    its default, a warm-up over 400 epochs, would never reach it here. All else is scVI's default,
    but what costs time and teaches nothing is off: progress bar, model summary and logger.
    """

    def __init__(self, cells: ad.AnnData, seed: int = 0):
        warnings.simplefilter("ignore")
        import scvi

        for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
            logging.getLogger(name).setLevel(logging.ERROR)
        scvi.settings.seed = seed
        own = self._own(cells)
        scvi.model.SCVI.setup_anndata(own, size_factor_key="size_factor")
        self.model = scvi.model.SCVI(own, gene_likelihood="zinb")
        self.model.deregister_manager()  # else the data of every model before stays in memory

    def train(self, n_epochs: int, batch_size: int, learning_rate: float = 1e-3) -> None:
        """So many epochs more, on all cells."""
        lean = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        plan = {"lr": learning_rate, "n_epochs_kl_warmup": None}
        self.model.train(
            max_epochs=n_epochs, batch_size=batch_size, train_size=1.0, accelerator="cpu",
            devices=1, plan_kwargs=plan, **lean,
        )  # fmt: skip

    def negative_elbo(self, cells: ad.AnnData) -> float:
        """Mean over the cells, in nats."""
        return -float(self.model.get_elbo(self._own(cells)))

    def _own(self, cells):
        return ad.AnnData(
            dataset.dense(cells.X).astype(np.float32),
            obs=pd.DataFrame({"size_factor": 1.0}, index=cells.obs_names),
            var=pd.DataFrame(index=cells.var_names),
        )


def scipy_fit(counts: sparse.spmatrix) -> ZINB:
    """ZINB laws of maximum likelihood, (n_genes,), by SciPy's L-BFGS-B, one gene at a time.

    Each gene's counts are summed up as a histogram first, and the gradient is given.
    """
    columns = sparse.csc_matrix(counts)
    n_cells, n_genes = columns.shape
    return ZINB(
        *np.transpose([_scipy_fit_one(columns[:, g].data, n_cells) for g in range(n_genes)])
    )


def _scipy_fit_one(positive, n_cells):
    """mu, theta and pi from a gene's non-zero counts."""
    values, times = np.unique(positive, return_counts=True)
    n_zeros = n_cells - len(positive)
    log_factorials = special.gammaln(values + 1)

    def loss(parameters):
        mu, theta = np.exp(parameters[:2])
        pi = special.expit(parameters[2])
        log_zero = -theta * np.log1p(mu / theta)
        zero = pi + (1 - pi) * np.exp(log_zero)
        log_nb = (
            special.gammaln(values + theta) - special.gammaln(theta) - log_factorials
            + log_zero + values * (np.log(mu) - np.log(mu + theta))
        )  # fmt: skip
        value = n_zeros * np.log(zero) + times @ (np.log1p(-pi) + log_nb)
        share = n_zeros * (1 - pi) * np.exp(log_zero) / zero  # zeros of the negative binomial
        part = theta / (mu + theta)
        of_zero = -np.log1p(mu / theta) + mu / (mu + theta)
        of_mu = -mu * part * share + times @ ((values - mu) * part)
        of_counts = special.digamma(values + theta) - special.digamma(theta) + of_zero
        of_theta = theta * (share * of_zero + times @ (of_counts - values / (mu + theta)))
        of_pi = pi * (1 - pi) * n_zeros * (1 - np.exp(log_zero)) / zero - pi * times.sum()
        return -value / n_cells, -np.array([of_mu, of_theta, of_pi]) / n_cells

    share = len(positive) / n_cells
    start = (
        np.log(values @ times / len(positive)),
        0.0,
        special.logit(np.clip(1 - share, 0.01, 0.99)),
    )
    bounds = [(-20, 20), (np.log(1e-4), np.log(1e8)), (-30, 30)]
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    mu, theta = np.exp(found.x[:2])
    return mu, theta, special.expit(found.x[2])
