"""Molecules of regulators, drawn parents first, and the mean molecules of every gene given them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lib.simulate.grn.network import GRN
from lib.simulate.grn.regulation import Regulation, by_programs

_MOST = np.iinfo(np.int32).max


class Cells:
    """Cells of one type, from their hidden state to the mean molecules of any gene.

    regulation: the network's folds
    cell_type: place of the cells' type
    activities: (n_cells, n_columns) of the hidden programs
    change: function of places of genes and their means, (n_genes, n_cells), which it changes in
        place; by default nothing does
    """

    def __init__(
        self,
        regulation: Regulation,
        cell_type: int,
        activities: np.ndarray,
        change: Callable[[np.ndarray, np.ndarray], None] | None = None,
    ):
        self.regulation = regulation
        self.network: GRN = regulation.network
        self.cell_type = cell_type
        self.activities = activities
        self.change = change
        shape = len(self.network.regulators), len(activities)
        self.molecules = np.zeros(shape, dtype=np.int32)

    def means(self, genes: np.ndarray) -> np.ndarray:
        """Mean molecules of genes given their regulators' molecules, (n_genes, n_cells).

        genes: places
        """
        mu = self.regulation.folds(self.cell_type, genes, self.molecules)
        mu *= self.network.base[genes, self.cell_type][:, None]
        by_programs(self.network, genes, self.activities, mu)
        if self.change is not None:
            self.change(genes, mu)
        return mu

    def generations(self):
        """Yield (rows in `molecules`, places) of regulators whose own are drawn already."""
        for genes in self.network.generations:
            rows = np.flatnonzero(np.isin(self.network.regulators, genes))
            if len(rows):
                yield rows, self.network.regulators[rows]

    def draw(self, stream_of: Callable[[str], np.random.Generator]) -> Cells:
        """Draw the regulators' molecules.

        stream_of: function of a gene's name, which returns its generator
        """
        for rows, genes in self.generations():
            mu = self.means(genes)
            for row, gene, its_mu in zip(rows, genes, mu):
                rng = stream_of(str(self.network.genes[gene]))
                theta = self.network.theta[gene, self.cell_type]
                unit = rng.standard_gamma(theta, len(its_mu))
                molecules = rng.poisson(unit * (its_mu / theta))
                if molecules.max(initial=0) > _MOST:
                    name = self.network.genes[gene]
                    raise ValueError(f"molecules of {name}: above {_MOST:,}; base must be lower")
                self.molecules[row] = molecules
        return self

    def part(self, rows: slice) -> Cells:
        """Some of the cells."""
        change = None if self.change is None else self.change.part(rows)
        some = Cells(self.regulation, self.cell_type, self.activities[rows], change)
        some.molecules = self.molecules[:, rows]
        return some
