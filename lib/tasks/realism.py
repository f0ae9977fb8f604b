"""Cells simulated after one half of real ones, to be compared with the other half."""

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks, counts, dataset
from lib.seeds import key, stream
from lib.simulate import calibrate

PBMC_TYPES = "bulk_labels"  # column of `counts.pbmc_counts()`
FOLDS = 1.1, 3.0  # of edges of a network after real cells, whose programs have the most to say


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


def simulated(
    cells: ad.AnnData,
    cell_type_key: str | None,
    n_cells: int,
    *,
    n_regulators: int = 100,
    seed: int | tuple[int, ...],
) -> dict[str, ad.AnnData]:
    """Cells simulated after real ones: of independent genes, and of a network.

    cells: real counts that both are fitted to
    n_cells: number of cells of the network; independent genes have as many as `cells`
    """
    n_regulators = min(n_regulators, cells.n_vars // 2)
    fitted = calibrate.fit(cells, cell_type_key=cell_type_key, seed=seed)
    network = dataset.grn.draw(n_regulators=n_regulators, fold_range=FOLDS, like=fitted, seed=seed)
    measured = {"median": fitted.median, "spread": fitted.spread}
    measured = dataset.measurement.draw(network.genes, **measured)
    numbers = fitted.numbers(n_cells)
    drawn = dataset.grn_cells(network, numbers, measurement=measured, seed=(*key(seed), 1))
    independent = dataset.base_genes_from_counts(cells, cell_type_key=cell_type_key, seed=seed)
    return {"independent": independent, "network": drawn}
