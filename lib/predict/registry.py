"""One row a model."""

from __future__ import annotations

import anndata as ad

from lib.predict import neural, references, regressions, screen

KEYS = [  # of the models, in the order of the table
    "oracle", "oracle_draws", "true_form", "marginal", "no_change",
    "ridge", "ridge_log1p", "neighbours", "zinb_regression", "zinb_regression_log", "zinb_regression_products", "boosting",
    "mean_of_perturbed", "bilinear",
    "mlp", "vae", "vae_copying", "vae_conditional", "scvi", "scgen",
    "dependency_network", "dependency_network_ensemble",
]  # fmt: skip
INTERVENTIONAL = ["mean_of_perturbed", "bilinear"]


def models(
    base: list[str],
    reference: ad.AnnData,
    *,
    beta: float = 1.0,
    n_latent: int = 10,
    max_epochs: int = 100,
    n_steps: int = 1500,
    n_members: int = 3,
    device: str = "auto",
    seed=0,
) -> dict:
    """Every model but the published ones (`lib.peers`), unfitted, by its key. All of them see the genes `base` alone.

    beta : of the model "vae"; n_latent : of all VAEs
    """
    options = {"max_epochs": max_epochs, "patience": 5, "learning_rate": 5e-3}
    common = {"device": device, "seed": seed}

    def dependency_network(seed):
        return neural.DependencyNetwork(base, n_steps=n_steps, device=device, seed=seed)

    made = baselines(base, seed=seed) | variational(base, beta=beta, n_latent=n_latent, training_options=options, **common)
    made |= {
        "oracle_draws": references.Oracle(n_draws=100, seed=seed),
        "no_change": references.NoChange(reference),
        "mean_of_perturbed": screen.MeanOfPerturbed(),
        "bilinear": screen.Bilinear(smearing=True),
        "mlp": neural.MLP(base, training_options=options, **common),
        "dependency_network": dependency_network(seed),
        "dependency_network_ensemble": neural.Ensemble(dependency_network, n_members, seed),
    }
    return {name: made[name] for name in KEYS if name in made}


def simple(inputs: list[str] | None = None) -> dict:
    """The oracle, the marginal and the simple baselines, by the keys of the tables."""
    return {
        "oracle": references.Oracle(inputs),
        "marginal": references.Marginal(inputs),
        "ridge": regressions.ridge(inputs),
        "neighbours": regressions.neighbours(inputs),
        "zinb_regression": regressions.ZINBRegression(inputs),
        "boosting": regressions.boosting(inputs),
    }


def baselines(inputs: list[str] | None = None, *, seed: int | tuple[int, ...] = 0) -> dict:
    """Those of `simple` and four more: the fitted true form, two regressions with a log in the wrong place, and one of second order.

    seed : of `TrueForm`, the only one with random starts
    """
    few = simple(inputs)
    more = {
        "true_form": references.TrueForm(inputs, seed=seed),
        "ridge_log1p": regressions.ridge_log1p(inputs),
        "zinb_regression_log": regressions.ZINBRegression(inputs, link="log"),
        "zinb_regression_products": regressions.ZINBRegression(inputs, order=2),
    }
    order = (
        "oracle", "true_form", "marginal", "ridge", "ridge_log1p", "neighbours",
        "zinb_regression", "zinb_regression_log", "zinb_regression_products", "boosting",
    )  # fmt: skip
    return {name: (few | more)[name] for name in order}


def variational(inputs: list[str] | None = None, *, leaky: bool = False, beta: float = 1.0, n_latent: int = 10, **options) -> dict[str, neural.VAE]:
    """The VAE and its variants, by the keys of the tables. `options` as of `VAE`.

    vae : trained on the ELBO with the KL term's weight `beta`; 1 is the true one
    vae_copying : beta 0.02, that of the proof of concept
    vae_conditional : trained on the masked genes given the others alone
    vae_leaky : as vae_copying, with the hidden count left in; only where `leaky`
    """
    variants = {
        "vae": neural.VAE(inputs, vae_options={"beta": beta, "n_latent": n_latent}, **options),
        "vae_copying": neural.VAE(inputs, vae_options={"beta": 0.02, "n_latent": n_latent}, **options),
        "vae_conditional": neural.VAE(inputs, vae_options={"target": "hidden", "n_latent": n_latent}, **options),
    }
    return variants | ({"vae_leaky": neural.VAE(inputs, leaky=True, vae_options={"beta": 0.02, "n_latent": n_latent}, **options)} if leaky else {})


DRUG_KEYS = ["oracle", "no_change", "mean_shift", "fold_change", "vae", "maximum_likelihood"]  # of the predictors in the tables
