import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from lib.laws import poisson
from lib.laws.poisson import PoissonMixture
from lib.laws.tabulated import Tabulated

RATES = np.array([[0.2, 3.0], [5.0, 40.0], [0.0, 1500.0]])
WEIGHTS = np.array([[0.5, 0.2], [0.3, 0.5], [0.2, 0.3]])


@pytest.fixture
def law():
    return PoissonMixture(RATES, WEIGHTS)


def by_scipy(k):
    k = np.asarray(k)[..., None]
    return (WEIGHTS * scipy.stats.poisson.pmf(k[..., None], RATES)).sum(axis=-2)


def test_probabilities_are_scipys_far_into_the_tail(law):
    counts = np.arange(1800)
    np.testing.assert_allclose(law.pmf_table(1800).T, by_scipy(counts), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(law.pmf(counts[:, None]), by_scipy(counts), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(law.cdf(counts[:, None]), by_scipy(counts).cumsum(axis=0), atol=1e-9)
    assert (law.pmf(0.5) == 0).all() and (law.cdf(-1) == 0).all()


def test_mean_reach_and_scaling(law):
    np.testing.assert_allclose(law.mean, (WEIGHTS * RATES).sum(axis=0))
    assert (1 - law.cdf(law.reach(1e-9)) < 1e-9).all()
    folds = np.array([[0.5, 2.0], [1.0, 0.0], [3.0, 1.0]])
    scaled = law.scaled(folds)
    assert scaled.shape == (3, 2)
    np.testing.assert_allclose(scaled.mean, law.mean * folds)
    alone = PoissonMixture(RATES[:, 1] * 2.0, WEIGHTS[:, 1])
    np.testing.assert_allclose(scaled[0, 1].pmf(np.arange(20)), alone.pmf(np.arange(20)))


def test_draws_have_the_law(law):
    drawn = law.sample(np.random.default_rng(0), (40_000, 2))
    for gene in range(2):
        expected = 40_000 * by_scipy(np.arange(6))[:, gene]
        observed = np.array([(drawn[:, gene] == k).sum() for k in range(6)])
        assert (abs(observed - expected) < 5 * np.sqrt(expected) + 1).all()


def test_the_mixture_of_a_table_is_its_law_with_the_same_mean():
    k = np.arange(4000)
    whole = scipy.stats.nbinom(1.5, 1.5 / (1.5 + 30)).pmf(k)
    inflated = 0.4 * scipy.stats.nbinom(3, 3 / (3 + 0.5)).pmf(k)
    inflated[0] += 0.6
    rare = scipy.stats.nbinom(1.5, 1.5 / (1.5 + 2e-4)).pmf(k)
    rows = [whole, inflated, scipy.stats.poisson(900).pmf(k), rare, np.array([1.0])]
    rows = [row[: np.flatnonzero(row > 1e-12)[-1] + 1] for row in rows]
    law = poisson.of_table(Tabulated(rows))
    np.testing.assert_allclose(law.mean[:4], [30, 0.2, 900, 2e-4], rtol=1e-6)
    assert 0 < law.mean[4] < 1e-8
    for row, mine, most in zip(rows, law.pmf_table(4000), [1e-9] * 3 + [1e-8] * 2):
        some = row > 0
        f = row[some] / row.sum()
        kl = (f * np.log(f / mine[: len(row)][some])).sum()
        assert -1e-9 < kl < most


def test_a_table_that_is_no_mixture_of_poisson_laws_has_the_nearest_one():
    """Against the weights that scipy's minimiser gives the exact divergence."""
    row = np.array([0.02, 0.1, 0.3, 0.4, 0.15, 0.03])
    law = poisson.of_table(Tabulated([row]))
    k, grid = np.arange(len(row)), np.geomspace(0.01, 6, 40)
    p = scipy.stats.poisson.pmf(k[:, None], grid)

    def loss(logits):
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        return (row * np.log(row / (p @ weights))).sum()

    best = scipy.optimize.minimize(loss, np.zeros(len(grid)), method="L-BFGS-B").fun
    mine = (row * np.log(row / law.pmf_table(len(row))[0])).sum()
    assert mine < 1.3 * best
