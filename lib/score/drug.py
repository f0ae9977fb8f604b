"""Drug response: predicted laws of treated cells, scored against the true ones."""

from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from lib.counts import dense
from lib.laws import Law, maximum_likelihood
from lib.predict import guard, registry
from lib.score import distances
from lib.seeds import key, stream
from lib.tasks.drug import Arm, Trial

EXACT = ["kl_nats", "excess_crps", "mse_mean"]
FALSE_DISCOVERIES = 0.05  # rate at which a gene is called differential
REFERENCE = "maximum_likelihood"


class HeldOut(NamedTuple):
    """The held-out type under a drug, of which the figure shows single cells and genes.

    latent: "control", "treated" and "predicted" -> (n_cells, n_latent) positions
    means: mean count of each gene, a row a gene, columns "true" and the compared models
    """

    latent: dict[str, np.ndarray]
    means: pd.DataFrame


def models(
    control: ad.AnnData,
    *,
    more: list[str] = (),
    own: str = "",
    seed: int | tuple[int, ...],
    **setting,
) -> dict[str, guard.Guarded]:
    """The models of a trial, unfitted, by their keys.

    more: keys of published models beside those of the registry's list
    own: import string of a model of one's own, "" for none
    setting: options that all models take, such as device and training_options
    """
    wanted = [*registry.keys("drug"), *more]
    rows = [row for row in registry.rows(task="drug") if row.key in wanted]
    made = guard.models(rows, "drug", seed=seed, **setting)
    if own:
        name = own.rpartition(":")[2]
        made[name] = guard.own(guard.load("model", own), list(control.var_names), seed, name)
    return made


def enter(models: dict[str, guard.Guarded], trial: Trial, *, seed: int | tuple[int, ...]) -> None:
    """Fit the models, and refuse those that leak. Raises ValueError."""
    queries = [arm.question.query for arm in trial.arms]
    for name, model in models.items():
        guard.enter(model, trial.train, queries, name, seed=seed)


def score(
    models: dict[str, guard.Guarded], trial: Trial, *, seed: int | tuple[int, ...]
) -> pd.DataFrame:
    """Scores of fitted models and of the reference in each cell type.

    Columns are model, metric, value, scenario (the drug), split and cell_type. Exact distances are
    means over genes; de_recall and de_precision are scores of the genes called differential.
    """
    frames = []
    for arm in trial.arms:
        laws = {name: model.predict(arm.question.query) for name, model in models.items()}
        laws[REFERENCE] = maximum_likelihood.fit(arm.alike.X)
        for name, law in laws.items():
            values = distances.between(arm.question.true, law).filter(EXACT).mean().to_dict()
            if arm.question.split == "held_out_type" and name != REFERENCE:
                values |= differential(arm, None if name == "oracle" else law, seed=seed)
            rows = pd.DataFrame({"metric": values.keys(), "value": values.values()})
            keys = {"model": name, "split": arm.question.split, "cell_type": arm.cell_type}
            frames.append(rows.assign(scenario=trial.drug.name, **keys))
    return pd.concat(frames, ignore_index=True)


def over_types(scores: list[pd.DataFrame]) -> pd.DataFrame:
    """Means over the cell types of a split, by drug, model, metric and replicate.

    scores: frames of `score`, with a column replicate
    """
    keys = ["scenario", "model", "split", "metric", "replicate"]
    joined = pd.concat(scores, ignore_index=True)
    return joined.groupby(keys, sort=False, as_index=False)["value"].mean()


def differential(arm: Arm, law: Law | None, *, seed: int | tuple[int, ...]) -> dict[str, float]:
    """Recall and precision of the genes called differential, NaN where there are none.

    law: predicted law of each gene, from which cells are drawn; None for truly treated cells
    """
    control = dense(arm.question.cells.X)
    if law is None:
        treated = dense(arm.treated.X)
    else:
        rng = stream(key(seed), "cells drawn from a predicted law")
        treated = law.sample_cells(rng, len(control))
    found = called(control, treated)
    return {
        "de_recall": found[arm.changed].mean() if arm.changed.any() else np.nan,
        "de_precision": arm.changed[found].mean() if found.any() else np.nan,
    }


def called(control: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """Which genes scanpy's Wilcoxon rank sum test calls differential, (n_genes,) bool.

    control, treated: (n_cells, n_genes) counts
    """
    import scanpy as sc

    arms = np.repeat(["control", "treated"], [len(control), len(treated)])
    index = [f"cell_{i}" for i in range(len(arms))]
    counts = np.concatenate([control, treated]).astype(np.float32)
    both = ad.AnnData(counts, obs=pd.DataFrame({"arm": pd.Categorical(arms)}, index=index))
    sc.pp.log1p(both)
    sc.tl.rank_genes_groups(both, "arm", groups=["treated"], reference="control", method="wilcoxon")
    table = sc.get.rank_genes_groups_df(both, "treated").set_index("names")
    return (table["pvals_adj"] < FALSE_DISCOVERIES).loc[both.var_names].to_numpy()


def held_out(models: dict[str, guard.Guarded], trial: Trial) -> HeldOut:
    """Cells and genes of the held-out type, as fitted models see and predict them."""
    (arm,) = [arm for arm in trial.arms if arm.question.split == "held_out_type"]
    query = arm.question.query
    arithmetic = models["vae"].model
    control = arithmetic.latent(query.cells)
    latent = {"control": control, "treated": arithmetic.latent(arm.treated)}
    latent["predicted"] = control + arithmetic.effect
    means = {"true": arm.question.true.mean}
    for name in registry.keys("drug", "compared", task="drug"):
        means[name] = models[name].predict(query).mean
    return HeldOut(latent, pd.DataFrame(means, index=query.genes))
