"""What is computed of laws: their likelihood, their fit, the distances between them."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks import references
from benchmarks.measure import alternating, cpu_seconds, row
from lib import dataset
from lib.laws import ZINB, Mixture, maximum_likelihood
from lib.laws.likelihood import log_likelihood as ours
from lib.score import distances


def log_likelihood(share: float) -> None:
    """Value and gradient of the ZINB log-likelihood, 512 cells x 2,000 genes."""
    n_cells = max(32, int(512 * share))
    theirs, reference = references.published_log_likelihood()
    for zeros in (0.8, 0.95):
        for theta_of in ("gene", "entry"):
            exact = _counts_and_parameters(n_cells, zeros, theta_of)
            given = [t.float().requires_grad_(i > 0) for i, t in enumerate(exact)]

            def step(function, given=given):
                torch.autograd.grad(function(*given).sum(), given[1:])

            setting = f"{n_cells} x 2,000, {zeros * 100:.0f} % zeros, a theta of each {theta_of}"
            mine, its, ratio = alternating(
                lambda step=step: step(ours), lambda step=step: step(theirs), rounds=15
            )
            row("log-likelihood", setting, "CPU seconds", mine, its, reference, ratio, ">= 2")
            apart = ours(*exact) - references.plain_log_likelihood(*exact)
            measure = "largest difference from the plain formula, float64"
            row("log-likelihood", setting, measure, apart.abs().max().item(), reach="<= 1e-6")


def _counts_and_parameters(n_cells, zeros, theta_of):
    """Counts, mu, theta and the logit of pi, all in double precision."""
    cells = dataset.base_genes(n_cells, 2000, zeros, seed=1)
    mu, theta, pi = (cells.varm[p][:, 0] for p in ("mu", "theta", "pi"))
    shape = n_cells, len(mu)
    noise = np.random.default_rng(1).normal(size=shape)
    arrays = (
        dataset.dense(cells.X),
        mu * np.exp(0.2 * noise),
        theta if theta_of == "gene" else np.broadcast_to(theta, shape),
        np.broadcast_to(np.log(pi / (1 - pi)), shape),
    )
    return [torch.tensor(np.ascontiguousarray(a), dtype=torch.float64) for a in arrays]


def fitting(share: float) -> None:
    """Maximum-likelihood laws of 2,000 genes in 10,000 cells, against SciPy gene by gene."""
    n_cells = max(500, int(10_000 * share))
    n_genes = max(20, int(2000 * share))
    counts = dataset.base_genes(n_cells, n_genes, seed=71).X
    mine, its, ratio = alternating(
        lambda: maximum_likelihood.fit(counts), lambda: references.scipy_fit(counts), rounds=3
    )
    setting = f"{n_cells:,} x {n_genes:,}, 80 % zeros"
    reference = "SciPy's L-BFGS-B on each gene's histogram"
    row("fit", setting, "CPU seconds", mine, its, reference, ratio, ">= 20")
    dense = dataset.dense(counts)
    likelihood = maximum_likelihood.fit(counts).log_prob(dense).sum(0)
    behind = references.scipy_fit(counts).log_prob(dense).sum(0) - likelihood
    row(
        "fit", setting, "log-likelihood behind SciPy's at most, nats", behind.max(), reach="<= 1e-3"
    )


def scores(share: float) -> None:
    """KL and CRPS of law against law, at means near 10."""
    n = max(500, int(20_000 * share))
    rng = np.random.default_rng(61)

    def off(*shape):
        return np.exp(0.1 * rng.normal(size=(*shape, n)))

    for name, theta in (
        ("theta 0.5 to 2", rng.uniform(0.5, 2, n)),
        ("theta 1,000", np.full(n, 1000.0)),
    ):
        true = ZINB(rng.uniform(5, 15, n), theta, np.full(n, 0.7))
        parts = ZINB(true.mu * off(16), theta * off(16), np.broadcast_to(true.pi, (16, n)))
        laws = {
            "ZINB": ZINB(true.mu * off(), theta * off(), true.pi),
            "mixture of 16": Mixture(parts),
        }
        for kind, law in laws.items():
            taken = [
                cpu_seconds(lambda law=law, true=true: distances.between(true, law))
                for _ in range(5)
            ]
            reach = ">= 200000" if kind == "ZINB" else ""
            setting = f"{kind}, {name}, mean 5 to 15"
            row("exact scores", setting, "laws a CPU second", n / np.median(taken), reach=reach)
