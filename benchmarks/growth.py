"""How cost grows: CPU seconds and memory over cells and genes, each point in a process of its own.

python -m benchmarks.growth TASK N_CELLS N_GENES      one point
"""

from __future__ import annotations

import json
import sys

from benchmarks.measure import cpu_seconds, forget_peak, in_a_process, resident

CELLS, GENES = (1000, 10_000, 100_000, 1_000_000), (20, 100, 500, 2000, 5000)
AT_GENES, AT_CELLS = 100, 10_000  # what is held fixed over cells, and over genes
TASKS = {
    "simulate": "simulate",
    "fit": "fit laws",
    "score": "score one gene",
    "train": "VAE, an epoch",
}


def point(task: str, n_cells: int, n_genes: int) -> None:
    """Print CPU seconds, and MB beyond those that the process had before."""
    import numpy as np

    from lib import dataset
    from lib.laws import ZINB, maximum_likelihood
    from lib.score import distances

    if task == "score":
        rng = np.random.default_rng(1)
        true = ZINB(
            rng.uniform(5, 15, n_cells), rng.uniform(0.5, 2, n_cells), np.full(n_cells, 0.7)
        )
        action = lambda: distances.between(true, ZINB(true.mu * 1.1, true.theta, true.pi))
    elif task == "simulate":
        dataset.base_genes(10, 2, seed=1)
        action = lambda: dataset.base_genes(n_cells, n_genes, seed=1)
    else:
        counts = dataset.base_genes(n_cells, n_genes, seed=1).X
        action = lambda: maximum_likelihood.fit(counts)
    if task == "train":
        import torch

        from lib import model, training
        from lib.neural import minibatches

        torch.set_num_threads(1)
        module = model.ZINBVAE(
            n_genes, n_layers=1, dispersion="gene", generator=torch.Generator().manual_seed(0)
        )
        module.start_at(
            next(minibatches.Sparse(counts).minibatches(4096, np.random.default_rng(0)))
        )
        training.fit(
            module, counts[:64], max_epochs=1, validation_fraction=0
        )  # torch loads parts of itself at the first step
        action = lambda: training.fit(module, counts, max_epochs=1, validation_fraction=0)
    forget_peak()
    before, taken = resident("VmRSS"), [cpu_seconds(action)]
    memory = resident() - before
    while sum(taken) < 0.3:  # short ones more than once
        taken.append(cpu_seconds(action))
    print(
        json.dumps(
            {
                "task": task,
                "n_cells": n_cells,
                "n_genes": n_genes,
                "cpu_seconds": float(np.median(taken)),
                "megabytes": max(memory, 0.1),
            }
        )
    )


def points(share: float) -> list[dict]:
    """All points: over cells at AT_GENES genes, and over genes at AT_CELLS cells. A `share` below 1 leaves out the large ones."""
    rows = []
    for task in TASKS:
        for over, sizes in (
            ("cells", [(n, AT_GENES) for n in CELLS]),
            ("genes", [(AT_CELLS, n) for n in GENES]),
        ):
            if task == "score" and over == "genes":  # it is of one gene
                continue
            for n_cells, n_genes in sizes:
                if n_cells * n_genes <= share * CELLS[-1] * AT_GENES:
                    rows += [
                        r | {"over": over}
                        for r in in_a_process("benchmarks.growth", task, n_cells, n_genes)
                    ]
                    print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    point(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
