"""Cells behind the law of a population: unperturbed, and as a perturbation would have made them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.special as special

from lib.seeds import stream
from lib.simulate.grn.molecules import Cells
from lib.simulate.grn.regulation import Regulation, draw_activities
from lib.simulate.regulated import World


class Latent:
    """Unperturbed cells of a type, and the same cells as a perturbation would have made them.

    Their programs and the noise of their regulators are spread evenly over quantiles (a Latin
    hypercube: McKay et al. 1979, Technometrics 21, 239), which leaves less error in a mean over
    cells. A perturbed cell shares all that can be shared with its unperturbed one: programs, gamma
    noise, and molecules, which are thinned where their mean falls, and to which a Poisson number is
    added where it rises. Both are draws of exactly the perturbed law.

    world: network, measurement and screen
    cell_type: place of the type
    n_cells: number of cells
    seed: whole numbers
    """

    def __init__(self, world: World, cell_type: int, n_cells: int, seed: tuple[int, ...]):
        self.network = network = world.network
        self.program = -1 if world.screen is None else world.screen.program
        self.seed = (*seed, cell_type)

        def even(purpose):
            rng = stream(self.seed, purpose)
            return (rng.permutation(n_cells) + rng.random(n_cells)) / n_cells

        activities = draw_activities(network, lambda i: even(f"latent program {i}"))
        self.cells = Cells(Regulation(network), cell_type, activities)
        shape = len(network.regulators), n_cells
        self.noise, self.rates = np.empty(shape), np.empty(shape)
        for rows, genes in self.cells.generations():
            for row, gene, mu in zip(rows, genes, self.cells.means(genes)):
                name, theta = network.genes[gene], network.theta[gene, cell_type]
                self.noise[row] = special.gammaincinv(theta, even(f"latent noise of {name}"))
                self.noise[row] /= theta
                self.rates[row] = self.noise[row] * mu
                rng = stream(self.seed, f"latent molecules of {name}")
                self.cells.molecules[row] = rng.poisson(self.rates[row])

    def perturbed(self, change: Callable, shift: float, is_reached: np.ndarray) -> Cells:
        """The same cells, perturbed.

        change: as `Cells` takes it
        shift: activity that the screen's shared program gains
        is_reached: (n_genes,) whether a gene's law may differ
        """
        activities = self.cells.activities
        if shift:
            activities = activities.copy()
            activities[:, self.program] += shift
        after = Cells(self.cells.regulation, self.cells.cell_type, activities, change)
        after.molecules = self.cells.molecules.copy()
        for rows, genes in after.generations():
            reached = is_reached[genes]
            if reached.any():
                means = after.means(genes[reached])
                for row, gene, mu in zip(rows[reached], genes[reached], means):
                    rng = stream(self.seed, f"perturbed molecules of {self.network.genes[gene]}")
                    after.molecules[row] = self._moved(row, self.noise[row] * mu, rng)
        return after

    def _moved(self, row, rates, rng):
        """Molecules of a regulator at other rates, as near to those before as can be."""
        before = self.rates[row]
        kept = np.minimum(rates / np.maximum(before, 1e-300), 1)
        fewer = rng.binomial(self.cells.molecules[row], kept)
        return fewer + rng.poisson(np.maximum(rates - before, 0))
