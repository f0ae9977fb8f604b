"""Cells by scDesign, from its authors' Python package scdesigner, as realistic as it makes them.

Only `cells` needs scdesigner, which is in an environment of its own: `./run_all.sh peers`.
"""

import contextlib
import io

import anndata as ad
import numpy as np
import pandas as pd

from lib.counts import check_counts, dense
from lib.score import realism as judge
from lib.seeds import key, stream
from lib.tasks import realism

MODEL = "scdesigner"


def cells(counts: ad.AnnData, cell_type_key: str | None, *, seed: int | tuple[int, ...]):
    """As many cells as there are, of negative binomial genes under a Gaussian copula.

    counts: real counts, to which it is fitted
    cell_type_key: column of obs with cell types, by which means differ

    Means by cell type, one dispersion a gene and one copula, as in the package's first example. Its
    covariance is that of Ledoit and Wolf, since the default's fails with fewer cells than genes.
    """
    import torch
    from scdesigner.simulators import NegBinCopula

    torch.manual_seed(int(stream(seed, "scdesigner, torch").integers(2**31)))
    np.random.seed(int(stream(seed, "scdesigner, numpy").integers(2**31)))  # it takes no other seed
    formula = f"~ {cell_type_key}" if cell_type_key else "~ 1"
    given = ad.AnnData(dense(check_counts(counts)).astype(np.float32), obs=counts.obs.copy())
    given.var_names = counts.var_names
    simulator = NegBinCopula(
        mean_formula=formula,
        dispersion_formula="~ 1",
        copula_formula="~ 1",
        estimator="ledoit_wolf",
    )
    with contextlib.redirect_stdout(io.StringIO()):  # a line an epoch
        simulator.fit(given)
        drawn = simulator.sample()
    return ad.AnnData(
        np.asarray(drawn.X, dtype=np.float32), var=pd.DataFrame(index=given.var_names)
    )


def compare(seed: int, replicates: int, real_counts: str, cell_type_key: str) -> pd.DataFrame:
    """Rows of scdesigner for the realism report of notebook 07, with its parameters."""
    counts, column = realism.real(real_counts, cell_type_key)
    frames = []
    for replicate in range(replicates):
        fitted_on, held_out = realism.halves(counts, column, seed=(seed, replicate))
        made = {MODEL: cells(fitted_on, column, seed=(*key(seed), replicate))}
        report = judge.report(fitted_on, held_out, made, seed=(seed, replicate))
        frames.append(report[report["model"] == MODEL].assign(replicate=replicate))
        print(f"replicate {replicate + 1}/{replicates}: scdesigner", flush=True)
    return pd.concat(frames, ignore_index=True).assign(scenario="realism")
