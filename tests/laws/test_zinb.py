import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.laws import ZINB, Empirical, Mixture, zinb
from tests.agreement import exact_log_prob, one_line, scipy_pmf, zinb_cdf

quick = settings(deadline=None, max_examples=40, derandomize=True)
mus = st.just(0.0) | st.floats(0.01, 200)  # below that scipy's own 1 - p has lost its digits
thetas = st.floats(0.05, 1e4)
pis = st.floats(0, 1)
K = np.arange(20_000)


@quick
@given(mus, thetas, pis)
def test_pmf_and_cdf_are_those_of_scipy(mu, theta, pi):
    law, k = ZINB(mu, theta, pi), np.arange(400)
    np.testing.assert_allclose(law.pmf(k), scipy_pmf(k, mu, theta, pi), rtol=1e-6, atol=1e-100)
    np.testing.assert_allclose(law.cdf(k), zinb_cdf(k, mu, theta, pi), rtol=1e-8, atol=1e-60)


@quick
@given(st.floats(0, 100), st.floats(0.2, 1e4), pis)
def test_moments_are_brute_force_sums(mu, theta, pi):
    law, pmf = ZINB(mu, theta, pi), scipy_pmf(K, mu, theta, pi)
    mean = pmf @ K
    np.testing.assert_allclose(law.mean, mean, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(law.variance, pmf @ (K - mean) ** 2, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(law.zero_prob, pmf[0], rtol=1e-9)


@pytest.mark.parametrize("mu", [1e-3, 1.0, 10.0, 30.0])
def test_large_theta_is_the_poisson_limit(mu):
    law, k = ZINB(mu, 1e8, 0.0), np.arange(60)
    np.testing.assert_allclose(law.pmf(k), scipy.stats.poisson.pmf(k, mu), rtol=2e-5)
    np.testing.assert_allclose(law.cdf(k), scipy.stats.poisson.cdf(k, mu), rtol=2e-5)
    np.testing.assert_allclose(law.variance, mu, rtol=1e-6)


@pytest.mark.parametrize("theta", [1e-4, 1.0, 9e4, 1.1e5, 1e8])
@pytest.mark.parametrize("mu", [1e-6, 3.0, 1e6])
def test_log_prob_keeps_its_digits_at_the_extremes(mu, theta):
    for k in (0, 1, 20, 1000, 10**6):
        np.testing.assert_allclose(ZINB(mu, theta, 0.0).log_prob(k), exact_log_prob(k, mu, theta), rtol=1e-8, atol=1e-8)


def test_theta_without_end_is_refused_since_its_pmf_would_be_nan():
    with pytest.raises(ValueError, match="theta = inf: must be finite and greater than 0"):
        ZINB(np.ones(2), np.array([1.0, np.inf]), 0.1)


def test_mu_of_zero_gives_only_zeros():
    law = ZINB(0.0, 2.0, 0.3)
    assert law.pmf(np.arange(3)).tolist() == [1, 0, 0]
    assert law.cdf(0) == 1 and law.variance == 0
    assert not law.sample(np.random.default_rng(0), 100).any()


def test_no_probability_outside_the_whole_numbers():
    law = ZINB(3.0, 2.0, 0.5)
    assert law.pmf([-1, 0.5, 2.5]).tolist() == [0, 0, 0]
    assert law.cdf(-1) == 0
    assert law.cdf(2.5) == law.cdf(2)


def test_theta_is_inverse_dispersion():
    mu, theta = 20.0, 4.0
    draws = ZINB(mu, theta, 0.0).sample(np.random.default_rng(1), 200_000)
    np.testing.assert_allclose(draws.var(), mu + mu**2 / theta, rtol=0.03)


def test_parameters_broadcast_and_index_like_arrays():
    mu, theta, pi = np.array([[1.0], [2.0], [3.0]]), np.array([0.5, 5.0]), 0.2
    law = ZINB(mu, theta, pi)
    assert law.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        expected = scipy_pmf(4, mu[i, 0], theta[j], pi)
        np.testing.assert_allclose([law.pmf(4)[i, j], law[i, j].pmf(4), law[[i]][:, j].pmf(4)[0]], expected)
    np.testing.assert_allclose(law[..., None].pmf(np.arange(9))[2, 1], scipy_pmf(np.arange(9), 3.0, 5.0, 0.2))
    assert law[np.array([True, False, True])].shape == (2, 2)


@quick
@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0.05, 1e8), pis), min_size=1, max_size=4))
def test_pmf_table_equals_pmf(parameters):
    law = ZINB(*np.array(parameters).T)
    table = law.pmf_table(120)
    assert table.shape == (len(parameters), 120)
    for i, row in enumerate(table):
        np.testing.assert_allclose(row, law[i].pmf(np.arange(120)), rtol=1e-5, atol=1e-240)


EXTREME = [(800.0, 1e6), (5000.0, 1e6), (5000.0, 300.0), (1e5, 1e4), (1e5, 0.5), (3.0, 1e-3), (0.01, 1e3), (0.0, 1.0)]


@pytest.mark.parametrize("pi", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("mu", "theta"), EXTREME)
def test_long_table_is_the_pmf_of_scipy(mu, theta, pi):
    n_counts = int(1.2 * mu) + 1003  # no whole number of blocks
    table = ZINB(mu, theta, pi).pmf_table(n_counts)
    np.testing.assert_allclose(table, scipy_pmf(np.arange(n_counts), mu, theta, pi), rtol=1e-8, atol=1e-240)


def test_table_of_a_mixture_of_laws_far_apart_is_the_mean_of_their_pmfs():
    mu, theta = np.array(EXTREME).T
    table = Mixture(ZINB(np.stack([mu, mu[::-1]], axis=1), np.stack([theta, theta[::-1]], axis=1), 0.3)).pmf_table(6000)
    expected = average_pmf(np.arange(6000), [(*p, 0.3) for p in EXTREME])
    np.testing.assert_allclose(table, [expected, expected], rtol=1e-8, atol=1e-240)


@quick
@given(mus, thetas, pis, st.floats(0, 1, exclude_max=True))
def test_quantile_inverts_the_cdf(mu, theta, pi, u):
    k = int(ZINB(mu, theta, pi).quantile(u))
    assert zinb_cdf(k, mu, theta, pi) >= u - 1e-12
    assert k == 0 or zinb_cdf(k - 1, mu, theta, pi) < u + 1e-12


def test_quantile_of_each_cells_own_count_is_that_count():
    law = ZINB(np.linspace(0.1, 1000, 500), 2.0, 0.3)
    counts = law.sample(np.random.default_rng(0))
    below = law.cdf(counts - 1)
    assert (law.quantile(below + (law.cdf(counts) - below) * 0.5) == counts).all()


@pytest.mark.parametrize("u", [1.0, 1.5, -0.1])
def test_quantile_refuses_what_is_no_probability(u):
    with pytest.raises(ValueError, match="u = ") as error:
        ZINB(3.0, 2.0, 0.5).quantile(u)
    one_line(error)


@pytest.mark.parametrize(("mu", "theta", "pi"), [(5.0, 0.7, 0.0), (3.0, 2.0, 0.8), (40.0, 1e3, 0.1)])
def test_sample_follows_the_pmf(mu, theta, pi):
    draws = ZINB(mu, theta, pi).sample(np.random.default_rng(3), 50_000)
    expected = len(draws) * scipy_pmf(np.arange(draws.max() + 1), mu, theta, pi)
    observed = np.bincount(draws)
    kept = expected >= 5
    expected = np.append(expected[kept], len(draws) - expected[kept].sum())
    observed = np.append(observed[kept], len(draws) - observed[kept].sum())
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_cells_drawn_without_their_zeros_are_those_that_sample_draws():
    laws = [
        ZINB(np.linspace(0, 9, 1500), 0.7, np.linspace(0, 1, 1500)),
        ZINB(3.0, np.linspace(0.1, 1e8, 1500), 0.9),
        ZINB(np.full(1500, 1e4), 2.0, 0.0),
    ]
    blocks = [(laws[i], n) for i, n in ((0, 200), (1, 1), (2, 3), (1, 90), (0, 1))]
    cells, rng = zinb.sample_csr(blocks, np.random.default_rng(5)), np.random.default_rng(5)
    np.testing.assert_array_equal(cells.toarray(), np.concatenate([law.sample(rng, (n, 1500)) for law, n in blocks]))
    assert cells.data.all() and cells.has_canonical_format
    assert (cells.dtype, cells.indices.dtype, cells.indptr.dtype) == (np.float32, np.int32, np.int32)


def test_cells_without_a_single_count_can_be_drawn():
    cells = zinb.sample_csr([(ZINB(np.zeros(4), 1.0, 0.5), 3), (ZINB(np.ones(4), 1.0, 1.0), 2)], np.random.default_rng(0))
    assert cells.shape == (5, 4) and cells.nnz == 0


@pytest.mark.parametrize(
    ("parameters", "named"),
    [((-1.0, 1.0, 0.5), "mu = -1"), ((np.inf, 1.0, 0.5), "mu = inf"), ((1.0, 0.0, 0.5), "theta = 0"), ((1.0, 1.0, 1.2), "pi = 1.2")],
)
def test_bad_parameters_are_named(parameters, named):
    with pytest.raises(ValueError) as error:
        ZINB(*parameters)
    one_line(error, named, "must be")


MIXED = ZINB(np.array([[1.0, 20.0], [4.0, 2.0], [9.0, 0.5]]), np.array([1.0, 50.0]), np.array([[0.5], [0.1], [0.0]]))


def mixed_pmf(k, column):
    mu, theta, pi = (np.broadcast_to(a, (3, 2))[:, column] for a in (MIXED.mu, MIXED.theta, MIXED.pi))
    return np.mean([scipy_pmf(k, *p) for p in zip(mu, theta, pi)], axis=0)


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
    expected = (scipy_pmf(np.arange(100), 1, 10, 0) + scipy_pmf(np.arange(100), 30, 10, 0)) / 2
    kept = expected * len(draws) >= 5
    observed = np.bincount(draws, minlength=100)[:100][kept]
    rest = len(draws) * (1 - expected[kept].sum())
    assert scipy.stats.chisquare([*observed, len(draws) - observed.sum()], [*(len(draws) * expected[kept]), rest]).pvalue > 1e-3


def test_mixture_index_keeps_components_together():
    law = Mixture(MIXED)
    assert law.shape == (2,)
    assert law[np.array([1, 0, 1])].shape == (3,)
    np.testing.assert_allclose(law[np.array([1, 0])].pmf(2), law.pmf(2)[::-1])
    np.testing.assert_allclose(law.parameters().mu, MIXED.mu.mean(axis=0))


def average_pmf(k, laws):
    """The mean of the pmfs of (mu, theta, pi) triples."""
    return np.mean([scipy_pmf(k, *p) for p in laws], axis=0)


def test_mixture_of_laws_has_the_average_of_their_pmfs():
    laws = [ZINB(np.array([1.0, 20.0, 4.0]), 2.0, np.array([0.5, 0.0, 0.1])), ZINB(7.0, np.array([1.0, 3.0, 50.0]), 0.3)]
    mixture, k = Mixture.of(laws), np.arange(2000)
    by_hand = [[(1.0, 2.0, 0.5), (7.0, 1.0, 0.3)], [(20.0, 2.0, 0.0), (7.0, 3.0, 0.3)], [(4.0, 2.0, 0.1), (7.0, 50.0, 0.3)]]
    assert mixture.shape == (3,)
    for cell, parts in enumerate(by_hand):
        pmf = average_pmf(k, parts)
        np.testing.assert_allclose(mixture[:, None].pmf(k)[cell], pmf, rtol=1e-8, atol=1e-280)
        np.testing.assert_allclose([mixture.mean[cell], mixture.zero_prob[cell]], [pmf @ k, pmf[0]])


def test_mixture_of_mixtures_has_the_average_of_their_pmfs():
    mu = np.array([[[1.0, 9.0], [3.0, 2.0]], [[30.0, 5.0], [8.0, 0.5]]])  # of law, component, cell
    mixture, k = Mixture.of([Mixture(ZINB(m, t, p)) for m, t, p in zip(mu, (1.0, 6.0), (0.2, 0.4))]), np.arange(60)
    for cell in range(2):
        parts = [(mu[law, i, cell], (1.0, 6.0)[law], (0.2, 0.4)[law]) for law in range(2) for i in range(2)]
        np.testing.assert_allclose(mixture.pmf_table(60)[cell], average_pmf(k, parts), rtol=1e-6)


def test_mixture_of_one_law_is_that_law():
    np.testing.assert_allclose(Mixture.of([MIXED]).pmf_table(50), MIXED.pmf_table(50), rtol=1e-9)


@pytest.mark.parametrize(
    "others",
    [[ZINB(np.ones(2), 1.0, 0.1)], [ZINB(1.0, 1.0, 0.1)], [Mixture(ZINB(np.ones((4, 3)), 1.0, 0.1))]],
    ids=["other cells", "no cells", "other components"],
)
def test_mixture_of_laws_that_do_not_match_raises_one_line(others):
    with pytest.raises(ValueError) as error:
        Mixture.of([ZINB(np.ones(3), 1.0, 0.1), *others])
    one_line(error, "laws: of shapes", "(3,)", "must be of one shape")


DRAWS = np.random.default_rng(0).poisson([[2.0], [8.0], [0.3]], (3, 40))


def test_empirical_counts_its_draws():
    law = Empirical(DRAWS)
    for cell in range(3):
        for k in (0, 1, 5, 100):
            share = np.mean([d == k for d in DRAWS[cell]])
            np.testing.assert_allclose([law.pmf(k)[cell], law[cell].pmf(k)], share)
            np.testing.assert_allclose(law.cdf(k)[cell], np.mean([d <= k for d in DRAWS[cell]]))
        assert law.mean[cell] == pytest.approx(sum(DRAWS[cell]) / 40)
        assert law.quantile(0.5)[cell] == sorted(DRAWS[cell])[19]


def test_empirical_indexes_like_an_array():
    law = Empirical(DRAWS)
    assert law[:, None].shape == law[..., None].shape == (3, 1)
    np.testing.assert_array_equal(law[np.array([2, 0])].pmf(1), law.pmf(1)[[2, 0]])
    np.testing.assert_array_equal(law[np.array([True, False, True])].pmf(1), law.pmf(1)[[0, 2]])


def test_empirical_pmf_table_is_a_histogram():
    table = Empirical(DRAWS).pmf_table(30)
    np.testing.assert_allclose(table, [np.bincount(d, minlength=30) / 40 for d in DRAWS])


def test_empirical_pmf_table_counts_draws_beyond_a_block_and_no_fractions():
    draws = [[0, 15, 16, 1000], [3.5, 16, 16, 2]]
    table = Empirical(draws).pmf_table(40)
    np.testing.assert_array_equal(table, [[(np.array(d) == k).mean() for k in range(40)] for d in draws])
    np.testing.assert_array_equal(Mixture(Empirical(draws)).pmf_table(40), table.mean(0))


def test_empirical_samples_only_its_draws():
    law = Empirical(np.repeat([[1, 1, 1, 6]], 20_000, axis=0))
    draws = law.sample(np.random.default_rng(0))
    assert set(draws) == {1, 6}
    assert abs((draws == 6).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 20_000)


@pytest.mark.parametrize("draws", [np.empty((3, 0)), [[-1.0]], [[np.nan]]])
def test_empirical_refuses_what_are_no_draws(draws):
    with pytest.raises(ValueError, match="draws") as error:
        Empirical(draws)
    one_line(error)


@quick
@given(st.floats(1e-3, 100), st.floats(0.05, 1e5), st.floats(1e-3, 1))
def test_solve_pi_reaches_its_target(mu, theta, share):
    floor = scipy_pmf(0, mu, theta, 0.0)
    target = floor + (1 - floor) * share
    np.testing.assert_allclose(scipy_pmf(0, mu, theta, zinb.solve_pi(mu, theta, target)), target, rtol=1e-9)


def test_solve_pi_says_how_many_genes_are_out_of_reach():
    with pytest.raises(ValueError) as error:
        zinb.solve_pi(np.array([0.1, 0.5, 50.0]), 1.0, 0.5)
    one_line(error, "target_zero_prob = 0.5", "2 of 3", f"{1 / 1.1:.3f}")


def test_zero_rate_is_never_clipped_in_silence():
    with pytest.warns(UserWarning, match="2 of 3"):
        pi = zinb.solve_pi(np.array([0.1, 0.5, 50.0]), 1.0, 0.5, unreachable="clip")
    assert pi[:2].tolist() == [0, 0]
    np.testing.assert_allclose(scipy_pmf(0, 50.0, 1.0, pi[2]), 0.5)


@pytest.mark.parametrize("target", [1.2, -0.1, np.nan, np.full(100, 1.2)])
def test_solve_pi_refuses_a_target_that_is_no_probability(target):
    with pytest.raises(ValueError) as error:
        zinb.solve_pi(np.ones(100), 1.0, target)
    one_line(error, "target_zero_prob = ", "from 0 to 1")
