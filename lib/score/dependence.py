"""How genes vary together in predicted cells: a sampled distance, since laws of genes can't tell.

The energy distance (Szekely and Rizzo 2013, J. Statistical Planning and Inference 143, 1249)

    2 E|x - y| - E|x - x'| - E|y - y'|

between predicted and new true cells of an arm, in log1p of counts scaled to a total of 10,000.
A model of laws, and one of means, whose means
become laws, is given the copula of control cells: each predicted cell has the ranks of a control
cell. What another sample of the true cells has is the floor.
"""

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from lib.laws import Law
from lib.laws.base import BLOCK
from lib.predict.arms.answers import COUNTS, Answer, ArmCells
from lib.predict.arms.pseudobulk import TARGET_SUM
from lib.score.controls import Controls
from lib.seeds import stream
from lib.tasks.screen import Task

N_CELLS = 200
N_ARMS = 4  # of each split and kind
_TAIL = 1e-7
_GROUPS = 16  # of genes, whose laws end at about the same count


def energy(x: np.ndarray, y: np.ndarray) -> float:
    """Energy distance of two samples, (n, n_genes) and (m, n_genes), at least 0.

    That of the samples, not an estimate without bias, which few cells far apart would bring below
    0. So it is above 0 for two samples of the same cells too: the floor says by how much.
    """
    within = euclidean_distances(x).mean() + euclidean_distances(y).mean()
    return max(0.0, float(2 * euclidean_distances(x, y).mean() - within))


class Dependence:
    """Energy distances of answers about some arms of each split and kind.

    task: the screen
    helpers: function of a cell type, which gives its `Controls`
    n_cells: cells of a sample
    n_arms: arms of each split and kind, at most
    """

    def __init__(self, task: Task, helpers, *, n_cells: int = N_CELLS, n_arms: int = N_ARMS):
        self.helpers, self.n_cells, self.seed = helpers, n_cells, task.seed
        count: dict = {}
        self.asked = {}
        for question in task.asked:
            kind = question.split, question.kind
            count[kind] = count.get(kind, 0) + 1
            if count[kind] <= n_arms:
                self.asked[question.name] = question
        queries = [question.query for question in self.asked.values()]
        samples = [task.cells(queries, n_cells, seed=(*task.seed, number)) for number in (0, 1)]
        self.true, self.other = (
            {name: _logs(cells.X.toarray()) for name, cells in zip(self.asked, sample)}
            for sample in samples
        )
        self._ranks: dict[str, np.ndarray] = {}

    def floor(self) -> dict[str, float]:
        """Name of the question -> energy distance of two samples of the true cells."""
        return {name: energy(self.true[name], self.other[name]) for name in self.asked}

    def of(self, answers: dict[str, Answer]) -> dict[str, float]:
        """Name of the question -> energy distance of the answer from the true cells."""
        found = {}
        for name, question in self.asked.items():
            if name in answers:
                cells = self.cells(answers[name], question.cell_type)
                found[name] = energy(cells, self.true[name])
        return found

    def cells(self, answer: Answer, cell_type: str) -> np.ndarray:
        """Cells of an answer, in logs, (n_cells, n_genes)."""
        helper = self.helpers(cell_type)
        if isinstance(answer, ArmCells):
            rng = stream(self.seed, "cells of an answer")
            some = answer.values[rng.permutation(len(answer.values))[: self.n_cells]]
            return _logs(some if answer.scale == COUNTS else np.expm1(some))
        return _logs(self._by_copula(helper.as_law(answer), cell_type, helper))

    def _by_copula(self, law: Law, cell_type: str, helper: Controls):
        """Counts with these laws and the ranks of control cells."""
        if cell_type not in self._ranks:
            self._ranks[cell_type] = ranks(helper.counts, self.n_cells, self.seed)
        return quantiles(law, self._ranks[cell_type])


def quantiles(law: Law, ranks: np.ndarray) -> np.ndarray:
    """Counts of which each law has these ranks, (n_cells, n_genes), up to a tail of 1e-7.

    law: (n_genes,)
    ranks: (n_cells, n_genes) in (0, 1)

    Probabilities are taken a block of counts at a time, of genes that end at about the same count:
    long laws take no more memory, and short ones are soon done.
    """
    last = law.reach(_TAIL).astype(np.int64)
    found = np.empty(ranks.shape, dtype=np.int64)
    for genes in np.array_split(np.argsort(last, kind="stable"), min(_GROUPS, len(last))):
        found[:, genes] = _quantiles(law[genes], ranks[:, genes], last[genes])
    return found


def _quantiles(law, ranks, last):
    """`quantiles` of laws that end at `last`, (n_genes,)."""
    found, below = np.tile(last, (len(ranks), 1)), np.zeros(len(last))
    order = np.argsort(ranks, axis=0, kind="stable")
    ordered = np.take_along_axis(ranks, order, axis=0)
    place = np.zeros(len(last), dtype=np.int64)
    for start, block in zip(range(0, int(last.max()) + 1, BLOCK), law.pmf_blocks()):
        reached = below + block.cumsum(axis=0)
        for gene in np.flatnonzero(place < len(ranks)):
            stops = ordered[:, gene].searchsorted(reached[:, gene], side="right")
            stops = np.maximum(stops, place[gene])
            n_each = np.diff(stops, prepend=place[gene])
            counts = np.repeat(np.arange(start, start + BLOCK), n_each)
            found[order[place[gene] : stops[-1], gene], gene] = counts
            place[gene] = stops[-1]
        below = reached[-1]
    return np.minimum(found, last)


def ranks(counts, n_cells: int, seed) -> np.ndarray:
    """Ranks of some control cells in each gene, of ties at random, (n_cells, n_genes) in (0, 1).

    counts: (n, n_genes) of more cells, CSC
    """
    rng = stream(seed, "ranks of control cells")
    some = rng.permutation(counts.shape[0])[:n_cells]
    ranks = np.empty((len(some), counts.shape[1]))
    for gene in range(counts.shape[1]):
        column = counts[:, [gene]].toarray().ravel()
        ordered, own = np.sort(column), column[some]
        low = np.searchsorted(ordered, own)
        high = np.searchsorted(ordered, own, side="right")
        ranks[:, gene] = (low + rng.random(len(some)) * (high - low)) / len(column)
    return ranks


def _logs(counts):
    """log1p of counts scaled to a total of 10,000."""
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
    return np.log1p(counts * (TARGET_SUM / totals))
