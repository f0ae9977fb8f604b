"""Cells of scdesigner, where it is installed."""

import numpy as np
import pytest

from lib import dataset
from peers import scdesigner


def test_its_cells_have_the_genes_and_means_of_those_that_it_was_fitted_to():
    pytest.importorskip("scdesigner", reason="isn't installed: ./run_all.sh peers")
    real = dataset.base_genes(
        150, 12, None, (2, 20), (0.1, 0.3), n_cell_types=2, marker_fraction=1.0, seed=3
    )
    real.obs["kind"] = real.obs["cell_type"].astype(str)
    made = scdesigner.cells(real, "kind", seed=1)
    assert made.shape == real.shape and list(made.var_names) == list(real.var_names)
    counts = np.asarray(made.X)
    assert (counts >= 0).all() and (counts == np.floor(counts)).all()
    means = [np.asarray(part.mean(axis=0)).ravel() for part in (real.X, counts)]
    np.testing.assert_allclose(means[1], means[0], rtol=0.25)
    again = scdesigner.cells(real, "kind", seed=1)
    np.testing.assert_array_equal(again.X, made.X)
