"""Files of cells: made, opened, and rows of them read."""

import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

import anndata as ad
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


@contextmanager
def created(scratch: Path, path: Path):
    """A new file or store; an error that it raises while it is used stays what it is."""
    with one_line(path):
        if path.suffix == ".zarr":
            f = zarr.open_group(scratch, mode="w", zarr_format=ad.settings.zarr_write_format)
        else:
            f = h5py.File(scratch, "w")
    try:
        yield f
        if path.suffix == ".h5ad":
            with one_line(path):
                f.flush()
                size = f.id.get_filesize()
                f.close()
                os.truncate(scratch, size)  # gives back what was reserved
    except BaseException:
        if path.suffix == ".h5ad":
            with suppress(Exception):  # a full disk makes this fail too: tell the first error
                f.close()
        raise


@contextmanager
def one_line(path: Path):
    """Tell errors in writing a file in one line."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # HDF5 raises either, over several lines
        found = re.search(r"errno = (\d+)", str(error))
        code = int(found[1]) if found else getattr(error, "errno", None)
        reason = os.strerror(code) if code else str(error).splitlines()[0]
        failed = f"couldn't be written ({reason})"
        raise OSError(f"path = {str(path)!r}: {failed}; no part of it is left") from None


def remove(path: Path) -> None:
    """Remove a file or a store, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
