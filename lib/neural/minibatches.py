"""Cells for training, wherever they are: as a tensor, as a sparse matrix, or on disk.

Each has `len`, `split` into training and validation cells, `minibatches`, each cell once in random
order, and `in_order`. Batches are float32 tensors (batch_size, n_genes).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scipy.sparse as sparse
import torch
from anndata.io import read_elem

from lib import checks, store


def cells_of(
    counts: torch.Tensor | sparse.spmatrix | Dense | Sparse | OnDisk,
) -> Dense | Sparse | OnDisk:
    """Counts of any kind as cells to train on."""
    if isinstance(counts, (Dense, Sparse, OnDisk)):
        return counts
    if isinstance(counts, torch.Tensor):
        return Dense(counts)
    if sparse.issparse(counts):
        return Sparse(counts)
    allowed = "must be a tensor, a sparse matrix or minibatches.OnDisk"
    raise ValueError(f"counts: a {type(counts).__name__}; {allowed}")


class Dense:
    """Counts (n_cells, n_genes) as a tensor, on the device that they are trained on."""

    def __init__(self, counts: torch.Tensor):
        self.counts, self.n_genes = counts, counts.shape[1]

    def __len__(self) -> int:
        return len(self.counts)

    def split(self, fraction: float, rng: np.random.Generator) -> tuple[Dense, Dense]:
        """The training cells, and the share `fraction` of cells that is held out."""
        order = torch.as_tensor(rng.permutation(len(self)), device=self.counts.device)
        n_held_out = round(fraction * len(self))
        return Dense(self.counts[order[n_held_out:]]), Dense(self.counts[order[:n_held_out]])

    def minibatches(self, size: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        """Each cell once, in random order; the last batch may be smaller."""
        order = torch.as_tensor(rng.permutation(len(self)), device=self.counts.device)
        for rows in order.split(size):
            yield self.counts.index_select(0, rows)

    def in_order(self, size: int) -> Iterator[torch.Tensor]:
        """Each cell once, in order."""
        yield from self.counts.split(size)


class Sparse:
    """Counts (n_cells, n_genes) as a sparse matrix, of which a batch at a time is made dense."""

    def __init__(self, counts: sparse.spmatrix):
        self.counts, self.n_genes = sparse.csr_matrix(counts), counts.shape[1]

    def __len__(self) -> int:
        return self.counts.shape[0]

    def split(self, fraction: float, rng: np.random.Generator) -> tuple[Sparse, Sparse]:
        """As `Dense.split`."""
        order = rng.permutation(len(self))
        n_held_out = round(fraction * len(self))
        return Sparse(self.counts[order[n_held_out:]]), Sparse(self.counts[order[:n_held_out]])

    def minibatches(self, size: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        """As `Dense.minibatches`."""
        order = rng.permutation(len(self))
        return (_dense(self.counts[order[i : i + size]]) for i in range(0, len(self), size))

    def in_order(self, size: int) -> Iterator[torch.Tensor]:
        """As `Dense.in_order`."""
        return (_dense(self.counts[i : i + size]) for i in range(0, len(self), size))


class OnDisk:
    """Counts of a file that `lib.simulate.ondisk.write` has written, which is never held in memory.

    block : rows that lie next to each other and are read together
    blocks : blocks, from anywhere in the file, that are read into a buffer, and its rows shuffled.
        A batch is thus drawn from `block * blocks` rows: small blocks mix better, read slower

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
            allowed = f"must be below the {len(self)} cells"
            why = "for some to train on beside those held out"
            raise ValueError(f"block = {self.block}: {allowed}, {why}")
        return self._part(order[n_held_out:]), self._part(order[:n_held_out])

    def minibatches(self, size: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        """As `Dense.minibatches`, in an order that is random within a buffer."""
        return (_dense(counts) for counts, _ in self.visits(size, rng))

    def in_order(self, size: int) -> Iterator[torch.Tensor]:
        """As `Dense.in_order`."""
        return (_dense(counts) for counts, _ in self.visits(size))

    def visits(
        self, size: int, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[sparse.csr_matrix, np.ndarray]]:
        """The batches as CSR, and the numbers of their rows in the file (batch_size,).

        rng : source of their order; without it, that of the file
        """
        order = self.chosen if rng is None else rng.permutation(self.chosen)
        turns = [order[i : i + self.blocks] for i in range(0, len(order), self.blocks)]
        if not turns:
            return
        left = sparse.csr_matrix((0, self.n_genes), dtype=np.float32), np.empty(0, dtype=int)
        with store.opened(self.path) as f, ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._buffer, f["X"], turns[0])
            for turn in range(len(turns)):
                counts, rows = ahead.result()
                if turn + 1 < len(turns):
                    ahead = reader.submit(self._buffer, f["X"], turns[turn + 1])
                if len(left[1]):
                    counts = sparse.vstack([left[0], counts], format="csr")
                    rows = np.concatenate([left[1], rows])
                shuffled = np.arange(len(rows)) if rng is None else rng.permutation(len(rows))
                # what makes no whole batch waits for the next buffer
                end = len(rows) if turn + 1 == len(turns) else len(rows) // size * size
                for start in range(0, end, size):
                    batch = shuffled[start : min(start + size, end)]
                    yield counts[batch], rows[batch]
                left = counts[shuffled[end:]], rows[shuffled[end:]]

    def _part(self, chosen):
        part = OnDisk(self.path, block=self.block, blocks=self.blocks)
        part.chosen = np.sort(chosen)
        return part

    def _bounds(self, block):
        return int(block) * self.block, min((int(block) + 1) * self.block, self.n_cells)

    def _buffer(self, group, blocks):
        bounds = [self._bounds(b) for b in blocks]
        parts = [store.rows_of(group, *b) for b in bounds]
        counts = sparse.vstack(parts, format="csr", dtype=np.float32)
        return counts, np.concatenate([np.arange(*b) for b in bounds])


def _dense(counts):
    return torch.from_numpy(counts.toarray().astype(np.float32, copy=False))
