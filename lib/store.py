"""Files of cells: opened, and rows of them read."""

from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import scipy.sparse as sparse
import zarr

SUFFIXES = (".h5ad", ".zarr")


def checked_path(path: str | Path) -> Path:
    """`path` as a Path. Raises ValueError where its suffix is none of `SUFFIXES`."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"path = {str(path)!r}: must end in .h5ad or .zarr")
    return path


def is_zarr(path: Path) -> bool:
    """Whether this folder is a zarr store."""
    return (path / ".zgroup").is_file() or (path / "zarr.json").is_file()


@contextmanager
def opened(path: str | Path):
    """A file that `lib.simulate.ondisk.write` has written, as a group of h5py or zarr.

    Raises ValueError for others.
    """
    path = checked_path(path)
    try:
        f = h5py.File(path) if path.suffix == ".h5ad" else zarr.open_group(path, mode="r")
        if f["X"].attrs["encoding-type"] != "csr_matrix":
            raise ValueError("X isn't CSR")
    except Exception as error:  # h5py and zarr raise many kinds for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        reason = reason if path.exists() else "no such file"
        required = f"must be cells that `write` has written ({reason})"
        raise ValueError(f"path = {str(path)!r}: {required}") from None
    try:
        yield f
    finally:
        if path.suffix == ".h5ad":
            f.close()


def rows_of(group, start: int, stop: int) -> sparse.csr_matrix:
    """Rows of a CSR matrix on disk; anndata's own selection first reads pointers to all rows."""
    indptr = group["indptr"][start : stop + 1].astype(np.int64)
    piece = slice(int(indptr[0]), int(indptr[-1]))
    parts = group["data"][piece], group["indices"][piece], indptr - piece.start
    return sparse.csr_matrix(parts, shape=(stop - start, int(group.attrs["shape"][1])))
