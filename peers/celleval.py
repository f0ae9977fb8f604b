"""The field's own benchmark of a prediction: files for Arc Institute's cell-eval, and its scores.

cell-eval compares two files of cells, the measured and the predicted. It has no laws, so a
prediction is sampled. Only `run` needs cell-eval, which is in an environment of its own:
`./run_all.sh peers`.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks, dataset, perturb
from lib.counts import check_counts, dense, with_counts
from lib.predict import guard, registry
from lib.predict.guard import Guarded
from lib.score import distances, tables
from lib.seeds import stream
from lib.simulate import mechanisms
from lib.tasks import conditional

NON_TARGETING = "non-targeting"  # this name and the next are what `cell-eval run` takes by default
COLUMN = "target_gene"
# Left out: scores at the first 50 to 500 significant genes, which equal those at_N where there are
# fewer genes; and clusters of arms, which are for hundreds of arms
SKIPPED = [f"{metric}_at_{n}" for metric in ("overlap", "precision") for n in (50, 100, 200, 500)]
SKIPPED += ["clustering_agreement"]

SEED = 2026
REPLICATES = 3
ARMS = 6
CELLS = 300  # in an arm, and among the controls
TRAINING = {"max_epochs": 100, "patience": 5, "learning_rate": 5e-3}


def predicted_cells(
    cells: ad.AnnData, predictor: Guarded, genes: list[str], *, seed: int | tuple[int, ...]
) -> ad.AnnData:
    """A copy of `cells` in which each of `genes` is drawn from the law that the predictor gives it.

    cells: cells after an intervention, but not the measured ones. Genes that aren't drawn would
        otherwise be predicted without error
    predictor: fitted model
    genes: names, parents before children; none that the intervention set
    """
    for gene in checks.genes("genes", genes, list(cells.var_names)):
        law = predictor.law(cells, gene)
        cells = with_counts(cells, {gene: law.sample(stream(seed, f"predicted counts of {gene}"))})
    return cells


def write_pair(
    folder: str | Path, control: ad.AnnData, arms: dict[str, tuple[ad.AnnData, ad.AnnData]]
) -> tuple[Path, Path]:
    """Write `real.h5ad` and `predicted.h5ad`, the pair that `cell-eval run` reads.

    control: control cells, counts (n_cells, n_genes); the same cells go into both files
    arms: name -> (true, predicted) cells, counts (n_cells, n_genes), of the same genes; the two may
        differ in their number of cells. An arm with the name of a gene is taken for an intervention
        on that gene, which cell-eval's discrimination scores then leave out

    X is log1p of counts. cell-eval takes whole numbers for raw counts and divides each cell by its
    sum. Simulated cells have no library size, so an effect on the sum would be lost. The counts are
    in `layers["counts"]`. Returns the two paths. Raises ValueError for other genes, an empty arm,
    or a matrix that isn't counts.
    """
    genes = list(control.var_names)
    if not arms:
        raise ValueError("arms = {}: must have at least one")
    if NON_TARGETING in arms:
        reserved = f"{NON_TARGETING!r} is the name of the control cells"
        raise ValueError(f"arms: {reserved}; an arm needs another")
    check_counts(control, "control")
    for name, pair in arms.items():
        for cells in pair:
            check_counts(cells, f"arms[{name!r}]")
            if list(cells.var_names) != genes:
                must = "its genes must be those of control, in that order"
                raise ValueError(f"arms[{name!r}]: {must}")
    folder = checks.writable_folder("folder", folder)
    paths = folder / "real.h5ad", folder / "predicted.h5ad"
    for side, path in enumerate(paths):
        groups = {NON_TARGETING: control} | {name: pair[side] for name, pair in arms.items()}
        _together(groups, genes).write_h5ad(path)
    return paths


def _together(groups, genes):
    """Groups of cells in one AnnData, as cell-eval reads it."""
    parts = [sparse.csr_matrix(cells.X, dtype=np.float32) for cells in groups.values()]
    counts = sparse.vstack(parts, format="csr")
    labels = np.repeat(list(groups), [cells.n_obs for cells in groups.values()])
    names = [f"cell_{i}" for i in range(len(labels))]
    obs = pd.DataFrame({COLUMN: pd.Categorical(labels)}, index=names)
    var = pd.DataFrame(index=genes)
    return ad.AnnData(counts.log1p(), obs=obs, var=var, layers={"counts": counts})


def run(folder: str | Path, skip: list[str] = SKIPPED) -> pd.DataFrame:
    """Scores of the pair that `write_pair` wrote, by `cell-eval run`: tidy rows metric, value.

    skip: names of metrics to leave out

    A value is cell-eval's mean over the arms. It is NaN where no arm has one, such as `pr_auc`
    where no gene or every gene is truly differential, and where the metric failed.
    `pearson_edistance`, `de_spearman_sig` and the discrimination scores compare arms with each
    other: with fewer than three they are trivial. Scores of the difference from control include the
    gene that an arm has set, which every prediction gets right. Scores of single arms and the
    differential expression are in `cell-eval/` in the folder. Raises RuntimeError without
    cell-eval, or where it fails.
    """
    folder = checks.files("folder", folder, ["real", "predicted"], "write them with write_pair")
    if importlib.util.find_spec("cell_eval") is None:
        raise RuntimeError("cell_eval isn't installed; ./run_all.sh peers installs what it needs")
    out = folder / "cell-eval"
    options = {
        "--adata-real": folder / "real.h5ad",
        "--adata-pred": folder / "predicted.h5ad",
        "--outdir": out,
        "--num-threads": 1,
        "--profile": "full",
    }
    if skip:
        options["--skip-metrics"] = ",".join(skip)
    words = [str(word) for option in options.items() for word in option]
    means = out / "agg_results.csv"
    means.unlink(missing_ok=True)
    # a process of its own, since cell-eval changes logging and a string cache where it is imported
    done = subprocess.run(
        [sys.executable, "-m", "cell_eval", "run", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"TQDM_DISABLE": "1"},
    )
    if done.returncode or not means.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"cell-eval failed: {last}")
    values = pd.read_csv(means).set_index("statistic").loc["mean"].astype(float)
    for metric in re.findall(r"Error computing metric '(\w+)'", done.stderr):
        values[metric] = np.nan
    return values.rename_axis("metric").rename("value").reset_index()


def compare() -> pd.DataFrame:
    """Scores of cell-eval for samples of predictions under do(), and the exact skill beside them.

    Returns a tidy table. The exact skill, `skill_kl`, is of the predictions in the same cells.
    """
    frames = []
    for replicate in range(REPLICATES):
        by_model = _replicate((SEED, replicate))
        keys = {"scenario": "cell_eval", "split": "do_inside", "replicate": replicate}
        frames += [scores.assign(model=key, **keys) for key, scores in by_model.items()]
        done = f"replicate {replicate + 1}/{REPLICATES}"
        print(f"{done}: cell-eval of {len(by_model)} models", flush=True)
    return tables.tidy(frames)


def _replicate(seed):
    """Scores of each model of the list "judged", in new cells: key -> rows of metric, value."""
    train = conditional.simulate(10_000, 20, 0.8, list(mechanisms.MECHANISMS), seed=seed)
    genes = list(train.var_names[train.var["mechanistic"]])
    base = list(train.var_names[~train.var["mechanistic"]])
    setting = {"inputs": base, "device": "auto", "seed": seed, "training_options": TRAINING}
    models = guard.models(registry.rows("judged"), "conditional", **setting)
    for model in models.values():
        model.fit(train)
    control = dataset.fresh_cells(train, CELLS, seed=(*seed, 5))
    arms = {}  # gene -> measured cells, and cells to ask the models about
    for number, gene in enumerate(base[:ARMS]):
        dose = round(float(np.percentile(dense(train[:, gene].X), 99)))
        arms[gene] = tuple(_cells_after(train, gene, dose, seed, (number, i)) for i in (0, 1))
    scores = {}
    for key, model in models.items():
        predicted = {}
        for number, (gene, (measured, asked)) in enumerate(arms.items()):
            drawn = predicted_cells(asked, model, genes, seed=(*seed, 8, number))
            predicted[gene] = (measured, drawn)
        with tempfile.TemporaryDirectory() as folder:
            write_pair(folder, control, predicted)
            scores[key] = run(folder)
        asked_about = [asked for _, asked in arms.values()]
        exact = _exact_skill(model, models["marginal"], asked_about, genes)
        scores[key].loc[len(scores[key])] = {"metric": "skill_kl", "value": exact}
    return scores


def _cells_after(train, gene, dose, seed, own):
    """New cells after do(gene = dose), from streams of their own."""
    cells = dataset.fresh_cells(train, CELLS, seed=(*seed, 6, *own))
    return perturb.do(cells, {gene: dose}, seed=(*seed, 7, *own))


def _exact_skill(model, marginal, arms, genes):
    """Mean skill (KL) of a model over arms and genes."""
    skills = []
    for gene in genes:
        for cells in arms:
            laws = {"model": model.law(cells, gene), "marginal": marginal.law(cells, gene)}
            scores = distances.scores(dataset.law(cells, gene)[:, 0], laws)
            scores = scores.set_index(["model", "metric"])["value"]
            skills.append(scores["model", "skill_kl"])
    return np.mean(skills)
