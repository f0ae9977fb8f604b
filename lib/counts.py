"""Counts in an AnnData: read, checked, dense, replaced."""

from __future__ import annotations

import copy
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

CONTROL = "control"  # obs["drug"] of an untreated cell
BLOCK = 100_000  # counts moved at a time: what fits a cache


def dense(matrix) -> np.ndarray:
    """A sparse or dense matrix as a NumPy array."""
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def with_columns(matrix, columns: dict[int, np.ndarray], dtype) -> sparse.csr_matrix:
    """A matrix with other values in some columns, as CSR with sorted indices: one pass, a block of rows at a time.

    columns : place of the column -> (n_rows,) values, or one for all rows; zeros are left out
    """
    old = sparse.csr_matrix(matrix)
    if not old.has_canonical_format:
        old = old.copy()
        old.sum_duplicates()
    n_rows, n_columns = old.shape
    places = np.array(sorted(columns), dtype=np.int64)
    values = [np.broadcast_to(np.asarray(columns[place], dtype=dtype), n_rows) for place in places]
    stays = np.ones(n_columns, dtype=bool)
    stays[places] = False
    n_left = np.count_nonzero(stays[old.indices]) + sum(map(np.count_nonzero, values))
    data, indices = np.empty(n_left, dtype), np.empty(n_left, old.indices.dtype)
    indptr = np.zeros(n_rows + 1, dtype=np.int64)
    at_once = max(1, BLOCK * n_rows // (old.nnz + n_rows * (len(places) + 1) + 1))
    for first in range(0, n_rows, at_once):
        rows = slice(first, min(first + at_once, n_rows))
        span = slice(old.indptr[rows.start], old.indptr[rows.stop])
        kept = np.flatnonzero(stays[old.indices[span]])
        row = np.repeat(np.arange(rows.stop - first), np.diff(old.indptr[first : rows.stop + 1]))[kept]  # in the block
        column = old.indices[span][kept]
        block = np.array([value[rows] for value in values], dtype=dtype).reshape(len(places), rows.stop - first).T
        new_row, new = np.nonzero(block)
        before = np.searchsorted(row * n_columns + column, new_row * n_columns + places[new])
        is_new = np.zeros(len(kept) + len(new), dtype=bool)
        is_new[before + np.arange(len(new))] = True
        n_each = np.bincount(row, minlength=rows.stop - first) + np.bincount(new_row, minlength=rows.stop - first)
        indptr[first + 1 : rows.stop + 1] = indptr[first] + np.cumsum(n_each)
        target = slice(indptr[first], indptr[rows.stop])
        data[target][is_new], data[target][~is_new] = block[new_row, new], old.data[span][kept]
        indices[target][is_new], indices[target][~is_new] = places[new], column
    return sparse.csr_matrix((data, indices, indptr), shape=old.shape)


def with_matrix(adata: ad.AnnData, matrix) -> ad.AnnData:
    """A copy whose counts are `matrix`, without ever copying those of `adata`."""
    parts = {name: getattr(adata, name).copy() for name in ("obs", "var", "obsm", "varm", "obsp", "varp", "layers")}
    raw = {} if adata.raw is None else {"raw": adata.raw.copy()}
    return ad.AnnData(matrix, uns=copy.deepcopy(dict(adata.uns)), **parts, **raw)


def with_counts(adata: ad.AnnData, columns: dict[str, np.ndarray]) -> ad.AnnData:
    """A copy with other counts, one a cell, for some genes."""
    places = {adata.var_names.get_loc(gene): counts for gene, counts in columns.items()}
    return with_matrix(adata, with_columns(adata.X, places, np.float32))


def pbmc_counts() -> ad.AnnData:
    """Raw counts of 700 peripheral blood cells x 765 genes that come with scanpy (10x, 68k PBMC).

    scanpy ships log1p of counts per 10,000; expm1 of it times the cell's total gives the counts
    back to within 0.1 %. `obs["bulk_labels"]` has the cell types.
    """
    import scanpy as sc

    pbmc = sc.datasets.pbmc68k_reduced()
    normalised = pbmc.raw.X.copy()
    scale = pbmc.obs["n_counts"].to_numpy() / 1e4
    counts = sparse.diags(scale) @ normalised.expm1()
    counts.data = np.round(counts.data)
    return ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32), obs=pbmc.obs[["bulk_labels"]].copy(), var=pd.DataFrame(index=pbmc.raw.var_names))


def read_counts(path: str | Path) -> ad.AnnData:
    """An .h5ad of raw counts, checked. Raises ValueError in one line for what can't be used."""
    if not Path(path).is_file():
        raise ValueError(f"counts = {str(path)!r}: no such file")
    try:
        adata = ad.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise many kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"counts = {str(path)!r}: not a readable .h5ad ({reason})") from None
    check_counts(adata, f"counts = {str(path)!r}")
    return adata


def check_counts(adata: ad.AnnData, name: str = "counts") -> None:
    """Raise ValueError unless `adata.X` holds counts of at least one cell, with unique gene names."""
    if adata.X is None or 0 in adata.shape:
        raise ValueError(f"{name}: {adata.n_obs} cells x {adata.n_vars} genes; must have at least one of each")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        raise ValueError(f"{name}: gene {twice!r} is there twice; gene names must be unique")
    values = adata.X.data if sparse.issparse(adata.X) else np.asarray(adata.X).ravel()
    for wrong, what in ((~np.isfinite(values), "NaN or infinite"), (values < 0, "negative"), (values != np.floor(values), "fractional")):
        if wrong.any():
            raise ValueError(f"{name}: has {what} values, the first {values[wrong][0]:g}; must be raw counts, whole numbers of at least 0")


def with_empty_column(matrix):
    rows = sparse.csr_matrix(matrix)
    return sparse.csr_matrix((rows.data, rows.indices, rows.indptr), shape=(rows.shape[0], rows.shape[1] + 1))
