import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.laws import ZINB, zinb
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
    law = ZINB(mu, theta, 0.0)
    for k in (0, 1, 20, 1000, 10**6):
        exact = exact_log_prob(k, mu, theta)
        np.testing.assert_allclose(law.log_prob(k), exact, rtol=1e-8, atol=1e-8)


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
        found = [law.pmf(4)[i, j], law[i, j].pmf(4), law[[i]][:, j].pmf(4)[0]]
        np.testing.assert_allclose(found, scipy_pmf(4, mu[i, 0], theta[j], pi))
    k = np.arange(9)
    np.testing.assert_allclose(law[..., None].pmf(k)[2, 1], scipy_pmf(k, 3.0, 5.0, 0.2))
    assert law[np.array([True, False, True])].shape == (2, 2)


@quick
@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0.05, 1e8), pis), min_size=1, max_size=4))
def test_pmf_table_equals_pmf(parameters):
    law = ZINB(*np.array(parameters).T)
    table = law.pmf_table(120)
    assert table.shape == (len(parameters), 120)
    for i, row in enumerate(table):
        np.testing.assert_allclose(row, law[i].pmf(np.arange(120)), rtol=1e-5, atol=1e-240)


EXTREME = [
    (800.0, 1e6),
    (5000.0, 1e6),
    (5000.0, 300.0),
    (1e5, 1e4),
    (1e5, 0.5),
    (3.0, 1e-3),
    (0.01, 1e3),
    (0.0, 1.0),
]


@pytest.mark.parametrize(("mu", "theta"), EXTREME)
def test_long_table_is_the_pmf_of_scipy(mu, theta):
    n_counts = int(1.2 * mu) + 1003  # no whole number of blocks
    pi = np.array([0.0, 0.4, 1.0])
    k = np.arange(n_counts)
    nb = scipy_pmf(k, mu, theta, 0.0)
    table = ZINB(mu, theta, pi).pmf_table(n_counts)
    expected = pi[:, None] * (k == 0) + (1 - pi)[:, None] * nb
    np.testing.assert_allclose(table, expected, rtol=1e-8, atol=1e-240)
    np.testing.assert_array_equal(ZINB(mu, theta, 0.4).pmf_table(99), table[1, :99])


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


@pytest.mark.parametrize(
    ("mu", "theta", "pi"), [(5.0, 0.7, 0.0), (3.0, 2.0, 0.8), (40.0, 1e3, 0.1)]
)
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
    cells = zinb.sample_csr(blocks, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    expected = np.concatenate([law.sample(rng, (n, 1500)) for law, n in blocks])
    np.testing.assert_array_equal(cells.toarray(), expected)
    assert cells.data.all() and cells.has_canonical_format
    assert cells.dtype == np.float32 and cells.indices.dtype == cells.indptr.dtype == np.int32


def test_cells_without_a_single_count_can_be_drawn():
    blocks = [(ZINB(np.zeros(4), 1.0, 0.5), 3), (ZINB(np.ones(4), 1.0, 1.0), 2)]
    cells = zinb.sample_csr(blocks, np.random.default_rng(0))
    assert cells.shape == (5, 4) and cells.nnz == 0


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ((-1.0, 1.0, 0.5), "mu = -1"),
        ((np.inf, 1.0, 0.5), "mu = inf"),
        ((1.0, 0.0, 0.5), "theta = 0"),
        ((1.0, 1.0, 1.2), "pi = 1.2"),
    ],
)
def test_bad_parameters_are_named(parameters, named):
    with pytest.raises(ValueError) as error:
        ZINB(*parameters)
    one_line(error, named, "must be")


@quick
@given(st.floats(1e-3, 100), st.floats(0.05, 1e5), st.floats(1e-3, 1))
def test_solve_pi_reaches_its_target(mu, theta, share):
    floor = scipy_pmf(0, mu, theta, 0.0)
    target = floor + (1 - floor) * share
    pi = zinb.solve_pi(mu, theta, target)
    np.testing.assert_allclose(scipy_pmf(0, mu, theta, pi), target, rtol=1e-9)


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
