"""Cells simulated after one half of real ones, to be compared with the other half."""

from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks, counts, dataset, perturb
from lib.counts import CONTROL
from lib.seeds import key, stream
from lib.simulate import calibrate, effects
from lib.tasks.base import identified

VERSIONS = {1: "stratified halves of real cells; genes counted in the first"}
QUESTIONS = "seed", "real_counts", "cell_type_key"
PBMC_TYPES = "bulk_labels"  # column of `counts.pbmc_counts()`
FOLDS = 1.1, 3.0  # of edges of a network after real cells, whose programs have the most to say


def identity(**parameters) -> str:
    """The name by which the halves of notebook 07 are known, from its parameters."""
    return identified(VERSIONS, QUESTIONS, parameters)


def real(path: str = "", cell_type_key: str = "") -> tuple[ad.AnnData, str | None]:
    """Real counts, and the column of `obs` with their cell types; None: all are one type.

    path: as for `counts.read_counts`; "" for the PBMC data that come with scanpy, and their types
    """
    if not path:
        cells, key = counts.pbmc_counts(), cell_type_key or PBMC_TYPES
    else:
        cells, key = counts.read_counts(path), cell_type_key or None
    if key is not None:
        checks.choice("cell_type_key", key, list(cells.obs.columns))
    return cells, key


def halves(
    cells: ad.AnnData, cell_type_key: str | None, *, most: int = 4000, seed: int | tuple[int, ...]
) -> tuple[ad.AnnData, ad.AnnData]:
    """Two halves of real cells, each with half of the cells of every type.

    most: cells of both together; random ones of more

    Genes without a count in the first half are left out of both.
    """
    from sklearn.model_selection import train_test_split

    state = int(stream(seed, "halves").integers(2**31))
    rows = np.sort(stream(seed, "cells of halves").permutation(cells.n_obs)[:most])
    of_types = None
    if cell_type_key is not None:
        of_types = cells.obs[cell_type_key].astype(str).to_numpy()[rows]
        few = pd.Series(of_types).map(pd.Series(of_types).value_counts()).to_numpy() < 2
        of_types[few] = of_types[np.argmax(~few)]  # a type of one cell can't be halved
    first, second = train_test_split(rows, test_size=0.5, stratify=of_types, random_state=state)
    genes = np.asarray(cells.X[first].sum(axis=0)).ravel() > 0
    return tuple(cells[np.sort(half)][:, genes].copy() for half in (first, second))


class After(NamedTuple):
    """A network after real cells.

    fitted: what the real counts say
    network, measurement: drawn and measured accordingly
    """

    fitted: calibrate.Calibration
    network: dataset.grn.GRN
    measurement: dataset.measurement.Measurement


def is_screen(cells: ad.AnnData) -> bool:
    """Whether real cells are a screen: `obs["perturbation"]` has "control" and others."""
    if "perturbation" not in cells.obs:
        return False
    arms = cells.obs["perturbation"].astype(str)
    return (arms == CONTROL).any() and (arms != CONTROL).any()


def after(cells: ad.AnnData, cell_type_key: str | None, *, n_regulators: int = 100, seed) -> After:
    """A network with the genes, means, dispersions, programs and capture of real cells.

    cells: real counts. Where they are a screen, the network's folds are fitted to the sizes of its
        effects; else they are from `FOLDS`
    """
    n_regulators = min(n_regulators, cells.n_vars // 2)
    fitted = calibrate.fit(cells, cell_type_key=cell_type_key, seed=seed)
    folds = FOLDS
    if is_screen(cells):
        wanted = _typical(cells, cell_type_key)
        folds = effects.fold_range(fitted, wanted, n_regulators=n_regulators, seed=seed)
    network = dataset.grn.draw(n_regulators=n_regulators, fold_range=folds, like=fitted, seed=seed)
    measured = {"median": fitted.median, "spread": fitted.spread}
    return After(fitted, network, dataset.measurement.draw(network.genes, **measured))


def _typical(cells, cell_type_key):
    """The median over arms and cell types of `effects.effect_sizes`' sd."""
    column = None if cell_type_key is None else cells.obs[cell_type_key].astype(str)
    types = [None] if column is None else list(pd.unique(column))
    found = []
    for name in types:
        part = cells if name is None else cells[(column == name).to_numpy()]
        if is_screen(part):
            found.append(effects.effect_sizes(part.copy())["sd"])
    if not found:
        raise ValueError("real_counts: no cell type has control and an arm; effects can't be seen")
    return float(pd.concat(found).median())


def simulated(
    model: After, cells: ad.AnnData, cell_type_key: str | None, n_cells: int, *, seed
) -> dict[str, ad.AnnData]:
    """Cells simulated after real ones: of independent genes, and of a network.

    cells: real counts that both are fitted to
    n_cells: number of cells of the network; independent genes have as many as `cells`
    """
    numbers = model.fitted.numbers(n_cells)
    seed_of_cells = (*key(seed), 1)
    drawn = dataset.grn_cells(
        model.network, numbers, measurement=model.measurement, seed=seed_of_cells
    )
    independent = dataset.base_genes_from_counts(cells, cell_type_key=cell_type_key, seed=seed)
    return {"independent": independent, "network": drawn}


def effect_sizes(
    model: After,
    halves: dict[str, ad.AnnData],
    cell_type_key: str | None,
    *,
    n_arms: int = 30,
    n_cells: int = 200,
    seed,
) -> pd.DataFrame:
    """Sizes of the effects in real screens, and in one of the network, by the same estimate.

    halves: name -> cells of a real screen
    cell_type_key: column of their obs with cell types, in each of which effects are looked at apart
    n_arms, n_cells: arms of regulators, those that are expressed most, and cells of each

    Returns rows of model, metric and value: effect_sd, the median over arms of the sd over genes of
    log fold changes, sampling noise taken off; none where the real cells are no screen.
    """
    rows = []
    if all(map(is_screen, halves.values())):
        rows = [(name, _typical(cells, cell_type_key)) for name, cells in halves.items()]
        network, fitted = model.network, model.fitted
        means = (network.base * fitted.proportions).sum(axis=1)[network.regulators]
        most = network.regulators[np.argsort(-means)[:n_arms]]
        sizes = {"n_cells": fitted.numbers(n_cells), "n_control": fitted.numbers(10 * n_cells)}
        options = {"measurement": model.measurement, "seed": (*key(seed), 2)}
        made = perturb.screen(network, [str(g) for g in network.genes[most]], **sizes, **options)
        labels = dict(zip(map(str, fitted.cell_types), fitted.labels))
        made.obs["label"] = made.obs["cell_type"].astype(str).map(labels)
        rows.append(("network", _typical(made, "label")))
    rows = [(name, "effect_sd", value) for name, value in rows]
    return pd.DataFrame(rows, columns=["model", "metric", "value"])
