"""Predictions in files, scored: `lib.tasks.pack` says what they hold."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks, files
from lib.counts import dense
from lib.laws.tabulated import Tabulated
from lib.predict import registry
from lib.predict.arms import answers as arm_answers
from lib.predict.arms.answers import Answer, Means
from lib.score import arms, screen
from lib.tasks import pack as packs
from lib.tasks.screen import VERSIONS, Task

FORMAT = 2  # of the truth that is kept beside a key
_KEYS = ["query", "pack", "scale"]
_BROKEN = OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile
_NO_TABLE = pd.errors.ParserError, pd.errors.EmptyDataError


def read(path: str | Path, task: Task, pack: str) -> dict[str, Answer]:
    """Predictions, a checked answer a query. Raises ValueError in one line.

    path: an .h5ad of cells, or a .csv of means
    pack: hash of the pack that they must be about
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: not found")
    readers = {".csv": _of_csv, ".h5ad": _of_h5ad}
    if path.suffix not in readers:
        raise ValueError(f"{path}: must be an .h5ad or a .csv")
    try:
        queries, values, genes, about = readers[path.suffix](path)
    except (OSError, KeyError, TypeError, UnicodeDecodeError, *_NO_TABLE) as error:
        raise ValueError(f"{path}: can't be read ({' '.join(str(error).split())})") from None
    if not len(queries):
        raise ValueError(f"{path}: has no predictions")
    if about["pack"] != pack:
        shown = about["pack"] or "not said"
        raise ValueError(f"{path}: predictions for the pack {shown}; this one is {pack}")
    if about["scale"] is None:
        raise ValueError(f"{path}: its scale isn't said; must be counts, or a target sum of log1p")
    asked = {question.name: question.query for question in task.asked}
    names = next(iter(asked.values())).genes
    if sorted(genes) != sorted(names):
        other = sorted(set(genes) ^ set(names)) or [g for g in genes if list(genes).count(g) > 1]
        raise ValueError(f"{path}: its genes aren't those of the pack, such as {other[0]!r}")
    unknown = sorted(set(map(str, queries)) - set(asked))
    if unknown:
        raise ValueError(f"{path}: the query {unknown[0]!r} isn't one of queries.csv")
    values = values[:, pd.Index(genes).get_indexer(names)]
    found = {}
    for name, rows in pd.Series(range(len(queries))).groupby(np.asarray(queries)):
        some = values[rows.to_numpy()]
        some = some[0] if len(some) == 1 else some
        found[name] = arm_answers.checked(some, asked[name], f"{path}:", about["scale"])
    return {name: found[name] for name in asked if name in found}


def _of_csv(path):
    table = pd.read_csv(path, dtype={"pack": str, "scale": str, "query": str})
    lacking = [name for name in ("query", "pack") if name not in table]
    if lacking:
        raise ValueError(f"{path}: has no column {lacking[0]!r}; must have {', '.join(_KEYS)}")
    if not len(table):
        raise ValueError(f"{path}: has no rows")
    if table["query"].duplicated().any():
        twice = table["query"][table["query"].duplicated()].iloc[0]
        raise ValueError(f"{path}: the query {twice!r} is there twice")
    about = {}
    for name in ("pack", "scale"):
        said = table[name].dropna().unique() if name in table else []
        if len(said) > 1:
            raise ValueError(f"{path}: has more than one {name}, {said[0]} and {said[1]}")
        about[name] = said[0] if len(said) else None
    genes = [column for column in table if column not in _KEYS]
    try:
        values = table[genes].to_numpy(dtype=float)
    except ValueError:
        raise ValueError(f"{path}: its genes' columns must be numbers") from None
    return table["query"].to_numpy(), values, genes, about


def _of_h5ad(path):
    cells = ad.read_h5ad(path)
    if "query" not in cells.obs:
        raise ValueError(f"{path}: has no obs['query']")
    about = {name: cells.uns.get(name) for name in ("pack", "scale")}
    about = {
        name: value.item() if hasattr(value, "item") else value for name, value in about.items()
    }
    return cells.obs["query"].astype(str).to_numpy(), dense(cells.X), list(cells.var_names), about


def truth(folder: str | Path, task: Task, pack: str) -> screen.Truth:
    """The truth about a pack's arms; computed once, and kept beside its key."""
    path = packs.truth_of(folder)
    made_of = f"{FORMAT} {pack} {task.n_truth} {max(VERSIONS)}"
    with contextlib.suppress(*_BROKEN), np.load(path) as stored:
        if str(stored.get("made_of")) == made_of:
            arms = [_loaded(stored, question) for question in task.asked]
            return screen.Truth(arms, {name: _laws(stored, name) for name in task.controls})
    found = screen.exact(task)
    arrays = {"made_of": np.array(made_of)}
    for exact in found.arms:
        name = exact.question.name
        arrays |= _arrays(name, exact.table)
        arrays[f"{name} mean"] = exact.mean
        arrays[f"{name} sets"] = np.array([exact.sets[s] for s in screen.SETS])
    for name, table in found.controls.items():
        arrays |= _arrays(name, table)
    with files.whole(path) as scratch, open(scratch, "wb") as file:
        np.savez_compressed(file, **arrays)
    return found


def _arrays(name, table):
    """Laws as arrays; name: of the question, or of the cell type whose controls' they are."""
    ends = np.cumsum([len(row) for row in table.rows])
    return {f"{name} pmf": np.concatenate(table.rows), f"{name} ends": ends}


def _laws(stored, name):
    return Tabulated(np.split(stored[f"{name} pmf"], stored[f"{name} ends"][:-1]))


def _loaded(stored, question):
    name = question.name
    sets = dict(zip(screen.SETS, stored[f"{name} sets"]))
    return screen.Exact(question, _laws(stored, name), stored[f"{name} mean"], sets)


def score(
    folder: str | Path, predictions: str | Path, beside: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Scores of predictions, beside references, as rows of `screen.summarised`.

    beside: keys of models of screens to fit to the pack and score as well

    Returns the rows, and the names of the queries without an answer. Raises ValueError in one line.
    """
    known_models = [key for key in registry.keys("screen") if key != "oracle"]
    for key in beside:
        checks.choice("model", key, known_models)
    task, pack = packs.unlocked(folder)
    answers = read(predictions, task, pack)
    known = truth(folder, task, pack)
    scores = screen.Scores(task, known)
    entered = {
        key: arms.enter(key, entrant, task, scores, check=False).scores
        for key, entrant in arms.chosen(["no_change", *beside], task, device="auto").items()
    }
    exact_means = {exact.question.name: Means(exact.mean) for exact in known.arms}
    entered["exact_means"] = scores.of(exact_means)
    entered["predictions"] = scores.of(answers, name=str(predictions))
    missing = [question.name for question in task.asked if question.name not in answers]
    return screen.summarised(entered), missing


def usual(folder: str | Path, predictions: str | Path) -> pd.DataFrame:
    """What ten usual metrics say of predictions, beside references, a row a panel and model.

    Of arms with an answer, as `court.usual` samples them. Raises ValueError in one line.
    """
    from lib.score.court import usual, zoo

    task, pack = packs.unlocked(folder)
    answers = read(predictions, task, pack)
    known = truth(folder, task, pack)
    entrants = arms.chosen(["no_change"], task)
    beside = {zoo.ORACLE: {exact.question.name: exact.table for exact in known.arms}}
    for key, entrant in entrants.items():
        entrant.model.fit(task.train(entrant.prior))
        beside[key] = {q.name: entrant.model.arm(q.query) for q in task.asked}
    return usual.usual(task, screen.Scores(task, known), beside | {"predictions": answers})


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Skills of all models over all genes, to print."""
    part = table[(table["gene"] == "all") & table["metric"].isin(["skill_kl", "beats_mean"])]
    wide = part.pivot_table(
        index=["split", "mechanism"], columns=["model", "metric"], values="value", sort=False
    )
    return wide.round(3)
