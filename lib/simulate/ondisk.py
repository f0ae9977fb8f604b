"""More cells than memory holds: simulated, perturbed, written and read in pieces.

`write` makes what `concat(chunks).write_h5ad(path)` would make, truth included. It is read by
`anndata.read_h5ad(path)`, also with `backed="r"`, or `anndata.read_zarr(path)`, and `dataset.law`
gives the law of what was read.
"""

import gc
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sparse
import zarr
from anndata.io import read_elem, sparse_dataset, write_elem
from natsort import natsorted

from lib import checks
from lib.seeds import key, stream
from lib.simulate.cells import fresh_cells
from lib.simulate.layout import cell_types, check_same_network, joined_entries, upgraded
from lib.store import checked_path, created, is_zarr, one_line, opened, remove, rows_of

# Pieces of the file, in nonzeros: each is unpacked as a whole. From HDF5, 256 rows at a time are
# read 1.4 times as fast in pieces of 2**14 as of 2**16, at 2,000 genes and 20 % nonzero. A piece of
# a zarr store is a file of its own, and costs more. gzip, since every HDF5 reads it and lzf is
# h5py's own; of level 1, since higher ones take twice as long for a few percent
_MATRIX = {
    ".h5ad": {"chunks": (2**14,), "compression": "gzip", "compression_opts": 1, "shuffle": True},
    ".zarr": {"chunks": (2**17,)},
}
_SHORT_PIECE = 2**15
_ARRAY = {
    ".h5ad": {"chunks": (_SHORT_PIECE,), "maxshape": (None,)},
    ".zarr": {"chunks": (_SHORT_PIECE,)},
}
_INT32 = np.iinfo(np.int32).max


def simulated(
    genes: ad.AnnData,
    n_cells: int,
    *,
    seed: int | tuple[int, ...],
    chunk: int = 10_000,
    perturb: Callable[[ad.AnnData, tuple[int, ...]], ad.AnnData] | None = None,
) -> Iterator[ad.AnnData]:
    """New cells with the genes and mechanisms of `genes`, a chunk at a time, for `write`.

    n_cells: cells of each cell type in `genes`
    chunk: cells of a chunk, all types together
    perturb: function of the cells and the seed of a chunk, which returns the cells to write

    Chunk i is `fresh_cells(genes, ..., seed=(seed, i))`, whatever the number of chunks; cells are
    numbered on from chunk to chunk.
    """
    n_cells = checks.integer("n_cells", n_cells, low=1)
    chunk = checks.integer("chunk", chunk, low=1)
    if perturb is not None and not callable(perturb):
        raise ValueError(f"perturb = {perturb!r}: must be a function (cells, seed) -> cells")
    stream(seed, "")  # a bad seed is told here, not at the first chunk
    n_types = genes.obs["cell_type"].nunique() if "cell_type" in genes.obs else 1
    step = max(1, chunk // n_types)

    def draw():
        for i, start in enumerate(range(0, n_cells, step)):
            own = (*key(seed), i)
            cells = fresh_cells(genes, min(step, n_cells - start), seed=own)
            cells.obs_names = [f"cell_{start * n_types + j}" for j in range(cells.n_obs)]
            yield cells if perturb is None else perturb(cells, own)

    return draw()


def write(path: str | Path, chunks: Iterable[ad.AnnData]) -> int:
    """Write data sets one below the other into one file, holding one of them at a time.

    path: new file, or one to replace, .h5ad or .zarr; its folder is made if it isn't there
    chunks: AnnData of the same genes, obs columns and layers. Categories are joined, and so are
        mechanisms and drugs, on which chunks must agree; cells are named anew; all else in uns is
        taken from the first chunk

    Returns the number of cells. In the end the whole file is there; after a failure there is none,
    or the one that was there before. Raises ValueError for chunks that don't fit each other, and
    OSError in one line where the disk is full.
    """
    path = checked_path(path)
    if isinstance(chunks, ad.AnnData) or not isinstance(chunks, Iterable):
        given = type(chunks).__name__
        raise ValueError(f"chunks = {given}: must be a list or generator of AnnData")
    checks.writable_folder("path", path.parent)
    replaced = is_zarr(path) if path.suffix == ".zarr" else path.is_file()
    if path.exists() and not replaced:
        allowed = "must be a new path, or one to replace"
        raise ValueError(f"path = {str(path)!r}: is there and no {path.suffix}; {allowed}")
    scratch = path.with_name(f"{path.name}.part")
    try:
        remove(scratch)
        with created(scratch, path) as f:
            n_cells = _append_all(f, path, chunks)
        with one_line(path):
            if path.is_dir():  # a folder, unlike a file, can't be replaced in one step
                shutil.rmtree(path)
            os.replace(scratch, path)
    except BaseException:
        remove(scratch)
        raise
    return n_cells


def read(path: str | Path, start: int = 0, stop: int | None = None) -> ad.AnnData:
    """Cells from `start` up to, but without, `stop`, truth included, in memory.

    The rest of the file isn't read.
    """
    with opened(path) as f:
        n_cells = int(f["X"].attrs["shape"][0])
        start = checks.integer("start", start, 0, n_cells)
        stop = checks.integer("stop", n_cells if stop is None else stop, start, n_cells)
        group = f["obs"]
        columns = group.attrs["column-order"]
        obs = {name: _column(group[name], start, stop) for name in columns}
        names = _column(group[group.attrs["_index"]], start, stop)
        layers = {name: rows_of(f["layers"][name], start, stop) for name in f["layers"]}
        parts = {part: read_elem(f[part]) for part in ("var", "varm", "uns")}
        parts |= {"obs": pd.DataFrame(obs, index=names), "layers": layers}
        parts["obsm"] = {name: f["obsm"][name][start:stop] for name in f["obsm"]}
        return ad.AnnData(rows_of(f["X"], start, stop), **parts)


def _append_all(f, path, chunks):
    n_cells, first, uns, categories = 0, None, None, {}
    for number, chunk in enumerate(chunks):
        name = f"chunk {number} of chunks"
        chunk = _plain(name, chunk)
        if chunk.n_obs == 0:
            continue
        if first is None:
            first, uns = chunk[:0].copy(), dict(chunk.uns)
        _check_fits(name, chunk, first)
        uns |= joined_entries([uns, chunk.uns])
        with one_line(path):
            _reserve(f, chunk)
            if n_cells == 0:
                _begin(f, first, path.suffix)
            _append(f["X"], chunk.X, path.suffix)
            for layer, matrix in chunk.layers.items():
                _append(f["layers"][layer], matrix, path.suffix)
            for part, values in chunk.obsm.items():
                _extend(f["obsm"][part], values)
            _append_obs(f["obs"], chunk.obs, n_cells, categories, path.suffix)
        n_cells += chunk.n_obs
        del chunk
        gc.collect()  # AnnData and its layers refer to each other: chunks would linger for long
    if first is None:
        raise ValueError("chunks: has no cells; must have at least one")
    with one_line(path):
        for column, names in categories.items():
            _sort_categories(f["obs"][column], list(names))
        write_elem(f, "uns", uns)
        if path.suffix == ".zarr":
            zarr.consolidate_metadata(f.store)
    return n_cells


def _plain(name, chunk):
    """A chunk with its matrices as CSR and its text as categories.

    Raises ValueError where it has something that can't be written.
    """
    if not isinstance(chunk, ad.AnnData):
        raise ValueError(f"{name}: is a {type(chunk).__name__}; must be AnnData")
    more = [part for part in ("obsp", "varp") if len(getattr(chunk, part))]
    more += [f"obsm[{k!r}]" for k, v in chunk.obsm.items() if not isinstance(v, np.ndarray)]
    more += ["raw"] * (chunk.raw is not None) + ["no X"] * (chunk.X is None)
    if more:
        must = "must be X, layers, obs, obsm of arrays, var, varm and uns"
        raise ValueError(f"{name}: has {more[0]}; {must}")
    chunk = upgraded(chunk.to_memory() if chunk.isbacked else chunk)
    obs = chunk.obs.copy()
    for column, kind in obs.dtypes.items():
        if isinstance(kind, pd.CategoricalDtype):
            wrong = "of ordered categories" if kind.ordered else None
        elif pd.api.types.is_string_dtype(obs[column]):
            obs[column] = obs[column].astype("category")
            wrong = None
        else:
            is_number = isinstance(kind, np.dtype) and kind.kind in "biuf"
            wrong = None if is_number else kind.name
        if wrong:
            allowed = "must be text, unordered categories, numbers or booleans"
            raise ValueError(f"{name}: obs[{column!r}] is {wrong}; {allowed}")
    layers = {layer: sparse.csr_matrix(matrix) for layer, matrix in chunk.layers.items()}
    parts = {"var": chunk.var, "varm": dict(chunk.varm), "obsm": dict(chunk.obsm)}
    uns = dict(chunk.uns)
    return ad.AnnData(sparse.csr_matrix(chunk.X), obs=obs, layers=layers, uns=uns, **parts)


def _check_fits(name, chunk, first):
    same_laws = chunk.varm.keys() == first.varm.keys() and all(
        pd.DataFrame(table).equals(pd.DataFrame(first.varm[part]))
        for part, table in chunk.varm.items()
    )
    if not (same_laws and cell_types(chunk) == cell_types(first) and chunk.var.equals(first.var)):
        required = "must be the same genes with the same laws"
        raise ValueError(f"{name}: var differs from that of the first; {required}")
    check_same_network([first.uns, chunk.uns], name)
    for what, one, other in zip(("X", "layers", "obsm", "obs"), _dtypes(chunk), _dtypes(first)):
        if one != other:
            raise ValueError(f"{name}: {what} is {one}; must be as in the chunks before, {other}")


def _dtypes(adata):
    """Names and dtypes of X, layers and obs, as text."""
    for matrices in ({"X": adata.X}, adata.layers, adata.obsm, adata.obs):
        kinds = sorted(f"{name} {v.dtype} {v.shape[1:]}" for name, v in matrices.items())
        yield ", ".join(kinds) or "nothing"


def _begin(f, first, suffix):
    """Write all but uns, with no rows as yet."""
    f.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    write_elem(f, "X", first.X, dataset_kwargs=_MATRIX[suffix])
    write_elem(f, "layers", dict(first.layers), dataset_kwargs=_MATRIX[suffix])
    write_elem(f, "obs", first.obs, dataset_kwargs=_ARRAY[suffix])
    write_elem(f, "var", first.var)
    write_elem(f, "varm", dict(first.varm))
    for name in ("obsm", "obsp", "varp"):
        write_elem(f, name, {})
    for name, values in first.obsm.items():
        width = [max(1, n) for n in values.shape[1:]]  # HDF5 has no pieces of no columns
        size = {key: (n[0], *width) for key, n in _ARRAY[suffix].items()}
        write_elem(f["obsm"], name, values, dataset_kwargs=size)


def _reserve(f, chunk):
    """Claim a chunk's room on disk.

    A full disk then is one clean OSError; HDF5 would print pages of errors, and may crash Python.
    """
    if isinstance(f, h5py.File) and hasattr(os, "posix_fallocate"):
        matrices = (chunk.X, *chunk.layers.values())
        size = sum(m.data.nbytes + m.indices.nbytes + 2 * m.indptr.nbytes for m in matrices)
        size += 64 * chunk.n_obs * (1 + chunk.obs.shape[1])
        most = 1.1 * size + 2**24  # and categories, uns, what HDF5 adds
        with open(f.filename, "r+b") as file:
            os.posix_fallocate(file.fileno(), f.id.get_filesize(), int(most))


def _append(group, matrix, suffix):
    # int32 as long as it will do, as scipy has it: with int64, scipy copies all indices whenever
    # rows are selected
    indptr = group["indptr"]
    if indptr.dtype == np.int32 and group["indices"].shape[0] + matrix.nnz >= _INT32:
        write_elem(group, "indptr", indptr[:].astype(np.int64), dataset_kwargs=_ARRAY[suffix])
    sparse_dataset(group, should_cache_indptr=False).append(matrix)


def _append_obs(group, obs, n_before, categories, suffix):
    """Append rows of obs.

    n_before: number of cells in the file already
    categories: column -> its categories so far, in the order of their codes; new ones are added
    """
    names = [f"cell_{n_before + i}" for i in range(len(obs))]
    _extend(group[group.attrs["_index"]], np.array(names, dtype=object))
    for column, values in obs.items():
        if not isinstance(values.dtype, pd.CategoricalDtype):
            _extend(group[column], values.to_numpy())
            continue
        known = categories.setdefault(column, {})
        known |= dict.fromkeys(values.cat.categories)
        codes = values.cat.set_categories(list(known)).cat.codes.to_numpy()
        stored = group[column]["codes"]
        if stored.dtype != codes.dtype:  # wider, now that there are more
            wider = stored[:].astype(codes.dtype)
            write_elem(group[column], "codes", wider, dataset_kwargs=_ARRAY[suffix])
        _extend(group[column]["codes"], codes)


def _sort_categories(group, names):
    """Put categories into the order in which concat has them, and change codes to match."""
    in_order = natsorted(names)
    write_elem(group, "categories", np.array(in_order))
    new = np.append(pd.Index(in_order).get_indexer(names), -1)  # a missing one is -1, the last
    codes = group["codes"]
    for start in range(0, codes.shape[0], _SHORT_PIECE):
        codes[start : start + _SHORT_PIECE] = new[codes[start : start + _SHORT_PIECE]]


def _extend(array, values):
    before = array.shape[0]
    array.resize((before + len(values), *array.shape[1:]))
    array[before:] = values


def _column(element, start, stop):
    if element.attrs["encoding-type"] == "categorical":
        categories = read_elem(element["categories"])
        return pd.Categorical.from_codes(element["codes"][start:stop], categories)
    if element.attrs["encoding-type"] == "string-array":
        text = element.asstr() if isinstance(element, h5py.Dataset) else element
        return np.array(text[start:stop], dtype=object)
    return element[start:stop]
