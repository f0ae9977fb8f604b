"""Cells of a real screen, read and checked. It imports nothing that takes seconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks
from lib.counts import CONTROL, counts_of

LABEL = "perturbation"  # column of obs
_LEAST = 20  # cells of an arm
_WHOLE = 0.02  # what a count made of logs may be off, at 1 count
_MOST_LEAST = 5  # counts of the least value that a cell has


class RealScreen(NamedTuple):
    """Cells of a screen.

    counts: cells of one type, with `LABEL`
    arms: labels of arms with enough cells
    """

    counts: ad.AnnData
    arms: list[str]


def read(path: str | Path) -> RealScreen:
    """A screen of an .h5ad. Raises ValueError in one line.

    It has whole counts in X or a layer, or log1p of normalised ones, of which counts are made; and
    in obs `perturbation`: "control", or names of genes joined by "+". Of several `cell_type`s the
    one with the most cells is taken.
    """
    name = f"real_screen = {checks.shown(str(path))}"
    if not os.path.isfile(path):
        raise ValueError(f"{name}: no such file")
    try:
        cells = ad.read_h5ad(path)
    except Exception as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{name}: can't be read ({said})") from None
    if LABEL not in cells.obs:
        raise ValueError(f"{name}: has no obs[{LABEL!r}]")
    if "cell_type" in cells.obs:
        kept = cells.obs["cell_type"].value_counts().index[0]
        cells = cells[cells.obs["cell_type"] == kept].copy()
    try:
        counts = counts_of(cells)
    except ValueError:
        counts = _of_logs(cells.X, name)
    labels = cells.obs[LABEL].astype(str)
    n = labels.value_counts()
    arms = [name for name in n.index if name != CONTROL and n[name] >= _LEAST]
    if len(arms) < 3 or n.get(CONTROL, 0) < _LEAST:
        must = f"must have control cells and three arms of at least {_LEAST} cells"
        raise ValueError(f"{name}: {must}")
    obs = pd.DataFrame({LABEL: pd.Categorical(labels)}, index=cells.obs_names)
    var = pd.DataFrame(index=cells.var_names)
    return RealScreen(ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=var), sorted(arms))


def _of_logs(logs, name):
    """Counts of log1p of normalised ones: a cell's least value above 0 is one count, or a few."""
    found = sparse.csr_matrix(logs, dtype=float).expm1()
    for first, last in zip(found.indptr[:-1], found.indptr[1:]):
        values = found.data[first:last] / found.data[first:last].min(initial=np.inf)
        for least in range(1, _MOST_LEAST + 1):
            off = abs(least * values - np.round(least * values))
            if (off <= _WHOLE * np.sqrt(least * values)).all():
                break
        else:
            must = "must have counts, or log1p of normalised ones"
            raise ValueError(f"{name}: {must}")
        found.data[first:last] = np.round(least * values)
    return found
