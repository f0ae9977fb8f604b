"""What scripts of published models share: a pack read, arms to validate on, predictions written.

A script is `peers/<name>/fit_predict.py`. It says how its model is fitted, `run` does the rest.
Nothing here or there imports the library: a pack's files are all that a model is shown.
"""

import argparse
import json
import os
import resource
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

CONTROL = "control"
SCALE = 1e4  # total of a cell's counts before log1p
VALIDATION = 0.1  # share of arms
CELLS = 5000  # predicted in an arm, at most
ARM = ["perturbation", "perturbation_type", "strength", "cell_type"]


class Model(NamedTuple):
    """What a script says of its model.

    fit: (pack, training, watch, options, seed) -> predict. `training` is a mask of the pack's
        cells. predict(arm, controls) returns cells (n, n_genes) for an arm, which has the
        attributes ARM, and rows of control cells; the perturbation may be CONTROL, strength 0
    options: name -> default; each may be given as `--name VALUE`
    packages: names on PyPI whose versions are kept
    prior: "graph" or "embedding"
    doses, types: whether the model tells strengths, cell types apart
    scale: of predicted cells: SCALE for log1p of counts scaled to that total, or "counts"
    notes: what differs from the package as released, a sentence each
    """

    fit: Callable
    options: dict
    packages: list[str]
    prior: str
    doses: bool = False
    types: bool = False
    scale: float | str = SCALE
    notes: tuple[str, ...] = ()


class Pack(NamedTuple):
    """A screen as models are shown it, and what is asked.

    cells: log-normalised X, float32 CSR; layers["counts"]; obs as in the screen
    arms: a row an arm of the training cells, columns ARM; index: numbers
    group: number of each cell's arm, -1 for controls, (n_cells,)
    queries: a row a query, columns ARM and split; index: its name
    graph: columns gene_1, gene_2; None where the pack has none
    embedding: a row a gene, scaled to a root mean square of 1; None where the pack has none
    name: hash of the pack
    """

    cells: ad.AnnData
    arms: pd.DataFrame
    group: np.ndarray
    queries: pd.DataFrame
    graph: pd.DataFrame | None
    embedding: pd.DataFrame | None
    name: str

    def controls(self, cell_type: str) -> np.ndarray:
        """Rows of the control cells of a type."""
        return np.flatnonzero((self.group < 0) & (self.cells.obs["cell_type"] == cell_type))

    def vector(self, perturbation: str) -> np.ndarray:
        """Sum of the embeddings of the perturbed genes; zeros for control."""
        genes = [] if perturbation == CONTROL else perturbation.split("+")
        return self.embedding.loc[genes].to_numpy(np.float32).sum(0)


def read(folder: str | Path) -> Pack:
    """A pack by its folder. Raises ValueError where the table of genes isn't the cells'."""
    folder = Path(folder)
    cells = ad.read_h5ad(folder / "train.h5ad")
    counts = sparse.csr_matrix(cells.X, dtype=np.float32)
    for column in ("perturbation", "perturbation_type", "cell_type"):
        cells.obs[column] = cells.obs[column].astype(str)
    cells = ad.AnnData(log_normalised(counts), obs=cells.obs, var=cells.var, uns=cells.uns)
    cells.layers["counts"] = counts
    treated = cells.obs[cells.obs["perturbation"] != CONTROL]
    arms = treated[ARM].drop_duplicates().reset_index(drop=True)
    numbered = arms.reset_index(names="number")
    group = cells.obs[ARM].merge(numbered, on=ARM, how="left")["number"].fillna(-1)
    queries = pd.read_csv(folder / "queries.csv", index_col="query", dtype={"cell_type": str})
    graph, embedding = folder / "prior_graph.csv", folder / "prior_embedding.csv"
    graph = pd.read_csv(graph, dtype=str) if graph.exists() else None
    embedding = pd.read_csv(embedding, index_col=0) if embedding.exists() else None
    if embedding is not None:
        embedding.index = embedding.index.astype(str)
        if set(embedding.index) != set(cells.var_names):
            raise ValueError(f"{folder}: genes of prior_embedding.csv must be those of train.h5ad")
        known = embedding[(embedding != 0).any(axis=1)].to_numpy()
        embedding = embedding.loc[cells.var_names] / np.sqrt((known**2).mean())
    name = str(json.loads((folder / "pack.json").read_text())["pack"])
    return Pack(cells, arms, group.to_numpy(int), queries, graph, embedding, name)


def log_normalised(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """log1p of counts scaled to SCALE in each cell; an empty cell stays empty."""
    totals = np.asarray(counts.sum(1), dtype=float).ravel()
    return (sparse.diags(SCALE / np.maximum(totals, 1)) @ counts).log1p().astype(np.float32).tocsr()


def validation(pack: Pack, seed: int) -> np.ndarray:
    """Numbers of the arms to validate on: of VALIDATION of all perturbations, one at least."""
    names = pack.arms["perturbation"].unique()
    n = max(1, round(VALIDATION * len(names)))
    chosen = np.random.default_rng([seed, 20]).choice(names, n, replace=False)
    return np.flatnonzero(pack.arms["perturbation"].isin(chosen))


def converged(curve: list[float]) -> bool:
    """Whether validation was flat over the last fifth of training.

    curve: error in validation, at even steps of training; models keep the best

    Flat: over the last fifth of the steps, the best error so far fell by no more than 2 %. Fewer
    than 5 steps are never flat.
    """
    if len(curve) < 5:
        return False
    best = np.minimum.accumulate(np.asarray(curve, dtype=float))
    before = best[len(curve) - max(1, len(curve) // 5) - 1]
    return bool(before - best[-1] <= 0.02 * before)


def cannot(pack: Pack, model: Model) -> dict[str, str]:
    """Queries that a model can't be asked, and why: query -> reason."""
    trained = {column: set(pack.arms[column]) for column in ARM}
    types = set(pack.cells.obs["cell_type"][pack.group < 0])
    reasons = {}
    for query in pack.queries.itertuples():
        unknown = set(query.perturbation.split("+")) - set(pack.cells.var_names)
        if unknown:
            reasons[query.Index] = f"has no gene {', '.join(sorted(unknown))}"
        elif query.cell_type not in types:
            reasons[query.Index] = f"has no control cells of type {query.cell_type}"
        elif not model.types and len(types) > 1:
            reasons[query.Index] = "the model doesn't tell cell types apart"
        elif trained["perturbation_type"] != {query.perturbation_type}:
            reasons[query.Index] = "the model doesn't tell knockdown and activation apart"
        elif not model.doses and trained["strength"] != {query.strength}:
            reasons[query.Index] = "the model doesn't tell strengths apart"
    return reasons


class Watch:
    """Error in validation while a model trains, and when to stop.

    The error is the mean over validation arms and genes of the squared difference between the
    profile of predicted and of measured cells.

    budget: seconds of CPU time for training
    """

    def __init__(self, pack, held_out, scale, budget):
        self.pack, self.held_out, self.scale = pack, held_out, scale
        self.until = _usage()[0] + budget
        self.curve, self.losses, self.stopped = [], [], "epochs"
        self.best = None

    def validate(self, predict, network) -> None:
        """Add the error to the curve, and keep the weights of a network at its best."""
        errors = (self.means(predict, self.held_out) - self.measured(self.held_out)) ** 2
        self.curve.append(float(errors.mean()))
        if self.curve[-1] == min(self.curve):
            self.best = {name: value.clone() for name, value in network.state_dict().items()}

    def restore(self, network) -> None:
        """Give a network its best weights back."""
        if self.best is not None:
            network.load_state_dict(self.best)

    def enough(self, patience: int) -> bool:
        """Whether to stop: no better for `patience` validations, or the budget is spent."""
        if _usage()[0] > self.until:
            self.stopped = "budget"
        elif len(self.curve) - 1 - int(np.argmin(self.curve or [0])) >= patience:
            self.stopped = "patience"
        return self.stopped != "epochs"

    def means(self, predict, arms) -> np.ndarray:
        """Profile of each arm as predicted from 200 control cells, (n_arms, n_genes)."""
        some = {t: self.pack.controls(t)[:200] for t in self.pack.arms["cell_type"].unique()}
        asked = self.pack.arms.iloc[arms].itertuples()
        cells = (np.maximum(predict(arm, some[arm.cell_type]), 0) for arm in asked)
        return np.array([self.profile(some) for some in cells])

    def measured(self, arms) -> np.ndarray:
        """Profile of each arm as measured, (n_arms, n_genes)."""
        return np.array([self._of_rows(np.flatnonzero(self.pack.group == i)) for i in arms])

    def profile(self, cells) -> np.ndarray:
        """Mean of log-normalised cells; of counts the log-normalised mean, (n_genes,)."""
        mean = np.asarray(cells.mean(0), dtype=float).ravel()
        return np.log1p(mean * (SCALE / mean.sum())) if self.scale == "counts" else mean

    def _of_rows(self, rows):
        cells = self.pack.cells
        return self.profile((cells.layers["counts"] if self.scale == "counts" else cells.X)[rows])

    def learnt(self, predict, training_arms) -> dict:
        """How well arms are predicted, those trained on and those not, beside two references."""
        types = self.pack.arms["cell_type"]
        control = {t: self._of_rows(self.pack.controls(t)) for t in types.unique()}
        control = np.array([control[t] for t in types])
        mean_effect = (self.measured(training_arms) - control[training_arms]).mean(0)
        found = {}
        for name, arms in (("training", training_arms[:20]), ("validation", self.held_out)):
            true = self.measured(arms)
            for model, values in {
                "model": self.means(predict, arms),
                "control": control[arms],
                "perturbed_mean": control[arms] + mean_effect,
            }.items():
                found[f"{name}_mse_{model}"] = float(((values - true) ** 2).mean())
                if model == "model":
                    pairs = zip(values - control[arms], true - control[arms])
                    with np.errstate(invalid="ignore", divide="ignore"):
                        r = [np.corrcoef(*pair)[0, 1] for pair in pairs]
                    found[f"{name}_effect_correlation"] = float(np.nan_to_num(r).mean())
        return found


def run(model: Model, doc: str) -> None:
    """The command line of a script: fit to a pack, predict its queries, say how it went."""
    arguments = _parser(model, doc).parse_args()
    warnings.simplefilter("ignore")
    options = {name: getattr(arguments, name) for name in model.options}
    began, started = time.monotonic(), _usage()[0]
    pack = read(arguments.pack)
    if getattr(pack, model.prior) is None:
        raise SystemExit(f"{arguments.pack}: has no prior_{model.prior}.csv, which is needed here")
    held_out = validation(pack, arguments.seed)
    watch = Watch(pack, held_out, model.scale, arguments.budget)
    predict = model.fit(pack, ~np.isin(pack.group, held_out), watch, options, arguments.seed)
    reasons = cannot(pack, model)
    answers = {}
    for query in pack.queries.drop(index=list(reasons)).itertuples():
        answers[query.Index] = answered(pack, predict, query, arguments.seed)
    out = Path(arguments.out)
    write(out, pack, answers, model.scale)
    effects(pack, predict, answers, model.scale, arguments.seed).to_csv(
        out.with_suffix(".effects.csv"), index=False, float_format="%.6g"
    )
    training_arms = np.setdiff1d(np.arange(len(pack.arms)), held_out)
    cpu, peak = _usage()
    said = {
        "pack": pack.name,
        "seed": arguments.seed,
        "options": options,
        "notes": list(model.notes),
        "versions": {name: metadata.version(name) for name in ["torch", *model.packages]},
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "budget_seconds": arguments.budget,
        "wall_seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(cpu - started, 1),
        "peak_mb": round(peak),
        "validations": len(watch.curve),
        "stopped": watch.stopped,
        "converged": converged(watch.curve),
        "validation_curve": watch.curve,
        "losses": watch.losses,
        "validation_arms": pack.arms["perturbation"].iloc[held_out].tolist(),
        "answered": len(answers),
        "cannot": reasons,
    } | watch.learnt(predict, training_arms)
    out.with_suffix(".json").write_text(json.dumps(said, indent=1) + "\n")


def answered(pack: Pack, predict, arm, seed: int) -> np.ndarray:
    """Cells (n, n_genes) of an arm, from at most CELLS control cells of its type."""
    controls = pack.controls(arm.cell_type)
    rng = np.random.default_rng([seed, 21])
    controls = np.sort(rng.choice(controls, min(CELLS, len(controls)), replace=False))
    return np.maximum(predict(arm, controls), 0).astype(np.float32)


def effects(pack: Pack, predict, answers, scale: float | str, seed: int) -> pd.DataFrame:
    """Means of arms if a model's effects, not its profiles, are taken: a table as a pack asks for.

    An effect is what it predicts of an arm against what it predicts of controls: a difference of
    mean logs, or of counts a fold of their means (0.01 added to both). Measured controls are moved
    by it. What a model gets wrong of every cell alike is no part of this.
    """
    measured, usual, rows = {}, {}, []
    for name in pack.queries.loc[list(answers), "cell_type"].unique():
        nothing = SimpleNamespace(**dict(zip(ARM, (CONTROL, CONTROL, 0.0, name))))
        usual[name] = answered(pack, predict, nothing, seed).mean(axis=0, dtype=float)
        cells = pack.cells.layers["counts"] if scale == "counts" else pack.cells.X
        measured[name] = np.asarray(cells[pack.controls(name)].mean(axis=0), dtype=float).ravel()
    for query, cells in answers.items():
        name = pack.queries.loc[query, "cell_type"]
        mean, before = cells.mean(axis=0, dtype=float), usual[name]
        moved = measured[name] + mean - before
        if scale == "counts":
            moved = measured[name] * (mean + 0.01) / (before + 0.01)
        rows.append(np.maximum(moved, 0))
    table = pd.DataFrame(rows, columns=pack.cells.var_names)
    return table.assign(query=list(answers), pack=pack.name, scale=scale)


def write(path: str | Path, pack: Pack, answers: dict[str, np.ndarray], scale: float | str) -> None:
    """Write predicted cells: query -> cells (n, n_genes)."""
    empty = np.zeros((0, pack.cells.n_vars), np.float32)
    labels = np.repeat(list(answers), [len(cells) for cells in answers.values()])
    names = [f"cell_{i}" for i in range(len(labels))]
    obs = pd.DataFrame({"query": pd.Categorical(labels)}, index=names)
    x = np.concatenate([empty, *answers.values()])
    out = ad.AnnData(x, obs=obs, var=pd.DataFrame(index=pack.cells.var_names))
    out.uns |= {"pack": pack.name, "scale": scale}
    out.write_h5ad(path, compression="gzip")


def _parser(model, doc):
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pack", help="folder of a pack")
    parser.add_argument(
        "out", help="predictions to write, .h5ad; a .json beside it says how it went"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=600, help="CPU seconds for training")
    for name, default in model.options.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"{default}")
    return parser


def _usage():
    """Seconds of CPU and the peak in MB, of this process and its children."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(part.ru_utime + part.ru_stime for part in parts)
    return seconds, max(part.ru_maxrss for part in parts) / 1024
