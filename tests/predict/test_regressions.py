import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from lib import dataset, perturb
from lib.laws import ZINB, maximum_likelihood
from lib.predict import references, regressions
from lib.score import distances
from tests.predict.cells import GENES, PARENTS, counts_of, table, with_other_counts

torch.set_num_threads(1)

KINDS = {
    "oracle": lambda inputs=None: references.Oracle(),
    "marginal": references.Marginal,
    "ridge": regressions.ridge,
    "neighbours": regressions.neighbours,
    "boosting": regressions.boosting,
    "zinb_regression": regressions.ZINBRegression,
    "ridge_log1p": regressions.ridge_log1p,
    "zinb_regression_log": lambda inputs=None: regressions.ZINBRegression(inputs, link="log"),
    "zinb_regression_products": lambda inputs=None: regressions.ZINBRegression(inputs, order=2),
    "true_form": lambda inputs=None: references.TrueForm(),
}


@pytest.fixture(scope="module")
def fitted(linear):
    return {name: kind().fit(linear) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def fitted_to_two(linear):
    return {name: kind(["gene_0", "gene_1"]).fit(linear) for name, kind in KINDS.items()}


every_kind = pytest.mark.parametrize("kind", KINDS)
TOLD = ("oracle", "true_form")
every_model = pytest.mark.parametrize("kind", [k for k in KINDS if k not in TOLD])


@every_kind
@pytest.mark.parametrize("gene", ["mech", "gene_3"])
def test_a_prediction_is_one_proper_law_a_cell(fitted, cells, kind, gene):
    law = fitted[kind].law_of(cells[:40].copy(), gene)
    assert law.shape == law.mean.shape == (40,)
    pmf = law[:, None].pmf(np.arange(5000))
    assert (pmf >= 0).all()
    np.testing.assert_allclose(pmf.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(pmf @ np.arange(5000), law.mean, rtol=1e-3)


@every_kind
@pytest.mark.parametrize("gene", ["mech", "gene_0"])
def test_no_prediction_sees_the_count_that_it_predicts(fitted, cells, kind, gene):
    before = table(fitted[kind].law_of(cells, gene))
    after = table(fitted[kind].law_of(with_other_counts(cells, [gene]), gene))
    np.testing.assert_array_equal(before, after)


@every_model
def test_no_prediction_sees_a_gene_that_is_no_input(fitted_to_two, cells, kind):
    before = table(fitted_to_two[kind].law_of(cells, "mech"))
    other = with_other_counts(cells, ["gene_2", "gene_3", "mech"])
    np.testing.assert_array_equal(before, table(fitted_to_two[kind].law_of(other, "mech")))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "marginal"])
def test_predictions_follow_the_inputs(fitted_to_two, cells, kind):
    before = fitted_to_two[kind].law_of(cells, "mech").mean
    after = fitted_to_two[kind].law_of(with_other_counts(cells, ["gene_0"]), "mech").mean
    assert not np.array_equal(before, after)


@every_kind
def test_a_prediction_repeats(fitted, cells, kind):
    np.testing.assert_array_equal(*(table(fitted[kind].law_of(cells, "mech")) for _ in range(2)))


@every_kind
def test_prediction_leaves_global_random_states_and_cells_alone(fitted, cells, kind):
    copy = cells.copy()
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    fitted[kind].law_of(cells, "mech")
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    np.testing.assert_array_equal(dataset.dense(copy.X), dataset.dense(cells.X))


@every_kind
def test_an_unknown_gene_raises_one_line(fitted, cells, kind):
    with pytest.raises(ValueError, match="'nonsense'") as error:
        fitted[kind].law_of(cells, "nonsense")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["ridge", "boosting", "zinb_regression"])
def test_an_unknown_input_raises_one_line(linear, kind):
    with pytest.raises(ValueError, match="inputs = 'nonsense'") as error:
        KINDS[kind](["gene_0", "nonsense"]).fit(linear).law_of(linear, "mech")
    assert "\n" not in str(error.value)


@every_model
def test_cells_with_their_genes_in_another_order_are_predicted_alike_or_refused(
    fitted, cells, kind
):
    in_order = table(fitted[kind].law_of(cells, "mech"))
    try:
        other = table(fitted[kind].law_of(cells[:, GENES[::-1]].copy(), "mech"))
    except ValueError as error:
        assert "genes" in str(error) and "\n" not in str(error)
    else:
        np.testing.assert_allclose(other, in_order, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["ridge", "neighbours", "boosting", "zinb_regression"])
def test_cells_that_lack_a_gene_of_the_training_cells_raise_one_line(fitted, cells, kind):
    with pytest.raises(ValueError, match="gene") as error:
        fitted[kind].law_of(cells[:, [g for g in GENES if g != "gene_1"]].copy(), "mech")
    assert "\n" not in str(error.value)


def test_oracle_is_the_true_law_after_an_intervention(cells):
    after = perturb.do(cells, {"gene_0": 12, "gene_2": 5})
    law = references.Oracle().fit(cells).law_of(after, "mech")
    by_hand = 1.5 * 12 + 0.5 * counts_of(after, "gene_1") + 5
    np.testing.assert_allclose(law.mu, by_hand)
    truth = dataset.law(after, ["mech"])[:, 0]
    np.testing.assert_array_equal(law.theta, truth.theta)
    np.testing.assert_array_equal(law.pi, truth.pi)


def test_marginal_is_the_maximum_likelihood_law_in_every_cell(fitted, linear, cells):
    law = fitted["marginal"].law_of(cells, "gene_3")
    expected = maximum_likelihood.fit(linear[:, ["gene_3"]].X)
    for name in ("mu", "theta", "pi"):
        found = getattr(law, name)
        np.testing.assert_allclose(found, np.full(cells.n_obs, getattr(expected, name)[0]))
    counts = counts_of(linear, "gene_3")
    better = fitted["marginal"].law_of(linear, "gene_3").log_prob(counts).sum()
    assert better >= dataset.law(linear, ["gene_3"])[:, 0].log_prob(counts).sum()


def matrix(adata, genes):
    return dataset.dense(adata[:, genes].X).astype(float)


def ridge_by_hand(x, y, new):
    return RidgeCV(np.logspace(-2, 4, 13)).fit(x, y).predict(new)


def ridge_log1p_by_hand(x, y, new):
    return ridge_by_hand(np.log1p(x), y, np.log1p(new))


def boosting_by_hand(x, y, new):
    trees = HistGradientBoostingRegressor(
        loss="poisson", max_iter=300, max_leaf_nodes=15, early_stopping=True, random_state=0
    )
    return trees.fit(x, y).predict(new)


BY_HAND = {
    "ridge": ridge_by_hand,
    "ridge_log1p": ridge_log1p_by_hand,
    "boosting": boosting_by_hand,
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_mean_of_a_mean_regression_is_that_of_scikit_learn_above_a_floor(
    fitted, linear, cells, kind
):
    law = fitted[kind].law_of(cells, "mech")
    others = [g for g in GENES if g != "mech"]
    y = counts_of(linear, "mech").astype(float)
    expected = BY_HAND[kind](matrix(linear, others), y, matrix(cells, others))
    above = expected > law.mean.min() + 1e-9
    assert above.mean() > 0.6
    np.testing.assert_allclose(((1 - law.pi) * law.mu)[above], expected[above], rtol=1e-6)
    np.testing.assert_allclose(law.mean[~above], law.mean.min())


def test_the_mean_of_neighbours_is_that_of_the_50_nearest_however_ties_are_broken(
    fitted, linear, cells
):
    """Distances by hand in whole numbers, so that cells of the same distance are seen as such."""
    law = fitted["neighbours"].law_of(cells, "mech")
    others = [g for g in GENES if g != "mech"]
    y = counts_of(linear, "mech").astype(float)
    x, new = (np.round(np.log1p(matrix(a, others)) * 2**20).astype(int) for a in (linear, cells))
    distances = ((new[:, None] - x[None]) ** 2).sum(2)
    ends = np.empty((len(new), 2))
    for row, distance in enumerate(distances):
        last = np.sort(distance)[49]
        nearer, tied = y[distance < last], np.sort(y[distance == last])
        n_left = 50 - len(nearer)
        ends[row] = nearer.sum() + tied[:n_left].sum(), nearer.sum() + tied[-n_left:].sum()
    low, high = ends.T / 50
    mean = (1 - law.pi) * law.mu
    above = low > law.mean.min() + 1e-9
    assert above.mean() > 0.6 and (low == high)[above].mean() > 0.5
    assert np.all((low - 1e-9 <= mean) & (mean <= high + 1e-9) | ~above)


@pytest.mark.parametrize(
    ("kind", "skill"),
    [
        ("ridge", 0.8),
        ("neighbours", 0.4),
        ("boosting", 0.5),
        ("zinb_regression", 0.95),
        ("true_form", 0.98),
    ],
)
def test_simple_regressions_come_closer_to_a_linear_truth_than_the_marginal(
    fitted, cells, kind, skill
):
    truth = dataset.law(cells, ["mech"])[:, 0]
    kl = {
        name: distances.between(truth, fitted[name].law_of(cells, "mech"))["kl_nats"].mean()
        for name in (kind, "marginal")
    }
    assert 1 - kl[kind] / kl["marginal"] > skill


WEIGHTS, THETA, PI = np.array([2.0, 0.5, 1.0]), 10.0, 0.5


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(0)
    x = rng.integers(3, 20, (10_000, 3)).astype(float)
    truth = ZINB(x @ WEIGHTS, THETA, PI)
    y = truth.sample(rng).astype(float)
    return x, y, truth, regressions.ZINBRegression().fit_gene(x, y)


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


def test_zinb_regression_is_likelier_than_the_truth_on_its_training_cells_but_not_by_much(
    regression,
):
    x, y, truth, law_of = regression
    gain = law_of(x).log_prob(y).sum() - truth.log_prob(y).sum()
    # Wilks: twice the gain is chi-squared with as many degrees as there are free parameters
    assert 0 <= 2 * gain < scipy.stats.chi2.ppf(1 - 1e-6, 7)


def test_law_around_mean_recovers_theta_and_pi():
    rng = np.random.default_rng(1)
    mean = rng.uniform(2, 20, 8000)
    y = ZINB(mean / 0.4, 5.0, 0.6).sample(rng)
    _, theta, pi = regressions.law_around_mean(mean, y)
    assert theta == pytest.approx(5, rel=0.1)
    assert pi == pytest.approx(0.6, abs=4 * np.sqrt(0.24 / 8000))


def test_law_around_mean_recovers_the_floor_under_means_below_zero():
    rng = np.random.default_rng(2)
    mean = rng.uniform(-20, 20, 8000)
    y = ZINB(np.maximum(mean, 1.5) / 0.7, 5.0, 0.3).sample(rng)
    floor, theta, pi = regressions.law_around_mean(mean, y)
    assert floor == pytest.approx(1.5, rel=0.1)
    assert theta == pytest.approx(5, rel=0.1)
    assert pi == pytest.approx(0.3, abs=0.03)


def test_law_around_mean_of_counts_without_dropout_has_hardly_any():
    rng = np.random.default_rng(3)
    mean = rng.uniform(5, 20, 4000)
    _, theta, pi = regressions.law_around_mean(mean, rng.negative_binomial(8, 8 / (8 + mean)))
    assert pi < 0.01 and theta == pytest.approx(8, rel=0.15)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=6))
def test_maximise_finds_the_poisson_maximum_likelihood_log_means(counts):
    y = torch.tensor(counts, dtype=torch.float64)
    start = torch.zeros_like(y)
    p = regressions.maximise(lambda p: (y * p - p.exp()).mean(), start)
    np.testing.assert_allclose(p.exp(), y, rtol=1e-2)
    assert (start == 0).all() and not p.requires_grad


def test_maximise_finds_the_top_of_a_tilted_quadratic():
    a = np.random.default_rng(0).normal(size=(5, 5))
    a, b = a @ a.T + 0.1 * np.eye(5), np.arange(5.0)
    ta, tb = torch.as_tensor(a), torch.as_tensor(b)
    p = regressions.maximise(lambda p: tb @ p - p @ ta @ p / 2, torch.zeros(5, dtype=torch.float64))
    np.testing.assert_allclose(p, np.linalg.solve(a, b), rtol=1e-4, atol=1e-4)


def test_later_changes_of_the_training_cells_change_no_prediction(linear, cells):
    mine = linear.copy()
    ridge = regressions.ridge().fit(mine)
    mine.X = mine.X * 0
    expected = regressions.ridge().fit(linear).law_of(cells, "mech").mean
    np.testing.assert_allclose(ridge.law_of(cells, "mech").mean, expected)


def test_no_change_is_the_law_of_the_reference_cell_before_the_intervention(cells):
    series = perturb.dose_series(cells, {"gene_0": [0, 9, 30]}, cells=[7, 3])
    law = references.NoChange(cells).fit(cells).law_of(series, "mech")
    by_hand = np.maximum(matrix(cells, PARENTS) @ [1.5, 0.5, 1.0], 0.1)[[7, 7, 7, 3, 3, 3]]
    np.testing.assert_allclose(law.mu, by_hand)
    assert not np.allclose(law.mu, dataset.law(series, "mech")[:, 0].mu)


def test_no_change_refuses_cells_of_no_dose_series_or_of_other_references(cells):
    series = perturb.dose_series(cells, {"gene_0": [9]}, cells=[7])
    no_change = references.NoChange(cells)
    others = references.NoChange(cells[:5].copy())
    for wrong, adata, kind, named in (
        (no_change, cells, NotImplementedError, "obs\\['reference'\\]"),
        (others, series, ValueError, "'cell_7'"),
    ):
        with pytest.raises(kind, match=named) as error:
            wrong.law_of(adata, "mech")
        assert "\n" not in str(error.value)


def test_a_regression_of_second_order_learns_a_product_that_one_of_first_order_does_not():
    weights = {"weights": np.array([1.0, 0.5])}
    product = {"first": [0], "second": [1], "products": np.array([0.5])}
    train = dataset.get_mech_dataset(
        dataset.base_genes(2000, 4, 0.4, mu_range=(4, 10), seed=3),
        "interaction",
        gene="mech",
        parents=["gene_1", "gene_2"],
        parameters=weights | product,
        target_zero_prob=0.4,
        seed=3,
    )
    cells = dataset.fresh_cells(train, 300, seed=4)
    models = {order: regressions.ZINBRegression(order=order) for order in (1, 2)}
    models["marginal"] = references.Marginal()
    laws = {name: model.fit(train).law_of(cells, "mech") for name, model in models.items()}
    scores = distances.scores(dataset.law(cells, "mech")[:, 0], laws)
    scores = scores.set_index(["model", "metric"])["value"]
    assert scores[2, "skill_kl"] > 0.97 and scores[2, "kl_nats"] < 0.3 * scores[1, "kl_nats"]
    np.testing.assert_allclose(
        regressions.ZINBRegression(order=2).terms(np.array([[2.0, 3, 5]])),
        [[2, 3, 5, 4, 6, 10, 9, 15, 25]],
    )


def test_the_oracle_in_draws_exceeds_the_truth_by_what_a_finite_number_costs(linear, cells):
    truth = dataset.law(cells, "mech")[:, 0]
    law = references.Oracle(n_draws=40, seed=1).fit(linear).law_of(cells, "mech")
    cdf = np.cumsum(truth[:, None].pmf(np.arange(400)), axis=1)
    assert law.draws.shape == (150, 40)
    expected = (cdf * (1 - cdf)).sum(1).mean() / 40
    assert distances.between(truth, law)["excess_crps"].mean() == pytest.approx(expected, rel=0.15)


def log_linear(n_cells, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 10, (n_cells, 2)).astype(float)
    truth = ZINB(np.exp(1.5 + x @ [0.1, -0.05]), 6.0, 0.4)
    return x, truth.sample(rng).astype(float), truth


def test_zinb_regression_with_log_link_recovers_a_log_linear_truth():
    x, y, truth = log_linear(8000, 0)
    law = regressions.ZINBRegression(link="log").fit_gene(x, y)(x)
    np.testing.assert_allclose(law.mu, truth.mu, rtol=0.08)
    assert law.theta[()] == pytest.approx(6, rel=0.25)
    assert law.pi[()] == pytest.approx(0.4, abs=0.03)
    gain = law.log_prob(y).sum() - truth.log_prob(y).sum()
    assert 0 <= 2 * gain < scipy.stats.chi2.ppf(1 - 1e-6, 5)  # Wilks, five free parameters


def test_zinb_regression_with_log_link_explodes_as_an_exponential_but_stays_finite():
    x, y, _ = log_linear(2000, 1)
    law_of = regressions.ZINBRegression(link="log").fit_gene(x, y)
    points = law_of(np.array([[0.0, 0], [5, 0], [10, 0], [1e4, 0]])).mu
    assert points[2] / points[1] == pytest.approx(points[1] / points[0])
    assert points[3] == pytest.approx(1e6)


def test_an_unknown_link_raises_one_line():
    with pytest.raises(ValueError, match="link = 'probit'") as error:
        regressions.ZINBRegression(link="probit")
    assert "\n" not in str(error.value)


TRUTHS = {
    "linear": {"weights": np.array([1.5, -1.0, 0.5])},
    "polynomial": {"weights": np.array([1.0, -1.0, 0.5]), "squares": np.array([-0.05, 0.1, 0.05])},
    "interaction": {
        "weights": np.array([0.5, -0.5, 0.5]),
        "first": [2],
        "second": [0],
        "products": np.array([0.5]),
    },
    "hill": {"weights": np.array([1.5, 0.2, 0.7]), "top": 15.0, "half": 9.0, "power": 3.0},
    "threshold": {"weights": np.array([1.5, -1.0, 0.5]), "cut": 4.3, "low": 2.0, "high": 11.0},
}


N_CELLS = 3000


@pytest.fixture(scope="module")
def five_forms():
    adata = dataset.base_genes(N_CELLS, 4, 0.4, mu_range=(4, 10), seed=11)
    for kind, parameters in TRUTHS.items():
        adata = dataset.get_mech_dataset(
            adata,
            kind,
            parents=PARENTS,
            parameters=parameters,
            target_zero_prob=None,
            theta=20.0,
            seed=11,
        )
    weights = np.array([1.5, 0.5, 1.0])
    adata = dataset.get_mech_dataset(
        adata,
        "linear",
        gene="mech_dispersion",
        parents=PARENTS,
        parameters={"weights": weights},
        theta_mechanism="hill",
        theta_parameters={"weights": np.ones(3), "top": 20.0, "half": 15.0, "power": 3.0},
        target_zero_prob=None,
        seed=11,
    )
    return adata, dataset.fresh_cells(adata, 500, seed=12), references.TrueForm(seed=4).fit(adata)


# free parameters with pi and theta; of a threshold, whose plane isn't regular, as if it were
@pytest.mark.parametrize(
    ("gene", "n_free"),
    [
        ("mech_linear", 5),
        ("mech_polynomial", 8),
        ("mech_interaction", 6),
        ("mech_hill", 7),
        ("mech_threshold", 7),
        ("mech_dispersion", 9),
    ],
)
def test_the_fitted_true_form_is_likelier_than_the_truth_but_not_by_much_and_close_to_it(
    five_forms, gene, n_free
):
    adata, cells, true_form = five_forms
    y = counts_of(adata, gene)
    fitted, truth = true_form.law_of(adata, gene), dataset.law(adata, gene)[:, 0]
    gain = fitted.log_prob(y).sum() - truth.log_prob(y).sum()
    at_most = scipy.stats.chi2.ppf(1 - 1e-6, n_free) / 2 + (5 if gene == "mech_threshold" else 0)
    assert -0.01 <= gain < at_most
    truth = dataset.law(cells, gene)[:, 0]
    kl, of_marginal = (
        distances.between(truth, model.law_of(cells, gene))["kl_nats"].mean()
        for model in (true_form, references.Marginal().fit(adata))
    )
    assert kl < 0.02 * of_marginal


@pytest.mark.parametrize("gene", ["mech_linear", "mech_interaction", "mech_hill", "mech_threshold"])
def test_the_fitted_true_form_extrapolates(five_forms, gene):
    _, cells, true_form = five_forms
    far = perturb.dose_series(cells, {"gene_0": [0, 60]}, cells=range(100))
    laws = true_form.law_of(far, gene), dataset.law(far, gene)
    mean, expected = (law.mean.reshape(100, 2).mean(0) for law in laws)
    np.testing.assert_allclose(mean, expected, rtol=0.05)


def test_the_true_form_of_a_gene_without_mechanism_is_the_marginal(five_forms):
    adata, cells, true_form = five_forms
    marginal = references.Marginal().fit(adata)
    found, expected = (table(m.law_of(cells, "gene_3")) for m in (true_form, marginal))
    np.testing.assert_array_equal(found, expected)


def test_the_true_form_does_not_learn_the_weights_from_the_truth_that_the_cells_carry(five_forms):
    adata, cells, true_form = five_forms
    lied = adata.copy()
    for entry in lied.uns["mechanisms"].values():
        parameters = entry["mu"]["parameters"] | {"weights": np.ones(3)}
        entry["mu"] = entry["mu"] | {"parameters": parameters}
    again = references.TrueForm(seed=4).fit(lied)
    found, expected = (table(m.law_of(cells, "mech_linear")) for m in (again, true_form))
    np.testing.assert_array_equal(found, expected)


def test_the_true_form_leaves_out_counts_that_an_intervention_set(five_forms):
    adata, cells, true_form = five_forms
    set_to_100 = perturb.do(dataset.fresh_cells(adata, 2000, seed=13), {"mech_linear": 100})
    again = references.TrueForm(seed=4).fit(dataset.concat([adata, set_to_100]))
    found, expected = (m.law_of(cells, "mech_linear").mu for m in (again, true_form))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_true_form_has_no_form_for_a_mechanism_of_ones_own(linear):
    adata = dataset.get_mech_dataset(
        linear, "tests.mechanisms_of_ones_own:saturating", gene="own", target_zero_prob=None
    )
    message = "gene = 'own': true_form has no form for"
    with pytest.raises(NotImplementedError, match=message) as error:
        references.TrueForm().fit(adata).law_of(adata, "own")
    assert "\n" not in str(error.value)


def test_zinb_regression_with_identity_link_is_cut_where_no_count_can_be():
    cells = dataset.get_mech_dataset(
        dataset.base_genes(400, 4, seed=1), "linear", parameters={"weights": [1.0, 1, 1, 1]}, seed=1
    )
    fitted = regressions.ZINBRegression(list(cells.var_names[:4])).fit(cells)
    far = dataset.with_counts(cells[:3].copy(), {"gene_0": np.array([1.0, 1e5, 1e9])})
    mu = fitted.law_of(far, "mech_linear").mu
    assert mu[0] < 1e3 < mu[1] < 1e6 and mu[2] == 1e6
