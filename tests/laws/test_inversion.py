"""Counts drawn by inversion, against scipy."""

import numpy as np
import pytest
import scipy.stats

from lib.laws import inversion


def _whole(drawn, n_cells):
    cells, counts = drawn
    assert len(np.unique(cells)) == len(cells)
    assert (counts > 0).all()
    whole = np.zeros(n_cells, dtype=int)
    whole[cells] = counts
    return whole


def _chi_square(counts, law):
    """p-value of counts under a law of scipy, counts of less than 10 expected taken together."""
    top = int(counts.max()) + 1
    expected = len(counts) * np.append(law.pmf(np.arange(top)), law.sf(top - 1))
    seen = np.bincount(counts, minlength=top + 1)
    groups = np.cumsum(np.diff(np.floor(np.cumsum(expected) / 10), prepend=-1) > 0)
    expected, seen = np.bincount(groups, expected), np.bincount(groups, seen)
    statistic = ((seen - expected) ** 2 / np.maximum(expected, 1e-9))[expected > 5].sum()
    return scipy.stats.chi2.sf(statistic, max(1, (expected > 5).sum() - 1))


@pytest.mark.parametrize("n_cells", [50, 200_000])
@pytest.mark.parametrize("mu", [0.01, 0.8, 6.0, 24.0, 60.0])
@pytest.mark.parametrize("theta", [0.1, 2.0, 1000.0])
def test_negative_binomial_counts_follow_their_law(mu, theta, n_cells):
    rng = np.random.default_rng(1)
    n_times = 200_000 // n_cells
    drawn = [inversion.negative_binomial(np.full(n_cells, mu), theta, rng) for _ in range(n_times)]
    counts = np.concatenate([_whole(one, n_cells) for one in drawn])
    assert _chi_square(counts, scipy.stats.nbinom(theta, theta / (theta + mu))) > 1e-4


@pytest.mark.parametrize(("n", "p"), [(3, 0.1), (40, 0.15), (200, 0.3), (5, 0.9), (1, 0.5)])
def test_binomial_counts_follow_their_law(n, p):
    rng, n_cells = np.random.default_rng(2), 200_000
    drawn = inversion.binomial(np.full(n_cells, n), np.full(n_cells, p), rng)
    counts = _whole(drawn, n_cells)
    assert counts.max() <= n
    assert _chi_square(counts, scipy.stats.binom(n, p)) > 1e-4


def test_each_cell_has_its_own_law():
    rng, n_cells = np.random.default_rng(3), 400_000
    mu = np.linspace(0, 5, n_cells)
    counts = _whole(inversion.negative_binomial(mu, 3.0, rng), n_cells)
    for rows in np.array_split(np.arange(n_cells), 8):
        variance = (mu[rows] + mu[rows] ** 2 / 3).sum()
        assert abs(counts[rows].sum() - mu[rows].sum()) < 4.5 * np.sqrt(variance)
    n = rng.integers(0, 30, n_cells)
    p = rng.uniform(0, 0.5, n_cells)
    counts = _whole(inversion.binomial(n, p, rng), n_cells)
    assert (counts <= n).all()
    z = (counts - n * p)[n > 0] / np.sqrt(n * p * (1 - p))[n > 0]
    assert abs(z.mean()) < 4.5 / np.sqrt(len(z))
    assert abs((z**2).mean() - 1) < 0.02


def test_no_mean_and_no_molecules_give_nothing():
    rng = np.random.default_rng(4)
    for drawn in (
        inversion.negative_binomial(np.zeros(1000), 2.0, rng),
        inversion.binomial(np.zeros(1000, dtype=int), np.full(1000, 0.2), rng),
        inversion.binomial(np.full(1000, 9), np.zeros(1000), rng),
        inversion.negative_binomial(np.zeros(0) + 1.0, 2.0, rng),
    ):
        assert len(drawn[0]) == len(drawn[1]) == 0


@pytest.mark.parametrize("kind", ["negative binomial", "binomial"])
def test_a_few_cells_of_large_means_have_their_own_law_among_many_of_small_ones(kind):
    rng, n_cells = np.random.default_rng(5), 40_000
    large = rng.permutation(n_cells)[:400]
    if kind == "binomial":
        n = np.full(n_cells, 6)
        n[large] = rng.integers(200, 5000, 400)
        mean, variance = 0.15 * n, 0.15 * 0.85 * n
        counts = _whole(inversion.binomial(n, np.full(n_cells, 0.15), rng), n_cells)
    else:
        mean = np.ones(n_cells)
        mean[large] = rng.uniform(20, 2000, 400)
        variance = mean + mean**2 / 1e4
        counts = _whole(inversion.negative_binomial(mean, 1e4, rng), n_cells)
    z = (counts - mean) / np.sqrt(variance)
    assert abs(z[large]).max() < 5
    assert abs(z[large].mean()) < 4.5 / 20 and abs((z[large] ** 2).mean() - 1) < 0.4
    small = np.setdiff1d(np.arange(n_cells), large)
    assert abs(z[small].mean()) < 4.5 / 200
