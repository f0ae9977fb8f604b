import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors

from lib import dataset, metrics, perturb, predictors, zinb

torch.set_num_threads(1)

PARENTS = ["gene_0", "gene_1", "gene_2"]
GENES = [*PARENTS, "gene_3", "mech"]


def tiny_vae(inputs=None, **options):
    training_options = {"max_epochs": 2, "batch_size": 256}
    vae_options = {"n_latent": 3, "n_hidden": 16} | options.pop("vae_options", {})
    return predictors.VAE(inputs, vae_options=vae_options, training_options=training_options, device="cpu", **options)


KINDS = {
    "oracle": predictors.Oracle,
    "marginal": predictors.Marginal,
    "ridge": predictors.ridge,
    "neighbours": predictors.neighbours,
    "boosting": predictors.boosting,
    "zinb_regression": predictors.ZINBRegression,
    "vae": tiny_vae,
}


@pytest.fixture(scope="module")
def train():
    base = dataset.base_genes(1000, 4, 0.4, mu_range=(4, 10), seed=1)
    weights = {"weights": np.array([1.5, 0.5, 1.0])}
    return dataset.get_mech_dataset(base, "linear", gene="mech", parents=PARENTS, parameters=weights, target_zero_prob=0.3, seed=1)


@pytest.fixture(scope="module")
def cells(train):
    return dataset.fresh_cells(train, 150, seed=2)


@pytest.fixture(scope="module")
def fitted(train):
    return {name: kind().fit(train) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def fitted_to_two(train):
    return {name: kind(["gene_0", "gene_1"]).fit(train) for name, kind in KINDS.items()}


every_kind = pytest.mark.parametrize("kind", KINDS)
every_model = pytest.mark.parametrize("kind", [k for k in KINDS if k != "oracle"])


def counts_of(adata, gene):
    return dataset.dense(adata[:, gene].X).ravel()


def with_other_counts(adata, genes, seed=0):
    """The same cells with the counts of some genes replaced by other, larger ones."""
    rng = np.random.default_rng(seed)
    return dataset.with_counts(adata, {g: rng.permutation(counts_of(adata, g)) + rng.integers(0, 9, adata.n_obs) for g in genes})


def table(law):
    return law.pmf_table(60)


@every_kind
@pytest.mark.parametrize("gene", ["mech", "gene_3"])
def test_a_prediction_is_one_proper_law_a_cell(fitted, cells, kind, gene):
    law = fitted[kind].predict(cells, gene)
    assert law.shape == (cells.n_obs,)
    assert law.mean.shape == (cells.n_obs,)
    pmf = law[:, None].pmf(np.arange(5000))
    assert (pmf >= 0).all()
    np.testing.assert_allclose(pmf.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(pmf @ np.arange(5000), law.mean, rtol=1e-3)


@every_kind
@pytest.mark.parametrize("gene", ["mech", "gene_0"])
def test_no_prediction_sees_the_count_that_it_predicts(fitted, cells, kind, gene):
    before = table(fitted[kind].predict(cells, gene))
    after = table(fitted[kind].predict(with_other_counts(cells, [gene]), gene))
    np.testing.assert_array_equal(before, after)


def test_the_leaky_vae_does_see_it(train, cells):
    leaky = tiny_vae(leaky=True).fit(train)
    before = leaky.predict(cells, "mech").mean
    assert not np.array_equal(before, leaky.predict(with_other_counts(cells, ["mech"]), "mech").mean)


@every_model
def test_no_prediction_sees_a_gene_that_is_no_input(fitted_to_two, cells, kind):
    before = table(fitted_to_two[kind].predict(cells, "mech"))
    after = table(fitted_to_two[kind].predict(with_other_counts(cells, ["gene_2", "gene_3", "mech"]), "mech"))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "marginal"])
def test_predictions_follow_the_inputs(fitted_to_two, cells, kind):
    before = fitted_to_two[kind].predict(cells, "mech").mean
    after = fitted_to_two[kind].predict(with_other_counts(cells, ["gene_0"]), "mech").mean
    assert not np.array_equal(before, after)


@every_kind
def test_a_prediction_repeats(fitted, cells, kind):
    np.testing.assert_array_equal(*(table(fitted[kind].predict(cells, "mech")) for _ in range(2)))


@every_kind
def test_prediction_leaves_global_random_states_and_cells_alone(fitted, cells, kind):
    copy, torch_state, numpy_state = cells.copy(), torch.get_rng_state(), np.random.get_state()[1].copy()
    fitted[kind].predict(cells, "mech")
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    np.testing.assert_array_equal(dataset.dense(copy.X), dataset.dense(cells.X))


@every_kind
def test_an_unknown_gene_raises_one_line(fitted, cells, kind):
    with pytest.raises(ValueError, match="'nonsense'") as error:
        fitted[kind].predict(cells, "nonsense")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["ridge", "boosting", "zinb_regression", "vae"])
def test_an_unknown_input_raises_one_line(train, kind):
    with pytest.raises(ValueError, match="inputs = 'nonsense'") as error:
        KINDS[kind](["gene_0", "nonsense"]).fit(train).predict(train, "mech")
    assert "\n" not in str(error.value)


@every_model
def test_cells_with_their_genes_in_another_order_are_predicted_alike_or_refused(fitted, cells, kind):
    in_order = table(fitted[kind].predict(cells, "mech"))
    try:
        other = table(fitted[kind].predict(cells[:, GENES[::-1]].copy(), "mech"))
    except ValueError as error:
        assert "genes" in str(error) and "\n" not in str(error)
    else:
        np.testing.assert_allclose(other, in_order, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["ridge", "neighbours", "boosting", "zinb_regression", "vae"])
def test_cells_that_lack_a_gene_of_the_training_cells_raise_one_line(fitted, cells, kind):
    with pytest.raises(ValueError, match="gene") as error:
        fitted[kind].predict(cells[:, [g for g in GENES if g != "gene_1"]].copy(), "mech")
    assert "\n" not in str(error.value)


def test_oracle_is_the_true_law_after_an_intervention(cells):
    after = perturb.do(cells, {"gene_0": 12, "gene_2": 5})
    law = predictors.Oracle().fit(cells).predict(after, "mech")
    by_hand = 1.5 * 12 + 0.5 * counts_of(after, "gene_1") + 5
    np.testing.assert_allclose(law.mu, by_hand)
    truth = dataset.law(after, ["mech"])[:, 0]
    np.testing.assert_array_equal(law.theta, truth.theta)
    np.testing.assert_array_equal(law.pi, truth.pi)


def test_marginal_is_the_maximum_likelihood_law_in_every_cell(fitted, train, cells):
    law = fitted["marginal"].predict(cells, "gene_3")
    expected = zinb.fit(train[:, ["gene_3"]].X)
    for name in ("mu", "theta", "pi"):
        np.testing.assert_allclose(getattr(law, name), np.full(cells.n_obs, getattr(expected, name)[0]))
    counts = counts_of(train, "gene_3")
    better = fitted["marginal"].predict(train, "gene_3").log_prob(counts).sum()
    assert better >= dataset.law(train, ["gene_3"])[:, 0].log_prob(counts).sum()


def matrix(adata, genes):
    return dataset.dense(adata[:, genes].X).astype(float)


def neighbours_by_hand(x, y, new):
    index = NearestNeighbors(n_neighbors=50, algorithm="brute").fit(np.log1p(x)).kneighbors(np.log1p(new), return_distance=False)
    return y[index].mean(1)


BY_HAND = {
    "ridge": lambda x, y, new: RidgeCV(np.logspace(-2, 4, 13)).fit(x, y).predict(new),
    "boosting": lambda x, y, new: HistGradientBoostingRegressor(
        loss="poisson", max_iter=300, max_leaf_nodes=15, early_stopping=True, random_state=0
    ).fit(x, y).predict(new),
    "neighbours": neighbours_by_hand,
}  # fmt: skip


@pytest.mark.parametrize("kind", BY_HAND)
def test_mean_of_a_mean_regression_is_that_of_scikit_learn_above_a_floor(fitted, train, cells, kind):
    law = fitted[kind].predict(cells, "mech")
    others = [g for g in GENES if g != "mech"]
    expected = BY_HAND[kind](matrix(train, others), counts_of(train, "mech").astype(float), matrix(cells, others))
    above = expected > law.mean.min() + 1e-9
    assert above.mean() > 0.6
    np.testing.assert_allclose(((1 - law.pi) * law.mu)[above], expected[above], rtol=1e-6)
    np.testing.assert_allclose(law.mean[~above], law.mean.min())


@pytest.mark.parametrize(("kind", "skill"), [("ridge", 0.8), ("neighbours", 0.4), ("boosting", 0.5), ("zinb_regression", 0.95)])
def test_simple_regressions_come_closer_to_a_linear_truth_than_the_marginal(fitted, cells, kind, skill):
    truth = dataset.law(cells, ["mech"])[:, 0]
    kl = {name: metrics.distances(truth, fitted[name].predict(cells, "mech"))["kl_nats"].mean() for name in (kind, "marginal")}
    assert 1 - kl[kind] / kl["marginal"] > skill


WEIGHTS, THETA, PI = np.array([2.0, 0.5, 1.0]), 10.0, 0.5


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(0)
    x = rng.integers(3, 20, (10_000, 3)).astype(float)
    truth = zinb.ZINB(x @ WEIGHTS, THETA, PI)
    y = truth.sample(rng).astype(float)
    return x, y, truth, predictors.ZINBRegression().fit_gene(x, y)


def test_zinb_regression_recovers_the_weights_of_a_linear_mechanism(regression):
    x, _, truth, law_of = regression
    point = np.full(3, 10.0)
    slopes = [law_of((point + step)[None]).mu[0] - law_of(point[None]).mu[0] for step in np.eye(3)]
    # mu is far from 0, so zeros are dropout and the Fisher information is that of the NB alone
    design = np.column_stack([np.ones(len(x)), x])
    information = design.T @ (design * ((1 - PI) / (truth.mu + truth.mu**2 / THETA))[:, None])
    standard_errors = np.sqrt(np.diag(np.linalg.inv(information)))[1:]
    assert (standard_errors < 0.05).all()
    np.testing.assert_array_less(np.abs(slopes - WEIGHTS), 4 * standard_errors)


def test_zinb_regression_recovers_theta_and_pi(regression):
    x, _, _, law_of = regression
    law = law_of(x[:1])
    assert law.theta[()] == pytest.approx(THETA, rel=0.15)
    assert law.pi[()] == pytest.approx(PI, abs=4 * np.sqrt(0.25 / 10_000))


def test_zinb_regression_is_likelier_than_the_truth_on_its_training_cells_but_not_by_much(regression):
    x, y, truth, law_of = regression
    gain = law_of(x).log_prob(y).sum() - truth.log_prob(y).sum()
    # Wilks: twice the gain is chi-squared with as many degrees as there are free parameters
    assert 0 <= 2 * gain < scipy.stats.chi2.ppf(1 - 1e-6, 7)


def test_law_around_mean_recovers_theta_and_pi():
    rng = np.random.default_rng(1)
    mean = rng.uniform(2, 20, 8000)
    y = zinb.ZINB(mean / 0.4, 5.0, 0.6).sample(rng)
    _, theta, pi = predictors.law_around_mean(mean, y)
    assert theta == pytest.approx(5, rel=0.1)
    assert pi == pytest.approx(0.6, abs=4 * np.sqrt(0.24 / 8000))


def test_law_around_mean_recovers_the_floor_under_means_below_zero():
    rng = np.random.default_rng(2)
    mean = rng.uniform(-20, 20, 8000)
    y = zinb.ZINB(np.maximum(mean, 1.5) / 0.7, 5.0, 0.3).sample(rng)
    floor, theta, pi = predictors.law_around_mean(mean, y)
    assert floor == pytest.approx(1.5, rel=0.1)
    assert theta == pytest.approx(5, rel=0.1)
    assert pi == pytest.approx(0.3, abs=0.03)


def test_law_around_mean_of_counts_without_dropout_has_hardly_any():
    rng = np.random.default_rng(3)
    mean = rng.uniform(5, 20, 4000)
    _, theta, pi = predictors.law_around_mean(mean, rng.negative_binomial(8, 8 / (8 + mean)))
    assert pi < 0.01 and theta == pytest.approx(8, rel=0.15)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=6))
def test_maximise_finds_the_poisson_maximum_likelihood_log_means(counts):
    y = torch.tensor(counts, dtype=torch.float64)
    start = torch.zeros_like(y)
    p = predictors.maximise(lambda p: (y * p - p.exp()).mean(), start)
    np.testing.assert_allclose(p.exp(), y, rtol=1e-2)
    assert (start == 0).all() and not p.requires_grad


def test_maximise_finds_the_top_of_a_tilted_quadratic():
    a = np.random.default_rng(0).normal(size=(5, 5))
    a, b = a @ a.T + 0.1 * np.eye(5), np.arange(5.0)
    ta, tb = torch.as_tensor(a), torch.as_tensor(b)
    p = predictors.maximise(lambda p: tb @ p - p @ ta @ p / 2, torch.zeros(5, dtype=torch.float64))
    np.testing.assert_allclose(p, np.linalg.solve(a, b), rtol=1e-4, atol=1e-4)


def test_the_vae_predicts_the_average_of_the_laws_decoded_from_the_posterior(train, cells):
    vae = tiny_vae(n_samples=4000, vae_options={"beta": 0.05}).fit(train)
    few, module = cells[:4].copy(), vae.module
    law = vae.predict(few, "mech")
    visible = torch.ones(4, 5)
    visible[:, 4] = 0
    with torch.no_grad():
        mean, log_var = module.inference(torch.as_tensor(dataset.dense(few.X)), visible)
        z = mean + (log_var / 2).exp() * torch.randn(4000, 4, 3, generator=torch.Generator().manual_seed(99))
        mu, theta, logit_pi = (p[..., 4].double().numpy()[..., None] for p in module.generative(z))
    k, pi = np.arange(40), 1 / (1 + np.exp(-logit_pi))
    draws = (1 - pi) * scipy.stats.nbinom.pmf(k, theta, theta / (theta + mu)) + pi * (k == 0)
    assert draws.std(0).max() > 1e-3  # the posterior has some width
    # the two averages over 4000 draws differ by sqrt(2) standard errors; 160 entries
    np.testing.assert_array_less(np.abs(law.pmf_table(40) - draws.mean(0)), 5 * np.sqrt(2 / 4000) * draws.std(0) + 1e-7)
    assert (law.components.mean.min(0) < law.mean).all() and (law.mean < law.components.mean.max(0)).all()


def test_the_vae_prediction_has_the_mean_of_its_components_pmfs(fitted, cells):
    law = fitted["vae"].predict(cells, "mech")
    c = law.components
    assert c.shape == (16, cells.n_obs)
    for k in (0, 3, 20):
        nb = scipy.stats.nbinom.pmf(k, c.theta, c.theta / (c.theta + c.mu))
        np.testing.assert_allclose(law.pmf(k), ((1 - c.pi) * nb + c.pi * (k == 0)).mean(0), rtol=1e-6)


def test_a_conditional_vae_learns_a_linear_mechanism(train):
    inputs = [g for g in GENES if g != "mech"]
    more = dataset.fresh_cells(train, 2000, seed=5)
    vae = predictors.VAE(
        inputs, vae_options={"target": "hidden", "hide": 0.0, "n_hidden": 64}, training_options={"max_epochs": 40, "batch_size": 128}, device="cpu"
    ).fit(more)  # fmt: skip
    cells = perturb.do(dataset.fresh_cells(train, 300, seed=6), {"gene_0": 10})
    truth = dataset.law(cells, ["mech"])[:, 0]
    kl = {
        name: metrics.distances(truth, predictor.predict(cells, "mech"))["kl_nats"].mean()
        for name, predictor in (("vae", vae), ("marginal", predictors.Marginal().fit(more)))
    }
    assert kl["vae"] < 0.6 * kl["marginal"]


def test_a_loaded_vae_predicts_what_the_saved_one_did(fitted, cells, tmp_path):
    fitted["vae"].save(tmp_path / "vae.pt")
    loaded = tiny_vae().load(tmp_path / "vae.pt", GENES)
    np.testing.assert_array_equal(*(table(v.predict(cells, "mech")) for v in (fitted["vae"], loaded)))


def test_loading_a_vae_of_other_genes_raises_one_line(fitted, tmp_path):
    fitted["vae"].save(tmp_path / "vae.pt")
    with pytest.raises(ValueError, match="a model of 5 genes, not of 4") as error:
        tiny_vae().load(tmp_path / "vae.pt", GENES[:4])
    assert "\n" not in str(error.value)


def test_a_vae_of_the_same_seed_is_the_same_vae(fitted, train, cells):
    again, other = (tiny_vae(seed=seed).fit(train).predict(cells, "mech").mean for seed in (0, 1))
    np.testing.assert_array_equal(again, fitted["vae"].predict(cells, "mech").mean)
    assert not np.array_equal(other, again)


@pytest.mark.parametrize(
    ("options", "named"), [({"n_samples": 0}, "n_samples = 0"), ({"vae_options": {"beta": -1.0}}, "beta"), ({"device": "nonsense"}, "device")]
)
def test_bad_vae_options_raise_one_line(train, options, named):
    with pytest.raises(ValueError, match=named) as error:
        predictors.VAE(**options).fit(train)
    assert "\n" not in str(error.value)


def test_later_changes_of_the_training_cells_change_no_prediction(train, cells):
    mine = train.copy()
    ridge = predictors.ridge().fit(mine)
    mine.X = mine.X * 0
    np.testing.assert_allclose(ridge.predict(cells, "mech").mean, predictors.ridge().fit(train).predict(cells, "mech").mean)


def test_reconstruct_decodes_the_posterior_mean_of_cells_seen_whole(fitted, cells):
    vae = fitted["vae"]
    law, x = vae.reconstruct(cells), torch.as_tensor(dataset.dense(cells.X))
    with torch.no_grad():
        mu, theta, logit_pi = vae.module.generative(vae.module.inference(x, torch.ones_like(x))[0])
    np.testing.assert_allclose(law.mu, mu, rtol=1e-5)
    np.testing.assert_allclose(law.theta, theta, rtol=1e-5)
    np.testing.assert_allclose(law.pi, 1 / (1 + np.exp(-logit_pi.numpy())), rtol=1e-5)


def test_reconstruct_refuses_cells_with_their_genes_in_another_order(fitted, cells):
    with pytest.raises(ValueError, match="genes") as error:
        fitted["vae"].reconstruct(cells[:, GENES[::-1]].copy())
    assert "\n" not in str(error.value)


def test_generated_cells_have_the_means_and_zero_rates_of_the_training_cells(train):
    vae = predictors.VAE(vae_options={"n_latent": 2, "n_hidden": 32}, training_options={"max_epochs": 20, "batch_size": 128}, device="cpu").fit(train)
    counts, real = vae.generate(5000, seed=1), dataset.dense(train.X)
    assert counts.shape == (5000, 5) and (counts >= 0).all()
    np.testing.assert_allclose(counts.mean(0), real.mean(0), rtol=0.15)
    np.testing.assert_allclose((counts == 0).mean(0), (real == 0).mean(0), atol=0.06)
    np.testing.assert_array_equal(counts, vae.generate(5000, seed=1))
    assert not np.array_equal(counts, vae.generate(5000, seed=2))
