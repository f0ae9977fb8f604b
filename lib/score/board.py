"""The leaderboard: scores of models on the same questions, and rows of those scored before."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.predict import guard, registry
from lib.predict.guard import Guarded
from lib.score import answers, tables
from lib.tasks.base import Question
from lib.tasks.conditional import Task

SCENARIO = "leaderboard"
JUDGES = [
    "skill_kl",
    "delta_pearson",
    "pds_cosine",
    "de_wilcoxon_overlap",
    "de_wilcoxon_precision",
    "de_wilcoxon_sig_jaccard",
    "expr_mse",
]  # scores of cell-eval2 that notebook 05 shows, beside the exact skill
SECONDS = ["seconds", "cpu_seconds"]  # measured by `guard.enter`, other numbers in each run


def entries(rows: list[registry.Row], task: Task, **setting) -> dict[str, Guarded]:
    """Models of the leaderboard by their keys, unfitted.

    setting: parameters for `registry.make`, without `inputs` and `reference`

    Where the task has no perturbed cells, models that train on them are left out.
    """
    if task.screen is None:
        rows = [row for row in rows if row.made["conditional"].trains_on == "cells"]
    given = {"inputs": task.inputs, "reference": task.reference}
    return guard.models(rows, "conditional", **given, **setting)


def enter(
    models: dict[str, Guarded], task: Task, generative: list[str], *, seed: int | tuple[int, ...]
) -> pd.DataFrame:
    """Fit the models and check them for leaks.

    generative: keys of models that are asked about base genes too

    Returns the seconds that each model took: model, metric, value.
    """
    frames = []
    queries = [question.query for question in task.asked]
    of_base = [question.query for question in task.of_base]
    for key, model in models.items():
        of_arms = registry.keys(task="conditional", trains_on="arms")
        cells = task.screen if key in of_arms else task.train
        more = of_base if key in generative else []
        took = guard.enter(model, cells, queries, key, more=more, seed=seed)
        frames.append(pd.DataFrame({"model": key, "metric": SECONDS, "value": took}))
    return pd.concat(frames, ignore_index=True)


def score(fitted: dict[str, Guarded], asked: list[Question]) -> pd.DataFrame:
    """`answers.scores` of fitted models on every question.

    fitted: models by their keys, "marginal" among them
    """
    return answers.scores(answers.ask(fitted, question) for question in asked)


def score_all(fitted: dict[str, Guarded], task: Task, generative: list[str]) -> pd.DataFrame:
    """`score` on what a task asks, and `base_laws` of the generative models."""
    of_base = {key: model for key, model in fitted.items() if key in generative}
    return pd.concat([score(fitted, task.asked), base_laws(of_base, task.of_base)])


def base_laws(fitted: dict[str, Guarded], asked: list[Question]) -> pd.DataFrame:
    """Squared error of mu, a mean over questions and cells, for each model that predicts it.

    asked: one question a base gene, in held-out cells
    """
    rows = []
    for name, model in fitted.items():
        try:
            points = [model.predict(question.query)[:, 0].parameters() for question in asked]
        except NotImplementedError:
            continue
        if None in points:
            continue
        true = [question.true[:, 0] for question in asked]
        errors = [((point.mu - law.mu) ** 2).mean() for point, law in zip(points, true)]
        rows.append({"model": name, "metric": "mse_mu", "value": np.mean(errors)})
    return pd.DataFrame(rows).assign(mechanism="", gene="", split="base_genes")


def known(path: str | Path, identity: str, fitted: list[str] = ()) -> pd.DataFrame:
    """Rows of a summary.csv about models that were scored before on the same questions.

    identity: name of the questions, from `conditional.identity`
    fitted: models that are left out, since they were just scored
    """
    summary = read_summary(path)
    same = summary["questions"] == identity
    return summary[same & ~summary["model"].isin(fitted)].reset_index(drop=True)


def with_known(scored: list[pd.DataFrame], identity: str, known: pd.DataFrame) -> pd.DataFrame:
    """Means of the models scored here, with rows of `known`, in the order of the tables.

    scored: tidy tables about the questions of this identity
    """
    means = tables.summary(pd.concat(scored, ignore_index=True)).assign(questions=identity)
    both = tables.joined(means, known)
    return both.sort_values("model", key=registry.in_order, kind="stable", ignore_index=True)


def read_summary(path: str | Path) -> pd.DataFrame:
    """A summary.csv; without rows where there is no such file, or no column `questions` in it."""
    summary = tables.read(path) if Path(path).is_file() else pd.DataFrame(columns=tables.SUMMARY)
    return summary if "questions" in summary else summary.iloc[:0].assign(questions="")


def published(path: str | Path, identity: str | None = None) -> pd.DataFrame:
    """Means of the rows in a 05_peers.csv or 07_peers.csv; none where there is no such file.

    identity: name of the questions that rows must be about; None: of any
    """
    if not Path(path).is_file():
        return pd.DataFrame(columns=tables.SUMMARY)
    rows = tables.read(path)
    return tables.summary(rows if identity is None else rows[rows["questions"] == identity])


def cell_eval(path: str | Path) -> dict[str, pd.Series]:
    """Means of cell-eval2's scores of each model, and of its exact skill_kl in the same cells.

    Returns model -> the means by metric; empty where there is no such file.
    """
    if not Path(path).is_file():
        return {}
    rows = tables.read(path)
    means = rows.pivot_table(index="model", columns="metric", values="value", sort=False)
    return dict(means.iterrows())


def readable_cell_eval(means: dict[str, pd.Series]) -> pd.DataFrame:
    """The scores of `cell_eval` that notebook 05 shows, a row a model."""
    return pd.DataFrame(means, index=JUDGES).T.round(3)
