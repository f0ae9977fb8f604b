"""How cost grows: CPU seconds and memory over cells and genes, each point in a process of its own.

python -m benchmarks.growth TASK N_CELLS N_GENES      one point
"""

from __future__ import annotations

import json
import sys

import numpy as np

from benchmarks.measure import cpu_seconds, forget_peak, in_a_process, resident
from lib import dataset
from lib.laws import ZINB, maximum_likelihood
from lib.score import distances

CELLS = (1000, 10_000, 100_000, 1_000_000)
GENES = (20, 100, 500, 2000, 5000)
AT_GENES = 100  # over cells
AT_CELLS = 10_000  # over genes
TASKS = {
    "simulate": "simulate",
    "fit": "fit laws",
    "score": "score one gene",
    "train": "VAE, an epoch",
}


def point(task: str, n_cells: int, n_genes: int) -> None:
    """Print CPU seconds, and MB beyond those that the process had before."""
    action = ACTIONS[task](n_cells, n_genes)
    forget_peak()
    before = resident("VmRSS")
    taken = [cpu_seconds(action)]
    memory = resident() - before
    while sum(taken) < 0.3:  # short ones more than once
        taken.append(cpu_seconds(action))
    measured = {"cpu_seconds": float(np.median(taken)), "megabytes": max(memory, 0.1)}
    print(json.dumps({"task": task, "n_cells": n_cells, "n_genes": n_genes} | measured))


def _score(n_cells, n_genes):
    rng = np.random.default_rng(1)
    mu = rng.uniform(5, 15, n_cells)
    theta = rng.uniform(0.5, 2, n_cells)
    pi = np.full(n_cells, 0.7)
    true = ZINB(mu, theta, pi)
    return lambda: distances.between(true, ZINB(mu * 1.1, theta, pi))


def _simulate(n_cells, n_genes):
    dataset.base_genes(10, 2, seed=1)  # parts of libraries are loaded at the first call
    return lambda: dataset.base_genes(n_cells, n_genes, seed=1)


def _fit(n_cells, n_genes):
    counts = dataset.base_genes(n_cells, n_genes, seed=1).X
    return lambda: maximum_likelihood.fit(counts)


def _train(n_cells, n_genes):
    import torch

    from lib import model, training
    from lib.neural import minibatches

    torch.set_num_threads(1)
    counts = dataset.base_genes(n_cells, n_genes, seed=1).X
    weights = torch.Generator().manual_seed(0)
    module = model.ZINBVAE(n_genes, n_layers=1, dispersion="gene", generator=weights)
    some = minibatches.Sparse(counts).minibatches(4096, np.random.default_rng(0))
    module.start_at(next(some))
    epoch = {"max_epochs": 1, "validation_fraction": 0}
    training.fit(module, counts[:64], **epoch)  # torch loads parts of itself at the first step
    return lambda: training.fit(module, counts, **epoch)


ACTIONS = {"simulate": _simulate, "fit": _fit, "score": _score, "train": _train}


def points(share: float) -> list[dict]:
    """All points: over cells at AT_GENES genes, and over genes at AT_CELLS cells.

    A `share` below 1 leaves out the large ones.
    """
    over_cells = [("cells", n, AT_GENES) for n in CELLS]
    over_genes = [("genes", AT_CELLS, n) for n in GENES]
    rows = []
    for task in TASKS:
        for over, n_cells, n_genes in over_cells + over_genes:
            is_large = n_cells * n_genes > share * CELLS[-1] * AT_GENES
            if is_large or (task == "score" and over == "genes"):  # a score is one gene's
                continue
            (measured,) = in_a_process("benchmarks.growth", task, n_cells, n_genes)
            rows.append(measured | {"over": over})
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    point(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
