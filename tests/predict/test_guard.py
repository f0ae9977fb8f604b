import inspect

import numpy as np
import pandas as pd
import pytest
import torch

from lib import dataset, perturb
from lib.laws import ZINB, Empirical, maximum_likelihood
from lib.predict import guard, neural, references, registry, regressions
from lib.predict import screen as arms_models
from lib.score import board, distances, tables
from lib.show import style
from lib.tasks import conditional
from tests import models_of_ones_own as own_models
from tests.agreement import one_line, zinb_cdf

torch.set_num_threads(1)

MODELS = "tests.models_of_ones_own:"
SPLITS = ["held_out", "do_inside", "do_beyond", "pairs"]


def counts_of(adata, gene):
    return dataset.dense(adata[:, [gene]].X)[:, 0].astype(float)


def entry_of(adata, gene):
    return next(e for e in adata.uns["mechanisms"].values() if e["gene"] == gene)


def params(law):
    return np.stack([np.broadcast_to(p, law.shape) for p in (law.mu, law.theta, law.pi)])


@pytest.fixture(scope="module")
def train():
    return conditional.simulate(600, 5, 0.7, ["linear", "threshold"], seed=1)


@pytest.fixture(scope="module")
def base(train):
    return list(train.var_names[:5])


@pytest.fixture(scope="module")
def test(train):
    return dataset.fresh_cells(train, 120, seed=2)


@pytest.fixture(scope="module")
def reference(train):
    return dataset.fresh_cells(train, 8, seed=3)


@pytest.fixture(scope="module")
def asked(train, test, reference):
    return conditional.questions(train, test, reference, n_doses=12, seed=4)


def one(asked, split, gene="mech_linear"):
    return next(q for q in asked if (q.split, q.gene) == (split, gene))


# questions


def test_training_cells_have_independent_genes_and_one_child_of_all_of_them_a_kind(train, base):
    assert list(train.var_names) == [*base, "mech_linear", "mech_threshold"] and train.n_obs == 600
    assert dataset.parents(train) == {"mech_linear": base, "mech_threshold": base}
    zeros = (dataset.dense(train.X) == 0).mean(0)
    assert (np.abs(zeros - 0.7) < 5 * np.sqrt(0.21 / 600)).all()


def test_every_mechanistic_gene_is_asked_about_in_four_ways_and_two_genes_off_target(asked, base):
    assert [(q.mechanism, q.gene, q.split) for q in asked if q.split != "off_target"] == [
        (kind, f"mech_{kind}", split) for kind in ("linear", "threshold") for split in SPLITS
    ]
    off = [q for q in asked if q.split == "off_target"]
    assert len({q.gene for q in off}) == len(off) == 2 and {q.gene for q in off} <= set(base)
    assert {q.mechanism for q in off} == {""}


def test_the_truth_of_a_question_is_the_law_of_its_cells(asked):
    for question in asked:
        assert question.true.shape == (question.cells.n_obs,)
        np.testing.assert_array_equal(params(question.true), params(dataset.law(question.cells, question.gene)[:, 0]))


def test_the_truth_follows_from_the_parents_counts(asked, train, base):
    weights = entry_of(train, "mech_linear")["mu"]["parameters"]["weights"]
    step = entry_of(train, "mech_threshold")["mu"]["parameters"]
    for split in SPLITS:
        question = one(asked, split)
        x = np.column_stack([counts_of(question.cells, g) for g in base])
        np.testing.assert_allclose(question.true.mu, np.maximum(0.1, x @ weights), rtol=1e-6)
        question = one(asked, split, "mech_threshold")
        x = np.column_stack([counts_of(question.cells, g) for g in base])
        np.testing.assert_array_equal(question.true.mu, np.where(x @ step["weights"] > step["cut"], step["high"], step["low"]))


@pytest.mark.parametrize("gene", ["mech_linear", "mech_threshold"])
def test_doses_inside_end_at_the_99th_percentile_and_those_beyond_at_twice_the_999th(asked, train, reference, base, gene):
    weights = entry_of(train, gene)["mu"]["parameters"]["weights"]
    parent = base[int(np.argmax(weights))]
    end, reached = np.percentile(counts_of(train, parent), [99, 99.9])
    inside, beyond = one(asked, "do_inside", gene), one(asked, "do_beyond", gene)
    for question in (inside, beyond):
        assert set(question.cells.obs["perturbed"]) == {parent}
        np.testing.assert_array_equal(counts_of(question.cells, parent), question.dose)
        assert question.cells.layers["do"][:, question.cells.var_names.get_loc(parent)].sum() == question.cells.n_obs
        assert (question.cells.obs["reference"].value_counts() == len(np.unique(question.dose))).all()
        assert question.cells.obs["reference"].nunique() == reference.n_obs
    assert inside.dose.min() == 0 and inside.dose.max() <= end < beyond.dose.min()
    assert beyond.dose.max() == max(11, np.ceil(2 * reached))
    assert len(np.unique(np.concatenate([inside.dose, beyond.dose]))) == 12


def test_pairs_are_of_two_parents_inside(asked, train):
    cells = one(asked, "pairs").cells
    genes = cells.obs["perturbed"].iloc[0].split("+")
    weights = pd.Series(entry_of(train, "mech_linear")["mu"]["parameters"]["weights"], index=list(train.var_names[:5]))
    assert genes == [weights.idxmax(), weights.idxmin()] and set(cells.obs["perturbed"]) == {"+".join(genes)}
    assert cells.obs["reference"].nunique() == 2 and one(asked, "pairs").dose is None
    for gene in genes:
        np.testing.assert_array_equal(counts_of(cells, gene), perturb.dose_of(cells, gene))
        assert 3 <= len(np.unique(perturb.dose_of(cells, gene))) <= 5
        assert perturb.dose_of(cells, gene).max() <= np.percentile(counts_of(train, gene), 99)
    assert cells.n_obs == 2 * np.prod([len(np.unique(perturb.dose_of(cells, g))) for g in genes])


def test_genes_off_target_are_no_descendants_of_what_was_set_and_keep_law_and_counts(asked, train, reference):
    for question in (q for q in asked if q.split == "off_target"):
        parent = question.cells.obs["perturbed"].iloc[0]
        assert question.gene != parent and question.gene not in dataset.descendants(train, [parent])
        assert len(np.unique(perturb.dose_of(question.cells, parent))) > 1
        rows = reference.obs_names.get_indexer(question.cells.obs["reference"].astype(str))
        np.testing.assert_array_equal(counts_of(question.cells, question.gene), counts_of(reference, question.gene)[rows])
        place = train.var_names.get_loc(question.gene)
        np.testing.assert_array_equal(np.unique(question.true.mu), train.varm["mu"][place])


def test_questions_repeat_and_leave_the_cells_they_are_made_from_alone(asked, train, test, reference):
    before = [dataset.dense(a.X) for a in (train, test, reference)]
    again = conditional.questions(train, test, reference, n_doses=12, seed=4)
    for first, second in zip(asked, again):
        np.testing.assert_array_equal(dataset.dense(first.cells.X), dataset.dense(second.cells.X))
        np.testing.assert_array_equal(params(first.true), params(second.true))
    for adata, counts in zip((train, test, reference), before):
        np.testing.assert_array_equal(dataset.dense(adata.X), counts)


def test_a_mechanism_of_ones_own_without_weights_is_asked_about_by_its_first_parent():
    kind = "tests.mechanisms_of_ones_own:saturating"
    train = conditional.simulate(200, 3, 0.7, [kind], seed=5)
    cells = dataset.fresh_cells(train, 10, seed=6)
    asked = conditional.questions(train, cells, cells, n_doses=6, n_off_target=1, seed=7)
    assert [q.split for q in asked] == [*SPLITS, "off_target"] and {q.mechanism for q in asked} == {kind, ""}
    assert set(asked[1].cells.obs["perturbed"]) == {"gene_0"} and set(asked[3].cells.obs["perturbed"]) == {"gene_0+gene_1"}
    total = sum(counts_of(asked[2].cells, g) for g in ("gene_0", "gene_1", "gene_2"))
    np.testing.assert_allclose(asked[2].true.mu, 1 + 20 * total / (10 + total))


def test_pairs_are_inside_where_the_99th_percentile_is_no_whole_number():
    train = conditional.simulate(150, 2, 0.6, ["linear"], seed=0)
    for gene, top in (("gene_0", [20, 21]), ("gene_1", [10, 11])):  # 99th percentiles of 20.51 and 10.51
        counts = np.minimum(counts_of(train, gene), 9)
        counts[:2], counts[2:3] = top[1], top[0]
        train = dataset.with_counts(train, {gene: counts})
    cells = dataset.fresh_cells(train, 4, seed=1)
    asked = conditional.questions(train, cells, cells, n_doses=6, n_off_target=0, seed=2)
    pairs = next(q for q in asked if q.split == "pairs").cells
    assert [perturb.dose_of(pairs, gene).max() for gene in ("gene_0", "gene_1")] == [20, 10]


def test_a_gene_with_one_parent_has_no_pairs():
    base = dataset.base_genes(200, 3, 0.7, seed=5)
    train = dataset.get_mech_dataset(base, parents=["gene_1"], parameters={"weights": np.array([2.0])}, target_zero_prob=None)
    asked = conditional.questions(train, base_cells := dataset.fresh_cells(train, 5, seed=1), base_cells, n_doses=6, n_off_target=0, seed=7)
    assert [q.split for q in asked] == ["held_out", "do_inside", "do_beyond"]


# models and what they answer


def test_models_have_unique_known_keys_and_two_methods(base, reference):
    table = registry.models(base, reference, max_epochs=1, n_members=2, device="cpu")
    assert len(registry.KEYS) == len(set(registry.KEYS))
    assert list(table) == [key for key in registry.KEYS if key in table]
    assert {"oracle", "marginal", "no_change", *registry.INTERVENTIONAL} <= set(table)
    assert len({id(m) for m in table.values()}) == len(table)
    for key, model in table.items():
        assert list(inspect.signature(model.fit).parameters)[0] in ("adata", "train"), key
        assert list(inspect.signature(model.predict).parameters)[:2] == ["adata", "gene"], key
        assert getattr(model, "inputs", None) in (None, base), key
    assert len(table["dependency_network_ensemble"].members) == 2


def test_a_model_that_the_figures_do_not_know_has_a_name_and_a_colour():
    assert "MyModel" not in style.COLOURS and style.label("MyModel") == "MyModel"
    assert all(style.label(key) for key in registry.KEYS)


def test_a_law_is_taken_as_it_is(train, test):
    model = own_models.ALaw().fit(train)
    law = guard.answer(model, test, "mech_linear")
    assert isinstance(law, ZINB) and law.shape == (120,)
    np.testing.assert_array_equal(law.mu, model.predict(test, "mech_linear").mu)


@pytest.mark.parametrize("kind", [list, np.asarray, pd.DataFrame, torch.as_tensor])
def test_draws_are_scored_by_the_crps_of_their_own_law(test, kind):
    draws = np.random.default_rng(0).poisson(3, (120, 15))
    law = guard.answer(own_models.TakesAnything(kind(draws)), test, "mech_linear")
    true = dataset.law(test, "mech_linear")[:, 0]
    crps = distances.between(true, law)["excess_crps"]
    k = np.arange(2000)
    for i in range(0, 120, 10):
        f = zinb_cdf(k, true.mu[i], true.theta[i], true.pi[i])
        g = (draws[i] <= k[:, None]).mean(1)
        np.testing.assert_allclose(crps[i], np.sum((f - g) ** 2), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [list, np.asarray, pd.Series])
def test_a_mean_is_scored_as_the_narrowest_law_that_has_it(test, kind):
    means = np.concatenate([[0, 1, 2.5, 0.01, 0.999, 1e5 + 0.5], np.random.default_rng(0).uniform(0, 30, 114)])
    law = guard.answer(own_models.TakesAnything(kind(means)), test, "mech_linear")
    np.testing.assert_allclose(law.mean, means, atol=1 / 40 + 1e-9)
    assert law.mean[0] == 0 and law.mean[2] == 2.5
    draws = law.sample(np.random.default_rng(1))
    assert (np.abs(draws - means) <= 1.026).all() and (draws == np.round(draws)).all()


REFUSED = {
    "WrongShape": "shape (20, 120)",
    "OneLawForAll": "laws of shape ()",
    "ReturnsNaN": "NaN or infinite values",
    "Infinite": "NaN or infinite values",
    "NaNLaw": "NaN parameters",
    "NaNMixture": "NaN parameters",
    "Negative": "negative values",
    "Fractional": "fractional draws",
    "FractionalLaw": "fractional draws",
    "Text": "a str",
    "Nothing": "shape ()",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_answer_is_refused_in_one_line(train, test, name):
    model = guard.own("model", MODELS + name)().fit(train)
    with pytest.raises(ValueError) as error:
        guard.answer(model, test, "mech_linear", name)
    one_line(error, f"{name}: predicts {REFUSED[name]}", "mech_linear", "must be")


@pytest.mark.parametrize(
    "prediction", [np.ones((120, 0)), np.ones((120, 3, 1)), np.ones(119), [[1, 2], [3]], np.full((120, 3), -np.inf), {"mean": 3}, Empirical(np.ones((119, 3)))]
)
def test_other_things_that_are_no_answer_are_refused_in_one_line_too(test, prediction):
    with pytest.raises(ValueError) as error:
        guard.answer(own_models.TakesAnything(prediction), test, "mech_linear", "mine")
    one_line(error, "mine: predicts", "mech_linear", "must be")


def entry(name, base, seed=0):
    return guard.Own(guard.own("model", MODELS + name), base, seed)


def test_a_model_of_ones_own_is_given_the_inputs_and_a_whole_number_if_it_takes_them(train, test, base):
    assert entry("MyModel", base).model.inputs == base and entry("MyModel", base[:2]).model.inputs == base[:2]
    assert isinstance(entry("Means", base).model, own_models.Means)
    seeds = [entry("TellsItsSeed", base, seed).model.seed for seed in (0, (2026, 0), (2026, 1), (2026, 0))]
    assert {type(seed) for seed in seeds} == {int} and seeds[1] == seeds[3] and len(set(seeds)) == 3 and max(seeds) < 2**32
    few = entry("MyModel", base[:2]).fit(train)
    other = dataset.with_counts(test, {g: counts_of(test, g)[::-1] for g in (*base[2:], "mech_threshold")})
    np.testing.assert_array_equal(few.predict(test, "mech_linear"), few.predict(other, "mech_linear"))


@pytest.mark.parametrize(
    ("string", "part"),
    [
        ("MyModel", "package.module:name"),
        ("", "package.module:name"),
        ("tests.nothing_here:MyModel", "can't be imported"),
        (MODELS + "Nobody", "can't be imported"),
        (MODELS + "WithoutPredict", "methods fit(adata) and predict(adata, gene)"),
        (MODELS + "NeedsMore", "n_neighbours"),
        (MODELS + "a_function", "methods fit(adata) and predict(adata, gene)"),
        ("tests.mechanisms_of_ones_own:NOT_A_FUNCTION", "NOT_A_FUNCTION"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(string, part):
    with pytest.raises(ValueError) as error:
        guard.own("model", string)
    one_line(error, f"model = {string!r}", part)


def test_the_worked_example_is_short_and_beats_the_marginal_on_held_out_cells(train, asked, base):
    assert len(inspect.getsource(own_models.MyModel).splitlines()) <= 20
    fitted = {"marginal": references.Marginal(), "MyModel": own_models.MyModel(base)}
    for model in fitted.values():
        model.fit(train)
    scores = board.score(fitted, [one(asked, "held_out")]).set_index(["model", "metric"])["value"]
    assert 0.1 < scores["MyModel", "skill_crps"] < 1


def test_a_model_of_ones_own_is_shown_cells_and_nothing_of_the_truth(train, test, base, asked):
    with pytest.raises((ValueError, KeyError)):
        entry("ReadsTheTruth", base).fit(train).predict(test, "mech_linear")
    assert own_models.ReadsTheTruth().fit(train).predict(test, "mech_linear").shape == (120,)  # so that the first could fail
    shown = []
    recorder = entry("TellsItsSeed", base)
    recorder.model.fit = recorder.model.predict = lambda adata, gene=None: shown.append(adata)
    recorder.fit(train).predict(one(asked, "do_inside").cells, "mech_linear")
    for cells, whole in zip(shown, (train, one(asked, "do_inside").cells)):
        np.testing.assert_array_equal(cells.X.toarray(), whole.X.toarray())
        assert list(cells.var_names) == list(whole.var_names) and cells.var.empty and not cells.uns and not cells.layers
    assert set(shown[1].obs) == {"cell_type", "drug", "perturbed"}


def test_a_model_that_sees_every_gene_is_not_asked_for_one_given_its_children(train, test, base, asked):
    fitted = {"marginal": references.Marginal().fit(train), "all": entry("ALaw", base).fit(train), "base": entry("MyModel", base).fit(train)}
    splits = board.score(fitted, asked).groupby("model")["split"].agg(set)
    assert splits["all"] == set(SPLITS) and splits["base"] == {*SPLITS, "off_target"}
    assert list(board.marginal_laws(fitted, test, base)["model"]) == ["marginal"]


# leakage

HONEST = {
    "oracle": lambda base: references.Oracle(),
    "marginal": lambda base: references.Marginal(),
    "ridge": regressions.ridge,
    "true_form": references.TrueForm,
    "boosting": regressions.boosting,
    "vae": lambda base: neural.VAE(base, vae_options={"n_latent": 2, "n_hidden": 16}, training_options={"max_epochs": 2}, device="cpu"),
    "vae_of_all_genes": lambda base: neural.VAE(vae_options={"n_latent": 2, "n_hidden": 16}, training_options={"max_epochs": 2}, device="cpu"),
    "mlp": lambda base: neural.MLP(base, module_options={"n_hidden": 16}, training_options={"max_epochs": 2}, device="cpu"),
    "dependency_network": lambda base: neural.DependencyNetwork(n_steps=5, device="cpu"),
    "bilinear": lambda base: arms_models.Bilinear(),
    "MyModel": own_models.MyModel,
    **{name: lambda base, name=name: getattr(own_models, name)() for name in ("Means", "ALaw", "ALawOfItsOwn", "Sampler", "OneSampleForAll", "SinglePrecision")},
}


@pytest.fixture(scope="module")
def screen(train, asked):
    return conditional.interventional_data(train, asked, seed=8)


@pytest.mark.parametrize("name", HONEST)
def test_a_model_that_does_not_use_the_count_is_accepted(train, screen, test, asked, base, name):
    model = HONEST[name](base)
    model.fit(screen if name in registry.INTERVENTIONAL else train)
    for cells, gene in ((test, "mech_linear"), (test, "gene_1"), (one(asked, "do_inside").cells, "mech_linear")):
        for seed in range(10 if name in ("Sampler", "OneSampleForAll") else 1):
            guard.check_leakage(model, cells, gene, name, seed=seed)


LEAKY = ["Leaky", "LeakyThroughTotal", "LeakyZeros", "LeakyAverage", "LeakySampler"]


@pytest.mark.parametrize("name", LEAKY)
def test_a_model_that_uses_the_count_is_refused_in_one_line(train, test, base, name):
    model = guard.make(guard.own("model", MODELS + name), base).fit(train)
    for gene in ("mech_linear", "gene_1"):
        with pytest.raises(ValueError) as error:
            guard.check_leakage(model, test, gene, name)
        one_line(error, f"{name}: leakage", gene, "must not be used")


def test_the_leaky_vae_is_refused(train, test):
    leaky = neural.VAE(leaky=True, vae_options={"n_latent": 2, "n_hidden": 16, "beta": 0.02}, training_options={"max_epochs": 4}, device="cpu").fit(train)
    with pytest.raises(ValueError, match="vae_leaky: leakage"):
        guard.check_leakage(leaky, test, "mech_linear", "vae_leaky")


def test_a_leak_is_seen_where_all_counts_are_equal(train, test):
    zeros = dataset.with_counts(test, {"gene_1": np.zeros(120)})
    with pytest.raises(ValueError, match="leakage"):
        guard.check_leakage(own_models.Leaky().fit(train), zeros, "gene_1")
    guard.check_leakage(own_models.Means().fit(train), zeros, "gene_1")


def test_the_check_of_leakage_changes_no_cell(train, test):
    before = dataset.dense(test.X)
    guard.check_leakage(own_models.Means().fit(train), test, "gene_1")
    np.testing.assert_array_equal(dataset.dense(test.X), before)


def test_a_model_that_changes_its_cells_in_place_spoils_them_for_no_other(train, test, asked):
    mine, question = train.copy(), one(asked, "held_out")
    question = question._replace(cells=question.cells.copy())
    model = own_models.ChangesItsCells()
    guard.enter(model, mine, [question])
    guard.answer(model, question.cells, question.gene)
    np.testing.assert_array_equal(dataset.dense(mine.X), dataset.dense(train.X))
    np.testing.assert_array_equal(dataset.dense(question.cells.X), dataset.dense(test.X))


# scores


@pytest.fixture(scope="module")
def fitted(train, reference, base):
    entries = {
        "oracle": references.Oracle(),
        "marginal": references.Marginal(),
        "no_change": references.NoChange(reference),
        "ridge": regressions.ridge(base),
        "MyModel": own_models.MyModel(base),
        "Means": own_models.Means(),
        "Declines": own_models.Declines(),
    }
    for model in entries.values():
        model.fit(train)
    return entries


@pytest.fixture(scope="module")
def scores(fitted, asked):
    return board.score(fitted, asked)


def value(scores, **keys):
    rows = scores[np.logical_and.reduce([scores[k] == v for k, v in keys.items()])]
    assert len(rows) == 1
    return rows["value"].item()


def test_scores_are_tidy_and_each_is_there_once(scores):
    assert list(scores.columns) == ["model", "metric", "value", "mechanism", "gene", "split"]
    assert not scores.duplicated(["model", "metric", "mechanism", "gene", "split"]).any()
    assert scores.loc[scores["split"] != "off_target", "gene"].isin(["mech_linear", "mech_threshold"]).all()


def test_the_oracle_has_skill_1_and_the_marginal_0(scores):
    asked_of = scores[scores["metric"].isin(["skill_kl", "skill_crps"])]
    for name, expected in (("oracle", 1), ("marginal", 0)):
        rows = asked_of[asked_of["model"] == name]
        assert len(rows) == 2 * 2 * 4 and (rows["value"] == expected).all()
    assert (scores.query("model == 'oracle' and split == 'off_target'")["value"] == 0).all()
    assert (scores.query("model == 'no_change' and split == 'off_target'")["value"] == 0).all()


def test_a_model_without_an_answer_has_no_row_there(scores):
    for name in ("no_change", "Declines"):
        assert set(scores[scores["model"] == name]["split"]) == {*SPLITS, "off_target"} - {"held_out"}
    assert set(scores[scores["model"] == "ridge"]["split"]) == {*SPLITS, "off_target"}


def test_draws_and_means_have_no_kl_and_laws_have(scores):
    metrics_of = scores.groupby("model")["metric"].agg(set)
    without = {"excess_crps", "mse_mean", "skill_crps", "slope_ratio", "off_target_crps"}
    assert metrics_of["MyModel"] == metrics_of["Means"] == without
    assert metrics_of["ridge"] == metrics_of["marginal"] == without | {"kl_nats", "skill_kl", "mse_mu", "mse_pi", "mse_log_theta", "off_target_kl"}


def test_a_score_off_target_is_the_mean_over_genes(scores, fitted, asked):
    off = [q for q in asked if q.split == "off_target"]
    each = [distances.between(q.true, fitted["ridge"].predict(q.cells, q.gene)).mean() for q in off]
    keys = {"model": "ridge", "split": "off_target", "gene": "", "mechanism": ""}
    assert value(scores, metric="off_target_kl", **keys) == pytest.approx(np.mean([e["kl_nats"] for e in each]))
    assert value(scores, metric="off_target_crps", **keys) == pytest.approx(np.mean([e["excess_crps"] for e in each]))
    assert {*scores[scores["split"] == "off_target"]["metric"]} == {"off_target_kl", "off_target_crps"}


@pytest.mark.parametrize("split", ["do_inside", "do_beyond"])
def test_slope_ratio_is_that_of_least_squares_lines(scores, fitted, asked, split):
    question = one(asked, split)
    means = {"ridge": fitted["ridge"].predict(question.cells, question.gene).mean, "MyModel": fitted["MyModel"].predict(question.cells, question.gene).mean(1)}
    slope = np.polyfit(question.dose, question.true.mean, 1)[0]
    for name, mean in means.items():
        assert value(scores, model=name, metric="slope_ratio", gene="mech_linear", split=split) == pytest.approx(np.polyfit(question.dose, mean, 1)[0] / slope)
    assert value(scores, model="oracle", metric="slope_ratio", gene="mech_linear", split=split) == pytest.approx(1)
    assert set(scores[scores["metric"] == "slope_ratio"]["split"]) == {"do_inside", "do_beyond"}


def test_skill_of_draws_is_one_less_the_ratio_of_brute_force_crps(scores, fitted, train, asked):
    question, k = one(asked, "pairs"), np.arange(3000)
    f = zinb_cdf(k, *(p[:, None] for p in params(question.true)))
    draws, law = fitted["MyModel"].predict(question.cells, question.gene), maximum_likelihood.fit(train[:, question.gene].X)[0]
    mine = np.stack([(np.sort(d) <= k[:, None]).mean(1) for d in draws])
    crps, marginal = ((f - mine) ** 2).sum(1).mean(), ((f - zinb_cdf(k, law.mu, law.theta, law.pi)) ** 2).sum(1).mean()
    assert value(scores, model="MyModel", metric="skill_crps", gene="mech_linear", split="pairs") == pytest.approx(1 - crps / marginal, rel=1e-4)


def test_an_answer_that_is_refused_names_the_model_in_a_score(fitted, asked, train):
    with pytest.raises(ValueError) as error:
        board.score({"marginal": fitted["marginal"], "mine": own_models.Negative().fit(train)}, asked)
    one_line(error, "mine: predicts negative values for mech_linear")


def test_squared_error_of_mu_of_base_genes_is_that_by_hand(fitted, train, test, base):
    wanted = {name: fitted[name] for name in ("oracle", "marginal", "ridge", "MyModel", "no_change")}  # the last two have none
    result = board.marginal_laws(wanted, test, base)
    assert list(result["model"]) == ["oracle", "marginal", "ridge"] and set(result["metric"]) == {"mse_mu"}
    assert set(result["split"]) == {"base_genes"} and set(result["gene"]) == {""}
    true = train[:, base].varm["mu"][:, 0]
    constant = np.mean([(maximum_likelihood.fit(train[:, g].X)[0].mu - m) ** 2 for g, m in zip(base, true)])
    varying = np.mean([np.mean((fitted["ridge"].predict(test, g).mu - m) ** 2) for g, m in zip(base, true)])
    np.testing.assert_allclose(result["value"], [0, constant, varying], rtol=1e-9)


def test_entering_answers_for_each_gene_once_and_returns_seconds(train, asked):
    class Counting(own_models.Means):
        def predict(self, adata, gene):
            told.append((gene, adata.n_obs))
            return super().predict(adata, gene)

    told = []
    wall, cpu = guard.enter(Counting(), train, asked)
    assert 0 < wall < 20 and 0 < cpu < 40
    assert sorted(g for g, _ in told) == sorted({q.gene for q in asked}) and {n for _, n in told} == {2}
    guard.enter(own_models.Declines(), train, asked)


@pytest.mark.parametrize("split", [*SPLITS, "off_target", "base_genes"])
def test_a_leak_in_any_question_is_refused_where_a_model_enters(train, test, asked, base, split):
    """It copies the count in the cells of one question, and in no others."""
    question = next((q for q in asked if q.split == split), None)
    cells, gene = (test, base[3]) if question is None else (question.cells, question.gene)

    def rows_of(adata):
        return {tuple(row) for row in dataset.dense(adata[:, [g for g in base if g != gene]].X)}

    class LeaksThere(own_models.MyModel):
        def predict(self, adata, g):
            there = g == gene and adata.n_obs > 2 and rows_of(adata) <= rows_of(cells)
            return own_models._counts(adata, g) if there else np.ones(adata.n_obs)

    with pytest.raises(ValueError) as error:
        guard.enter(guard.Own(LeaksThere, base), train, asked, "mine", test=test)
    one_line(error, f"mine: leakage: what it predicts of {gene}")
    guard.enter(LeaksThere(base), train, asked, "mine", test=test)  # only a model of one's own is checked


def test_a_model_that_declines_some_questions_enters_and_one_that_declines_all_is_refused(train, asked, base):
    guard.enter(entry("Declines", base), train, asked, "mine")
    with pytest.raises(ValueError) as error:
        guard.enter(entry("DeclinesAll", base), train, asked, "mine")
    one_line(error, "mine: answers no question")


def test_without_a_mechanistic_gene_or_laws_there_is_nothing_to_ask(test):
    plain = dataset.base_genes(20, 3, seed=0)
    with pytest.raises(ValueError, match="no mechanistic gene"):
        conditional.questions(plain, plain, plain, seed=0)
    with pytest.raises(ValueError, match="has no laws"):
        dataset.fresh_cells(guard._shown(plain), 5, seed=0)


def test_a_screen_has_as_many_cells_as_the_training_set_and_needs_two_genes(train, screen, asked):
    assert train.n_obs - len(set(screen.obs["perturbed"])) < screen.n_obs <= train.n_obs
    few = conditional.simulate(200, 2, 0.5, ["linear"], seed=1)
    assert conditional.interventional_data(few, conditional.questions(few, few, few, n_doses=6, n_off_target=0, seed=2), seed=3) is None


def test_perturbed_cells_hold_no_arm_of_a_gene_whose_doses_are_asked_about(screen, train, asked, base):
    asked_about = {q.cells.obs["perturbed"].iloc[0] for q in asked if q.split.startswith("do_")}
    assert asked_about and set(screen.obs["perturbed"].astype(str)) == {"control", *base} - asked_about
    assert list(screen.var_names) == list(train.var_names)
    columns = screen.var_names.get_indexer(sorted(asked_about))
    assert screen.layers["do"][:, columns].nnz == 0 and screen.layers["do"].nnz > 0


# what was scored before


def rows(values, scenario=board.SCENARIO, n_replicates=2):
    """Rows of a written table: model -> its skills in each split, of replicates that differ a little."""
    frames = [
        pd.DataFrame({"model": m, "metric": "skill_crps", "value": np.array(v) + 0.01 * r, "split": SPLITS[: len(v)], "replicate": r, "scenario": scenario})
        for r in range(n_replicates)
        for m, v in values.items()
    ]
    return tables.tidy(frames)


MINE = {"marginal": [0.123456, 0.2, 0.3]}
OTHERS = {"scvi": [0.4, 0.5, 0.6], "scgen": [0.7, 0.8, 0.9]}


def test_rows_that_answer_the_same_questions_are_taken(tmp_path):
    tables.write(rows(MINE | OTHERS), tmp_path / "known.csv")
    taken = board.known(tmp_path / "known.csv", rows(MINE))
    assert list(taken.columns) == list(rows(MINE).columns) and len(taken) == 3 * 3 * 2
    assert len(board.known(str(tmp_path / "known.csv"), rows(MINE))) == len(taken)
    summary = tables.summary(tables.tidy([rows(MINE), taken[taken["model"] != "marginal"]]))
    assert set(summary["model"]) == {"marginal", "scvi", "scgen"} and (summary["n"] == 2).all()
    assert summary.query("model == 'scvi' and split == 'held_out'")["mean"].item() == pytest.approx(0.405)


def test_a_file_of_other_questions_is_not(tmp_path):
    path = tmp_path / "known.csv"
    assert board.known(path, rows(MINE)).empty
    for other in (
        rows({"marginal": [0.125, 0.2, 0.3]} | OTHERS),
        rows(MINE | OTHERS, n_replicates=1),
        rows({"marginal": MINE["marginal"][:2]} | OTHERS),
        rows({"marginal": [*MINE["marginal"], 0.4]} | OTHERS),
        rows(MINE | OTHERS, scenario="elsewhere"),
        rows(OTHERS),
    ):
        tables.write(other, path)
        empty = board.known(path, rows(MINE))
        assert len(empty) == 0 and list(empty.columns) == list(rows(MINE).columns)


def test_rows_without_a_value_are_known_too(tmp_path):
    # a slope ratio is NaN where the true response is flat
    mine = {"marginal": [0.1, np.nan, 0.3]}
    tables.write(rows(mine | OTHERS), tmp_path / "known.csv")
    taken = board.known(tmp_path / "known.csv", rows(mine))
    assert len(taken) == 18 and taken["value"].isna().sum() == 2


def test_scores_are_known_again_after_a_round_through_a_file(scores, tmp_path):
    table = tables.tidy([scores.assign(scenario=board.SCENARIO, replicate=r) for r in range(2)])
    tables.write(table, tmp_path / "known.csv")
    marginal = table[table["model"] == "marginal"]
    taken = board.known(tmp_path / "known.csv", marginal)
    assert len(taken) == len(table)
    np.testing.assert_allclose(taken["value"], table["value"], rtol=1e-3)


def test_what_was_just_fitted_stands_beside_all_that_is_known_of_the_others():
    """Rows about drugs, which come from the published models' table, take nothing from the leaderboard's own."""
    old = rows({"marginal": [9.0], "vae": [0.1], "MyModel": [0.2], "scvi": [0.3]})
    drugs = rows({"vae": [5.0], "scgen": [6.0]}, scenario="drug")
    mine = rows({"marginal": [0.0], "MyModel": [0.4]})
    for first, second in ((drugs, old), (old, tables.tidy([drugs, old]))):
        table = board.join(board.join(mine, first, ["marginal", "MyModel"]), second, ["marginal", "MyModel"])
        values = table[(table["scenario"] == board.SCENARIO) & (table["replicate"] == 0)].set_index("model")["value"]
        assert values.to_dict() == {"marginal": 0.0, "MyModel": 0.4, "vae": 0.1, "scvi": 0.3}
        assert len(table) == 2 * (4 + 2) and not table.duplicated(tables.KEYS).any()


def test_seconds_are_known_from_the_table_beside_the_scores(tmp_path):
    seconds = rows(OTHERS).assign(metric="seconds")
    tables.write(rows(MINE | OTHERS), tmp_path / "05_leaderboard.csv")
    tables.write(tables.tidy([seconds, rows(MINE).assign(metric="seconds")]), tmp_path / "05_seconds.csv")
    taken = board.known(tmp_path / "05_leaderboard.csv", rows(MINE))
    assert (taken["metric"] == "seconds").sum() == len(seconds) + len(rows(MINE)) and len(taken) == 2 * len(rows(MINE | OTHERS))
    tables.write(tables.tidy([rows(MINE | OTHERS), seconds]), tmp_path / "05_peers.csv")
    assert (board.known(tmp_path / "05_peers.csv", rows(MINE))["metric"] == "seconds").sum() == len(seconds)


def test_scores_of_cell_eval_are_read_as_means_by_model(tmp_path):
    assert board.cell_eval(tmp_path / "none.csv") == {}
    written = pd.DataFrame({"model": ["b", "b", "a", "b", "b"], "metric": ["mae"] * 3 + ["skill_kl"] * 2, "value": [1.0, 2, 5, 0.5, 0.7], "replicate": [0, 1, 0, 0, 1]})
    tables.write(written, tmp_path / "known.csv")
    read = board.cell_eval(tmp_path / "known.csv")
    assert set(read) == {"a", "b"} and read["a"]["mae"] == 5
    assert read["b"]["mae"] == 1.5 and read["b"]["skill_kl"] == pytest.approx(0.6)


def test_of_a_known_table_the_replicates_that_were_run_are_taken(tmp_path):
    path = tmp_path / "known.csv"
    tables.write(rows(MINE | OTHERS, n_replicates=3), path)
    taken = board.known(path, rows(MINE))
    assert set(taken["model"]) == set(MINE | OTHERS)
    assert set(taken["replicate"].astype(int)) == set(rows(MINE)["replicate"].astype(int))


def test_a_model_of_ones_own_may_not_have_the_name_of_another(monkeypatch):
    assert guard.own("model", "lib.networks:MLP") is neural.MLP
    monkeypatch.setattr(registry, "KEYS", [*registry.KEYS, "MLP"])
    with pytest.raises(ValueError, match="its name is that of a model of the table"):
        guard.own("model", "lib.networks:MLP")
