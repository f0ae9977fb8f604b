"""A small screen of Poisson counts, or of their means themselves, for tests of models of arms."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib.predict.base import Perturbation, Query

GENES = [f"g{i}" for i in range(8)]


def screen(arms, control, *, rng=None, n_cells=50, n_control=200, cell_type="A"):
    """Cells of a screen, knocked down at 0.8 where nothing else is said.

    arms: name, or (name, type, strength) -> (n_genes,) means
    control: (n_genes,) means
    rng: of Poisson counts; None: counts are the means, which must be whole
    """
    parts = [(("control", "control", 0.0), n_control, control)]
    for what, mean in arms.items():
        what = (what, "knockdown", 0.8) if isinstance(what, str) else what
        parts.append((what, n_cells, mean))
    counts, rows = [], []
    for (name, kind, strength), n, mean in parts:
        mean = np.broadcast_to(np.asarray(mean, dtype=float), (n, len(control)))
        counts.append(mean if rng is None else rng.poisson(mean))
        rows += [(name, kind, strength, cell_type)] * n
    obs = pd.DataFrame(rows, columns=["perturbation", "perturbation_type", "strength", "cell_type"])
    obs.index = obs.index.astype(str)
    genes = pd.DataFrame(index=[f"g{i}" for i in range(len(control))])
    return ad.AnnData(sparse.csr_matrix(np.vstack(counts).astype(np.float32)), obs=obs, var=genes)


def query(cells, name, kind="knockdown", strength=0.8, cell_type="A"):
    """The question about an arm, with the controls of a cell type."""
    obs = cells.obs
    control = cells[((obs["perturbation"] == "control") & (obs["cell_type"] == cell_type))].copy()
    return Query(control, list(cells.var_names), Perturbation(name, strength, kind))
