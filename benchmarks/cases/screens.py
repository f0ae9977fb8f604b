"""Screens of a gene regulatory network: drawn, their truth computed, cells written."""

from __future__ import annotations

import tempfile
import time

import numpy as np

from benchmarks import references
from benchmarks.measure import (
    alternating,
    cpu_seconds,
    in_a_process,
    passed_on,
    resident,
    row,
    slope,
)
from lib import dataset, perturb
from lib.simulate import grn, measurement, ondisk
from lib.simulate.arms import Screen
from lib.simulate.truth import Truth

SHIFT = 0.4


def screen(share: float) -> None:
    """A screen of 1,000 genes, 150 arms and 20,000 cells, drawn."""
    network = grn.draw(1000, 100, seed=1)
    n_arms, n_cells = max(4, int(150 * share)), 100
    n_control = max(100, int(5000 * share))
    options = {"n_cells": n_cells, "n_control": n_control, "shift": SHIFT, "seed": 1}
    cells = perturb.screen(network, n_arms, **options)
    plan, acting = Screen(**cells.uns["screen"]), cells.obsm["acting"][:, 0]
    measured = measurement.draw(network.genes)
    ours, plain, ratio = alternating(
        lambda: perturb.screen(network, n_arms, **options),
        lambda: references.screen(network, measured, plan, acting, 1),
    )
    setting = f"{cells.n_obs:,} cells x 1,000 genes, {n_arms} arms"
    reference = "vectorised NumPy, a loop over genes"
    row("screen", setting, "CPU seconds", ours, reach="<= 15")
    row("screen", setting, "CPU seconds, side by side", ours, plain, reference, ratio, ">= 3")


def arm_truth(share: float) -> None:
    """The exact laws of 150 arms of 1,000 genes, with their numerical errors."""
    network = grn.draw(1000, 100, seed=1)
    n_arms = max(4, int(150 * share))
    for shift in (0.0, SHIFT):
        cells = perturb.screen(network, n_arms, n_cells=1, n_control=5000, shift=shift, seed=1)
        names = [n for n in cells.obs["perturbation"].cat.categories if n != "control"]
        found = []

        def all_arms(cells=cells, names=names, found=found):
            truth = Truth(cells)
            found[:] = [truth.arm(name) for name in names]

        taken = cpu_seconds(all_arms)
        setting = f"{n_arms} arms x 1,000 genes, shift {shift:g}"
        row("truth of arms", setting, "CPU seconds", taken, reach="<= 60")
        worst = max(arm.error_nats for arm in found)
        measure = "numerical error of a law, mean over genes, worst arm, nats"
        row("truth of arms", setting, measure, worst, reach="<= 2e-5")
        largest = max(arm.genes["error_nats"].max() for arm in found)
        row("truth of arms", setting, "the same, worst gene of all", largest)


def write_network_once(n_cells: int, path: str) -> None:
    """Draw and write cells of 1,000 genes: for `write_network`, which measures this process."""
    cells = dataset.grn_cells(grn.draw(1000, 100, seed=1), 10, seed=1)
    started = time.process_time()
    ondisk.write(path, ondisk.simulated(cells, n_cells, seed=2))
    taken = time.process_time() - started
    back = ondisk.read(path, n_cells - 100, n_cells)
    assert back.shape == (100, 1000)
    assert np.isfinite(dataset.law(back).mean).all()
    setting = f"{n_cells:,} cells x 1,000 genes"
    row("write network", setting, "CPU seconds", taken)
    row("write network", setting, "peak memory, MB", resident(), reach="<= 2000")


def write_network(share: float) -> None:
    """Cells of a network drawn and written in chunks."""
    sizes = [max(200, int(n * share)) for n in (10_000, 100_000)]
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for n in sizes:
            made = in_a_process("benchmarks.cases", "write_network_once", n, f"{folder}/cells.h5ad")
            taken.append(passed_on(made)[0]["ours"])
    setting = f"{sizes[0]:,} to {sizes[1]:,} cells"
    measure = "slope of log CPU seconds over log cells"
    row("write network", setting, measure, slope(sizes, taken), reach="<= 1.1")
