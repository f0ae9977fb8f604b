"""Scores of answers about arms of a screen, by the exact law of each gene.

Over a gene set of an arm, its own genes left out of all but the last:

    all            all genes
    affected       whose law the arm changes by more than 0.005 nats
    strongest 20   of the largest divergence from control
    not reached    to which no path of the graph leads. But for what all arms share, a shift and
                   wrong guides, what a model does there is harm
    own            the perturbed genes themselves

and metrics, means over its genes:

    kl_nats        KL(true || predicted). To a predicted law a billionth of the controls' is added,
                   so that a table that ends too early is infinitely wrong for no one
    excess_crps    sum_k (F(k) - G(k))^2. Counts of predicted cells have their own shape there,
                   which costs them about sum_k G(k) (1 - G(k)) / n for n cells. Cells on a scale of
                   logs have lost their totals, and with them their counts: theirs is the helper's
    mse_log_mean   squared error of the log of the mean count, which is that of the log fold change
    kl_of_mean     KL if of an answer that is a law its mean alone were known; of no other answer

Skill is 1 - sum(model) / sum(perturbed mean) over the arms of a split and kind: the perturbed mean
has 0, the oracle 1. `beats_mean` is the share of these arms in which a model has less KL.
"""

from __future__ import annotations

import warnings
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.counts import SEPARATOR
from lib.laws import Law
from lib.laws.population import divergence
from lib.laws.tabulated import Tabulated
from lib.predict.arms.answers import COUNTS, Answer, ArmCells
from lib.score import distances, tables
from lib.score.controls import Controls, as_means
from lib.score.scaled import Scaled
from lib.tasks.screen import Design, Question, Task

SETS = "all", "affected", "strongest 20", "not reached", "own"
METRICS = "kl_nats", "excess_crps", "mse_log_mean", "kl_of_mean"
MEAN = "perturbed_mean"  # key of the model that has skill 0
SWEEP, FACTORS = "sweep", "factors"  # of all models, and of one thing at a time
_STRONGEST = 20
_SKILLS = {"kl_nats": "skill_kl", "excess_crps": "skill_crps", "kl_of_mean": "skill_of_mean"}
_RARE = 1e-9
_FAR = 1.5  # fold of most genes against controls at which a scale is doubted
_MOST = np.log(1e3)  # error of a log mean: of a predicted mean of 0 too


class Exact(NamedTuple):
    """The truth about the arm that a question is about.

    question: the question
    table: laws of the genes' counts, (n_genes,)
    mean: (n_genes,) mean count
    sets: name -> (n_genes,) bool
    """

    question: Question
    table: Tabulated
    mean: np.ndarray
    sets: dict[str, np.ndarray]


class Truth(NamedTuple):
    """The truth about all that a task asks.

    arms: of the questions
    controls: cell type -> laws of the genes' counts in its control cells, (n_genes,)
    """

    arms: list[Exact]
    controls: dict[str, Tabulated]


def exact(task: Task) -> Truth:
    """The truth about all that a task asks."""
    found = []
    for question in task.asked:
        arm = task.arm(question.query)
        genes, names = arm.genes, question.query.perturbation.name.split(SEPARATOR)
        own = genes.index.isin(names)
        kl = np.where(own, -1, genes["kl_nats"])
        strongest = np.zeros(len(own), dtype=bool)
        strongest[np.argsort(-kl, kind="stable")[:_STRONGEST]] = True
        parts = (
            ~own,
            genes["affected"].to_numpy() & ~own,
            strongest & ~own,
            ~genes["reached"].to_numpy(),
            own,
        )
        found.append(Exact(question, arm.table, genes["mean"].to_numpy(), dict(zip(SETS, parts))))
    types = map(str, task.network.cell_types)
    return Truth(found, {name: task.control_laws(name) for name in types})


class Scores:
    """Scores of answers about the arms of a screen.

    task: the screen
    truth: what `exact` gives, or what is left of it on disk
    """

    def __init__(self, task: Task, truth: Truth):
        self.truth = {exact.question.name: exact for exact in truth.arms}
        self._task, self._controls = task, truth.controls
        self._helpers, self._of_type, self._tables = {}, {}, {}

    def helper(self, cell_type: str) -> Controls:
        """What makes means and cells of a cell type laws."""
        if cell_type not in self._helpers:
            draw = partial(self._task.control_counts, cell_type)
            self._helpers[cell_type] = Controls(self._controls[cell_type], draw)
        return self._helpers[cell_type]

    def of(
        self,
        answers: dict[str, Answer],
        *,
        are_draws: bool = False,
        name: str = "model",
        doubt: bool = True,
    ) -> pd.DataFrame:
        """Scores of one model: question, split, kind, gene (the set), metric, value, n_genes.

        answers: name of the question -> answer
        are_draws: whether cells are known to be independent draws, as those of a reference are.
            Then the CRPS is without the error of their number. It must not be taken away from
            cells that a model has chosen: two cells far apart would be better than the truth
        name: of the model, for a warning where its scale seems to be another
        doubt: whether to warn
        """
        frames = []
        scaled = self._of_scaled(answers)
        if doubt:
            self._doubt_scale(answers, scaled, name)
        for name, exact in self.truth.items():
            if name not in answers:
                continue
            answer = answers[name]
            kl, crps, folds = scaled[name]
            mean = folds * self.helper(exact.question.cell_type).law.mean
            values = {"kl_nats": kl, "excess_crps": crps}
            if isinstance(answer, Law):
                values = self._distances(exact, answer) | {"kl_of_mean": kl}
                mean = answer.mean
            if isinstance(answer, ArmCells) and answer.scale == COUNTS:
                found = crps_of_cells(exact.table, answer.values, are_draws=are_draws)
                values["excess_crps"] = found
            with np.errstate(divide="ignore", invalid="ignore"):
                error = np.clip(np.log(mean) - np.log(exact.mean), -_MOST, _MOST)
            values["mse_log_mean"] = np.where(exact.mean > 0, error, 0.0) ** 2
            frames.append(_over_sets(exact, values))
        columns = ["question", "split", "kind", "gene", "metric", "value", "n_genes"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def _distances(self, exact, answer):
        """Metric -> (n_genes,) of an answer that is a law."""
        true = exact.table
        f, g = (law.pmf_table(true.n_counts) for law in (true, answer))
        c = self._usual(exact.question.cell_type)[:, : true.n_counts]
        kl = [divergence(*rows) for rows in zip(f, (1 - _RARE) * g + _RARE * c)]
        if isinstance(answer, Tabulated):
            n_counts = max(true.n_counts, answer.n_counts)
            apart = (true.padded(n_counts) - answer.padded(n_counts)).cumsum(axis=1)
            crps = (apart**2).sum(axis=1)
        else:
            crps = distances.between(true, answer)["excess_crps"].to_numpy()
        return {"kl_nats": np.array(kl), "excess_crps": crps}

    def _doubt_scale(self, answers, scaled, model):
        """Warn where most genes of most arms are far from what they are in controls."""
        of_arms = [
            np.median(folds)
            for name, (_, _, folds) in scaled.items()
            if not isinstance(answers[name], Law)
        ]
        fold = float(np.median(of_arms)) if of_arms else 1.0
        if not 1 / _FAR < fold < _FAR:
            said = f"{model}: predicts {fold:.2g} times the controls' counts of most genes"
            warnings.warn(f"{said}; is its scale right?", stacklevel=3)

    def _usual(self, cell_type):
        """Probabilities of counts in control cells, by the helper, (n_genes, n_counts)."""
        if cell_type not in self._tables:
            exacts = self.truth.values()
            some = [e.table.n_counts for e in exacts if e.question.cell_type == cell_type]
            self._tables[cell_type] = self.helper(cell_type).law.pmf_table(max(some))
        return self._tables[cell_type]

    def _of_scaled(self, answers):
        """Name -> KL, CRPS and fold of controls, (n_genes,) each, of the answers' means."""
        found = {}
        for cell_type in {self.truth[name].question.cell_type for name in answers}:
            scaled, places = self._scaled(cell_type)
            helper = self.helper(cell_type)
            folds = np.ones((len(places), helper.law.shape[0]))
            given = [name for name in places if name in answers]
            for name in given:
                folds[places[name]] = helper.folds(as_means(answers[name]))
            kl, crps = scaled.distances(folds)
            for name in given:
                place = places[name]
                found[name] = kl[place], crps[place], folds[place]
        return found

    def _scaled(self, cell_type):
        """What compares scaled laws of a cell type with the truth, and its arms in order."""
        if cell_type not in self._of_type:
            names = [n for n, e in self.truth.items() if e.question.cell_type == cell_type]
            tables = [self.truth[name].table for name in names]
            places = {name: place for place, name in enumerate(names)}
            self._of_type[cell_type] = Scaled(tables, self.helper(cell_type).law), places
        return self._of_type[cell_type]


def crps_of_cells(true: Tabulated, counts: np.ndarray, *, are_draws: bool = False) -> np.ndarray:
    """Excess CRPS of predicted cells' empirical law, (n_genes,).

    true: (n_genes,)
    counts: (n_cells, n_genes), whole or not; all from four times where the truth ends count alike
    are_draws: whether to give that of the law that they are independent draws of, without bias: the
        empirical law exceeds it by sum_k G(k) (1 - G(k)) / n on average. It may come out below 0
    """
    n_cells, n_genes = counts.shape
    n_counts = 4 * true.n_counts
    upper = np.ceil(np.minimum(counts, n_counts - 1)).astype(np.int64)
    place = upper + n_counts * np.arange(n_genes)
    cells = np.bincount(place.ravel(), minlength=n_genes * n_counts).reshape(n_genes, n_counts)
    below = cells.cumsum(axis=1) / n_cells
    exact = true.padded(n_counts).cumsum(axis=1)
    apart = (exact - below) ** 2
    if are_draws:
        apart -= below * (1 - below) / (n_cells - 1)
    return apart.sum(axis=1)


def _over_sets(exact, values):
    """Rows of one arm: a metric's mean over each set of genes that has any."""
    rows = []
    for name, genes in exact.sets.items():
        if n_genes := int(genes.sum()):
            rows += [(name, metric, row[genes].mean(), n_genes) for metric, row in values.items()]
    table = pd.DataFrame(rows, columns=["gene", "metric", "value", "n_genes"])
    question = exact.question
    return table.assign(question=question.name, split=question.split, kind=question.kind)


def summarised(scores: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of model, split, mechanism (the kind of arm), gene (the set), metric, value.

    scores: model -> what `Scores.of` gives, "perturbed_mean" among them

    Metrics are those of the arms, a mean over all of their genes; skill_kl, skill_crps, and of laws
    skill_of_mean; and beats_mean. A model that lacks an arm of a split has no row of it.
    """
    usual = scores[MEAN]
    of_mean = usual[usual["metric"] == "kl_nats"].assign(metric="kl_of_mean")
    usual = pd.concat([usual, of_mean], ignore_index=True)
    n_arms = usual.groupby(["split", "kind"])["question"].nunique()
    frames = []
    for model, table in scores.items():
        if not len(table):  # it has no answer
            continue
        keys = ["question", "gene", "metric"]
        both = table.merge(usual[[*keys, "value"]], on=keys, suffixes=("", "_of_mean"))
        both["less"] = both["value"] < both["value_of_mean"]
        for name in ("value", "value_of_mean"):
            both[name] *= both["n_genes"]
        grouped = both.groupby(["split", "kind", "gene", "metric"], sort=False)
        total = grouped.agg(
            {"value": "sum", "value_of_mean": "sum", "n_genes": "sum", "less": "mean"}
        ).reset_index()
        arms = table.groupby(["split", "kind"])["question"].nunique()
        complete = arms.index[arms == n_arms[arms.index]]
        total = total[pd.MultiIndex.from_frame(total[["split", "kind"]]).isin(complete)]
        means = total.assign(value=total["value"] / total["n_genes"])
        is_kl = total["metric"] == "kl_nats"
        pairs = zip(total["value"], total["value_of_mean"])
        skill = total.assign(value=[distances.skill(*pair) for pair in pairs])
        skill["metric"] = skill["metric"].map(_SKILLS)
        beats = total[is_kl].assign(value=total["less"], metric="beats_mean")
        parts = pd.concat([means, skill.dropna(subset=["metric"]), beats], ignore_index=True)
        frames.append(parts.assign(model=model))
    table = pd.concat(frames, ignore_index=True).rename(columns={"kind": "mechanism"})
    return table[["model", "split", "mechanism", "gene", "metric", "value"]]


def swept(folder: str | Path) -> pd.DataFrame:
    """Means of the sweeps `screen` and `screen_factors`, usual values where one has no column.

    folder: has 07_sweep.csv and 07_factors.csv; without the first there are no rows

    The column `sweep` says which of the two a row is of: they have other networks.
    """
    paths = {name: Path(folder) / f"07_{name}.csv" for name in (SWEEP, FACTORS)}
    if not paths[SWEEP].is_file():
        return pd.DataFrame(columns=[*tables.SUMMARY, "sweep"])
    parts = [tables.read(p).assign(sweep=name) for name, p in paths.items() if p.is_file()]
    both = pd.concat(parts, ignore_index=True)
    for field in fields(Design):
        if field.name in both:
            is_text = isinstance(field.default, str)
            given = both[field.name].replace("", np.nan)
            given = given if is_text else pd.to_numeric(given, errors="coerce")
            both[field.name] = given.fillna(field.default)
    return both


def usual_of(swept: pd.DataFrame) -> dict:
    """Parameter -> the value that it has where another one is swept."""
    return {field.name: field.default for field in fields(Design) if field.name in swept}
