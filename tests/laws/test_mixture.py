import numpy as np
import pytest
import scipy.stats

from lib.laws import ZINB, Empirical, Mixture
from tests.agreement import one_line, scipy_pmf
from tests.laws.test_zinb import EXTREME
from tests.models_of_ones_own import APoisson


def average_pmf(k, laws):
    """The mean of the pmfs of (mu, theta, pi) triples."""
    return np.mean([scipy_pmf(k, *p) for p in laws], axis=0)


def test_table_of_a_mixture_of_laws_far_apart_is_the_mean_of_their_pmfs():
    mu, theta = np.array(EXTREME).T
    both_ways = (np.stack([values, values[::-1]], axis=1) for values in (mu, theta))
    table = Mixture(ZINB(*both_ways, 0.3)).pmf_table(6000)
    expected = average_pmf(np.arange(6000), [(*p, 0.3) for p in EXTREME])
    np.testing.assert_allclose(table, [expected, expected], rtol=1e-8, atol=1e-240)


MIXED = ZINB(
    np.array([[1.0, 20.0], [4.0, 2.0], [9.0, 0.5]]),
    np.array([1.0, 50.0]),
    np.array([[0.5], [0.1], [0.0]]),
)


def mixed_pmf(k, column):
    parameters = (np.broadcast_to(a, (3, 2))[:, column] for a in (MIXED.mu, MIXED.theta, MIXED.pi))
    return average_pmf(k, zip(*parameters))


@pytest.mark.parametrize("column", [0, 1])
def test_mixture_is_the_mean_of_its_components(column):
    law, k = Mixture(MIXED), np.arange(3000)
    pmf = mixed_pmf(k, column)
    np.testing.assert_allclose(law[column].pmf(k), pmf, rtol=1e-8, atol=1e-280)
    np.testing.assert_allclose(law[:, None].pmf(k)[column], pmf, rtol=1e-8, atol=1e-280)
    np.testing.assert_allclose(law.pmf_table(3000)[column], pmf, rtol=1e-6, atol=1e-240)
    np.testing.assert_allclose(np.exp(law.log_prob(7)[column]), pmf[7])
    np.testing.assert_allclose(law[:, None].cdf(k)[column], np.cumsum(pmf))
    np.testing.assert_allclose(law.mean[column], pmf @ k)
    np.testing.assert_allclose(law.zero_prob[column], pmf[0])
    assert law.quantile(0.9)[column] == np.argmax(np.cumsum(pmf) >= 0.9)


def test_mixture_samples_from_all_its_components():
    many = Mixture(ZINB(np.full((1, 20_000), 1.0) * [[1.0], [30.0]], 10.0, 0.0))
    draws = many.sample(np.random.default_rng(0))
    expected = 20_000 * average_pmf(np.arange(100), [(1, 10, 0), (30, 10, 0)])
    observed = np.bincount(draws, minlength=100)[:100]
    kept = expected >= 5
    groups = [np.append(a[kept], 20_000 - a[kept].sum()) for a in (observed, expected)]
    assert scipy.stats.chisquare(*groups).pvalue > 1e-3


def test_mixture_index_keeps_components_together():
    law = Mixture(MIXED)
    assert law.shape == (2,)
    assert law[np.array([1, 0, 1])].shape == (3,)
    np.testing.assert_allclose(law[np.array([1, 0])].pmf(2), law.pmf(2)[::-1])
    np.testing.assert_allclose(law.parameters().mu, MIXED.mu.mean(axis=0))


def test_mixture_of_laws_has_the_average_of_their_pmfs():
    laws = [
        ZINB(np.array([1.0, 20.0, 4.0]), 2.0, np.array([0.5, 0.0, 0.1])),
        ZINB(7.0, np.array([1.0, 3.0, 50.0]), 0.3),
    ]
    mixture, k = Mixture.of(laws), np.arange(2000)
    by_hand = [
        [(1.0, 2.0, 0.5), (7.0, 1.0, 0.3)],
        [(20.0, 2.0, 0.0), (7.0, 3.0, 0.3)],
        [(4.0, 2.0, 0.1), (7.0, 50.0, 0.3)],
    ]
    assert mixture.shape == (3,)
    for cell, parts in enumerate(by_hand):
        pmf = average_pmf(k, parts)
        np.testing.assert_allclose(mixture[:, None].pmf(k)[cell], pmf, rtol=1e-8, atol=1e-280)
        np.testing.assert_allclose([mixture.mean[cell], mixture.zero_prob[cell]], [pmf @ k, pmf[0]])


def test_mixture_of_mixtures_has_the_average_of_their_pmfs():
    mu = np.array([[[1.0, 9.0], [3.0, 2.0]], [[30.0, 5.0], [8.0, 0.5]]])  # of law, component, cell
    theta, pi = (1.0, 6.0), (0.2, 0.4)
    mixture = Mixture.of([Mixture(ZINB(*law)) for law in zip(mu, theta, pi)])
    for cell in range(2):
        parts = [(mu[law, i, cell], theta[law], pi[law]) for law in range(2) for i in range(2)]
        expected = average_pmf(np.arange(60), parts)
        np.testing.assert_allclose(mixture.pmf_table(60)[cell], expected, rtol=1e-6)


def test_mixture_of_one_law_is_that_law():
    np.testing.assert_allclose(Mixture.of([MIXED]).pmf_table(50), MIXED.pmf_table(50), rtol=1e-9)


@pytest.mark.parametrize(
    "others",
    [
        [ZINB(np.ones(2), 1.0, 0.1)],
        [ZINB(1.0, 1.0, 0.1)],
        [Mixture(ZINB(np.ones((4, 2)), 1.0, 0.1))],
    ],
    ids=["other cells", "no cells", "mixture of other cells"],
)
def test_mixture_of_laws_that_do_not_match_raises_one_line(others):
    with pytest.raises(ValueError) as error:
        Mixture.of([ZINB(np.ones(3), 1.0, 0.1), *others])
    one_line(error, "laws: of shapes", "(3,)", "must be of one shape")


def test_an_equal_mixture_of_mixtures_weighs_each_law_the_same():
    three = Mixture(ZINB(np.array([[2.0], [5.0], [40.0]]), 3.0, 0.2))
    mixture, k = Mixture.of([ZINB(np.array([9.0]), 1.0, 0.1), three]), np.arange(80)
    of_three = average_pmf(k, [(2.0, 3.0, 0.2), (5.0, 3.0, 0.2), (40.0, 3.0, 0.2)])
    expected = (scipy_pmf(k, 9.0, 1.0, 0.1) + of_three) / 2
    np.testing.assert_allclose(mixture.pmf_table(80)[0], expected, rtol=1e-9)


@pytest.mark.parametrize("by_gene", [False, True])
def test_mixture_of_weighted_mixtures_has_the_products_of_weights(by_gene):
    weights = np.array([[0.7, 0.2], [0.3, 0.8]]) if by_gene else np.array([0.7, 0.3])
    mu = np.array([[2.0, 9.0], [20.0, 0.5]])
    parts = [Mixture(ZINB(mu, 3.0, 0.2), weights), ZINB(np.array([5.0, 1.0]), 1.0, 0.0)]
    table = Mixture.of(parts, weights=[0.9, 0.1]).pmf_table(60)
    for gene in range(2):
        own = weights[:, gene] if by_gene else weights
        pmfs = [scipy_pmf(np.arange(60), m, 3.0, 0.2) for m in mu[:, gene]]
        expected = 0.9 * (own @ pmfs) + 0.1 * scipy_pmf(np.arange(60), [5.0, 1.0][gene], 1.0, 0.0)
        np.testing.assert_allclose(table[gene], expected, rtol=1e-9)


def test_mixture_of_laws_without_parameters_is_refused_in_one_line():
    nested = Mixture(Mixture(ZINB(np.ones((2, 3, 2)), 1.0, 0.1)))
    for law in (APoisson([1.0, 2.0]), Empirical(np.ones((2, 5))), nested):
        with pytest.raises(ValueError) as error:
            Mixture.of([ZINB(np.ones(2), 1.0, 0.1), law])
        one_line(error, "laws", "must be ZINB laws, or mixtures")


SHARES = np.array([0.6, 0.0, 0.4])
OF_GENES = np.array([[0.6, 0.1], [0.0, 0.2], [0.4, 0.7]])


def weighted(kind):
    """A weighted mixture of two genes' laws, and the pmfs (n_components, n_counts) of each gene."""
    mu, theta, pi = (np.broadcast_to(a, (3, 2)) for a in (MIXED.mu, MIXED.theta, MIXED.pi))
    k = np.arange(3000)
    if kind == "zinb":
        each = [zip(mu[:, gene], theta[:, gene], pi[:, gene]) for gene in (0, 1)]
        return MIXED, [np.array([scipy_pmf(k, *p) for p in of_gene]) for of_gene in each]
    return APoisson(mu), [scipy.stats.poisson.pmf(k, mu[:, [g]]) for g in (0, 1)]


@pytest.mark.parametrize("weights", [SHARES, SHARES[:, None], OF_GENES], ids=["1", "2", "by gene"])
@pytest.mark.parametrize("kind", ["zinb", "own"])
def test_weighted_mixture_is_the_weighted_sum_of_its_components(kind, weights):
    components, pmfs = weighted(kind)
    law, k = Mixture(components, weights), np.arange(3000)
    close = {"rtol": 1e-8, "atol": 1e-280}
    for gene in (0, 1):
        own = np.broadcast_to(weights.reshape(3, -1), (3, 2))[:, gene]
        pmf = own @ pmfs[gene]
        np.testing.assert_allclose(law[gene].pmf(k), pmf, **close)
        np.testing.assert_allclose(law[..., None].pmf(k)[gene], pmf, **close)
        np.testing.assert_allclose(law[[1, 0, 1]][:, None].pmf(k)[1 - gene], pmf, **close)
        np.testing.assert_allclose(law.pmf(np.tile(k[:, None], 2))[:, gene], pmf, **close)
        np.testing.assert_allclose(law.pmf_table(3000)[gene], pmf, rtol=1e-6, atol=1e-240)
        np.testing.assert_allclose(np.exp(law[:, None].log_prob(k[:9])[gene]), pmf[:9])
        np.testing.assert_allclose(law[:, None].cdf(k)[gene], np.cumsum(pmf))
        np.testing.assert_allclose([law.mean[gene], law.zero_prob[gene]], [pmf @ k, pmf[0]])
        assert law.quantile(0.9)[gene] == np.argmax(np.cumsum(pmf) >= 0.9)


@pytest.mark.parametrize("weights", [SHARES, OF_GENES], ids=["shared", "by gene"])
def test_parameters_of_a_weighted_mixture_are_weighted_means(weights):
    own = np.broadcast_to(weights.reshape(3, -1), (3, 2))
    point = Mixture(MIXED, weights).parameters()
    mu, theta, pi = (np.broadcast_to(a, (3, 2)) for a in (MIXED.mu, MIXED.theta, MIXED.pi))
    np.testing.assert_allclose(point.mu, np.average(mu, axis=0, weights=own))
    np.testing.assert_allclose(point.pi, np.average(pi, axis=0, weights=own))
    np.testing.assert_allclose(point.theta, np.prod(theta**own, axis=0))
    assert Mixture(APoisson([1.0, 2.0])).parameters() is None


def test_weights_keep_the_digits_of_a_component_near_the_end_of_floats():
    law, k = Mixture(ZINB(np.array([2.0, 650.0]), 1e6, 0.0), [1.0, 1e-40]), np.arange(500, 800)
    # its probability of a zero, 1e-282 times 1e-40, is no float
    expected = 1e-40 * scipy_pmf(k, 650.0, 1e6, 0.0)
    np.testing.assert_allclose(law.pmf_table(800)[500:], expected, rtol=1e-7)


@pytest.mark.parametrize("weights", [None, SHARES, OF_GENES], ids=["equal", "shared", "by gene"])
@pytest.mark.parametrize("kind", ["zinb", "own"])
@pytest.mark.parametrize("how", ["size", "own size", "cells"])
def test_draws_of_a_mixture_come_in_the_shares_of_its_pmf(kind, weights, how):
    components, pmfs = weighted(kind)
    law, rng = Mixture(components, weights), np.random.default_rng(3)
    if how == "own size":
        draws = law[np.tile([0, 1], (20_000, 1))].sample(rng)
    else:
        draws = law.sample(rng, (20_000, 2)) if how == "size" else law.sample_cells(rng, 20_000)
    assert draws.shape == (20_000, 2)
    for gene in (0, 1):
        own = np.full(3, 1 / 3) if weights is None else weights
        own = np.broadcast_to(own.reshape(3, -1), (3, 2))[:, gene]
        expected = 20_000 * (own @ pmfs[gene])
        kept = expected >= 5
        observed = np.bincount(draws[:, gene], minlength=len(expected))[:3000]
        groups = [np.append(a[kept], 20_000 - a[kept].sum()) for a in (observed, expected)]
        assert scipy.stats.chisquare(*groups).pvalue > 1e-3


def test_cells_of_a_mixture_are_whole_and_counts_of_a_sample_are_not():
    apart = ZINB(np.array([[1.0] * 3, [1000.0] * 3]), 1e6, 0.0)
    for law, share in ((Mixture(apart), 0.5), (Mixture(apart, [0.9, 0.1]), 0.1)):
        cells = law.sample_cells(np.random.default_rng(0), 4000) > 100
        assert (cells == cells[:, :1]).all()
        assert abs(cells[:, 0].mean() - share) < 4 * np.sqrt(share * (1 - share) / 4000)
        counts = law.sample(np.random.default_rng(0), (4000, 3)) > 100
        assert abs(np.corrcoef(counts.T)[0, 1]) < 0.07


def test_equal_weights_and_none_are_the_same_law():
    tables = [Mixture(MIXED, weights).pmf_table(90) for weights in (np.full(3, 1 / 3), None)]
    np.testing.assert_allclose(*tables, rtol=1e-12)
    drawn = [Mixture(MIXED).sample(np.random.default_rng(1), size) for size in (None, (2,))]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        ([0.5, 0.5], "weights of shape (2, 1): must be (3,)"),
        (np.full((3, 4), 1 / 3), "weights of shape (3, 4)"),
        (np.full((1, 2), 1.0), "weights of shape (1, 2)"),
        ([0.5, 0.7, -0.2], "weights = -0.2: must be at least 0"),
        ([0.5, np.nan, 0.5], "weights = nan: must be at least 0"),
        ([0.5, 0.2, 0.2], "weights: sum to 0.9; must sum to 1"),
        ([[0.5, 0.5], [0.5, 0.2], [0.0, 0.2]], "weights: sum to 0.9; must sum to 1"),
    ],
)
def test_weights_that_are_none_are_refused_in_one_line(weights, named):
    with pytest.raises(ValueError) as error:
        Mixture(MIXED, weights)
    one_line(error, named)


def test_what_a_mixture_inherits_from_its_components():
    law = Mixture(ZINB(np.array([[1.0, 50.0], [300.0, 2.0]]), 2.0, 0.1))
    np.testing.assert_array_equal(law.reach(1e-4), law.components.reach(1e-4).max(0))
    assert law.n_components == 2 and law.has_density
    assert not Mixture(Empirical(np.ones((2, 3)))).has_density
