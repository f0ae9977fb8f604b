"""The leaderboard: scores of models on the same questions, and rows of models that were scored before."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd

from lib.predict.guard import Guarded
from lib.score import distances, tables
from lib.tasks.base import Question

SCENARIO = "leaderboard"
SECONDS = ["seconds", "cpu_seconds"]  # of `guard.enter`: measured, and another number at each run
_OFF_TARGET = {"kl_nats": "off_target_kl", "excess_crps": "off_target_crps"}


def score(fitted: dict[str, Guarded], asked: list[Question]) -> pd.DataFrame:
    """Scores of fitted models on every question: model, metric, value, mechanism, gene, split.

    fitted: by their keys, "marginal" among them

    Laws are scored by KL and CRPS, draws and means by CRPS and the mean alone. A model that has no answer to a question
    (`NotImplementedError`) has no row there. Off target, the value is the mean over genes.
    """
    frames = []
    for question in asked:
        true, laws = question.true[:, 0], {}
        for name, model in fitted.items():
            with contextlib.suppress(NotImplementedError):
                laws[name] = model.predict(question.query)[:, 0]
        keys = {"mechanism": question.mechanism, "gene": question.gene, "split": question.split}
        frame = distances.scores(true, laws)
        if question.split == "off_target":
            frame = frame[frame["metric"].isin(_OFF_TARGET)].replace({"metric": _OFF_TARGET})
        frames.append(frame.assign(**keys))
        if question.dose is not None:
            slopes = {
                name: distances.slope_ratio(question.dose, law.mean, true.mean)
                for name, law in laws.items()
            }
            frames.append(
                pd.DataFrame(
                    {
                        "model": slopes.keys(),
                        "metric": "slope_ratio",
                        "value": slopes.values(),
                        **keys,
                    }
                )
            )
    joined = pd.concat(frames, ignore_index=True)
    off_target = joined["split"] == "off_target"
    keys = ["model", "metric", "mechanism", "split"]
    mean = (
        joined[off_target].groupby(keys, sort=False, as_index=False)["value"].mean().assign(gene="")
    )
    columns = ["model", "metric", "value", "mechanism", "gene", "split"]
    return pd.concat([joined[~off_target], mean], ignore_index=True)[columns]


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
        errors = [
            ((point.mu - question.true[:, 0].mu) ** 2).mean()
            for point, question in zip(points, asked)
        ]
        rows.append({"model": name, "metric": "mse_mu", "value": np.mean(errors)})
    return pd.DataFrame(rows).assign(mechanism="", gene="", split="base_genes")


def known(path: str | Path, identity: str, fitted: list[str] = ()) -> pd.DataFrame:
    """Rows of a summary.csv: models scored before on the questions of this identity, but those just fitted."""
    summary = read_summary(path)
    return summary[(summary["questions"] == identity) & ~summary["model"].isin(fitted)].reset_index(
        drop=True
    )


def read_summary(path: str | Path) -> pd.DataFrame:
    """A summary.csv; without a row where there is no such file, or it is of before there were identities."""
    summary = tables.read(path) if Path(path).is_file() else pd.DataFrame(columns=tables.SUMMARY)
    return summary if "questions" in summary else summary.iloc[:0].assign(questions="")


def cell_eval(path: str | Path) -> dict[str, pd.Series]:
    """Model -> means of cell-eval's scores, and of the exact `skill_kl` in the same cells; empty without a table."""
    if not Path(path).is_file():
        return {}
    means = tables.read(path).pivot_table(
        index="model", columns="metric", values="value", sort=False
    )
    return dict(means.iterrows())
