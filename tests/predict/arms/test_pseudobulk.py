import numpy as np
import pytest

from lib.predict.arms.pseudobulk import Pseudobulk
from tests.screens import DESIGN, task


@pytest.fixture(scope="module")
def train():
    return task().train()


def test_arms_have_the_means_of_their_cells_at_the_controls_total(train):
    bulk = Pseudobulk.of(train)
    assert len(bulk.arms) == DESIGN.n_arms + DESIGN.n_pairs
    counts = train.X.toarray()
    is_control = (train.obs["perturbation"] == "control").to_numpy()
    np.testing.assert_allclose(bulk.control_means["A"], counts[is_control].mean(axis=0))
    for place in (0, len(bulk.arms) - 1):
        rows = (train.obs["perturbation"] == bulk.arms["perturbation"][place]).to_numpy()
        own = counts[rows]
        total = counts[is_control].sum() / is_control.sum()
        np.testing.assert_allclose(bulk.means[place], own.sum(axis=0) / own.sum() * total)
        logs = np.log1p(own / own.sum(axis=1, keepdims=True) * 1e4).mean(axis=0)
        np.testing.assert_allclose(bulk.logs[place], logs, rtol=1e-5)
        assert bulk.arms["n_cells"][place] == rows.sum() == DESIGN.n_cells
        genes = bulk.arms["perturbation"][place].split("+")
        assert [bulk.genes[i] for i in np.flatnonzero(bulk.own()[place])] == sorted(genes)


def test_folds_are_finite_and_shrink_with_more_pseudo_cells(train):
    bulk = Pseudobulk.of(train)
    assert np.isfinite(bulk.folds()).all()
    assert (abs(bulk.folds(1000.0)) <= abs(bulk.folds()) + 1e-12).all()


def test_cells_of_no_screen_are_refused(train):
    with pytest.raises(ValueError, match="no control cells"):
        Pseudobulk.of(train[train.obs["perturbation"] != "control"])
    other = train.copy()
    del other.obs["perturbation"]
    with pytest.raises(ValueError, match="must be a screen's cells"):
        Pseudobulk.of(other)
