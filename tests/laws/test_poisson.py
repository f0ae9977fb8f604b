import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from lib.laws import poisson
from lib.laws.poisson import PoissonMixture

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


def test_the_fit_is_as_likely_as_any_mixture_on_a_fine_grid():
    rng = np.random.default_rng(1)
    counts = rng.poisson(rng.gamma(2, 1.5, 600) * (rng.random(600) < 0.8))
    law = poisson.fit(counts[:, None])
    mine = law.log_prob(counts[:, None]).mean()
    grid = np.geomspace(0.005, counts.max(), 150)
    p = scipy.stats.poisson.pmf(counts[:, None], grid)

    def loss(logits):
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        mixed = p @ weights
        slope = -(p / mixed[:, None]).mean(axis=0)
        return -np.log(mixed).mean(), weights * (slope - weights @ slope)

    best = scipy.optimize.minimize(loss, np.zeros(150), jac=True, options={"maxiter": 2000})
    assert mine > -best.fun - 2e-3
    assert abs(law.mean[0] - counts.mean()) < 0.01 * counts.mean()


def test_zeros_may_stand_beside_large_counts():
    rng = np.random.default_rng(0)
    counts = rng.poisson(500, 2000) * (rng.random(2000) < 0.7)
    assert poisson.fit(counts[:, None]).pmf(0)[0] == pytest.approx((counts == 0).mean(), abs=1e-3)


def test_a_gene_without_counts_and_counts_beyond_those_seen_have_a_probability():
    law = poisson.fit(np.column_stack([np.zeros(50), np.arange(50) % 3]))
    assert 0 < law.mean[0] < 0.05
    assert np.isfinite(law.log_prob(30)).all()


@pytest.mark.parametrize("rates", [[-1.0], [np.inf], [np.nan]])
def test_rates_that_are_none_are_refused(rates):
    with pytest.raises(ValueError, match="rates: must be finite"):
        PoissonMixture(rates, [1.0])
    with pytest.raises(ValueError, match="of one shape"):
        PoissonMixture(rates, [0.5, 0.5])
    with pytest.raises(ValueError, match=r"\(n_cells, n_genes\)"):
        poisson.fit(np.arange(3))
