"""What a benchmark hands to a metric: true cells of some arms, predicted ones, and controls.

Cells are drawn once, as many as are ever needed; fewer cells of an arm are the first of these.
"""

from __future__ import annotations

from typing import NamedTuple

import anndata as ad
import numpy as np
import scipy.sparse as sparse

from lib.counts import CONTROL
from lib.predict.arms.answers import COUNTS, Answer, ArmCells
from lib.score.court.cells import labelled, log1p, normalised
from lib.score.dependence import quantiles, ranks
from lib.score.screen import Exact, Scores
from lib.seeds import stream
from lib.tasks.screen import Question, Task

N_CONTROLS = 2000  # of those to train on: metrics are given so many
_MANY = 4000  # cells that a mean of logs is taken over
_TRUE, _OTHER, _CONTROLS = 11, 12, 13  # end seeds of cells: measured, a second time, controls


class Drawn(NamedTuple):
    """Predicted cells of an arm.

    counts: (n, n_genes), whole or not
    logs: (n, n_genes) what is handed in where log1p is asked for; None: that of the counts
    """

    counts: np.ndarray
    logs: np.ndarray | None = None


class Panel:
    """Arms that are judged together, in cells of one type.

    task: the screen
    scores: its `Scores`
    questions: about arms of different names
    n_cells: cells of each arm, at most
    """

    def __init__(self, task: Task, scores: Scores, questions: list[Question], n_cells: int):
        self.task, self.scores, self.questions, self.n_cells = task, scores, questions, n_cells
        self.names = [question.query.perturbation.name for question in questions]
        types = {question.cell_type for question in questions}
        if len(set(self.names)) < len(self.names) or len(types) != 1:
            raise ValueError("questions: must be about different arms of one cell type")
        self.cell_type = types.pop()
        self.genes = list(task.screen.var_names)
        controls = task.controls[self.cell_type].X[:N_CONTROLS]
        self.controls = sparse.csr_matrix(controls, dtype=np.float32)
        self.exact: list[Exact] = [scores.truth[question.name] for question in questions]
        self.true = self._cells(_TRUE)
        self.other = self._cells(_OTHER)
        self.helper = scores.helper(self.cell_type)
        n_ranks = max(n_cells * len(questions), _MANY)
        if n_ranks > self.helper.counts.shape[0]:
            most = self.helper.counts.shape[0] // len(questions)
            raise ValueError(f"n_cells = {n_cells}: must be at most {most} for so many arms")
        self._ranks = ranks(self.helper.counts, n_ranks, (*task.seed, _CONTROLS))

    def _cells(self, number) -> list[np.ndarray]:
        """New cells of each arm as measured, (n_cells, n_genes) counts."""
        queries = [question.query for question in self.questions]
        drawn = self.task.cells(queries, self.n_cells, seed=(*self.task.seed, number))
        # guides come one after the other: mixed, so that the first cells have all of them
        rng = stream((*self.task.seed, number), "order of cells")
        return [cells.X.toarray()[rng.permutation(self.n_cells)] for cells in drawn]

    def of_answer(self, place: int, answer: Answer) -> np.ndarray:
        """Cells of an answer about an arm, (n_cells, n_genes) counts.

        Laws, and means, which become laws by the helper, are given the copula of control cells,
        others for each arm and the same for every model. Predicted cells are taken as they are.
        """
        if isinstance(answer, ArmCells) and answer.scale == COUNTS:
            rng = stream((*self.task.seed, place), "cells of an answer")
            few = len(answer.values) < self.n_cells
            return answer.values[rng.choice(len(answer.values), self.n_cells, replace=few)]
        block = slice(place * self.n_cells, (place + 1) * self.n_cells)
        return quantiles(self.helper.as_law(answer), self._ranks[block])

    def mean_logs(self, answer: Answer) -> np.ndarray:
        """Mean of log1p of normalised counts over 4,000 cells with an answer's laws, (n_genes,)."""
        cells = quantiles(self.helper.as_law(answer), self._ranks[:_MANY])
        return log1p(cells).mean(axis=0)

    def measured(self, n_cells: int, *, cells: list[np.ndarray] | None = None) -> ad.AnnData:
        """Counts of control cells and of the first n cells of each arm, with `LABEL`.

        cells: of each arm, in place of the measured ones
        """
        arms = dict(zip(self.names, (rows[:n_cells] for rows in cells or self.true)))
        return labelled({CONTROL: self.controls} | arms, self.genes)

    def logs(self, n_cells: int, drawn: list[Drawn]) -> ad.AnnData | None:
        """What is handed in where log1p is asked for; None: that of the counts.

        drawn: cells of each arm, of which the first n are taken
        """
        if drawn[0].logs is None:
            return None
        controls = normalised(labelled({CONTROL: self.controls}, self.genes)).X
        arms = {name: each.logs[:n_cells] for name, each in zip(self.names, drawn)}
        return labelled({CONTROL: controls} | arms, self.genes)

    def own(self) -> np.ndarray:
        """Whether an arm perturbs a gene, (n_arms, n_genes) bool."""
        return np.array([exact.sets["own"] for exact in self.exact])
