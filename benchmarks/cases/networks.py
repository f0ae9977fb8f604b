"""Our training loop against itself: from disk against memory, together against one by one."""

from __future__ import annotations

import copy
import os
import sys
import tempfile

import numpy as np
import torch

from benchmarks.measure import alternating, in_a_process, passed_on, resident, row, seconds
from lib import dataset, model
from lib import training as loop
from lib.neural import minibatches
from lib.simulate import ondisk


def _epoch(cells, start):
    """Train a new VAE for an epoch."""
    weights = torch.Generator().manual_seed(0)
    module = model.ZINBVAE(cells.n_genes, n_layers=1, dispersion="gene", generator=weights)
    module.start_at(start)
    loop.fit(module, cells, max_epochs=1, validation_fraction=0.01)


def train_once(path: str) -> None:
    """An epoch from disk: for `from_disk`, which measures this process's memory."""
    torch.set_num_threads(1)
    cells = minibatches.OnDisk(path)
    start = next(cells.minibatches(4096, np.random.default_rng(0)))
    taken = seconds(lambda: _epoch(cells, start))
    setting = f"{len(cells):,} x {cells.n_genes:,}"
    row("training from disk", setting, "cells a second", len(cells) / taken)
    row("training from disk", setting, "peak memory, MB", resident())


def from_disk(share: float) -> None:
    """Training on a file against training on the same counts in memory; memory over cells."""
    torch.set_num_threads(1)
    few, *more = (max(1000, int(n * share)) for n in (20_000, 100_000, 1_000_000))
    genes = dataset.base_genes(2000, 2000, seed=1)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DISK")) as folder:
        path = f"{folder}/cells.h5ad"
        ondisk.write(path, ondisk.simulated(genes, few, seed=2))
        disk = minibatches.OnDisk(path)
        memory = minibatches.Sparse(ondisk.read(path).X)
        start = next(disk.minibatches(4096, np.random.default_rng(0)))
        mine, its, ratio = alternating(
            lambda: _epoch(disk, start), lambda: _epoch(memory, start), rounds=3, measure=seconds
        )
        rates = few / mine, few / its
        reference = "the same loop on the same counts in memory, sparse"
        setting = f"{few:,} x 2,000"
        row("training from disk", setting, "cells a second", *rates, reference, ratio, ">= 0.8")
        peaks = []
        for n in more:
            ondisk.write(path, ondisk.simulated(genes, n, seed=2))
            rows = passed_on(in_a_process("benchmarks.cases", "train_once", path))
            peaks.append(rows[1]["ours"])
    setting = f"{more[1]:,} against {more[0]:,} cells"
    row("training from disk", setting, "peak memory, ratio", peaks[1] / peaks[0], reach="<= 1.1")


def replicates(share: float) -> None:
    """16 VAEs of different seeds, each on counts of its own, at once against one by one."""
    torch.set_num_threads(1)
    n_cells = max(300, int(5000 * share))
    for device in ("cpu", "cuda"):
        if device == "cuda" and not torch.cuda.is_available():
            print("replicates on a GPU: no CUDA device, left out", file=sys.stderr)
            continue
        for batch_size in (128, 512):
            _replicates(n_cells, batch_size, device)


def _replicates(n_cells, batch_size, device):
    data = [dataset.base_genes(n_cells, 20, seed=(51, i)) for i in range(16)]
    counts = [model.to_tensor(cells.X, device) for cells in data]
    starts = []
    for i, x in enumerate(counts):
        weights = torch.Generator().manual_seed(i)
        starts.append(model.ZINBVAE(20, n_layers=1, generator=weights).to(device))
        starts[-1].start_at(x)
    how = {"max_epochs": 3, "batch_size": batch_size}
    ends: dict = {}

    def together():
        ends["together"] = copy.deepcopy(starts)
        loop.fit_together(ends["together"], counts, seeds=list(range(16)), **how)

    def one_by_one(n):
        ends["alone"] = copy.deepcopy(starts[:n])
        for i, (module, x) in enumerate(zip(ends["alone"], counts)):
            loop.fit(module, x, seed=i, **how)

    setting = f"16 x {n_cells:,} x 20, batches of {batch_size}, {device}"
    if device == "cpu":
        mine, its, ratio = alternating(together, lambda: one_by_one(16), rounds=3)
        reference = "the same 16, one after another"
        row("replicates", setting, "CPU seconds", mine, its, reference, 1 / ratio, "<= 1")
    else:
        mine, its, ratio = alternating(together, lambda: one_by_one(1), rounds=3, measure=seconds)
        row("replicates", setting, "seconds", mine, its, "one of them", 1 / ratio, "<= 3")
        one_by_one(16)
    far = max(_furthest(*pair) for pair in zip(ends["together"], ends["alone"]))
    measure = "largest difference of a weight from its own single run"
    row("replicates", setting, measure, far, reach="<= 1e-2")


def _furthest(one, other):
    """Largest difference of a weight between two modules."""
    pairs = zip(one.state_dict().values(), other.state_dict().values())
    return max((w - v).abs().max().item() for w, v in pairs)
