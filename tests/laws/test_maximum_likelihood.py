import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.discrete.count_model import ZeroInflatedNegativeBinomialP
from statsmodels.discrete.discrete_model import NegativeBinomial

from lib.laws import maximum_likelihood
from tests.agreement import exact_log_prob, one_line, scipy_pmf

quick = settings(deadline=None, max_examples=40, derandomize=True)


def draws_of(mu, theta, pi, n, seed):
    """(n, ...) counts by scipy, not by lib."""
    rng = np.random.default_rng(seed)
    mu, theta, pi = np.broadcast_arrays(mu, theta, pi)
    size = (n, *mu.shape)
    counts = scipy.stats.nbinom.rvs(theta, theta / (theta + mu), size=size, random_state=rng)
    return counts * (rng.random(size) >= pi)


def total_log_lik(law, counts):
    return np.log(scipy_pmf(counts, float(law.mu), float(law.theta), float(law.pi))).sum()


@pytest.mark.parametrize(
    ("mu", "theta", "pi"), [(8.0, 1.0, 0.6), (3.0, 5.0, 0.3), (30.0, 0.8, 0.8)]
)
def test_fit_agrees_with_statsmodels_where_zeros_are_inflated(mu, theta, pi):
    counts = draws_of(mu, theta, pi, 1500, seed=2)
    ones = np.ones((len(counts), 1))
    start = [np.log(pi / (1 - pi)), np.log(mu), 1 / theta]
    model = ZeroInflatedNegativeBinomialP(counts, ones, ones, p=2)
    theirs = model.fit(start_params=start, method="bfgs", maxiter=500, disp=0)
    law = maximum_likelihood.fit(counts[:, None])[0]
    logit, log_mu, alpha = theirs.params
    expected = [1 / (1 + np.exp(-logit)), np.exp(log_mu), 1 / alpha]
    np.testing.assert_allclose([law.pi, law.mu, law.theta], expected, rtol=0.005)
    assert abs(total_log_lik(law, counts) - theirs.llf) < 1e-3


def test_fit_agrees_with_statsmodels_where_zeros_are_not_inflated():
    counts = draws_of(4.0, 2.0, 0.0, 1500, seed=3)
    kept = (counts > 0) | (np.arange(1500) % 3 > 0)
    counts = counts[kept]  # fewer zeros than any negative binomial has
    theirs = NegativeBinomial(counts, np.ones((len(counts), 1))).fit(disp=0)
    law = maximum_likelihood.fit(counts[:, None])[0]
    assert law.pi == 0
    log_mu, alpha = theirs.params
    np.testing.assert_allclose([law.mu, law.theta], [np.exp(log_mu), 1 / alpha], rtol=0.005)
    assert abs(total_log_lik(law, counts) - theirs.llf) < 1e-3


def fisher_standard_errors(x, n):
    """Of (log mu, log theta, logit pi), from the score's covariance summed over the pmf."""

    def log_pmf(x):
        pi = 1 / (1 + np.exp(-x[2]))
        return np.log(scipy_pmf(np.arange(400), np.exp(x[0]), np.exp(x[1]), pi))

    step = 1e-5 * np.eye(3)
    score = np.array([(log_pmf(x + h) - log_pmf(x - h)) / 2e-5 for h in step])
    return np.sqrt(np.diag(np.linalg.inv(n * (score * np.exp(log_pmf(x))) @ score.T)))


def test_fit_scatters_around_known_parameters_as_fisher_information_says():
    x, n, n_genes = np.array([np.log(6.0), np.log(1.5), 0.5]), 5000, 80
    counts = draws_of(np.full(n_genes, 6.0), 1.5, 1 / (1 + np.exp(-0.5)), n, seed=4)
    fitted = maximum_likelihood.fit(counts)
    logit = np.log(fitted.pi / (1 - fitted.pi))
    estimates = np.array([np.log(fitted.mu), np.log(fitted.theta), logit]).T
    z = (estimates - x) / fisher_standard_errors(x, n)
    assert (np.abs(z.mean(axis=0)) < 4 / np.sqrt(n_genes)).all()
    assert (np.abs(z.std(axis=0) - 1) < 0.25).all()


def test_fit_of_sparse_equals_fit_of_dense_and_leaves_it_alone():
    counts = draws_of(np.linspace(1, 10, 6), 1.0, 0.5, 300, seed=5)
    dense = maximum_likelihood.fit(counts)
    for kind in (scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, scipy.sparse.csr_array):
        matrix = kind(counts)
        law = maximum_likelihood.fit(matrix)
        for name in ("mu", "theta", "pi"):
            np.testing.assert_array_equal(getattr(law, name), getattr(dense, name))
        assert (matrix.toarray() == counts).all()


@pytest.mark.parametrize(
    "counts",
    [
        np.ones(200),
        np.full(200, 5),
        np.random.default_rng(0).binomial(10, 0.5, 200),
        np.arange(200) % 2,
        np.eye(1, 200)[0],
    ],
    ids=["all ones", "all fives", "binomial", "zeros and ones", "a single count"],
)
def test_fit_of_an_underdispersed_gene_is_as_good_as_a_poisson(counts):
    law = maximum_likelihood.fit(counts[:, None])[0]
    assert law.pi == 0
    np.testing.assert_allclose(law.mu, counts.mean(), rtol=1e-6)
    poisson = scipy.stats.poisson.logpmf(counts, counts.mean()).sum()
    assert abs(law.log_prob(counts).sum() - poisson) < 0.02


def test_fit_of_a_gene_without_counts_has_only_zeros():
    law = maximum_likelihood.fit(np.zeros((50, 2)))
    assert law.mu.tolist() == [0, 0]
    assert law.zero_prob.tolist() == [1, 1]


@quick
@given(st.lists(st.integers(0, 60), min_size=1, max_size=30))
def test_fit_of_any_counts_is_at_least_as_good_as_poisson_and_geometric(counts):
    counts = np.array(counts)
    law, mean = maximum_likelihood.fit(counts[:, None])[0], counts.mean()
    others = [scipy_pmf(counts, mean, theta, 0.0) for theta in (1e8, 1.0)]
    assert law.log_prob(counts).sum() >= max(np.log(p).sum() for p in others) - 1e-3


def best_by_scipy(counts):
    """The highest log-likelihood of a ZINB of these counts, by a search without slopes."""

    def loss(x):
        mu, theta, pi = np.exp(x[0]), np.exp(x[1]), scipy.special.expit(x[2])
        drawn = np.log1p(-pi) + scipy.stats.nbinom.logpmf(counts, theta, theta / (theta + mu))
        return -np.where(counts == 0, np.logaddexp(np.log(pi), drawn), drawn).sum()

    mean = counts[counts > 0].mean()
    starts = [
        (np.log(mean), 2.0, 0.0),
        (np.log(mean / 3), -0.7, -2.0),
        (np.log(counts.mean()), 4.0, -12.0),
    ]
    search = {"method": "Nelder-Mead", "bounds": [(-12, 16), np.log([1e-4, 1e6]), (-30, 6)]}
    options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-7, "fatol": 1e-9, "adaptive": True}
    found = [scipy.optimize.minimize(loss, s, **search, options=options) for s in starts]
    return -min(one.fun for one in found)


MANY = np.stack(
    [
        draws_of(6.0, 1.5, 0.6, 400, seed=6),
        draws_of(2.0, 0.3, 0.0, 400, seed=7),
        draws_of(150.0, 4.0, 0.3, 400, seed=8),
        draws_of(3.0, 1e6, 0.5, 400, seed=9),
        draws_of(20.0, 2.0, 0.0, 400, seed=10) + 1,
        draws_of(0.05, 1.0, 0.0, 400, seed=11),
        draws_of(1.2, 30.0, 0.95, 400, seed=12),
        draws_of(3e5, 1.0, 0.8, 400, seed=13),
        np.floor(np.exp(np.random.default_rng(14).normal(1.0, 2.0, 400))),
        np.arange(400) == 0,
        np.zeros(400),
        np.ones(400),
    ],
    axis=1,
)


@pytest.mark.parametrize("gene", range(10))
def test_fit_of_many_genes_at_once_is_the_best_that_scipy_finds_for_each(gene):
    counts, law = MANY[:, gene].astype(float), maximum_likelihood.fit(MANY)[gene]
    pmf = scipy_pmf(counts, float(law.mu), float(min(law.theta, 1e6)), float(law.pi))
    with np.errstate(divide="ignore"):
        found = np.log(pmf).sum()
    best = best_by_scipy(counts)
    assert found > best - 1e-6 * abs(best) - 1e-5  # rounding of scipy's own at theta of 1e6
    assert found < best + 1e-4 * abs(best) + 1e-3


def test_fit_of_a_gene_does_not_depend_on_the_genes_beside_it():
    for zero_inflated in (True, False):
        many = maximum_likelihood.fit(np.tile(MANY, 300), zero_inflated)
        for gene in range(MANY.shape[1]):
            alone = maximum_likelihood.fit(MANY[:, [gene]], zero_inflated)
            for name in ("mu", "theta", "pi"):
                values = getattr(many, name)[gene :: MANY.shape[1]]
                np.testing.assert_allclose(values, getattr(alone, name)[0], rtol=1e-8)


@pytest.mark.parametrize(
    "counts",
    [
        [10**6, 2 * 10**6, 1_500_000, 0, 0],
        [31, 32, 33, 34, 60, 25, 28, 40, 22],
        [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 0, 0, 0, 0, 0, 0, 0],
        [10_000, 10_100, 9_900, 10_123, 9_850, 10_060, 9_700],  # nearly a Poisson
    ],
    ids=["a million", "thirties", "digits", "nearly a Poisson"],
)
def test_fit_is_at_the_top_of_the_likelihood_with_60_digits(counts):
    law = maximum_likelihood.fit(np.array(counts)[:, None])[0]

    def log_lik(mu, theta, pi):
        drawn = np.log1p(-pi) + [exact_log_prob(k, mu, theta) for k in counts]
        with np.errstate(divide="ignore"):
            zero = np.logaddexp(np.log(pi), drawn)
        return np.where(np.array(counts) == 0, zero, drawn).sum()

    found = np.array([law.mu, law.theta, law.pi])
    up, down = 1 + 1e-5 * np.eye(3), 1 - 1e-5 * np.eye(3)
    assert 0.01 < law.theta < 1e7
    for higher, lower in zip(up, down):  # per step in log mu, log theta and log pi
        assert abs(log_lik(*found * higher) - log_lik(*found * lower)) < 2e-5 * 1e-6 * len(counts)


def test_fit_adds_up_an_entry_that_a_sparse_matrix_gives_twice():
    entries = [2.0, 1.0, 3.0, 0.0], [1, 1, 0, 0], [0, 2, 3, 4, 4]
    counts = scipy.sparse.csr_matrix(entries, shape=(4, 2))
    law, by_hand = maximum_likelihood.fit(counts), maximum_likelihood.fit(counts.toarray())
    assert (law.mu == by_hand.mu).all() and (law.pi == by_hand.pi).all()
    np.testing.assert_allclose(law.mean, 0.75)
    assert counts.nnz == 4


@pytest.mark.parametrize("value", [-1, 0.5, np.nan, np.inf])
def test_fit_refuses_what_are_no_counts(value):
    counts = np.ones((10, 3))
    counts[2, 1] = value
    with pytest.raises(ValueError, match="gene 1 must be whole numbers") as error:
        maximum_likelihood.fit(counts)
    one_line(error)
