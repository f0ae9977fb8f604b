"""Cells as the packages read them: counts with labels of arms, and log1p of normalised counts."""

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sparse

from lib.predict.arms.pseudobulk import TARGET_SUM
from lib.score.court.real_cells import LABEL


def labelled(blocks: dict, genes) -> ad.AnnData:
    """Groups of cells in one AnnData, with `LABEL`.

    blocks: label -> (n_cells, n_genes), dense or sparse
    """
    rows = [sparse.csr_matrix(block, dtype=np.float32) for block in blocks.values()]
    labels = np.repeat(list(blocks), [block.shape[0] for block in rows])
    obs = pd.DataFrame({LABEL: pd.Categorical(labels)})
    obs.index = [f"cell_{i}" for i in range(len(obs))]
    return ad.AnnData(sparse.vstack(rows, format="csr"), obs=obs, var=pd.DataFrame(index=genes))


def normalised(counts: ad.AnnData) -> ad.AnnData:
    """log1p of counts scaled to a total of 10,000, by scanpy."""
    logs = counts.copy()
    sc.pp.normalize_total(logs, target_sum=TARGET_SUM)
    sc.pp.log1p(logs)
    del logs.uns["log1p"]
    return logs


def log1p(counts: np.ndarray, target_sum: float = TARGET_SUM) -> np.ndarray:
    """log1p of counts scaled to a total, (n, n_genes)."""
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.log1p(counts * (target_sum / totals))
