"""Embeddings: cells of several sources in the same two dimensions."""

from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

SHOWN = 1500  # cells of each source, about
TARGET = 100  # counts of a cell after normalisation


class Together(NamedTuple):
    """Counts of several sources, and some of their cells, embedded together.

    counts: source -> (n_cells, n_genes) counts
    source: (n_shown,) source of each embedded cell
    pca, umap: (n_shown, 2) positions
    """

    counts: dict[str, np.ndarray]
    source: np.ndarray
    pca: np.ndarray
    umap: np.ndarray


def together(counts: dict[str, np.ndarray]) -> Together:
    """Normalised, log-transformed cells by PCA, and by UMAP on the first three components.

    counts: source -> (n_cells, n_genes) counts of the same genes; of many cells, every so many is
        embedded, and empty cells are left out
    """
    import scanpy as sc

    some = {name: values[:: max(1, len(values) // SHOWN)] for name, values in counts.items()}
    cells = _joined(some)
    sc.pp.filter_cells(cells, min_counts=1)
    sc.pp.normalize_total(cells, target_sum=TARGET)
    sc.pp.log1p(cells)
    sc.pp.pca(cells, n_comps=min(10, min(cells.shape) - 1), random_state=0)
    sc.pp.neighbors(cells, n_pcs=3, random_state=0)  # what sets types apart; the rest is noise
    sc.tl.umap(cells, random_state=0)
    source = cells.obs["source"].to_numpy()
    return Together(counts, source, cells.obsm["X_pca"][:, :2], cells.obsm["X_umap"])


def umap(positions: dict[str, np.ndarray]) -> pd.DataFrame:
    """UMAP of positions in a latent space; columns source, x, y.

    positions: source -> (n_cells, n_latent)
    """
    import scanpy as sc

    cells = _joined(positions)
    sc.pp.neighbors(cells, use_rep="X", random_state=0)
    sc.tl.umap(cells, random_state=0)
    x, y = cells.obsm["X_umap"].T
    return pd.DataFrame({"source": cells.obs["source"].to_numpy(), "x": x, "y": y})


def _joined(values):
    source = np.repeat(list(values), [len(rows) for rows in values.values()])
    obs = pd.DataFrame({"source": source}, index=[f"cell_{i}" for i in range(len(source))])
    return ad.AnnData(np.concatenate(list(values.values())), obs=obs)
