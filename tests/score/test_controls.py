import numpy as np
import pytest
import scipy.sparse as sparse

from lib.laws.tabulated import Tabulated
from lib.predict.arms.answers import ArmCells, Means
from lib.score.controls import Controls

N_CELLS, N_GENES = 20_000, 6


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    size = rng.lognormal(0, 0.3, (N_CELLS, 1))
    mean = np.array([0.1, 0.5, 2, 5, 20, 40])
    return rng.poisson(rng.gamma(3, mean / 3, (N_CELLS, N_GENES)) * size)


@pytest.fixture(scope="module")
def controls(counts):
    rows = [np.bincount(column) / len(column) for column in counts.T]
    return Controls(Tabulated(rows), lambda n: sparse.csr_matrix(counts.astype(float)))


def log1p(counts, totals, scale):
    return np.log1p(counts * (scale / totals)[:, None]).mean(axis=0)


def test_means_of_counts_give_their_fold(controls, counts):
    means = counts.mean(axis=0)
    folds = np.array([0.2, 0.5, 1.0, 1.5, 3.0, 1.0])
    np.testing.assert_allclose(controls.folds(Means(means * folds)), folds, rtol=1e-6)
    law = controls.as_law(Means(means * folds))
    np.testing.assert_allclose(law.mean, means * folds)


@pytest.mark.parametrize("scale", [100.0, 1e4, 1e6])
def test_means_of_logs_give_the_fold_that_thinned_cells_have(controls, counts, scale):
    rng = np.random.default_rng(1)
    totals = np.maximum(counts.sum(axis=1), 1)
    same = controls.folds(Means(log1p(counts, totals, scale), scale))
    np.testing.assert_allclose(same, 1, rtol=1e-6)
    for share in (0.3, 0.7):
        thinned = np.array([log1p(rng.binomial(counts, share), totals, scale) for _ in range(4)])
        found = controls.folds(Means(thinned.mean(axis=0), scale))
        np.testing.assert_allclose(found, share, rtol=0.03)


def test_a_larger_mean_has_a_larger_fold_and_folds_have_an_end(controls):
    low = [controls.folds(Means(np.full(N_GENES, x), 1e4)) for x in (0.0, 0.1, 1.0, 5.0, 1e3)]
    assert (np.diff(low, axis=0) >= 0).all()
    assert low[0].min() >= 1e-3 * (1 - 1e-9) and low[-1].max() <= 1e3 * (1 + 1e-9)
    zero = controls.as_law(Means(np.zeros(N_GENES)))
    assert np.isfinite(zero.log_prob(np.arange(30)[:, None])).all()


def test_cells_are_their_means_and_one_repeated_gains_nothing(controls, counts):
    mean = controls.as_law(Means(counts.mean(axis=0)))
    repeated = controls.as_law(ArmCells(np.tile(counts.mean(axis=0), (50, 1))))
    np.testing.assert_allclose(mean.mean, repeated.mean)
