"""The leaderboard."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from lib import dataset
from lib.laws import ZINB, Mixture
from lib.predict.guard import answer
from lib.score import distances, tables
from lib.tasks.conditional import Question

SCENARIO = "leaderboard"
SECONDS = ["seconds", "cpu_seconds"]  # of `enter`: measured, and another number at each run


def score(fitted: dict[str, object], asked: list[Question]) -> pd.DataFrame:
    """Scores of fitted models, "marginal" among them, on every question: model, metric, value and the question's keys.

    Laws are scored by KL and CRPS, draws and means by CRPS and the mean alone. A model that has no answer to a question,
    which it says by `NotImplementedError`, has no row there.
    """
    frames = []
    for question in asked:
        laws = {}
        for name, model in fitted.items():
            try:
                laws[name] = answer(model, question.cells, question.gene, name)
            except NotImplementedError:
                continue
        keys = {"mechanism": question.mechanism, "gene": question.gene, "split": question.split}
        frame = distances.scores(question.true, laws)
        if question.split == "off_target":
            frame = frame.query("metric in ['kl_nats', 'excess_crps']").replace({"metric": {"kl_nats": "off_target_kl", "excess_crps": "off_target_crps"}})
        frames.append(frame.assign(**keys))
        if question.dose is not None:
            slopes = {name: distances.slope_ratio(question.dose, law.mean, question.true.mean) for name, law in laws.items()}
            frames.append(pd.DataFrame({"model": slopes.keys(), "metric": "slope_ratio", "value": slopes.values(), **keys}))
    joined = pd.concat(frames, ignore_index=True)
    off_target = joined["split"] == "off_target"
    mean = joined[off_target].groupby(["model", "metric", "mechanism", "split"], sort=False, as_index=False)["value"].mean()
    return pd.concat([joined[~off_target], mean.assign(gene="")], ignore_index=True)[["model", "metric", "value", "mechanism", "gene", "split"]]


def marginal_laws(fitted: dict[str, object], test: ad.AnnData, genes: list[str]) -> pd.DataFrame:
    """Squared error of mu of `genes`, a mean over them and over cells, for each model that predicts it."""
    truth, rows = dataset.law(test, genes), []
    for name, model in fitted.items():
        try:
            laws = [answer(model, test, gene, name) for gene in genes]
        except NotImplementedError:
            continue
        if not all(isinstance(law, ZINB | Mixture) for law in laws):
            continue
        errors = [((law.parameters().mu - truth[:, i].mu) ** 2).mean() for i, law in enumerate(laws)]
        rows.append({"model": name, "metric": "mse_mu", "value": np.mean(errors), "mechanism": "", "gene": "", "split": "base_genes"})
    return pd.DataFrame(rows)


def known(path: str | Path, marginal: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table that was written before, if its questions were the same ones: if its marginal's rows are these, all to 1 %, which
    leaves room for another end of its fit and for no other cells.

    marginal : rows of `tables.tidy` of the marginal's scores. Returns an empty table where there is none, or one of other
        questions; rows of seconds too, which 05_leaderboard.csv has in 05_seconds.csv beside it
    """
    path = Path(path)
    if not path.is_file():
        return marginal.iloc[:0]
    beside = path.with_name("05_seconds.csv")
    paths = [path, beside] if path.name == "05_leaderboard.csv" and beside.is_file() else [path]
    table = pd.concat([tables.read(p) for p in paths], ignore_index=True)
    table = table[(table["scenario"] != SCENARIO) | table["replicate"].isin(marginal["replicate"].astype(table["replicate"].dtype))]
    theirs = table[(table["model"] == "marginal") & (table["scenario"] == SCENARIO) & ~table["metric"].isin(SECONDS)]
    keys = [k for k in tables.KEYS if k != "model"]
    both = marginal.astype({"replicate": int}).merge(theirs.astype({"replicate": int}), on=keys, suffixes=("", "_known"))
    same = len(both) == len(marginal) == len(theirs) and np.allclose(both["value"], both["value_known"], rtol=1e-2, atol=1e-8, equal_nan=True)
    return table if same else table.iloc[:0]


def join(table: pd.DataFrame, more: pd.DataFrame, fitted: list[str]) -> pd.DataFrame:
    """The rows of `table`, and those of `more` but what it has of this leaderboard's questions to models just `fitted`; each once."""
    more = more[(more["scenario"] != SCENARIO) | ~more["model"].isin(fitted)]
    return pd.concat([table, more], ignore_index=True).drop_duplicates(tables.KEYS, ignore_index=True)


def cell_eval(path: str | Path) -> dict[str, pd.Series]:
    """Model -> means of cell-eval's scores, and of the exact `skill_kl` in the same cells; empty where there is no such table."""
    if not Path(path).is_file():
        return {}
    table = tables.read(path)
    return dict(iter(table.pivot_table(index="model", columns="metric", values="value", sort=False).iterrows()))
