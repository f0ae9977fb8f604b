"""What the field's own benchmark says of a prediction: files for Arc Institute's cell-eval, and its scores.

cell-eval compares two files of cells, the measured and the predicted: it has no law, so the prediction is sampled.
It is in an environment of its own, `./run_all.sh peers`; only `run` needs it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks
from lib.counts import check_counts, with_counts
from lib.predict.guard import Guarded
from lib.seeds import stream

NON_TARGETING, COLUMN = (
    "non-targeting",
    "target_gene",
)  # the names that `cell-eval run` takes by default
# the first 50 to 500 significant genes: where there are fewer, the same number as at_N; and clusters of arms, for hundreds of these
SKIPPED = [
    *(f"{metric}_at_{n}" for metric in ("overlap", "precision") for n in (50, 100, 200, 500)),
    "clustering_agreement",
]


def predicted_cells(
    cells: ad.AnnData, predictor: Guarded, genes: list[str], *, seed: int | tuple[int, ...]
) -> ad.AnnData:
    """A copy of `cells` in which each of `genes` is drawn from the law that the predictor gives it.

    cells : after an intervention. Others than the true arm's own, or the genes that aren't drawn are
        predicted without error
    predictor: fitted
    genes: parents first, such as `dataset.descendants` has them; none that the intervention set
    """
    for gene in checks.genes("genes", genes, list(cells.var_names)):
        law = predictor.law(cells, gene)
        cells = with_counts(cells, {gene: law.sample(stream(seed, f"predicted counts of {gene}"))})
    return cells


def write_pair(
    folder: str | Path, control: ad.AnnData, arms: dict[str, tuple[ad.AnnData, ad.AnnData]]
) -> tuple[Path, Path]:
    """Write true and predicted cells as `real.h5ad` and `predicted.h5ad`, the pair that `cell-eval run` reads.

    control : control cells, counts (n_cells, n_genes); the same ones go into both files
    arms : name -> (true, predicted), counts (n_cells, n_genes), of the same genes; the two may differ in
        their number of cells. An arm that bears the name of a gene is taken for an intervention on that
        gene, which cell-eval's discrimination scores then leave out

    X is log1p of counts. cell-eval takes whole numbers for raw counts and divides each cell by its sum; simulated cells
    have no library size, and what an intervention does to the sum would be lost. The counts are in
    `layers["counts"]`. Returns the two paths. Raises ValueError for other genes, an empty arm, or what aren't counts.
    """
    genes = list(control.var_names)
    if not arms:
        raise ValueError("arms = {}: must have at least one")
    if NON_TARGETING in arms:
        raise ValueError(
            f"arms: {NON_TARGETING!r} is the name of the control cells; an arm needs another"
        )
    for name, pair in {NON_TARGETING: (control,), **arms}.items():
        for cells in pair:
            check_counts(cells, "control" if cells is control else f"arms[{name!r}]")
            if list(cells.var_names) != genes:
                raise ValueError(
                    f"arms[{name!r}]: its genes must be those of control, in that order"
                )
    folder = checks.writable_folder("folder", folder)
    paths = folder / "real.h5ad", folder / "predicted.h5ad"
    for side, path in enumerate(paths):
        groups = {NON_TARGETING: control} | {name: pair[side] for name, pair in arms.items()}
        counts = sparse.vstack(
            [sparse.csr_matrix(cells.X, dtype=np.float32) for cells in groups.values()],
            format="csr",
        )
        labels = np.repeat(list(groups), [cells.n_obs for cells in groups.values()])
        obs = pd.DataFrame(
            {COLUMN: pd.Categorical(labels)}, index=[f"cell_{i}" for i in range(len(labels))]
        )
        both = ad.AnnData(
            counts.log1p(), obs=obs, var=pd.DataFrame(index=genes), layers={"counts": counts}
        )
        both.write_h5ad(path)
    return paths


def run(folder: str | Path, skip: list[str] = SKIPPED) -> pd.DataFrame:
    """Scores of the pair that `write_pair` wrote, by `cell-eval run`: tidy rows metric, value.

    skip : metrics that are left out

    A value is cell-eval's mean over the arms; NaN where an arm has none, such as `pr_auc` where no gene or every
    gene is truly differential, or where the metric failed. `pearson_edistance`, `de_spearman_sig` and the
    discrimination scores compare arms with each other: with fewer than three they are trivial. Scores of the
    difference from control contain the gene that an arm has set, which every prediction gets right.
    The per-arm scores and the differential expression are in `cell-eval/` in the folder. Raises RuntimeError without
    cell-eval, or where it fails.
    """
    folder = checks.files("folder", folder, ["real", "predicted"], "write them with write_pair")
    if importlib.util.find_spec("cell_eval") is None:
        raise RuntimeError("cell_eval isn't installed; ./run_all.sh peers installs what it needs")
    out = folder / "cell-eval"
    # a process of its own, since cell-eval sets up logging and a string cache for the whole process that imports it
    command = [
        sys.executable,
        "-m",
        "cell_eval",
        "run",
        "--outdir",
        str(out),
        "--num-threads",
        "1",
        "--profile",
        "full",
    ]
    command += [
        "--adata-real",
        str(folder / "real.h5ad"),
        "--adata-pred",
        str(folder / "predicted.h5ad"),
    ]
    command += ["--skip-metrics", ",".join(skip)] if skip else []
    (out / "agg_results.csv").unlink(missing_ok=True)
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"TQDM_DISABLE": "1"}
    )
    if done.returncode or not (out / "agg_results.csv").exists():
        raise RuntimeError(
            f"cell-eval failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
        )
    means = pd.read_csv(out / "agg_results.csv").set_index("statistic").loc["mean"].astype(float)
    for metric in re.findall(r"Error computing metric '(\w+)'", done.stderr):
        means[metric] = np.nan
    return means.rename_axis("metric").rename("value").reset_index()
