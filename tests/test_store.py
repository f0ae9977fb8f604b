import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sparse

from lib import store
from tests.agreement import one_line


@pytest.fixture(scope="module", params=store.SUFFIXES)
def stored(request, tmp_path_factory):
    """Cells written by anndata itself, some of them without a count."""
    path = tmp_path_factory.mktemp("stored") / f"cells{request.param}"
    counts = sparse.random(40, 7, 0.2, format="csr", rng=np.random.default_rng(0))
    cells = ad.AnnData(counts)
    write = {".h5ad": cells.write_h5ad, ".zarr": cells.write_zarr}[request.param]
    write(path)
    return path, counts


@pytest.mark.parametrize("bounds", [(0, 40), (0, 0), (3, 4), (11, 29), (39, 40)])
def test_rows_are_those_of_the_matrix_written(stored, bounds):
    path, counts = stored
    with store.opened(path) as f:
        rows = store.rows_of(f["X"], *bounds)
    np.testing.assert_array_equal(rows.toarray(), counts.toarray()[slice(*bounds)])


def test_a_dense_matrix_is_refused(tmp_path):
    ad.AnnData(np.ones((3, 2))).write_h5ad(tmp_path / "dense.h5ad")
    with pytest.raises(ValueError) as error, store.opened(tmp_path / "dense.h5ad"):
        pass
    one_line(error, "path = ", "must be cells")


def test_a_path_has_a_suffix_of_cells_and_a_store_of_zarr_is_told_from_a_folder(stored, tmp_path):
    path, _ = stored
    assert store.checked_path(str(path)) == path
    assert store.is_zarr(path) == (path.suffix == ".zarr")
    (tmp_path / "mine.zarr").mkdir()
    assert not store.is_zarr(tmp_path / "mine.zarr")
    with pytest.raises(ValueError) as error:
        store.checked_path("cells.csv")
    one_line(error, "path = 'cells.csv'", ".h5ad or .zarr")
