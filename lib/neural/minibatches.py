"""Cells for training, wherever they are: as a tensor, as a sparse matrix, or on disk.

Each kind has `len`, `split` into training and held-out cells, and `minibatches`: float32 tensors
(batch_size, n_genes).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
import scipy.sparse as sparse
import torch
from anndata.io import read_elem

from lib import checks, store


def cells_of(counts: torch.Tensor | sparse.spmatrix | Dense | OnDisk) -> Dense | OnDisk:
    """Counts of any kind as cells to train on."""
    if isinstance(counts, (Dense, OnDisk)):
        return counts
    if isinstance(counts, torch.Tensor):
        return Dense(counts)
    if sparse.issparse(counts):
        return Sparse(counts)
    allowed = "a tensor, a sparse matrix or minibatches.OnDisk"
    raise ValueError(f"counts: a {type(counts).__name__}; must be {allowed}")


class Dense:
    """Counts (n_cells, n_genes) as a tensor, on the device that they are trained on."""

    def __init__(self, counts: torch.Tensor):
        self.counts, self.n_genes = counts, counts.shape[1]

    def __len__(self) -> int:
        return self.counts.shape[0]

    def split(self, fraction: float, rng: np.random.Generator) -> tuple[Self, Self]:
        """The training cells, and the share `fraction` of cells that is held out."""
        order = self._order(rng)
        n_held_out = round(fraction * len(self))
        kind = type(self)
        return kind(self.counts[order[n_held_out:]]), kind(self.counts[order[:n_held_out]])

    def minibatches(
        self, size: int, rng: np.random.Generator | None = None
    ) -> Iterator[torch.Tensor]:
        """Each cell once, in random order or, without `rng`, in order. The last may be smaller."""
        order = self._order(rng)
        return (self._batch(order[i : i + size]) for i in range(0, len(self), size))

    def _order(self, rng):
        return torch.as_tensor(_order(len(self), rng), device=self.counts.device)

    def _batch(self, rows):
        return self.counts.index_select(0, rows)  # a third of the time of self.counts[rows]


class Sparse(Dense):
    """Counts (n_cells, n_genes) as a sparse matrix, of which a batch at a time is made dense."""

    def __init__(self, counts: sparse.spmatrix):
        super().__init__(sparse.csr_matrix(counts))

    def _order(self, rng):
        return _order(len(self), rng)

    def _batch(self, rows):
        return _dense(self.counts[rows])


class OnDisk:
    """Counts of a file that `lib.simulate.ondisk.write` has written, which is never held in memory.

    block: rows that lie next to each other and are read together: small blocks mix better, read
        slower
    blocks: blocks, from anywhere in the file, that are read into a buffer, and its rows shuffled

    A thread reads the next buffer while the present one is used; with what is stacked on the way,
    about four buffers are all the memory that it takes, whatever the number of cells. `genes` has
    the genes' names.
    """

    def __init__(self, path: str | Path, *, block: int = 256, blocks: int = 32):
        self.path = Path(path)
        self.block = checks.integer("block", block, low=1)
        self.blocks = checks.integer("blocks", blocks, low=1)
        with store.opened(path) as f:
            self.n_cells, self.n_genes = map(int, f["X"].attrs["shape"])
            self.genes = list(map(str, read_elem(f["var"]).index))
        self.chosen = np.arange(-(-self.n_cells // self.block))  # blocks; a part has some of them

    def __len__(self) -> int:
        return sum(stop - start for start, stop in map(self._bounds, self.chosen))

    def split(self, fraction: float, rng: np.random.Generator) -> tuple[OnDisk, OnDisk]:
        """As `Dense.split`, but whole blocks are held out."""
        order = rng.permutation(self.chosen)
        n_held_out = max(round(fraction * len(order)), 1 if fraction else 0)
        if n_held_out >= len(order):
            why = "for some to train on beside those held out"
            raise ValueError(f"block = {self.block}: must be below the {len(self)} cells, {why}")
        return self._part(order[n_held_out:]), self._part(order[:n_held_out])

    def minibatches(
        self, size: int, rng: np.random.Generator | None = None
    ) -> Iterator[torch.Tensor]:
        """As `Dense.minibatches`, in an order that is random within a buffer."""
        order = self.chosen[_order(len(self.chosen), rng)]
        turns = [order[i : i + self.blocks] for i in range(0, len(order), self.blocks)]
        if not turns:
            return
        left = sparse.csr_matrix((0, self.n_genes), dtype=np.float32)
        with store.opened(self.path) as f, ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._buffer, f["X"], turns[0])
            for turn in range(1, len(turns) + 1):
                counts, is_last = ahead.result(), turn == len(turns)
                if not is_last:
                    ahead = reader.submit(self._buffer, f["X"], turns[turn])
                if left.shape[0]:
                    counts = sparse.vstack([left, counts], format="csr")
                n_rows = counts.shape[0]
                rows = _order(n_rows, rng)
                # what makes no whole batch waits for the next buffer
                end = n_rows if is_last else n_rows // size * size
                for start in range(0, end, size):
                    yield _dense(counts[rows[start : min(start + size, end)]])
                left = counts[rows[end:]]

    def _part(self, chosen):
        part = OnDisk(self.path, block=self.block, blocks=self.blocks)
        part.chosen = np.sort(chosen)
        return part

    def _bounds(self, block):
        return int(block) * self.block, min((int(block) + 1) * self.block, self.n_cells)

    def _buffer(self, group, blocks):
        parts = [store.rows_of(group, *self._bounds(block)) for block in blocks]
        return sparse.vstack(parts, format="csr", dtype=np.float32)


def _order(n, rng):
    """The numbers from 0 to n - 1, shuffled if there is a generator."""
    return np.arange(n) if rng is None else rng.permutation(n)


def _dense(counts):
    return torch.from_numpy(counts.toarray().astype(np.float32, copy=False))
