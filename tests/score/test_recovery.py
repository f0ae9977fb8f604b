import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from lib import dataset
from lib.laws import ZINB, maximum_likelihood
from lib.score import recovery, tables

torch.set_num_threads(1)


def pmf(k, law, gene):
    """ZINB by scipy's negative binomial."""
    mu, theta, pi = law.mu[gene], law.theta[gene], law.pi[gene]
    return pi * (k == 0) + (1 - pi) * scipy.stats.nbinom.pmf(k, theta, theta / (theta + mu))


def test_squared_errors_are_means_over_cells_and_genes():
    true = ZINB(np.array([[1.0, 2.0]] * 3), np.array([[1.0, np.e]] * 3), np.full((3, 2), 0.5))
    one_a_gene = ZINB(np.array([2.0, 5.0]), np.array([np.e, np.e]), np.array([0.5, 0.9]))
    found = recovery.squared_errors(true, {"mine": one_a_gene}).set_index("metric")["value"]
    expected = {"mse_mu": (1 + 9) / 2, "mse_log_theta": 1 / 2, "mse_pi": 0.16 / 2}
    assert found.to_dict() == pytest.approx(expected)


@pytest.fixture(scope="module")
def one():
    return dataset.base_genes(300, 4, 0.6, seed=1)


def test_vaes_are_trained_at_every_beta_and_at_1(one):
    true = dataset.law(one)
    options = {"max_epochs": 2, "device": "cpu", "seed": 0}
    scores, laws = recovery.one_type(one, true, [0.5], **options)
    assert list(laws) == ["maximum_likelihood", "constant", "beta=0.5", "beta=1"]
    rows = scores.drop_duplicates(["scenario", "model"])[["scenario", "model"]]
    assert list(rows.itertuples(index=False, name=None)) == [
        ("one_type", "maximum_likelihood"),
        ("one_type", "constant"),
        ("beta=0.5", "vae"),
        ("one_type", "vae"),
    ]
    row = (scores["scenario"] == "beta=0.5") & (scores["metric"] == "mse_mu")
    assert scores.loc[row, "value"].item() == pytest.approx(
        np.mean((laws["beta=0.5"].mu - true.mu) ** 2)
    )
    again, _ = recovery.one_type(one, true, [0.5, 1.0], **options)
    kept = again[again["scenario"] != "beta=1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, scores)
    assert (again["scenario"] == "beta=1").sum() == 3


def test_the_constant_law_is_that_of_all_counts_together(one):
    _, laws = recovery.one_type(one, dataset.law(one), [], max_epochs=2, device="cpu", seed=0)
    counts = dataset.dense(one.X).ravel()
    constant = laws["constant"]
    assert constant.mean.item() == pytest.approx(counts.mean(), rel=1e-3)

    def likelihood(law):
        return np.log(pmf(counts, law, 0)).sum()

    best = likelihood(constant)
    for factor in (0.9, 1.1):
        assert likelihood(ZINB(constant.mu * factor, constant.theta, constant.pi)) < best
        assert likelihood(ZINB(constant.mu, constant.theta * factor, constant.pi)) < best


@pytest.fixture(scope="module")
def several():
    options = {"n_cell_types": 3, "dispersion_range": (0.1, 0.5), "marker_fraction": 1.0}
    return dataset.base_genes(60, 3, 0.5, **options, seed=2)


def test_types_are_fitted_apart(several):
    types = several.obs["cell_type"].to_numpy()
    mixed = np.random.default_rng(0).permutation(len(types))
    law = recovery.fitted_by_type(several.X[mixed], types[mixed])
    for name in np.unique(types):
        alone = maximum_likelihood.fit(several.X[types == name])
        there = types[mixed] == name
        for parameter in ("mu", "theta", "pi"):
            expected = np.broadcast_to(getattr(alone, parameter), (there.sum(), 3))
            np.testing.assert_allclose(getattr(law, parameter)[there], expected)


def test_the_expected_law_weighs_types_by_their_posterior(several):
    true = dataset.law(several)
    types = several.obs["cell_type"].to_numpy()
    counts = dataset.dense(several.X).astype(int)
    law = recovery.expected_law(counts, types, true)
    names = list(dict.fromkeys(types))
    of_type = [true[int(np.flatnonzero(types == name)[0])] for name in names]
    for cell in (0, 70, 150):
        likelihood = [np.prod([pmf(counts[cell, g], one, g) for g in range(3)]) for one in of_type]
        weight = np.array(likelihood) / np.sum(likelihood)
        mu = sum(w * one.mu for w, one in zip(weight, of_type))
        pi = sum(w * one.pi for w, one in zip(weight, of_type))
        log_theta = sum(w * np.log(one.theta) for w, one in zip(weight, of_type))
        np.testing.assert_allclose(law.mu[cell], mu)
        np.testing.assert_allclose(law.pi[cell], pi)
        np.testing.assert_allclose(np.log(law.theta[cell]), log_theta)
    assert np.ptp(law.mu[:, 0]) > 0


def test_several_types_are_scored_for_all_models_and_the_vae_is_left(several):
    true = dataset.law(several)
    options = {"max_epochs": 2, "device": "cpu", "seed": 0}
    scores, vae = recovery.several_types(several, true, **options)
    models = ["maximum_likelihood", "marginal", "bayes", "vae"]
    assert list(pd.unique(scores["model"])) == models
    assert set(scores["scenario"]) == {"several_types"}
    errors = scores[scores["metric"] == "mse_mu"].set_index("model")["value"]
    assert errors["vae"] == pytest.approx(np.mean((vae.reconstruct(several).mu - true.mu) ** 2))
    assert errors["bayes"] < errors["marginal"]
    renamed = several.copy()
    renamed.obs["cell_type"] = "one"
    blind, _ = recovery.several_types(renamed, true, **options)
    errors = blind[blind["metric"] == "mse_mu"].set_index("model")["value"]
    assert errors["maximum_likelihood"] == pytest.approx(errors["marginal"])


def test_the_misfit_is_half_the_sum_of_all_differences():
    law = ZINB(np.array([2.0, 9.0]), np.array([1.0, 3.0]), np.array([0.3, 0.0]))
    counts = np.array([[0, 3], [1, 3], [0, 7], [5, 0]], dtype=np.float32)
    found = recovery.misfit(counts, law)
    k = np.arange(500)
    for gene in range(2):
        observed = np.array([(counts[:, gene] == value).mean() for value in k])
        expected = 0.5 * np.abs(observed - pmf(k, law, gene)).sum()
        assert found[gene] == pytest.approx(expected, abs=1e-9)


def test_misfits_of_counts_that_are_zinb():
    law = ZINB(np.array([5.0, 8.0]), np.array([0.8, 1.5]), np.array([0.4, 0.5]))
    counts = law.sample(np.random.default_rng(0), (4000, 2))
    found = recovery.misfits(counts, ["g", "h"], seed=1)
    assert list(found.index) == ["g", "h"]
    assert (found["ZINB"] < 2 * found["sampling alone"]).all()
    assert (found["NB"] > found["ZINB"]).all() and (found["Poisson"] > 5 * found["ZINB"]).all()
    poisson = np.array([scipy.stats.poisson.pmf(np.arange(200), m) for m in counts.mean(0)])
    observed = np.array([np.bincount(c.astype(int), minlength=200) / 4000 for c in counts.T])
    expected = 0.5 * np.abs(observed[:, :200] - poisson).sum(1)
    np.testing.assert_allclose(found["Poisson"], expected, atol=1e-4)
    rows = recovery.over_genes(found).set_index("model")["value"]
    assert rows["NB"] == pytest.approx((found["NB"]["g"] + found["NB"]["h"]) / 2)


def test_the_ratio_is_taken_in_each_replicate():
    rows = [
        ("one_type", model, metric, replicate, value * (replicate + 1) ** power)
        for model, value, power in (("vae", 6.0, 2), ("maximum_likelihood", 2.0, 1))
        for metric in ("mse_mu", "mse_pi")
        for replicate in (0, 1)
    ]
    columns = ["scenario", "model", "metric", "replicate", "value"]
    table = tables.tidy([pd.DataFrame(rows, columns=columns)])
    found = recovery.ratio(table)
    assert list(found["value"]) == [3.0, 6.0]
    summary = tables.summary(table)
    shown = recovery.readable(summary, "one_type")
    assert list(shown.index) == ["vae", "maximum_likelihood"]
    assert shown.loc["vae", "mse_mu"].startswith("15 [")
