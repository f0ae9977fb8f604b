"""Our VAE against scVI's: at equal batches, and each at its best.

Both have one hidden layer of 128, 10 latent dimensions, a theta a gene and a ZINB likelihood. Both
train on all cells, dense in memory, with one thread and the full KL weight from the first step. All
else is each side's own: layers, optimiser, schedule.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch

from benchmarks import references
from benchmarks.measure import alternating, cpu_seconds, row
from lib import dataset, model
from lib import training as loop

BATCHES = (128, 512, 2048)
# the grid of `tuned`. Two searches before it had batches of 2,048, rates of 1e-3 (scVI's default)
# and 5e-3, and 40 epochs as well, which neither side's best settings had
SEARCHED = (32, 64, 128, 512)
RATES = (2e-2, 5e-2, 1e-1)
EPOCHS = (2, 3, 5, 7, 10, 15, 20, 30)
NEAR = 1.1  # the quality to reach, in units of that which both sides can reach


class Ours:
    """Our VAE, with the methods of `references.ScVI`, and one cycle of the rate (`Options`)."""

    def __init__(self, cells, seed: int = 0):
        self.seed, self.counts = seed, model.to_tensor(cells.X)
        start = torch.Generator().manual_seed(seed)
        self.module = model.ZINBVAE(cells.n_vars, n_layers=1, dispersion="gene", generator=start)
        self.has_started = False

    def train(self, n_epochs: int, batch_size: int, learning_rate: float = 1e-3) -> None:
        """So many epochs more; before the first, heads start at each gene's mean and zeros."""
        if not self.has_started:
            self.module.start_at(self.counts)
            self.has_started = True
        options = {"betas": (0.9, 0.99), "schedule": "one_cycle", "validation_fraction": 0.0}
        options |= {"max_epochs": n_epochs, "batch_size": batch_size}
        loop.fit(self.module, self.counts, seed=self.seed, learning_rate=learning_rate, **options)

    def negative_elbo(self, cells) -> float:
        """Mean over the cells, in nats."""
        return loop.losses_of(self.module, model.to_tensor(cells.X)).mean().item()


class Run(NamedTuple):
    """One training: its settings, its CPU seconds, and how good it became.

    gap: negative ELBO of held-out cells less that of their true law, which is told the cell type;
        in nats a cell
    """

    batch_size: int
    learning_rate: float
    n_epochs: int
    seconds: float
    gap: float

    def __str__(self):
        how = f"batches of {self.batch_size:,}, rate {self.learning_rate:g}"
        return f"{how}, {self.n_epochs} epochs"


def training(share: float) -> None:
    """Cells trained on a CPU second at equal batches, as many epochs each."""
    scvi = _scvi()
    torch.set_num_threads(1)
    for n_genes, n_cells, n_epochs in ((20, 10_240, 16), (2000, 4096, 4)):
        n_cells = max(256, int(n_cells * share))
        n_epochs = max(1, int(n_epochs * share))
        cells = dataset.base_genes(n_cells, n_genes, seed=31)
        for batch_size in BATCHES:
            setting = f"{n_cells:,} x {n_genes:,}, batches of {batch_size:,} each"
            n_trained = n_cells * n_epochs
            mine = Ours(cells)

            def ours(mine=mine, batch_size=batch_size, n_epochs=n_epochs):
                mine.train(n_epochs, batch_size)

            if scvi is None:
                rate = n_trained / cpu_seconds(ours)
                row("training", setting, "cells a CPU second", rate)
                continue
            its = scvi(cells)

            def theirs(its=its, batch_size=batch_size, n_epochs=n_epochs):
                its.train(n_epochs, batch_size)

            taken, its_taken, ratio = alternating(ours, theirs, rounds=5)
            rates = n_trained / taken, n_trained / its_taken
            row("training", setting, "cells a CPU second", *rates, "scVI", ratio, ">= 2.5")


def tuned(share: float) -> None:
    """CPU seconds to the same held-out ELBO, each side with its best batch, rate and epochs.

    Both search the same grid on cells of one seed; what is reported is of three others.
    """
    scvi = _scvi()
    torch.set_num_threads(1)
    for n_genes, n_cells in ((20, 1250), (2000, 500)):
        n_cells = max(50, int(n_cells * share))
        setting = f"{4 * n_cells:,} x {n_genes:,} in 4 cell types"
        data = [_cells(n_cells, n_genes, seed) for seed in (41, 42, 43, 44)]
        sides = {"ours": Ours} | ({"scVI": scvi} if scvi else {})
        grid = list(itertools.product(SEARCHED, RATES, EPOCHS))
        if share < 0.1:
            grid = grid[:2]
        for side in sides.values():
            _run(side, *data[0], 512, 1e-3, 1)  # libraries load parts at the first step
        runs: dict = {name: [] for name in sides}
        for settings in grid:
            for name, side in sides.items():
                runs[name].append(_run(side, *data[0], *settings))
        target = NEAR * max(min(run.gap for run in own) for own in runs.values())
        best = {
            name: min((run for run in own if run.gap <= target), key=lambda run: run.seconds)
            for name, own in runs.items()
        }
        reported: dict = {name: [] for name in sides}
        for cells in data[1:]:
            for name, side in sides.items():
                reported[name].append(_run(side, *cells, *best[name][:3]))
        _rows_of_tuned(f"{setting}; ours: {best['ours']}", target, best, reported)


def _rows_of_tuned(setting, target, best, reported):
    """Medians over the data sets: seconds, and the gap that they bought."""
    medians = {
        name: np.median([(run.seconds, run.gap) for run in runs], axis=0)
        for name, runs in reported.items()
    }
    to_target = f"CPU seconds to within {target:.3g} nats of the true law"
    gap = "negative ELBO of held-out cells less that of the true law, nats"
    seconds_taken, its_gap = medians["ours"]
    near = f"<= {target:.3g}"
    if "scVI" not in best:
        row("tuned", setting, to_target, seconds_taken)
        row("tuned", setting, gap, its_gap, reach=near)
        return
    reference = f"scVI: {best['scVI']}"
    pairs = zip(reported["ours"], reported["scVI"], strict=True)
    ratio = np.median([theirs.seconds / ours.seconds for ours, theirs in pairs])
    its_seconds = medians["scVI"][0]
    row("tuned", setting, to_target, seconds_taken, its_seconds, reference, ratio, ">= 2.5")
    row("tuned", setting, gap, its_gap, medians["scVI"][1], reference, reach=near)


def _scvi():
    """The class of the reference, or None where scVI isn't installed."""
    try:
        import scvi  # noqa: F401
    except ImportError:
        return None
    return references.ScVI


def _cells(n_cells, n_genes, seed):
    """Cells to train on, cells held out of the same laws, and the true law's loss of these."""
    cells = dataset.base_genes(n_cells, n_genes, n_cell_types=4, seed=seed)
    test = dataset.fresh_cells(cells, len(cells), seed=(seed, 1))
    log_p = dataset.law(test).log_prob(dataset.dense(test.X))
    return cells, test, -log_p.sum(1).mean()


def _run(side, cells, test, loss_of_truth, batch_size, learning_rate, n_epochs):
    """A training from new weights. One that diverges is infinitely far from the truth."""
    fresh = side(cells)
    try:
        taken = cpu_seconds(lambda: fresh.train(n_epochs, batch_size, learning_rate))
        gap = fresh.negative_elbo(test) - loss_of_truth
    except (loop.DivergenceError, ValueError):  # torch's, for parameters that aren't finite
        taken = gap = np.inf
    return Run(batch_size, learning_rate, n_epochs, taken, gap if np.isfinite(gap) else np.inf)
