"""What regulators make of their targets' means: folds as tables over molecules."""

from __future__ import annotations

import numpy as np
import scipy.special as special

from lib.simulate.grn.network import GRN, OWN
from lib.simulate.mechanisms import evaluate

_LONGEST = 2**16  # molecules up to which a fold is looked up
# logic -> how what its edges give is put together
_TOGETHER = {"product": np.multiply, "and": np.multiply, "or": np.multiply, "sum": np.add}


class Regulation:
    """The folds of a network's edges, looked up by the molecules of the regulator.

    A target's fold is, over its edges in the cell type, each with its fold f, its share h of
    regulator bound, u = h if it activates and 1 - h if it represses,

        product    prod f
        sum        mean f
        and        (1 + (F - 1) prod u) / its value at half, F = 2^mean |effect|
        or         the same with 1 - prod (1 - u) for prod u

    and of a gene of logic "mechanism" the mechanism's value.
    """

    def __init__(self, network: GRN):
        self.network = network
        self._tables: dict[int, np.ndarray] = {}
        self._of_type = {}
        self._row = np.full(len(network.genes), -1)
        self._row[network.regulators] = np.arange(len(network.regulators))

    def folds(self, cell_type: int, targets: np.ndarray, molecules: np.ndarray) -> np.ndarray:
        """Fold of the mean of each target in each cell, (n_targets, n_cells).

        cell_type: place of the cells' type
        targets: (n_targets,) places of genes
        molecules: (n_regulators, n_cells) whole numbers, in the order of `network.regulators`
        """
        edges = self._edges(cell_type)
        fold = np.ones((len(targets), molecules.shape[1]))
        scratch = np.empty(molecules.shape[1])
        for row, target in enumerate(targets.tolist()):
            if target not in edges:
                continue
            own, logic = edges[target], self.network.logic[target]
            if logic == OWN:
                fold[row] = self._mechanism(target, own, molecules)
                continue
            put_together, is_first = _TOGETHER[logic], True
            for edge in own:
                x = molecules[self._row[self.network.regulator[edge]]]
                value = self._looked_up(edge, logic, x, fold[row] if is_first else scratch)
                if not is_first:
                    put_together(fold[row], value, out=fold[row])
                is_first = False
            self._finish(fold[row], logic, own)
        return fold

    def _edges(self, cell_type):
        """Target -> its edges in a cell type, in order."""
        if cell_type not in self._of_type:
            found: dict[int, list[int]] = {}
            for edge in self.network.edges_in(cell_type).tolist():
                found.setdefault(int(self.network.target[edge]), []).append(edge)
            self._of_type[cell_type] = found
        return self._of_type[cell_type]

    def _looked_up(self, edge, logic, x, out):
        """What an edge gives at x molecules."""
        highest = int(x.max(initial=0))
        if highest >= _LONGEST:
            out[:] = self._given(edge, logic, x.astype(float))
            return out
        table = self._tables.get(edge)
        if table is None or len(table) <= highest:
            length = 2 ** int(highest + 1).bit_length()
            table = self._tables[edge] = self._given(edge, logic, np.arange(float(length)))
        return np.take(table, x, out=out, mode="clip")

    def _given(self, edge, logic, x):
        network = self.network
        bound = special.expit(network.power[edge] * (_log(x) - np.log(network.half[edge])))
        if logic in ("product", "sum"):
            more = 2.0 ** network.effect[edge] - 1
            return (1 + more * bound) / (1 + more / 2)
        if network.effect[edge] < 0:
            bound = 1 - bound
        return bound if logic == "and" else 1 - bound

    def _finish(self, fold, logic, edges):
        if logic == "sum":
            fold /= len(edges)
        elif logic in ("and", "or"):
            more = 2.0 ** np.abs(self.network.effect[edges]).mean() - 1
            at_half = 0.5 ** len(edges)
            if logic == "or":
                np.subtract(1, fold, out=fold)
                at_half = 1 - at_half
            fold *= more
            fold += 1
            fold /= 1 + more * at_half

    def _mechanism(self, target, edges, molecules):
        entry = self.network.mechanisms[str(self.network.genes[target])]
        # as mechanistic genes have it, to the last digit: einsum adds up in the order of memory
        x = np.ascontiguousarray(molecules[self._row[self.network.regulator[edges]]].T)
        return evaluate(str(entry["mechanism"]), x, entry.get("parameters", {}))


def _log(x):
    with np.errstate(divide="ignore"):
        return np.log(x)


def by_programs(network: GRN, genes: np.ndarray, activities: np.ndarray, mu: np.ndarray) -> None:
    """Multiply means by the folds of the hidden programs, whose mean over cells is 1, in place.

    genes: (n_genes,) places
    activities: (n_cells, n_columns)
    mu: (n_genes, n_cells)
    """
    for row, gene in enumerate(genes.tolist()):
        columns = np.flatnonzero(network.loadings[gene])
        if len(columns):
            log_fold = np.full(len(activities), -network.log_mean_fold[gene])
            for column in columns:
                log_fold += network.loadings[gene, column] * activities[:, column]
            mu[row] *= np.exp(log_fold, out=log_fold)


def draw_activities(network: GRN, uniform) -> np.ndarray:
    """Activities of the hidden programs, (n_cells, n_columns).

    uniform: function of a program's number, which returns (n_cells,) uniforms in (0, 1)
    """
    columns = []
    for number, its_columns in enumerate(network.program_columns.values()):
        u = uniform(number)
        if len(its_columns) == 1:
            columns.append(special.ndtri(u))
        else:
            columns += [np.sqrt(2) * np.cos(2 * np.pi * u), np.sqrt(2) * np.sin(2 * np.pi * u)]
    if not columns:
        return np.zeros((len(uniform(-1)), 0))
    return np.asfortranarray(np.column_stack(columns))
