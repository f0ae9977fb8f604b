"""Counts in an AnnData: read, found, checked, dense, replaced."""

import copy
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

CONTROL = "control"  # in obs["drug"], an untreated cell
SEPARATOR = "+"  # of the genes in the label of a pair
BLOCK = 100_000  # counts moved at a time: what fits a cache
_ENOUGH = 40  # nonzero counts: each is even with a chance of at most 1/2, all with 2**-40
_WHOLE = "raw counts, whole numbers of at least 0"


def dense(matrix) -> np.ndarray:
    """A sparse or dense matrix as a NumPy array."""
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def with_columns(matrix, columns: dict[int, np.ndarray], dtype) -> sparse.csr_matrix:
    """A matrix with other values in some columns, as CSR with sorted indices, without zeros.

    columns: column -> its (n_rows,) values, or one value for all rows

    One pass, a block of rows at a time.
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
        block = old[rows]
        block.data = np.where(stays[block.indices], block.data, 0)
        own = np.array([value[rows] for value in values], dtype=dtype)
        own = own.reshape(len(places), block.shape[0]).T
        row, place = np.nonzero(own)
        entries = own[row, place], (row, places[place])
        block += sparse.csr_matrix(entries, shape=block.shape)  # adding drops zeros
        indptr[first + 1 : rows.stop + 1] = indptr[first] + block.indptr[1:]
        target = slice(indptr[first], indptr[rows.stop])
        data[target], indices[target] = block.data, block.indices
    return sparse.csr_matrix((data[: indptr[-1]], indices[: indptr[-1]], indptr), shape=old.shape)


def with_matrix(adata: ad.AnnData, matrix) -> ad.AnnData:
    """A copy whose counts are `matrix`, without ever copying those of `adata`."""
    names = ("obs", "var", "obsm", "varm", "obsp", "varp", "layers")
    parts = {name: getattr(adata, name).copy() for name in names}
    raw = {} if adata.raw is None else {"raw": adata.raw.copy()}
    return ad.AnnData(matrix, uns=copy.deepcopy(dict(adata.uns)), **parts, **raw)


def with_counts(adata: ad.AnnData, columns: dict[str, np.ndarray]) -> ad.AnnData:
    """A copy with other counts, one a cell, for some genes."""
    places = {adata.var_names.get_loc(gene): counts for gene, counts in columns.items()}
    return with_matrix(adata, with_columns(in_memory(adata.X), places, np.float32))


def pbmc_counts() -> ad.AnnData:
    """Raw counts of 700 peripheral blood cells x 765 genes, from the data that come with scanpy.

    `obs["bulk_labels"]` has the cell types. scanpy ships log1p of counts per 10,000 (10x, 68k
    PBMC), which gives the counts back to within 0.1 %.
    """
    import scanpy as sc

    pbmc = sc.datasets.pbmc68k_reduced()
    scale = pbmc.obs["n_counts"].to_numpy() / 1e4
    counts = sparse.diags(scale) @ pbmc.raw.X.expm1()
    counts.data = np.round(counts.data)
    obs, var = pbmc.obs[["bulk_labels"]].copy(), pd.DataFrame(index=pbmc.raw.var_names)
    return ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32), obs=obs, var=var)


def read_counts(path: str | Path, layer: str | None = None) -> ad.AnnData:
    """Raw counts from a file, checked. Raises ValueError in one line for what can't be used.

    path: .h5ad, .zarr, or the .h5 of 10x, in which repeated names of genes are made unique
    layer: the layer that holds the counts, or "raw"; by default X

    Returns AnnData with the counts in X.
    """
    path, name = Path(path), f"counts = {str(path)!r}"
    if not path.is_file() and not (path.suffix == ".zarr" and path.is_dir()):
        raise ValueError(f"{name}: no such file")
    readers = {".zarr": ad.read_zarr, ".h5": _read_10x, ".h5ad": ad.read_h5ad}
    kind = path.suffix if path.suffix in readers else ".h5ad"
    try:
        adata = readers[kind](path)
    except Exception as error:  # h5py, zarr and anndata raise many kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name}: not a readable {kind} ({reason})") from None
    counts = check_counts(adata, name, layer)
    return adata if layer is None else ad.AnnData(counts, obs=adata.obs, var=adata.var)


def _read_10x(path):
    import scanpy as sc

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Variable names are not unique")
        adata = sc.read_10x_h5(path)
    adata.var_names_make_unique()
    return adata


def check_counts(adata: ad.AnnData, name: str = "counts", layer: str | None = None):
    """The counts of cells that can be fitted, CSR or dense and in memory.

    name: the parameter's name in messages
    layer: the layer that holds the counts, or "raw" for `adata.raw`; by default X

    Raises ValueError unless they are whole, of at least one cell and gene, with unique gene names.
    """
    if 0 in adata.shape:
        size = f"{adata.n_obs} cells x {adata.n_vars} genes"
        raise ValueError(f"{name}: {size}; must have at least one of each")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        raise ValueError(f"{name}: gene {twice!r} is there twice; gene names must be unique")
    return _first_whole(adata, (layer,), name, False, "pass its name as layer=...")


def counts_of(adata: ad.AnnData, layer: str | None = None, *, simulated: bool = False):
    """The whole counts of cells, (n_cells, n_genes) CSR or dense and in memory.

    layer: the layer that holds them, or "raw" for `adata.raw`; by default X, or else "counts"
    simulated: refuse a cell whose counts have a common divisor, as real paired reads may
    """
    places = (None, "counts") if layer is None else (layer,)
    return _first_whole(adata, places, "adata", simulated, 'keep them in layers["counts"]')


def _first_whole(adata, places, name, simulated, advice):
    """The matrix in the first of these places that holds whole counts.

    Raises ValueError that says where else whole counts are.
    """
    named = [place for place in (*places, *adata.layers, "raw") if place]
    shown = {None: "X"} | {place: f"layer {place!r}" for place in named}
    flaws = {}
    for place in (*places, *shown):
        matrix = _matrix(adata, place)
        flaws[place] = _flaw(matrix, simulated)
        if place in places and flaws[place] is None:
            return matrix
    what = f"{shown[places[0]]} {flaws[places[0]]}"
    if places[0] is None and "log1p" in adata.uns:
        what += " (uns['log1p']: its logarithm was taken)"
    whole = sorted(shown[place] for place, flaw in flaws.items() if flaw is None and place != "do")
    found = f"; {whole[0]} holds whole counts" if whole else ""
    raise ValueError(f"{name}: {what}; must be {_WHOLE}{found}; {advice}")


def _matrix(adata, place):
    """X, a layer or raw, in memory; None where it is missing."""
    if place is None:
        return in_memory(adata.X)
    if place == "raw" and adata.raw is not None and adata.var_names.isin(adata.raw.var_names).all():
        return in_memory(adata.raw[:, adata.var_names].X)
    return in_memory(adata.layers.get(place))


def in_memory(matrix):
    """A matrix of an AnnData as CSR or NumPy array: itself if it is one, read if it is on disk."""
    if matrix is None or isinstance(matrix, (np.ndarray, sparse.csr_matrix)):
        return matrix
    if hasattr(matrix, "to_memory"):
        matrix = matrix.to_memory()
    return sparse.csr_matrix(matrix) if sparse.issparse(matrix) else np.asarray(matrix[:])


def _flaw(matrix, simulated=False) -> str | None:
    """The reason why a matrix doesn't hold whole counts; None where it does."""
    if matrix is None:
        return "is missing"
    values = matrix.data if sparse.issparse(matrix) else np.asarray(matrix).ravel()
    for first in range(0, values.size, BLOCK):
        block = values[first : first + BLOCK]
        kinds = {
            "NaN or infinite": ~np.isfinite(block),
            "negative": block < 0,
            "fractional": block != np.floor(block),
        }
        for kind, wrong in kinds.items():
            if wrong.any():
                return f"holds {kind} values, the first {block[wrong][0]:g}"
    return _multiplied(matrix) if simulated else None


def _multiplied(matrix):
    """The flaw that all counts of a cell have a common divisor: a normalisation may double them."""
    rows = sparse.csr_matrix(matrix)
    sizes = np.diff(rows.indptr)
    if sizes.max(initial=0) < _ENOUGH:
        return None
    filled = np.flatnonzero(sizes)
    smallest = np.minimum.reduceat(rows.data, rows.indptr[filled])
    for cell in filled[(smallest != 1) & (sizes[filled] >= _ENOUGH)]:
        counts = rows.data[rows.indptr[cell] : rows.indptr[cell + 1]].astype(np.int64)
        divisor = np.gcd.reduce(counts)
        if divisor > 1 and np.count_nonzero(counts) >= _ENOUGH:
            return f"holds nothing but multiples of {divisor} in cell {cell}"
    return None


def with_empty_column(matrix):
    """A matrix with an empty column more, as CSR that shares its values."""
    rows = sparse.csr_matrix(matrix)
    shape = rows.shape[0], rows.shape[1] + 1
    return sparse.csr_matrix((rows.data, rows.indices, rows.indptr), shape=shape)
