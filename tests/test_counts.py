"""Counts that people have, in the places and files where they have them."""

import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.stats

from lib import dataset
from tests.agreement import one_line

FOUND = "whole numbers of at least 0"


def counts_of(adata):
    return dataset.dense(adata.X).astype(float)


@pytest.mark.parametrize("kind", ["rows", "columns", "dense", "unsorted", "twice", "view"])
def test_other_counts_of_some_genes_are_put_into_sorted_rows(kind):
    # more than one block of rows
    counts = np.random.default_rng(0).poisson(0.5, (400, 900)).astype(np.float32)
    counts[7], counts[:, 3] = 0, 0
    rows = scipy.sparse.csr_matrix(counts)
    if kind == "unsorted":
        backwards = scipy.sparse.csr_matrix(counts[:, ::-1])
        rows = backwards[:, ::-1]  # each row from its last column to its first
        assert not rows.has_sorted_indices
    elif kind == "twice":
        halves = np.repeat(rows.data / 2, 2)
        parts = halves, np.repeat(rows.indices, 2), 2 * rows.indptr
        rows = scipy.sparse.csr_matrix(parts, shape=counts.shape)
    matrix = {"columns": scipy.sparse.csc_matrix(counts), "dense": counts}.get(kind, rows)
    adata = ad.AnnData(matrix, layers={"raw": rows.copy()}, uns={"of": {"mine": [1]}})
    adata = adata[:] if kind == "view" else adata
    rng = np.random.default_rng(1)
    new = {str(i): rng.poisson(1.0, 400) for i in (899, 0, 3, 450, 451)}
    new["450"] = np.zeros(400)
    changed = dataset.with_counts(adata, new)
    expected = counts.copy()
    for name, values in new.items():
        expected[:, int(name)] = values
    np.testing.assert_array_equal(changed.X.toarray(), expected)
    np.testing.assert_array_equal(counts_of(adata), counts)
    by_scipy = scipy.sparse.csr_matrix(expected)
    for part in ("data", "indices", "indptr"):
        mine, theirs = getattr(changed.X, part), getattr(by_scipy, part)
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    changed.layers["raw"].data[:] = 0
    changed.uns["of"]["mine"].append(2)
    assert adata.layers["raw"].sum() == counts.sum() and adata.uns["of"]["mine"] == [1]


def test_counts_of_no_gene_and_of_every_gene_can_be_put_in():
    cells = dataset.base_genes(4000, 7, seed=1)
    np.testing.assert_array_equal(counts_of(dataset.with_counts(cells, {})), counts_of(cells))
    every = {gene: np.arange(4000) % (i + 1) for i, gene in enumerate(cells.var_names)}
    changed = dataset.with_counts(cells, every)
    np.testing.assert_array_equal(counts_of(changed), np.transpose(list(every.values())))


def test_pbmc_counts_are_whole_counts_with_the_totals_of_the_cells():
    import scanpy as sc

    pbmc, raw = dataset.pbmc_counts(), sc.datasets.pbmc68k_reduced()
    assert pbmc.shape == (700, 765)
    exact = np.expm1(raw.raw.X.toarray()) * raw.obs["n_counts"].to_numpy()[:, None] / 1e4
    assert np.abs(counts_of(pbmc) - exact).max() < 0.5
    np.testing.assert_allclose(counts_of(pbmc)[exact > 0], exact[exact > 0], rtol=2e-3)


def own_h5ad(path, changed=None, names=("a", "b", "c"), n_cells=3000):
    p = 2 / (2 + np.array([1.0, 5, 20]))
    counts = scipy.stats.nbinom.rvs(2.0, p, size=(n_cells, 3), random_state=0).astype(np.float32)
    if changed is not None:
        counts[1, 2] = changed
    kinds = {"kind": np.where(np.arange(n_cells) % 3, "x", "y")}
    obs = pd.DataFrame(kinds, index=[f"c{i}" for i in range(n_cells)])
    var = pd.DataFrame(index=list(names))
    ad.AnnData(scipy.sparse.csr_matrix(counts), obs=obs, var=var).write_h5ad(path)
    return counts


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"changed": -3}, ("negative", "-3", "whole numbers of at least 0")),
        ({"changed": 0.5}, ("fractional", "0.5", "whole numbers of at least 0")),
        ({"changed": np.nan}, ("NaN", "whole numbers of at least 0")),
        ({"changed": np.inf}, ("infinite", "whole numbers of at least 0")),
        ({"names": ("a", "b", "a")}, ("'a' is there twice", "unique")),
        ({"n_cells": 0}, ("0 cells x 3 genes", "at least one")),
    ],
)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_h5ad_that_holds_no_counts_is_refused_in_one_line(tmp_path, options, parts):
    path = tmp_path / "own.h5ad"
    if options.get("n_cells") == 0:
        ad.AnnData(scipy.sparse.csr_matrix((0, 3), dtype=np.float32)).write_h5ad(path)
    else:
        own_h5ad(path, **options)
    with pytest.raises(ValueError) as error:
        dataset.base_genes_from_counts(path)
    one_line(error, "counts", str(path), *parts)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.95])
def test_truncated_h5ad_is_refused_in_one_line(tmp_path, keep):
    path = tmp_path / "own.h5ad"
    own_h5ad(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError) as error:
        dataset.base_genes_from_counts(path)
    one_line(error, f"counts = {str(path)!r}", "not a readable .h5ad")


@pytest.mark.parametrize("path", ["missing.h5ad", "."])
def test_missing_h5ad_is_refused_in_one_line(tmp_path, path):
    with pytest.raises(ValueError) as error:
        dataset.base_genes_from_counts(tmp_path / path)
    one_line(error, f"counts = {str(tmp_path / path)!r}", "no such file")


def normalised(n_cells=60, seed=3):
    """Cells with log1p of normalised counts in X, and the counts apart."""
    cells = ad.AnnData(np.random.default_rng(seed).poisson(2.0, (n_cells, 12)).astype(np.float32))
    whole = cells.X.copy()
    cells.X = np.log1p(whole / whole.sum(1, keepdims=True) * 1e4)
    return cells, whole


def in_place(place):
    cells, whole = normalised()
    if place == "raw":
        var = pd.DataFrame(index=[str(i) for i in range(24)])
        cells.raw = ad.AnnData(np.hstack([whole, whole]), var=var)  # raw has more genes, as a rule
    else:
        cells.layers[place] = scipy.sparse.csc_matrix(whole)
    return cells, whole


@pytest.mark.parametrize("place", ["counts", "spliced", "raw"])
def test_counts_in_a_layer_or_in_raw_are_those_of_x(tmp_path, place):
    cells, whole = in_place(place)
    cells.write_h5ad(tmp_path / "own.h5ad")
    plain = dataset.base_genes_from_counts(ad.AnnData(whole, var=cells.var), seed=1)
    for given in (cells, tmp_path / "own.h5ad"):
        fitted = dataset.base_genes_from_counts(given, layer=place, seed=1)
        np.testing.assert_array_equal(counts_of(fitted), counts_of(plain))
    np.testing.assert_array_equal(dataset.dense(dataset.check_counts(cells, layer=place)), whole)
    read = dataset.read_counts(tmp_path / "own.h5ad", place)
    np.testing.assert_array_equal(counts_of(read), whole)
    np.testing.assert_array_equal(dataset.dense(dataset.counts_of(cells, place)), whole)
    with pytest.raises(ValueError) as error:
        dataset.base_genes_from_counts(cells)
    elsewhere = f"layer {place!r} holds whole counts"
    one_line(error, "counts: X holds fractional values", FOUND, elsewhere, "layer=")


def test_counts_are_found_in_x_or_else_in_the_layer_of_that_name():
    cells, whole = in_place("counts")
    np.testing.assert_array_equal(dataset.dense(dataset.counts_of(cells)), whole)
    cells.X = whole + 1
    np.testing.assert_array_equal(dataset.counts_of(cells), whole + 1)
    assert dataset.counts_of(cells) is cells.X
    cells, _ = in_place("spliced")
    cells.uns["log1p"] = {"base": None}
    with pytest.raises(ValueError) as error:
        dataset.counts_of(cells)
    elsewhere = "layer 'spliced' holds whole counts"
    one_line(error, "X holds fractional", "log1p", elsewhere, 'layers["counts"]')


def test_x_that_is_missing_is_said_to_be(tmp_path):
    cells, whole = in_place("counts")
    cells.X = None
    assert dataset.base_genes_from_counts(cells, layer="counts").shape == whole.shape
    cells.write_h5ad(tmp_path / "own.h5ad")
    for given in (cells, tmp_path / "own.h5ad"):
        with pytest.raises(ValueError) as error:
            dataset.base_genes_from_counts(given)
        one_line(error, "X is missing", "layer 'counts' holds whole counts")


@pytest.mark.parametrize("layer", ["nope", "raw"])
def test_layer_that_is_not_there_is_refused_in_one_line(layer):
    with pytest.raises(ValueError) as error:
        dataset.base_genes_from_counts(normalised()[0], layer=layer)
    one_line(error, f"counts: layer {layer!r} is missing", FOUND)


@pytest.mark.parametrize("sparse", [True, False])
def test_counts_of_a_backed_file_are_read(tmp_path, sparse):
    _, whole = normalised()
    cells = ad.AnnData(scipy.sparse.csr_matrix(whole) if sparse else whole)
    cells.write_h5ad(tmp_path / "own.h5ad")
    backed = ad.read_h5ad(tmp_path / "own.h5ad", backed="r")
    fitted = dataset.base_genes_from_counts(backed, seed=1)
    in_memory = dataset.base_genes_from_counts(ad.AnnData(whole), seed=1)
    np.testing.assert_array_equal(counts_of(fitted), counts_of(in_memory))
    np.testing.assert_array_equal(dataset.dense(dataset.counts_of(backed)), whole)
    backed.file.close()


def test_a_zarr_is_read_as_an_h5ad_is(tmp_path):
    cells, whole = in_place("counts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's, about the version of zarr
        cells.write_zarr(tmp_path / "own.zarr")
    read = dataset.read_counts(str(tmp_path / "own.zarr"), "counts")
    np.testing.assert_array_equal(counts_of(read), whole)
    (tmp_path / "other.zarr").mkdir()
    for name, part in (("none.zarr", "no such file"), ("other.zarr", "not a readable .zarr")):
        with pytest.raises(ValueError) as error:
            dataset.read_counts(tmp_path / name)
        one_line(error, f"counts = {str(tmp_path / name)!r}", part)


def test_a_10x_file_is_read_and_repeated_symbols_made_unique(tmp_path):
    whole = np.random.default_rng(1).poisson(1.0, (7, 4))
    # 10x has a column a cell, compressed by columns, which is the same thing
    by_cell = scipy.sparse.csr_matrix(whole)
    with h5py.File(tmp_path / "filtered.h5", "w") as f:
        matrix = f.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            matrix[name] = getattr(by_cell, name)
        matrix["shape"] = [4, 7]
        matrix["barcodes"] = [f"cell{i}-1".encode() for i in range(7)]
        matrix["features/id"] = [b"E1", b"E2", b"E3", b"E4"]
        matrix["features/name"] = [b"TBCE", b"CD3E", b"TBCE", b"CD8A"]
        matrix["features/genome"] = [b"GRCh38"] * 4
        matrix["features/feature_type"] = [b"Gene Expression"] * 4
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        adata = dataset.read_counts(tmp_path / "filtered.h5")
    assert list(adata.var_names) == ["TBCE", "CD3E", "TBCE-1", "CD8A"]
    np.testing.assert_array_equal(counts_of(adata), whole)
    (tmp_path / "none.h5").write_text("text")
    with pytest.raises(ValueError) as error:
        dataset.read_counts(tmp_path / "none.h5")
    one_line(error, "not a readable .h5 ")


def test_a_cell_whose_counts_were_all_doubled_is_noticed_where_chance_can_be_ruled_out():
    rng = np.random.default_rng(0)
    whole = rng.negative_binomial(2, 0.3, (200, 90)).astype(np.float32)
    for matrix in (whole, scipy.sparse.csr_matrix(whole)):
        assert (dataset.dense(dataset.counts_of(ad.AnnData(matrix), simulated=True)) == whole).all()
    for factor, divisor in ((2, "2"), (3, "3")):
        wrong = whole.copy()
        wrong[17] *= factor
        with pytest.raises(ValueError) as error:
            dataset.counts_of(ad.AnnData(scipy.sparse.csr_matrix(wrong)), simulated=True)
        one_line(error, f"multiples of {divisor} in cell 17")
        assert dataset.counts_of(ad.AnnData(wrong)) is not None  # real reads may be paired
    few = ad.AnnData(2 * whole[:, :30])  # too few to tell
    assert dataset.counts_of(few, simulated=True) is few.X
    empty = ad.AnnData(scipy.sparse.csr_matrix((3, 50)))
    assert dataset.counts_of(empty, simulated=True).nnz == 0
