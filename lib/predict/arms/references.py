"""References of a screen: models told the truth, in whole or in part.

They are given the task as `reference`, and ask it; none of them is a ceiling but the oracle.
"""

from __future__ import annotations

import numpy as np

from lib import checks
from lib.predict.arms.answers import ArmCells, Means
from lib.predict.base import Query


class _Told:
    """A reference that learns nothing from cells. A subclass writes `predict`."""

    def __init__(self, reference):
        self.task = reference

    def fit(self, train):
        return self


class Oracle(_Told):
    """The law of the arm: no distance."""

    def predict(self, query: Query):
        return self.task.arm(query).table


class Expected(_Told):
    """The true mechanism, without the efficiency of the arm's guides and its shift.

    These are known of no arm that has no cells. It is no bound: it answers as if every arm had the
    mean shift, where a mixture over shifts would be nearer on average, and where an arm was seen in
    another cell type, that tells of its guides.
    """

    def predict(self, query: Query):
        return self.task.expected(query).table


class ExactMeans(_Told):
    """Exact means, made laws by the same helper as the means of any model."""

    def predict(self, query: Query):
        return Means(self.task.arm(query).genes["mean"].to_numpy())


class Duplicate(_Told):
    """Other cells of the arm, as a second experiment would have them.

    n_cells: number of cells
    seed: whole number, or several
    """

    def __init__(self, reference, n_cells: int = 100, *, seed: int | tuple[int, ...] = 0):
        super().__init__(reference)
        self.n_cells = checks.integer("n_cells", n_cells, 2)
        self.seed = seed
        self._cells = {}

    def predict(self, query: Query):
        if not self._cells:  # those of all arms at once, which is faster
            asked = [question.query for question in self.task.asked]
            drawn = self.task.cells(asked, self.n_cells, seed=self.seed)
            self._cells = {_key(q): c.X.toarray() for q, c in zip(asked, drawn)}
        return ArmCells(np.asarray(self._cells[_key(query)], dtype=float))


def _key(query):
    return query.cell_type, query.perturbation
