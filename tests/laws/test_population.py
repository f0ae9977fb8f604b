"""Laws of populations: mixtures over grids of rates, against plain averages."""

import numpy as np
import pytest
import scipy.stats

from lib.laws import Law, population
from lib.laws.population import TAIL, Population, Rates, Tables, aligned, mixed
from tests.agreement import scipy_pmf

STEP = np.array([0.05, 0.03, 0.06, 0.02])
THETA, PI = np.array([2.0, 0.5, 30.0, 5.0]), np.array([0.0, 0.2, 0.1, 0.0])


def samples(seed, shift=0.0):
    """Rates of 4 genes in 3000 cells: two log-normal, one of two values, one mostly 0."""
    rng = np.random.default_rng(seed)
    rates = np.exp(shift + rng.normal([[1.0], [-2.0], [0.0], [0.5]], [[0.5], [1.2], [0.1], [0.3]],
                                      (4, 3000)))  # fmt: skip
    rates[2] = np.where(rng.random(3000) < 0.3, 0.01, 40.0)
    rates[3, rng.random(3000) < 0.7] = 0
    return rates


def average(rates, gene, n_counts):
    """The mean over cells of their pmfs."""
    k, theta = np.arange(n_counts), THETA[gene]
    some = rates[gene][rates[gene] > 0][:, None]
    pmf = scipy.stats.nbinom.pmf(k, theta, theta / (theta + some)).sum(axis=0)
    pmf[0] += (rates[gene] == 0).sum()
    pmf *= (1 - PI[gene]) / rates.shape[1]
    pmf[0] += PI[gene]
    return pmf


def divergence(f, g):
    some = f > 1e-300
    return float(np.sum(f[some] * np.log(f[some] / g[some])))


RATES = Rates.of(samples(1), STEP)
LAW = Population(RATES, THETA, PI)


def test_samples_keep_their_mean_their_share_of_zeros_and_add_to_one():
    rates = samples(1)
    np.testing.assert_allclose(RATES.mean, rates.mean(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(RATES.none, 1 - (rates > 0).mean(axis=1))
    np.testing.assert_allclose(RATES.shares.sum(axis=0), 1 - RATES.none, rtol=1e-12)
    # a sample lies between its two points
    for gene in range(4):
        its_rates, own = RATES.rates[:, gene], RATES.shares[:, gene] > 0
        some = rates[gene][rates[gene] > 0]
        low, high = its_rates[own].min(), its_rates[own].max()
        assert low <= some.min() * (1 + 1e-12) and some.max() <= high * (1 + 1e-12)
        assert low > some.min() * np.exp(-1.01 * STEP[gene])
        assert high < some.max() * np.exp(1.01 * STEP[gene])


@pytest.mark.parametrize("rate", [1e-12, 0.37, 1.0, np.exp(0.05 * 7), 1e7])
def test_one_rate_is_kept_wherever_it_lies_on_the_grid(rate):
    one = Rates.of(np.full((1, 5), rate), np.array([0.05]))
    np.testing.assert_allclose(one.mean, rate, rtol=1e-12)
    np.testing.assert_allclose(one.shares.sum(), 1, rtol=1e-12)
    assert (one.shares > 1e-9).sum() <= 2 and one.shares.min() >= 0


@pytest.mark.parametrize("gene", range(4))
def test_the_law_is_the_average_of_the_cells_laws(gene):
    expected = average(samples(1), gene, 600)
    found = LAW.pmf_table(600)[gene]
    # each rate is spread over two points: a relative variance of at most step^2 / 4 more, beside
    # 1 / mean + 1 / theta, and a variance e times as large is e^2 / 4 nats away
    least = 1 / samples(1)[gene].max() + 1 / THETA[gene]
    assert divergence(expected, found) < (STEP[gene] ** 2 / 4 / least) ** 2 / 4
    np.testing.assert_allclose(LAW.mean[gene], expected @ np.arange(600), rtol=1e-5)
    np.testing.assert_allclose(LAW.zero_prob[gene], expected[0], rtol=1e-3)


def test_the_error_of_a_grid_falls_as_the_fourth_power_of_its_step():
    expected = average(samples(1), 0, 200)
    coarse, fine = (
        divergence(expected, Population(Rates.of(samples(1), h * np.ones(4)), THETA, PI)
                   .pmf_table(200)[0]) for h in (0.4, 0.1)
    )  # fmt: skip
    assert 0 < fine < coarse / 100


def test_it_is_a_law():
    assert isinstance(LAW, Law) and LAW.shape == (4,)
    k = np.arange(3000)
    pmf = LAW.pmf_table(3000)
    np.testing.assert_allclose(pmf.sum(axis=1), 1, rtol=1e-9)
    np.testing.assert_allclose(np.exp(LAW[:, None].log_prob(k[:80])), pmf[:, :80], rtol=1e-7)
    np.testing.assert_allclose(LAW[:, None].cdf(k[:80]), np.cumsum(pmf, axis=1)[:, :80], rtol=1e-9)
    np.testing.assert_allclose(LAW.mean, pmf @ k, rtol=1e-6)
    for u in (0.0, 0.3, 0.9, 0.999):
        found = LAW.quantile(u)
        np.testing.assert_array_equal(found, (np.cumsum(pmf, axis=1) >= u).argmax(axis=1))
    for gene in range(4):
        np.testing.assert_allclose(LAW[gene].pmf_table(50), pmf[gene, :50], rtol=1e-9)
        np.testing.assert_allclose(LAW[[gene, 0]].pmf_table(50)[0], pmf[gene, :50], rtol=1e-9)
    for tail in (1e-9, 1e-4):
        beyond = 1 - np.cumsum(pmf, axis=1)[np.arange(4), LAW.reach(tail).astype(int) + 1]
        assert (beyond <= tail).all()


def test_draws_come_in_the_shares_of_the_pmf():
    draws, pmf = LAW.sample(np.random.default_rng(0), (20_000, 4)), LAW.pmf_table(3000)
    for gene in range(4):
        expected = 20_000 * pmf[gene]
        kept = expected >= 5
        observed = np.bincount(draws[:, gene], minlength=3000)
        groups = [np.append(a[kept], 20_000 - a[kept].sum()) for a in (observed, expected)]
        assert scipy.stats.chisquare(*groups).pvalue > 1e-3


def test_product_of_independent_rates():
    one, other = samples(1), samples(2, shift=-1.0)
    product = RATES.times(Rates.of(other, STEP))
    np.testing.assert_allclose(product.mean, one.mean(axis=1) * other.mean(axis=1), rtol=1e-12)
    none = [(one[3] == 0).mean(), (other[3] == 0).mean()]
    np.testing.assert_allclose(product.none[3], none[0] + none[1] - none[0] * none[1])
    rates = (one[0, ::20, None] * other[0, ::20]).ravel()
    few = [Rates.of(values[:, ::20], STEP) for values in (one, other)]
    law = Population(few[0].times(few[1]), THETA, PI).pmf_table(200)[0]
    k, theta = np.arange(200), THETA[0]
    pmf = scipy.stats.nbinom.pmf(k, theta, theta / (theta + rates[:, None])).mean(axis=0)
    assert divergence(pmf, law) < STEP[0] ** 4


def test_mixture_with_a_part_taken_away_again():
    other = Rates.of(samples(2, shift=0.5), STEP)
    both = mixed([RATES, other], [0.25, 0.75])
    np.testing.assert_allclose(both.mean, 0.25 * RATES.mean + 0.75 * other.mean, rtol=1e-12)
    np.testing.assert_allclose(both.none, 0.25 * RATES.none + 0.75 * other.none)
    back = mixed([both, RATES], [4 / 3, -1 / 3])
    _, (one, two), (none, of_other) = aligned([back, other])
    np.testing.assert_allclose(one, two, atol=1e-15)
    np.testing.assert_allclose(none, of_other, atol=1e-15)


def test_put_replaces_some_genes_alone():
    other = Rates.of(samples(2, shift=3.0), STEP)
    genes = np.array([2, 0])
    of_genes = other.first[genes], other.shares[:, genes], other.none[genes]
    new = RATES.put(genes, Rates(other.step[genes], *of_genes))
    for gene in range(4):
        source = other if gene in genes else RATES
        np.testing.assert_allclose(new.mean[gene], source.mean[gene], rtol=1e-12)
        assert new.none[gene] == source.none[gene] and new.first[gene] == source.first[gene]


def test_rates_of_nothing_are_zeros():
    rates = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 2.0]])
    law = Population(Rates.of(rates, np.array([0.05, 0.05])), np.array([2.0, 2.0]), np.zeros(2))
    np.testing.assert_array_equal(law[0].pmf(np.arange(4)), [1, 0, 0, 0])
    np.testing.assert_array_equal(law.mean[0], 0)
    np.testing.assert_allclose(law.mean[1], 1.0)
    assert law.sample(np.random.default_rng(0), (50, 2))[:, 0].max() == 0
    assert law.quantile(0.999)[0] == 0 and np.isfinite(law.reach(1e-9)).all()


def test_tables_give_the_pmf_of_the_population():
    captures = 0.2 * np.exp(np.random.default_rng(5).normal(0, 0.4, (4, 2000)))
    captures[1, :500] = 0
    scale = Rates.of(captures, STEP)
    tables = Tables(scale, THETA, PI)
    for shift in (0.0, 1.5, -2.0):  # the tables grow at either end
        own = Rates.of(samples(3, shift), STEP)
        expected = Population(own.times(scale), THETA, PI)
        for gene in range(4):
            shares = np.trim_zeros(own.shares[:, gene], "b")[None]
            found = tables.pmf(gene, own.first[gene], shares, own.none[[gene]])[0]
            np.testing.assert_allclose(
                found, expected.pmf_table(len(found))[gene], rtol=1e-7, atol=1e-13
            )
            assert abs(found.sum() - 1) < 10 * TAIL


def test_a_fine_grid_of_one_gene_does_not_lead_beyond_floats_for_another():
    wide = np.stack([np.geomspace(1e-3, 1e4, 50), np.full(50, 2.0)])
    law = Population(Rates.of(wide, np.array([1e-3, 0.06])), np.array([1e6, 2.0]), np.zeros(2))
    np.testing.assert_allclose(law.mean, wide.mean(axis=1), rtol=1e-9)
    expected = scipy_pmf(np.arange(30), 2.0, 2.0, 0.0)
    np.testing.assert_allclose(law.pmf_table(30)[1], expected, atol=1e-3)


def test_a_log_normal_mixture_of_poissons_is_that_of_quadrature():
    quantiles = scipy.stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    rates = np.exp(1 + 0.7 * quantiles)[None]
    law = Population(Rates.of(rates, np.array([0.02])), np.array([1e7]), np.zeros(1))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    pmf = scipy.stats.poisson.pmf(np.arange(60), np.exp(1 + 0.7 * nodes)[:, None])
    exact = weights @ pmf / weights.sum()
    assert divergence(exact, law.pmf_table(60)[0]) < 1e-6


def test_a_law_too_large_for_a_table_is_the_same(monkeypatch):
    rng = np.random.default_rng(8)
    rates = Rates.of(rng.gamma(3.0, 20.0, (2, 500)), np.array([0.05, 0.03]))
    scale = Rates.of(rng.uniform(0.1, 0.3, (2, 300)), rates.step)
    tables = Tables(scale, np.array([2.0, 9.0]), np.array([0.1, 0.0]))
    given = int(rates.first[0]), rates.shares[None, :, 0], rates.none[:1]
    whole = tables.pmf(0, *given)
    monkeypatch.setattr(population, "_LARGEST", 0)
    np.testing.assert_allclose(tables.pmf(0, *given), whole, atol=1e-14)
