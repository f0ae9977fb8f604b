import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from lib import dataset, perturb
from lib.laws import ZINB, Empirical, Mixture, maximum_likelihood
from lib.score import distances
from tests.agreement import one_line, zinb_cdf
from tests.models_of_ones_own import APoisson

K = np.arange(100_000)
quick = settings(deadline=None, max_examples=40, derandomize=True)
parameters = st.tuples(
    st.sampled_from([0.5, 1.0, 3.0, 10.0, 40.0]),
    st.sampled_from([0.3, 1.0, 5.0, 1000.0]),
    st.sampled_from([0.0, 0.3, 0.9]),
)


def log_pmf(mu, theta, pi, k=K):
    nb = scipy.stats.nbinom.logpmf(k, theta, theta / (theta + mu))
    with np.errstate(divide="ignore"):
        return np.logaddexp(np.where(k == 0, np.log(pi), -np.inf), np.log1p(-pi) + nb)


def support(*each):
    """Counts up to where less than 1e-17 of each law is left."""
    ends = [scipy.stats.nbinom.isf(1e-17, theta, theta / (theta + mu)) for mu, theta, _ in each]
    return np.arange(int(max(ends)) + 2)


def brute_kl(true, predicted):
    k = support(true)
    log_f = log_pmf(*true, k=k)
    log_g = log_pmf(*predicted, k=k)
    kept = np.isfinite(log_f)
    return np.sum(np.exp(log_f[kept]) * (log_f[kept] - log_g[kept]))


def brute_crps(true, predicted):
    k = support(true, predicted)
    return np.sum((zinb_cdf(k, *true) - zinb_cdf(k, *predicted)) ** 2)


def laws(*each):
    return ZINB(*np.array(each, dtype=float).T)


@quick
@given(parameters, parameters)
def test_distances_are_brute_force_sums_over_a_long_support(true, predicted):
    row = distances.between(laws(true), laws(predicted)).iloc[0]
    np.testing.assert_allclose(row["kl_nats"], brute_kl(true, predicted), rtol=1e-5, atol=1e-8)
    crps = brute_crps(true, predicted)
    np.testing.assert_allclose(row["excess_crps"], crps, rtol=1e-4, atol=1e-8)


@quick
@given(parameters, parameters)
def test_distances_are_0_for_equality_only(true, predicted):
    same = distances.between(laws(true), laws(true)).iloc[0]
    assert (same == 0).all()
    assume(true != predicted)
    other = distances.between(laws(true), laws(predicted)).iloc[0]
    assert other["kl_nats"] > 1e-7 and other["excess_crps"] > 1e-9


def test_distances_come_cell_by_cell_in_the_cells_order():
    rng = np.random.default_rng(0)
    mu = rng.uniform(0.1, 200, 700)
    theta = rng.uniform(0.5, 50, 700)
    true = np.stack([mu, theta, rng.uniform(0, 0.9, 700)], axis=1)
    predicted = true[rng.permutation(700)]
    frame = distances.between(laws(*true), laws(*predicted))
    assert len(frame) == 700
    for i in range(0, 700, 35):
        kl, crps = frame["kl_nats"][i], frame["excess_crps"][i]
        np.testing.assert_allclose(kl, brute_kl(true[i], predicted[i]), rtol=1e-5)
        np.testing.assert_allclose(crps, brute_crps(true[i], predicted[i]), rtol=1e-4)


@pytest.mark.parametrize(
    "predicted", [(4.0, 0.5, 0.2), (4.0, 1e6, 0.0), (0.5, 1e6, 0.9), (80.0, 2.0, 0.0)]
)
def test_cut_of_the_support_is_harmless(monkeypatch, predicted):
    true = laws((5.0, 0.4, 0.3))
    cut = distances.between(true, laws(predicted)).iloc[0]
    monkeypatch.setattr(distances, "TAIL", 1e-15)
    monkeypatch.setattr(distances, "CRPS_TAIL", 1e-12)
    longer = distances.between(true, laws(predicted)).iloc[0]
    both = ["kl_nats", "excess_crps"]
    np.testing.assert_allclose(cut[both], longer[both], rtol=2e-5)
    np.testing.assert_allclose(cut["kl_nats"], brute_kl((5.0, 0.4, 0.3), predicted), rtol=2e-5)


EXTREME = [  # true, predicted; the last two have more counts than _MAX_COUNTS
    ((1.0, 1e-3, 0.2), (1.5, 2e-3, 0.1)),
    ((20.0, 1e6, 0.3), (25.0, 1e6, 0.5)),
    ((1e-6, 0.1, 0.5), (2e-6, 0.3, 0.2)),
    ((1e-6, 0.1, 0.0), (50.0, 0.3, 0.2)),
    ((5.0, 1.0, 1.0), (4.0, 2.0, 0.7)),
    ((5.0, 1.0, 0.0), (4.0, 2.0, 0.0)),
    ((900.0, 1e6, 0.1), (950.0, 500.0, 0.2)),
    ((8.0, 2.0, 0.5), (300.0, 0.5, 0.3)),
    ((4e4, 1e3, 0.6), (4.4e4, 1.5e3, 0.5)),
    ((4e4, 1e6, 0.0), (4e4 + 190, 1e6, 0.1)),
]


@pytest.mark.parametrize(("true", "predicted"), EXTREME)
def test_distances_of_extreme_laws_are_brute_force_sums(monkeypatch, true, predicted):
    kl, crps = brute_kl(true, predicted), brute_crps(true, predicted)
    row = distances.between(laws(true), laws(predicted)).iloc[0]
    np.testing.assert_allclose(row["kl_nats"], kl, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(row["excess_crps"], crps, rtol=1e-6, atol=1e-10)
    monkeypatch.setattr(distances, "TAIL", 1e-16)
    monkeypatch.setattr(distances, "CRPS_TAIL", 1e-10)
    row = distances.between(laws(true), laws(predicted)).iloc[0]
    np.testing.assert_allclose(row[["kl_nats", "excess_crps"]], [kl, crps], rtol=2e-9, atol=1e-12)


@pytest.mark.parametrize("n_components", [1, 16, 80])
def test_distances_of_mixtures_are_brute_force_sums(n_components):
    rng, n_counts = np.random.default_rng(n_components), 8000
    true = np.array([[10.0, 1.0, 0.7], [0.3, 0.2, 0.1], [1200.0, 1e5, 0.5], [40.0, 8.0, 0.0]])
    parts = true * [1, 1, 0.9] * np.exp(0.3 * rng.normal(size=(n_components, 4, 3)) * [1, 1, 0])
    frame = distances.between(laws(*true), Mixture(ZINB(*np.moveaxis(parts, -1, 0))))
    k = K[:n_counts]
    for cell in range(4):
        log_f = log_pmf(*true[cell], k=k)
        log_g = logsumexp([log_pmf(*p, k=k) for p in parts[:, cell]], axis=0)
        log_g -= np.log(n_components)
        kl = np.where(log_f > -700, np.exp(log_f) * (log_f - log_g), 0.0).sum()
        np.testing.assert_allclose(frame["kl_nats"][cell], kl, rtol=1e-6, atol=1e-7)
        crps = np.sum((np.cumsum(np.exp(log_f)) - np.cumsum(np.exp(log_g))) ** 2)
        np.testing.assert_allclose(frame["excess_crps"][cell], crps, rtol=1e-6)


extreme = st.tuples(
    st.sampled_from([1e-6, 0.1, 3.0, 40.0, 900.0]),
    st.sampled_from([0.1, 0.5, 7.0, 1e3, 1e6]),
    st.sampled_from([0.0, 0.5, 0.999]),
)


@quick
@given(st.lists(extreme, min_size=1, max_size=3))
def test_support_is_not_cut_before_the_tail_of_every_true_law(each):
    predicted = Empirical(np.zeros((len(each), 1)))  # which takes no time
    end = distances._sums(laws(*each), predicted, False)[-1]
    for mu, theta, pi in each:
        rest = (1 - pi) * scipy.stats.nbinom.sf(end - 1, theta, theta / (theta + mu))
        assert rest <= distances.TAIL


@pytest.mark.parametrize("predicted", [(30.0, 0.3, 0.1), (900.0, 0.2, 0.0), (60.0, 1e6, 0.0)])
def test_crps_is_not_cut_before_the_tail_of_the_prediction(predicted):
    true = (3.0, 2.0, 0.5)
    both = laws(true, true), laws(predicted, true)
    *_, apart, end = distances._sums(*both, False, distances.CRPS_TAIL)
    rest = 1 - zinb_cdf(end - 1, *predicted)
    assert rest <= distances.CRPS_TAIL
    np.testing.assert_allclose(apart, [rest, 0], atol=2 * distances.TAIL)


def test_distances_of_a_law_hardly_depend_on_those_scored_with_it():
    rng = np.random.default_rng(5)
    mu = rng.uniform(0, 300, 3000)
    theta = rng.uniform(0.3, 50, 3000)
    true = np.stack([mu, theta, rng.uniform(0, 1, 3000)], axis=1)
    predicted = true * [1.1, 0.9, 0.95]
    together = distances.between(laws(*true), laws(*predicted))
    for i in range(0, 3000, 300):
        alone = distances.between(laws(true[i]), laws(predicted[i])).iloc[0]
        np.testing.assert_allclose(alone, together.iloc[i], rtol=1e-6, atol=1e-8)


def test_memory_does_not_grow_with_the_counts():
    true = ZINB(np.linspace(5000, 10_000, 200), 50.0, 0.5)  # up to 20,000 counts: 32 MB a table
    tracemalloc.start()
    distances.between(true, ZINB(true.mu * 1.1, 40.0, 0.5))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6


@pytest.mark.parametrize("mu", [300.0, 5000.0, 200_000.0])
def test_crps_counts_the_whole_of_a_prediction_with_a_longer_tail(mu):
    k = np.arange(400)  # where the truth ends
    assert zinb_cdf(k[-1], 3.0, 2.0, 0.5) == 1
    q = mu / (1 + mu)  # with theta = 1, 1 - G(k) is 0.5 q^(k + 1): the rest is a geometric series
    expected = np.sum((zinb_cdf(k, 3.0, 2.0, 0.5) - zinb_cdf(k, mu, 1.0, 0.5)) ** 2)
    expected += 0.25 * q ** (2 * (len(k) + 1)) / (1 - q**2)
    crps = distances.between(laws((3.0, 2.0, 0.5)), laws((mu, 1.0, 0.5)))["excess_crps"][0]
    np.testing.assert_allclose(crps, expected, rtol=1e-7)


def test_kl_is_exact_where_the_prediction_underflows():
    true, predicted = (2000.0, 50.0, 0.0), (1.0, 1e6, 0.0)
    kl = distances.between(laws(true), laws(predicted))["kl_nats"][0]
    assert kl > 5000
    np.testing.assert_allclose(kl, brute_kl(true, predicted), rtol=1e-5)


def test_kl_is_infinite_where_the_prediction_lacks_the_support():
    row = distances.between(laws((5.0, 1.0, 0.3)), laws((0.0, 1.0, 0.3))).iloc[0]
    assert row["kl_nats"] == np.inf and np.isfinite(row["excess_crps"])


def test_empirical_law_is_scored_by_crps_and_mean_and_has_no_kl():
    each = [(5.0, 1.0, 0.3), (2.0, 3.0, 0.0)]
    draws = Empirical(np.stack([np.arange(20), np.full(20, 3)]))
    frame = distances.between(laws(*each), draws)
    assert set(frame.columns) == {"excess_crps", "mse_mean"}
    for i, cdf in enumerate([np.minimum((K + 1) / 20, 1), K >= 3]):
        crps = np.sum((zinb_cdf(K, *each[i]) - cdf) ** 2)
        np.testing.assert_allclose(frame["excess_crps"][i], crps, rtol=1e-6)
    np.testing.assert_allclose(frame["mse_mean"], [(9.5 - 3.5) ** 2, 1])
    marginal = laws((4.0, 1.0, 0.3), (4.0, 1.0, 0.3))
    tidy = distances.scores(laws(*each), {"marginal": marginal, "draws": draws})
    metrics = set(tidy[tidy["model"] == "draws"]["metric"])
    assert metrics == {"excess_crps", "mse_mean", "skill_crps"}
    assert {"kl_nats", "skill_kl"} < set(tidy[tidy["model"] == "marginal"]["metric"])


def test_empirical_law_of_many_draws_comes_near_the_truth():
    true = ZINB(np.array([3.0, 8.0]), 2.0, 0.5)
    draws = true.sample(np.random.default_rng(0), (20_000, 2)).T
    crps = distances.between(true, Empirical(draws))["excess_crps"]
    # E sum (F - F_n)^2 = sum F (1 - F) / n
    cdf = zinb_cdf(K, np.array([[3.0], [8.0]]), 2.0, 0.5)
    expected = np.sum(cdf * (1 - cdf), axis=1) / 20_000
    assert (crps < 5 * expected).all() and (crps > 0).all()


def test_mixture_is_scored_as_the_mean_of_its_pmfs():
    true, parts = (6.0, 3.0, 0.4), [(4.0, 2.0, 0.5), (9.0, 8.0, 0.2)]
    mixture = Mixture(ZINB(*(np.array(p)[:, None] for p in zip(*parts))))
    row = distances.between(laws(true), mixture).iloc[0]
    g = np.mean([np.exp(log_pmf(*p, k=K[:400])) for p in parts], axis=0)
    f = np.exp(log_pmf(*true, k=K[:400]))
    np.testing.assert_allclose(row["kl_nats"], np.sum(f * np.log(f / g)), rtol=1e-6)
    crps = np.sum((np.cumsum(f) - np.cumsum(g)) ** 2)
    np.testing.assert_allclose(row["excess_crps"], crps, rtol=1e-6)
    np.testing.assert_allclose(row["mse_mu"], 0.25)
    np.testing.assert_allclose(row["mse_log_theta"], (np.log(4) - np.log(3)) ** 2)
    np.testing.assert_allclose(row["mse_mean"], ((2 + 7.2) / 2 - 3.6) ** 2)


def test_weighted_mixture_is_scored_as_the_weighted_sum_of_its_pmfs():
    true, parts, weights = (6.0, 3.0, 0.4), [(4.0, 2.0, 0.5), (90.0, 8.0, 0.2)], [0.97, 0.03]
    mixture = Mixture(ZINB(*(np.array(p)[:, None] for p in zip(*parts))), weights)
    row = distances.between(laws(true), mixture).iloc[0]
    log_g = logsumexp([log_pmf(*p) for p in parts], axis=0, b=np.array(weights)[:, None])
    log_f = log_pmf(*true)
    np.testing.assert_allclose(row["kl_nats"], np.sum(np.exp(log_f) * (log_f - log_g)), rtol=1e-6)
    crps = np.sum((np.cumsum(np.exp(log_f)) - np.cumsum(np.exp(log_g))) ** 2)
    np.testing.assert_allclose(row["excess_crps"], crps, rtol=1e-6)
    np.testing.assert_allclose(row["mse_mu"], (0.97 * 4 + 0.03 * 90 - 6) ** 2)


def test_law_of_ones_own_is_scored_by_brute_force_sums_and_not_on_parameters():
    rate, true = np.array([0.5, 9.0]), [(1.0, 2.0, 0.3), (7.0, 5.0, 0.1)]
    frame = distances.between(laws(*true), APoisson(rate))
    assert set(frame.columns) == {"kl_nats", "excess_crps", "mse_mean"}
    k = K[:1000]
    for i, law in enumerate(true):
        log_f, log_g = log_pmf(*law, k=k), scipy.stats.poisson.logpmf(k, rate[i])
        kl = np.sum(np.exp(log_f) * (log_f - log_g))
        np.testing.assert_allclose(frame["kl_nats"][i], kl, rtol=1e-6)
        crps = np.sum((zinb_cdf(k, *law) - scipy.stats.poisson.cdf(k, rate[i])) ** 2)
        np.testing.assert_allclose(frame["excess_crps"][i], crps, rtol=1e-6)


def test_mixture_of_draws_is_scored_as_all_these_draws():
    true, draws = laws((5.0, 1.0, 0.3), (2.0, 3.0, 0.0)), K[:120].reshape(3, 2, 20) % 11
    frame = distances.between(true, Mixture(Empirical(draws)))
    together = distances.between(true, Empirical(np.concatenate(draws, axis=-1)))
    pd.testing.assert_frame_equal(frame, together, rtol=1e-12)


def test_squared_errors_are_those_of_the_parameters():
    row = distances.between(laws((5.0, 2.0, 0.5)), laws((8.0, 1.0, 0.25))).iloc[0]
    np.testing.assert_allclose(
        row[["mse_mu", "mse_pi", "mse_log_theta", "mse_mean"]].astype(float),
        [9, 0.0625, np.log(2) ** 2, (6 - 2.5) ** 2],
    )


def test_law_of_a_perturbed_gene_is_refused_as_a_truth():
    # the seed code compared the perturbed gene's prediction with the mechanistic gene's truth
    adata = dataset.get_mech_dataset(dataset.base_genes(30, 4, seed=1), seed=1)
    after = perturb.do(adata, {"gene_0": 5})
    prediction = dataset.law(adata, ["gene_0"])[:, 0]
    with pytest.raises(ValueError) as error:
        distances.between(dataset.law(after, ["gene_0"])[:, 0], prediction)
    one_line(error, "true", "NaN", "intervention")
    of_another = dataset.law(after, "mech_linear")[:, 0]
    assert (distances.between(of_another, prediction)["kl_nats"] > 0).all()


@pytest.mark.parametrize(("true", "predicted"), [((3,), (4,)), ((3, 1), (3, 1)), ((), ())])
def test_laws_of_other_shapes_are_refused(true, predicted):
    with pytest.raises(ValueError) as error:
        distances.between(ZINB(np.ones(true), 1.0, 0.1), ZINB(np.ones(predicted), 1.0, 0.1))
    one_line(error, "predicted: shape", "as many as the true laws")


def test_skill_is_1_for_the_oracle_0_for_the_marginal_and_negative_for_harm():
    adata = dataset.get_mech_dataset(dataset.base_genes(800, 5, seed=2), seed=2)
    true = dataset.law(adata, ["mech_linear"])[:, 0]
    marginal = maximum_likelihood.fit(adata[:, "mech_linear"].X)[np.zeros(800, dtype=int)]
    harmful = ZINB(true.mu[::-1] * 5 + 20, 0.5, 0.1 * np.ones(800))
    halfway = Mixture.of([true, marginal])
    laws = {"oracle": true, "marginal": marginal, "harmful": harmful, "halfway": halfway}
    tidy = distances.scores(true, laws)
    assert list(tidy.columns) == ["model", "metric", "value"]
    value = tidy.set_index(["model", "metric"])["value"]
    for metric in ("skill_kl", "skill_crps"):
        assert value["oracle", metric] == 1 and value["marginal", metric] == 0
        assert value["harmful", metric] < 0 < value["halfway", metric] < 1
    assert value["oracle", "kl_nats"] == value["oracle", "mse_mu"] == 0
    half, whole = (distances.between(true, law)["kl_nats"].mean() for law in (halfway, marginal))
    np.testing.assert_allclose(value["halfway", "skill_kl"], 1 - half / whole)


def test_score_without_the_marginal_is_refused_in_one_line():
    with pytest.raises(ValueError) as error:
        distances.scores(laws((3.0, 1.0, 0.1)), {"oracle": laws((3.0, 1.0, 0.1))})
    one_line(error, "predictions", "marginal")


def test_a_law_that_is_nan_in_some_cells_is_refused_and_not_left_out_of_the_mean():
    true = laws((3.0, 1.0, 0.1), (4.0, 1.0, 0.1))
    partly = laws((3.0, 1.0, 0.1), (np.nan, np.nan, np.nan))
    with pytest.raises(ValueError) as error:
        distances.scores(true, {"marginal": true, "mine": partly})
    one_line(error, "predictions['mine']", "every cell")


def test_skill_is_nan_where_the_marginal_is_exact():
    assert np.isnan(distances.skill(0.0, 0.0))
    assert distances.skill(1.0, 4.0) == 0.75


def test_slope_ratio_of_closed_cases():
    dose = np.tile(np.arange(10), 3)
    true = 2.0 + 3.0 * dose
    assert distances.slope_ratio(dose, true, true) == pytest.approx(1)
    assert distances.slope_ratio(dose, 50 + 1.5 * dose, true) == pytest.approx(0.5)
    assert distances.slope_ratio(dose, -3.0 * dose, true) == pytest.approx(-1)
    assert distances.slope_ratio(dose, np.full(30, 7.0), true) == pytest.approx(0)
    assert np.isnan(distances.slope_ratio(dose, true, np.full(30, 7.0)))
    assert np.isnan(distances.slope_ratio(np.full(30, 2), true, true))


@pytest.mark.parametrize("level", [0.1, 1.37, 7.3, 1e4])
def test_slope_ratio_is_nan_where_the_truth_is_flat_but_for_rounding(level):
    for top in (37, 61, 113, 240):
        dose = np.tile(np.unique(np.round(np.linspace(top / 2, top, 29))), 50)
        assert np.isnan(distances.slope_ratio(dose, 0.1 * dose, np.full(len(dose), level)))


def test_slope_ratio_is_the_ratio_of_least_squares_slopes():
    rng = np.random.default_rng(0)
    dose, predicted, true = rng.integers(0, 30, 200), rng.normal(size=200), rng.normal(size=200)
    expected = np.polyfit(dose, predicted, 1)[0] / np.polyfit(dose, true, 1)[0]
    assert distances.slope_ratio(dose, predicted, true) == pytest.approx(expected)


def test_a_mixture_may_be_the_truth():
    # as the laws of an arm are: against sums over all counts, the same for one law in two halves
    rng = np.random.default_rng(5)
    mu, theta = rng.gamma(2.0, 3.0, (40, 6)), rng.uniform(0.5, 5, 6)
    weights = rng.dirichlet(np.ones(40), 6).T
    weights[:5, 0] = 0
    true = Mixture(ZINB(mu, theta, 0.1), weights / weights.sum(axis=0))
    predicted = ZINB(mu.mean(axis=0) * 1.2, theta, 0.05)
    found = distances.between(true, predicted)
    k = np.arange(3000)[:, None]
    f, g = true.pmf(k), predicted.pmf(k)
    kl = np.where(f > 0, f * np.log(np.maximum(f, 1e-300) / np.maximum(g, 1e-300)), 0).sum(axis=0)
    np.testing.assert_allclose(found["kl_nats"], kl, rtol=1e-6)
    crps = (np.cumsum(f - g, axis=0) ** 2).sum(axis=0)
    np.testing.assert_allclose(found["excess_crps"], crps, rtol=1e-5)
    assert list(found) == ["kl_nats", "excess_crps", "mse_mean"]
    np.testing.assert_allclose(distances.between(true, true)["kl_nats"], 0, atol=1e-12)
