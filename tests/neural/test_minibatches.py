import threading
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
import torch

from lib import dataset, model, store, training
from lib.neural import minibatches
from lib.predict import neural
from lib.simulate import ondisk
from tests.agreement import one_line


@pytest.fixture(scope="module")
def genes():
    return dataset.get_mech_dataset(
        dataset.base_genes(200, 12, 0.6, mu_range=(3, 10), seed=1), "hill", seed=1
    )


@pytest.fixture(scope="module", params=["cells.h5ad", "cells.zarr"])
def stored(request, genes, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / request.param
    chunks = list(
        ondisk.simulated(genes, 2006, seed=1, chunk=500)
    )  # blocks and batches don't come out even
    ondisk.write(path, chunks)
    return path, dataset.dense(dataset.concat(chunks).X)


KINDS = {
    "dense": lambda path, x: minibatches.Dense(torch.tensor(x)),
    "sparse": lambda path, x: minibatches.Sparse(scipy.sparse.csr_matrix(x)),
    "on disk": lambda path, x: minibatches.OnDisk(path, block=30, blocks=7),
}
of_each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def sorted_rows(batches):
    rows = np.concatenate([np.asarray(b) for b in batches])
    return rows[np.lexsort(rows.T)]


@of_each_kind
def test_each_cell_comes_once_in_whole_batches_and_none_is_in_both_parts(stored, kind):
    cells = kind(*stored)
    train, held_out = cells.split(0.1, np.random.default_rng(1))
    assert len(cells) == 2006 and len(train) + len(held_out) == 2006 and 150 <= len(held_out) <= 230
    epoch = list(train.minibatches(64, np.random.default_rng(2)))
    assert all(b.dtype == torch.float32 for b in epoch) and {len(b) for b in epoch[:-1]} == {64}
    in_order = list(held_out.minibatches(64))
    assert sum(map(len, epoch)) == len(train) and sum(map(len, in_order)) == len(held_out)
    np.testing.assert_array_equal(sorted_rows([*epoch, *in_order]), sorted_rows([stored[1]]))
    np.testing.assert_array_equal(np.concatenate(list(cells.minibatches(100))), stored[1])


@of_each_kind
def test_order_is_that_of_the_generator(stored, kind):
    cells = kind(*stored)
    one, again, other = (
        torch.cat(list(cells.minibatches(64, np.random.default_rng(seed)))) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)
    parts = [
        torch.cat(list(cells.split(0.3, np.random.default_rng(seed))[1].minibatches(64)))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(parts[0], parts[1])
    assert not torch.equal(parts[0], parts[2])


def test_rows_of_a_file_are_shuffled_beyond_their_blocks(genes, tmp_path):
    cells = dataset.fresh_cells(genes, 2006, seed=1)
    cells.X = scipy.sparse.csr_matrix(
        np.tile(np.arange(2006, dtype=np.float32)[:, None], cells.n_vars)
    )  # its row, for each gene
    ondisk.write(tmp_path / "rows.h5ad", [cells])
    batches = list(
        minibatches.OnDisk(tmp_path / "rows.h5ad", block=8, blocks=32).minibatches(
            64, np.random.default_rng(3)
        )
    )
    batches = [batch.numpy() for batch in batches]
    assert all((batch == batch[:, [0]]).all() for batch in batches)
    rows = [batch[:, 0].astype(int) for batch in batches]
    order = np.concatenate(rows)
    assert sorted(order) == list(range(2006))
    assert abs(np.corrcoef(order, np.arange(2006))[0, 1]) < 0.25  # of 8 buffers at random places
    assert (np.abs(np.diff(order)) == 1).mean() < 0.02
    assert min(len(np.unique(some // 8)) for some in rows[:-1]) > 20  # of 32 blocks at hand


def test_an_epoch_may_be_left_early_and_ends_its_thread(stored):
    before = threading.active_count()
    batches = minibatches.OnDisk(stored[0], block=16, blocks=4).minibatches(
        64, np.random.default_rng(1)
    )
    next(batches)
    batches.close()
    assert threading.active_count() <= before + (
        stored[0].suffix == ".zarr"
    )  # zarr keeps one of its own


def test_a_few_buffers_are_all_the_memory_that_it_takes(genes, tmp_path):
    ondisk.write(tmp_path / "cells.h5ad", ondisk.simulated(genes, 40_000, seed=1))
    cells = minibatches.OnDisk(tmp_path / "cells.h5ad", block=250, blocks=16)
    with store.opened(cells.path) as f:
        buffer = sum(
            a.nbytes
            for a in (lambda m: (m.data, m.indices, m.indptr))(cells._buffer(f["X"], range(16)))
        )
    tracemalloc.start()
    assert sum(len(b) for b in cells.minibatches(100, np.random.default_rng(1))) == 40_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * buffer < 40_000 * 13 * 4


def test_bad_input_ends_in_one_line(stored, tmp_path):
    (tmp_path / "not.h5ad").write_text("text")
    for call, *parts in (
        (lambda: minibatches.OnDisk(tmp_path / "none.zarr"), "path = ", "no such file"),
        (lambda: minibatches.OnDisk(tmp_path / "not.h5ad"), "path = ", "must be"),
        (
            lambda: neural.DependencyNetworks().fit(minibatches.OnDisk(stored[0])),
            "adata: cells on disk",
            "in memory",
        ),
        (lambda: minibatches.OnDisk(stored[0], block=0), "block = 0", "at least 1"),
        (
            lambda: minibatches.OnDisk(stored[0], block=4000).split(0.1, np.random.default_rng(1)),
            "block = 4000",
            "below the 2006 cells",
        ),
    ):
        with pytest.raises(ValueError) as error:
            call()
        one_line(error, *parts)


def test_training_on_sparse_counts_is_training_on_dense_ones(stored):
    path, x = stored
    losses = {}
    for name, counts in (("dense", torch.tensor(x)), ("sparse", scipy.sparse.csr_matrix(x))):
        module = model.ZINBVAE(x.shape[1], 2, 16, generator=torch.Generator().manual_seed(0))
        module.start_at(torch.tensor(x))
        losses[name] = training.fit(module, counts, max_epochs=3, seed=1)
    np.testing.assert_array_equal(losses["dense"], losses["sparse"])


def likelihood_after_training(cells, genes):
    """Mean log-likelihood of a gene's counts in fresh cells, under a network trained on `cells`."""
    options = {"max_epochs": 15, "batch_size": 64}
    test = dataset.fresh_cells(genes, 500, seed=9)
    network = neural.VAE(training_options=options, seed=1, device="cpu").fit(cells)
    law = network.law_of(test, "gene_03")
    return law.log_prob(dataset.dense(test[:, "gene_03"].X)[:, 0]).mean()


@pytest.fixture(scope="module")
def likelihood_from_memory(genes):
    chunks = list(ondisk.simulated(genes, 2006, seed=1, chunk=500))
    return likelihood_after_training(dataset.concat(chunks), genes)


def test_a_network_trained_from_disk_learns_what_it_learns_from_memory(
    stored, genes, likelihood_from_memory
):
    path, _ = stored
    from_disk = likelihood_after_training(minibatches.OnDisk(path, block=30, blocks=7), genes)
    assert from_disk == pytest.approx(likelihood_from_memory, abs=0.03)
