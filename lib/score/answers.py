"""Models' answers to conditional questions: predicted laws, their scores and parameters."""

import contextlib
from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from lib.counts import dense
from lib.laws import Law
from lib.predict.guard import Guarded
from lib.score import distances
from lib.tasks.base import Question, Series

_OFF_TARGET = {"kl_nats": "off_target_kl", "excess_crps": "off_target_crps"}


class Answered(NamedTuple):
    """A question about one gene, and what models say.

    laws: model -> its law of the gene, (n_cells,)
    """

    question: Question
    laws: dict[str, Law]

    def part(self, rows: np.ndarray, split: str) -> Self:
        """The same for some of the cells.

        rows: (n_cells,) bool
        """
        laws = {name: law[rows] for name, law in self.laws.items()}
        return Answered(self.question.part(rows, split), laws)


def ask(fitted: dict[str, Guarded], question: Question) -> Answered:
    """The answers of fitted models. A model that has none (`NotImplementedError`) is left out."""
    laws = {}
    for name, model in fitted.items():
        with contextlib.suppress(NotImplementedError):
            laws[name] = model.predict(question.query)[:, 0]
    return Answered(question, laws)


def ask_series(
    fitted: dict[str, Guarded], series: Series, others: list[Question]
) -> list[Answered]:
    """The answers to a dose series, asked as a whole and parted into its splits, and to others."""
    whole = ask(fitted, series.question)
    parts = [whole.part(rows, split) for split, rows in series.splits()]
    return parts + [ask(fitted, question) for question in others]


def scores(answered: Iterable[Answered], *, observed: bool = False) -> pd.DataFrame:
    """Scores of models on every question: model, metric, value, mechanism, gene, split.

    answered: questions with the answers to them, the marginal's among them
    observed: adds nll_nats, a score of the cells' own counts of the gene

    Laws are scored by KL and CRPS, draws and means by CRPS and the mean alone. Off target, the
    value is the mean over genes.
    """
    frames = []
    for question, laws in answered:
        true = question.true[:, 0]
        counts = dense(question.cells[:, question.gene].X)[:, 0] if observed else None
        frame = distances.scores(true, laws, counts)
        if question.split == "off_target":
            frame = frame[frame["metric"].isin(_OFF_TARGET)].replace({"metric": _OFF_TARGET})
        elif question.dose is not None:
            frame = pd.concat([frame, _slopes(question.dose, laws, true)])
        keys = {"mechanism": question.mechanism, "gene": question.gene, "split": question.split}
        frames.append(frame.assign(**keys))
    joined = pd.concat(frames, ignore_index=True)
    off_target = joined["split"] == "off_target"
    keys = ["model", "metric", "mechanism", "split"]
    mean = joined[off_target].groupby(keys, sort=False, as_index=False)["value"].mean()
    columns = ["model", "metric", "value", "mechanism", "gene", "split"]
    return pd.concat([joined[~off_target], mean.assign(gene="")], ignore_index=True)[columns]


def _slopes(dose, laws, true):
    ratios = {name: distances.slope_ratio(dose, law.mean, true.mean) for name, law in laws.items()}
    return pd.DataFrame({"model": ratios.keys(), "metric": "slope_ratio", "value": ratios.values()})


def parameters(answered: Iterable[Answered]) -> pd.DataFrame:
    """Parameters of the true law (model "true") and of predicted laws, a row a cell and model.

    Columns are gene, mechanism, model, dose (NaN where no gene was set), mu, theta and pi. A model
    whose answer has no such parameters is left out.
    """
    frames = []
    for question, laws in answered:
        keys = {"gene": question.gene, "mechanism": question.mechanism}
        dose = np.nan if question.dose is None else question.dose
        for name, law in {"true": question.true[:, 0], **laws}.items():
            point = law.parameters()
            if point is not None:
                columns = {"dose": dose, "mu": point.mu, "theta": point.theta, "pi": point.pi}
                frames.append(pd.DataFrame({**keys, "model": name, **columns}))
    return pd.concat(frames, ignore_index=True)
