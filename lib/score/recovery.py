"""Recovery: laws that maximum likelihood and VAEs find in counts, scored against the true ones."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.special

from lib.counts import dense
from lib.laws import ZINB, maximum_likelihood
from lib.predict import neural
from lib.score import tables
from lib.seeds import stream

METRICS = ["mse_mu", "mse_log_theta", "mse_pi"]
REDRAWN = 5  # data sets drawn from fitted laws, for the misfit that sampling alone gives


def squared_errors(true: ZINB, estimates: dict[str, ZINB]) -> pd.DataFrame:
    """Mean squared errors of mu, log theta and pi over cells and genes: model, metric, value."""
    rows = []
    for model, law in estimates.items():
        log_theta = np.log(law.theta) - np.log(true.theta)
        errors = {
            "mse_mu": law.mu - true.mu,
            "mse_log_theta": log_theta,
            "mse_pi": law.pi - true.pi,
        }
        rows += [(model, metric, np.mean(error**2)) for metric, error in errors.items()]
    return pd.DataFrame(rows, columns=["model", "metric", "value"])


def one_type(
    cells: ad.AnnData, true: ZINB, betas: list[float], *, max_epochs: int, **options
) -> tuple[pd.DataFrame, dict[str, ZINB]]:
    """Errors where all cells have the same law of each gene, and the laws by scenario or model.

    true: laws of the cells, (n_cells, n_genes)
    betas: weights of the KL term; a VAE is trained at each, in scenario "beta=...", and at 1
    max_epochs: training epochs of each VAE
    options: device and seed of the VAEs

    Maximum likelihood fits each gene; "constant" is one law for the counts of all genes.
    """
    laws = {
        "maximum_likelihood": maximum_likelihood.fit(cells.X),
        "constant": maximum_likelihood.fit(dense(cells.X).reshape(-1, 1)),
    }
    frames = [squared_errors(true, laws).assign(scenario="one_type")]
    training = {"max_epochs": max_epochs, "learning_rate": 2e-2, "betas": (0.9, 0.99)}
    training |= {"schedule": "one_cycle", "validation_fraction": 0.0}
    for beta in sorted({*betas, 1.0}):
        scenario = f"beta={beta:g}"
        shape = {"beta": beta, "hide": 0.0, "n_layers": 1}
        vae = neural.VAE(vae_options=shape, training_options=training, **options)
        laws[scenario] = vae.fit(cells).reconstruct(cells)
        errors = squared_errors(true, {"vae": laws[scenario]})
        if beta == 1:
            frames.append(errors.assign(scenario="one_type"))
        if beta in betas:
            frames.append(errors.assign(scenario=scenario))
    return pd.concat(frames, ignore_index=True), laws


def several_types(
    cells: ad.AnnData, true: ZINB, *, max_epochs: int, **options
) -> tuple[pd.DataFrame, neural.VAE]:
    """Errors where the law of each gene depends on the cell's type, and the trained VAE.

    cells: with their types in obs["cell_type"], which maximum likelihood alone is told
    true, max_epochs, options: as in `one_type`

    The marginal is maximum likelihood that isn't told them; "bayes" is `expected_law`.
    """
    warmup = min(10, max_epochs - 1)
    training = {"max_epochs": max_epochs, "warmup": warmup, "learning_rate": 3e-3}
    vae = neural.VAE(vae_options={"hide": 0.0}, training_options=training, **options).fit(cells)
    types = cells.obs["cell_type"].to_numpy()
    estimates = {
        "maximum_likelihood": fitted_by_type(cells.X, types),
        "marginal": maximum_likelihood.fit(cells.X),
        "bayes": expected_law(dense(cells.X), types, true),
        "vae": vae.reconstruct(cells),
    }
    return squared_errors(true, estimates).assign(scenario="several_types"), vae


def fitted_by_type(counts, types: np.ndarray) -> ZINB:
    """The maximum-likelihood law of each gene in the cells of a type, for each cell.

    counts: (n_cells, n_genes)
    types: (n_cells,) cell type of each
    """
    names, place = np.unique(types, return_inverse=True)
    laws = [maximum_likelihood.fit(counts[types == name]) for name in names]
    mu, theta, pi = (np.stack([getattr(law, p) for law in laws]) for p in ("mu", "theta", "pi"))
    return ZINB(mu[place], theta[place], pi[place])


def expected_law(counts: np.ndarray, types: np.ndarray, true: ZINB) -> ZINB:
    """Posterior means of mu, log theta and pi in each cell, where its type alone is unknown.

    counts: (n_cells, n_genes)
    types: (n_cells,) cell type of each, equally frequent
    true: laws of the cells, (n_cells, n_genes), the same in all cells of a type

    No estimate from the cell's counts has a smaller expected squared error.
    """
    laws = [true[np.flatnonzero(types == name)[0]] for name in pd.unique(types)]
    log_likelihood = np.stack([law.log_prob(counts).sum(1) for law in laws], axis=1)
    weight = scipy.special.softmax(log_likelihood, axis=1)
    log_theta = weight @ [np.log(law.theta) for law in laws]
    mu = weight @ [law.mu for law in laws]
    return ZINB(mu, np.exp(log_theta), weight @ [law.pi for law in laws])


def misfit(counts: np.ndarray, law: ZINB) -> np.ndarray:
    """Total variation distance between the observed and a fitted distribution of each gene.

    counts: (n_cells, n_genes)
    law: (n_genes,) law
    """
    counts = counts.astype(int)
    n_counts = counts.max() + 1
    predicted = law.pmf_table(n_counts)
    observed = [np.bincount(column, minlength=n_counts) for column in counts.T]
    observed = np.stack(observed) / len(counts)
    return 0.5 * (np.abs(observed - predicted).sum(-1) + 1 - predicted.sum(-1))


def misfits(counts, genes: list[str], *, seed: int) -> pd.DataFrame:
    """Misfit of three families of laws, a row a gene, and the misfit that sampling alone gives.

    counts: (n_cells, n_genes) real counts
    """
    fitted = maximum_likelihood.fit(counts)
    laws = {
        "Poisson": ZINB(fitted.mean, 1e8, 0.0),
        "NB": maximum_likelihood.fit(counts, zero_inflated=False),
        "ZINB": fitted,
    }
    columns = {name: misfit(dense(counts), law) for name, law in laws.items()}
    rng = stream(seed, "counts redrawn")
    redrawn = [fitted.sample(rng, counts.shape) for _ in range(REDRAWN)]
    again = [misfit(drawn, maximum_likelihood.fit(drawn)) for drawn in redrawn]
    columns["sampling alone"] = np.mean(again, axis=0)
    return pd.DataFrame(columns, index=genes)


def over_genes(misfits: pd.DataFrame) -> pd.DataFrame:
    """Mean of `misfits` over genes: model, metric, value, scenario."""
    rows = {
        "model": misfits.columns,
        "metric": "total_variation",
        "value": misfits.mean().to_numpy(),
    }
    return pd.DataFrame(rows).assign(scenario="real_counts")


def readable(summary: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """The errors of one scenario as a table to read, a row a model."""
    part = summary[summary["scenario"] == scenario]
    columns = [tables.readable(part, metric, columns="metric") for metric in METRICS]
    return pd.concat(columns, axis=1)


def ratio(scores: pd.DataFrame, scenario: str = "one_type") -> pd.DataFrame:
    """Error of the VAE's mu over that of maximum likelihood, a row a replicate.

    scores: tidy table of errors
    """
    part = scores[(scores["metric"] == "mse_mu") & (scores["scenario"] == scenario)]
    errors = part.pivot(index="replicate", columns="model", values="value").astype(float)
    errors["value"] = errors["vae"] / errors["maximum_likelihood"]
    return errors.reset_index().assign(metric="ratio", model="vae")
