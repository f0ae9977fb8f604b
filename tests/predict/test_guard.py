import inspect

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sparse
import torch

from lib import dataset, perturb
from lib.laws import ZINB, Cells, Empirical
from lib.predict import guard, neural, references, registry, regressions
from lib.predict import screen as arms_models
from lib.predict.base import Perturbation, Query
from lib.score import board, distances
from lib.tasks import conditional
from tests import models_of_ones_own as own_models
from tests.agreement import one_line, zinb_cdf
from tests.tasks.test_conditional import SPLITS, counts_of, one

torch.set_num_threads(1)

MODELS = "tests.models_of_ones_own:"


def ask(model, cells, gene, name="model"):
    """What the guard makes of a model's prediction of one gene, (n_cells,)."""
    return guard.answer(model, Query(cells, [gene]), name)[:, 0]


def test_a_law_is_taken_as_it_is(train, test):
    model = own_models.ALaw().fit(train)
    law = ask(model, test, "mech_linear")
    assert isinstance(law, ZINB) and law.shape == (120,)
    np.testing.assert_array_equal(law.mu, model.predict(test, "mech_linear").mu)


@pytest.mark.parametrize("kind", [list, np.asarray, pd.DataFrame, torch.as_tensor])
def test_draws_are_scored_by_the_crps_of_their_own_law(test, kind):
    draws = np.random.default_rng(0).poisson(3, (120, 15))
    law = ask(own_models.TakesAnything(kind(draws)), test, "mech_linear")
    true = dataset.law(test, "mech_linear")[:, 0]
    crps = distances.between(true, law)["excess_crps"]
    k = np.arange(2000)
    for i in range(0, 120, 10):
        f = zinb_cdf(k, true.mu[i], true.theta[i], true.pi[i])
        g = (draws[i] <= k[:, None]).mean(1)
        np.testing.assert_allclose(crps[i], np.sum((f - g) ** 2), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [list, np.asarray, pd.Series])
def test_a_mean_is_scored_as_the_narrowest_law_that_has_it(test, kind):
    some = [0, 1, 2.5, 0.01, 0.999, 1e5 + 0.5]
    means = np.concatenate([some, np.random.default_rng(0).uniform(0, 30, 114)])
    law = ask(own_models.TakesAnything(kind(means)), test, "mech_linear")
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
    model = guard.load("model", MODELS + name)().fit(train)
    with pytest.raises(ValueError) as error:
        ask(model, test, "mech_linear", name)
    one_line(error, f"{name}: predicts {REFUSED[name]}", "mech_linear", "must be")


@pytest.mark.parametrize(
    "prediction",
    [
        np.ones((120, 0)),
        np.ones((120, 3, 1)),
        np.ones(119),
        [[1, 2], [3]],
        np.full((120, 3), -np.inf),
        {"mean": 3},
        Empirical(np.ones((119, 3))),
    ],
)
def test_other_things_that_are_no_answer_are_refused_in_one_line_too(test, prediction):
    with pytest.raises(ValueError) as error:
        ask(own_models.TakesAnything(prediction), test, "mech_linear", "mine")
    one_line(error, "mine: predicts", "mech_linear", "must be")


def entry(name, base, seed=0):
    return guard.own(guard.load("model", MODELS + name), base, seed)


def test_a_model_of_ones_own_is_given_the_inputs_and_a_whole_number_if_it_takes_them(
    train, test, base
):
    few = entry("MyModel", base[:2])
    assert entry("MyModel", base).model.inputs == base and few.model.inputs == base[:2]
    assert isinstance(entry("Means", base).model, own_models.Means)
    given = (0, (2026, 0), (2026, 1), (2026, 0))
    seeds = [entry("TellsItsSeed", base, seed).model.seed for seed in given]
    assert {type(seed) for seed in seeds} == {int} and max(seeds) < 2**32
    assert seeds[1] == seeds[3] and len(set(seeds)) == 3
    few.fit(train)
    changed = {g: counts_of(test, g)[::-1] for g in (*base[2:], "mech_threshold")}
    other = dataset.with_counts(test, changed)
    before, after = (few.law(cells, "mech_linear").draws for cells in (test, other))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("string", "part"),
    [
        ("MyModel", "package.module:name"),
        ("", "package.module:name"),
        ("tests.nothing_here:MyModel", "can't be imported"),
        (MODELS + "Nobody", "can't be imported"),
        (MODELS + "WithoutPredict", "methods fit(adata) and predict"),
        (MODELS + "NeedsMore", "n_neighbours"),
        (MODELS + "a_function", "methods fit(adata) and predict"),
        ("tests.mechanisms_of_ones_own:NOT_A_FUNCTION", "NOT_A_FUNCTION"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(string, part):
    with pytest.raises(ValueError) as error:
        guard.load("model", string)
    one_line(error, f"model = {string!r}", part)


def test_a_model_of_ones_own_may_not_have_the_name_of_another(monkeypatch):
    assert guard.load("model", "lib.predict.neural:MLP") is neural.MLP
    monkeypatch.setitem(registry.BY_KEY, "MLP", registry.BY_KEY["mlp"])
    with pytest.raises(ValueError, match="its name is that of a model of the table"):
        guard.load("model", "lib.predict.neural:MLP")


def test_the_worked_example_is_short_and_beats_the_marginal_on_held_out_cells(train, asked, base):
    assert len(inspect.getsource(own_models.MyModel).splitlines()) <= 20
    fitted = {
        "marginal": guard.Guarded(references.Marginal()),
        "MyModel": guard.own(own_models.MyModel, base),
    }
    for model in fitted.values():
        model.fit(train)
    scores = board.score(fitted, [one(asked, "held_out")]).set_index(["model", "metric"])["value"]
    assert 0.1 < scores["MyModel", "skill_crps"] < 1


def recorded(told):
    """A model that notes what it is shown, in a guard."""
    notes = []

    class Notes(own_models.TellsItsSeed):
        def fit(self, adata):
            notes.append(adata)

        def predict(self, adata, gene):
            notes.append(adata)
            return np.ones(adata.n_obs)

    return notes, guard.Guarded(Notes(), told=told)


def test_a_model_of_ones_own_is_shown_cells_and_nothing_of_the_truth(train, test, base, asked):
    with pytest.raises((ValueError, KeyError)):
        entry("ReadsTheTruth", base).fit(train).law(test, "mech_linear")
    truth = own_models.ReadsTheTruth().fit(train).predict(test, "mech_linear")
    assert truth.shape == (120,)  # so that the first could fail
    notes, model = recorded(told=False)
    question = one(asked, "do_inside")
    model.fit(train).predict(question.query)
    for cells, whole in zip(notes, (train, question.cells)):
        np.testing.assert_array_equal(cells.X.toarray(), whole.X.toarray())
        assert list(cells.var_names) == list(whole.var_names) and cells.var.empty
        assert not cells.uns and not cells.layers and not cells.varm and not cells.obsm
    assert set(notes[1].obs) == {"cell_type", "drug", "dose", "perturbed"}
    # names would tell reference and dose
    assert not set(notes[1].obs_names) & set(question.cells.obs_names)


def test_a_model_is_shown_whole_counts_wherever_they_are(train):
    cells = train.copy()
    cells.layers["counts"] = cells.X.copy()
    cells.X = cells.X.log1p()
    np.testing.assert_array_equal(guard.shown(cells).X.toarray(), train.X.toarray())
    del cells.layers["counts"]
    with pytest.raises(ValueError) as error:
        guard.shown(cells)
    one_line(error, "counts")


def test_a_reference_is_shown_all(train, asked):
    notes, model = recorded(told=True)
    model.fit(train).predict(one(asked, "do_inside").query)
    assert notes[0].uns and "do" in notes[1].layers and "reference" in notes[1].obs


def test_a_model_that_sees_every_gene_is_not_asked_for_one_given_its_children(
    train, test, base, asked
):
    fitted = {
        "marginal": guard.Guarded(references.Marginal()),
        "all": entry("ALaw", base),
        "base": entry("MyModel", base),
    }
    for model in fitted.values():
        model.fit(train)
    splits = board.score(fitted, asked).groupby("model")["split"].agg(set)
    assert splits["all"] == set(SPLITS) and splits["base"] == {*SPLITS, "off_target"}
    of_base = [conditional.question(test, gene, "base_genes") for gene in base]
    assert list(board.base_laws(fitted, of_base)["model"]) == ["marginal"]


# leakage

SHORT = {"training_options": {"max_epochs": 2}, "device": "cpu"}
SMALL_VAE = {"vae_options": {"n_latent": 2, "n_hidden": 16}, **SHORT}
HONEST = {
    "marginal": lambda base: references.Marginal(),
    "ridge": regressions.ridge,
    "boosting": regressions.boosting,
    "vae": lambda base: neural.VAE(base, **SMALL_VAE),
    "vae_of_all_genes": lambda base: neural.VAE(**SMALL_VAE),
    "mlp": lambda base: neural.MLP(base, module_options={"n_hidden": 16}, **SHORT),
    "dependency_network": lambda base: neural.DependencyNetworks(n_steps=5, device="cpu"),
    "bilinear": lambda base: arms_models.Bilinear(),
    "MyModel": own_models.MyModel,
    **{
        name: lambda base, name=name: getattr(own_models, name)()
        for name in (
            "Means",
            "ALaw",
            "ALawOfItsOwn",
            "Sampler",
            "OneSampleForAll",
            "SinglePrecision",
        )
    },
}


@pytest.fixture(scope="module")
def screen(train, asked):
    return conditional.interventional_data(train, asked, seed=8)


@pytest.mark.parametrize("name", HONEST)
def test_a_model_that_does_not_use_the_count_is_accepted(train, screen, test, asked, base, name):
    model = guard.Guarded(HONEST[name](base), name)
    model.fit(screen if name in registry.keys(task="conditional", trains_on="arms") else train)
    held_out = [Query(test, [gene]) for gene in ("mech_linear", "gene_1")]
    for query in (*held_out, one(asked, "do_inside").query):
        for seed in range(10 if name in ("Sampler", "OneSampleForAll") else 1):
            guard.check_leaks(model, query, name, seed=seed)


LEAKY = ["Leaky", "LeakyThroughTotal", "LeakyZeros", "LeakyAverage", "LeakySampler"]


@pytest.mark.parametrize("name", LEAKY)
def test_a_model_that_uses_the_count_is_refused_in_one_line(train, test, base, name):
    model = entry(name, base).fit(train)
    model.not_asked = []
    for gene in ("mech_linear", "gene_1"):
        with pytest.raises(ValueError) as error:
            guard.check_leaks(model, Query(test, [gene]), name)
        one_line(error, f"{name}: leakage", gene, "must not be used")


def test_the_leaky_vae_is_refused(train, test):
    options = {"vae_options": {"n_hidden": 16}, "training_options": {"max_epochs": 4}}
    vae = neural.VAE(leaky=True, n_latent=2, beta=0.02, device="cpu", **options)
    leaky = guard.Guarded(vae).fit(train)
    with pytest.raises(ValueError, match="vae_leaky: leakage"):
        guard.check_leaks(leaky, Query(test, ["mech_linear"]), "vae_leaky")


HIDDEN = {
    "names of cells": lambda cells: np.array([len(name) for name in cells.obs_names], dtype=float),
    "obs": lambda cells: cells.obs["reference"].astype(str).str.len().to_numpy(dtype=float),
    "layers": lambda cells: cells.layers["do"].toarray()[:, -1].astype(float),
    "var": lambda cells: np.full(cells.n_obs, float(cells.var["mechanistic"].to_numpy()[0])),
    "uns": lambda cells: np.full(cells.n_obs, float(len(cells.uns))),
}


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_model_that_reads_what_is_hidden_is_refused_in_one_line(asked, hidden):
    """It is handed the cells as they are, as if they had not been stripped."""

    class Reads(own_models._Own):
        def predict(self, adata, gene):
            return HIDDEN[hidden](adata)

    cells = one(asked, "do_inside").cells.copy()
    done = cells.layers["do"].toarray()
    done[: cells.n_obs // 2, -1] = 1
    cells.layers["do"] = sparse.csr_matrix(done)
    cells.obs["reference"] = [f"{'x' * (i % 5)}" for i in range(cells.n_obs)]
    cells.var["mechanistic"] = np.arange(cells.n_vars)
    with pytest.raises(ValueError) as error:
        guard.check_leaks(Reads(), Query(cells, ["mech_linear"]), "mine")
    one_line(error, "mine: leakage", "hidden")
    guard.check_leaks(own_models.Means().fit(cells), Query(cells, ["mech_linear"]), "mine")


def test_a_model_of_arms_that_reads_what_is_hidden_is_refused(train):
    """So for a drug: the law of each gene in treated cells, from control cells."""
    control = dataset.base_genes(60, 4, 0.5, seed=1)

    class Arms(own_models.DrugCells):
        def predict(self, control):
            return np.full((5, 4), len(control.uns) + len(control.varm) + len(control.obs.columns))

    query = Query(control, list(control.var_names), Perturbation("additive"))
    control.uns["drugs"] = {"known": 1}
    with pytest.raises(ValueError, match="mine: leakage"):
        guard.check_leaks(Arms(0), query, "mine")
    guard.check_leaks(guard.Guarded(Arms(0)), query, "mine")  # which strips them


def test_a_leak_is_seen_where_all_counts_are_equal(train, test):
    zeros = Query(dataset.with_counts(test, {"gene_1": np.zeros(120)}), ["gene_1"])
    with pytest.raises(ValueError, match="leakage"):
        guard.check_leaks(own_models.Leaky().fit(train), zeros)
    guard.check_leaks(own_models.Means().fit(train), zeros)


def test_the_check_of_leaks_changes_no_cell(train, test):
    before, names = dataset.dense(test.X), list(test.obs_names)
    guard.check_leaks(own_models.Means().fit(train), Query(test, ["gene_1"]))
    np.testing.assert_array_equal(dataset.dense(test.X), before)
    assert list(test.obs_names) == names and test.uns


def test_a_model_that_changes_its_cells_in_place_spoils_them_for_no_other(train, test, asked):
    mine, question = train.copy(), one(asked, "held_out")
    query = question.query._replace(cells=question.cells.copy())
    model = guard.Guarded(own_models.ChangesItsCells())
    guard.enter(model, mine, [query])
    model.predict(query)
    np.testing.assert_array_equal(dataset.dense(mine.X), dataset.dense(train.X))
    np.testing.assert_array_equal(dataset.dense(query.cells.X), dataset.dense(test.X))


# entering


def queries(asked):
    return [question.query for question in asked]


def test_entering_answers_for_each_gene_once_and_returns_seconds(train, asked):
    class Counting(own_models.Means):
        def predict(self, adata, gene):
            told.append((gene, adata.n_obs))
            return super().predict(adata, gene)

    told = []
    wall, cpu = guard.enter(Counting(), train, queries(asked))
    assert 0 < wall < 20 and 0 < cpu < 40
    assert sorted(g for g, n in told if n == 2) == sorted({q.gene for q in asked})
    guard.enter(own_models.Declines(), train, queries(asked))


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

    more = [Query(test, [g]) for g in base]
    for model in (guard.own(LeaksThere, base), LeaksThere(base)):
        with pytest.raises(ValueError) as error:
            guard.enter(model, train, queries(asked), "mine", more=more)
        one_line(error, f"mine: leakage: what it predicts of {gene}")
    reference = guard.Guarded(LeaksThere(base), told=True)
    guard.enter(reference, train, queries(asked), "mine", more=more)


def test_a_model_that_declines_some_questions_enters_and_one_that_declines_all_is_refused(
    train, asked, base
):
    guard.enter(entry("Declines", base), train, queries(asked), "mine")
    with pytest.raises(ValueError) as error:
        guard.enter(entry("DeclinesAll", base), train, queries(asked), "mine")
    one_line(error, "mine: answers no question")


# forms of predict


FORMS = {
    "contract": lambda query: Cells(np.full((4, 3), 1.0)),
    "control alone": lambda control: np.full((4, 3), 1.0),
    "with an option": lambda control, n=1.0: np.full((4, 3), n),
    "an option by name": lambda control, *, n=1.0: np.full((4, 3), n),
    "anything": lambda *args: np.full((4, 3), float(len(args))),
    "what was done": lambda control, perturbation: np.full((4, 3), perturbation.strength),
    "what was done, if it is told": lambda control, perturbation=None: np.full(
        (4, 3), perturbation.strength
    ),
    "what was done, called otherwise": lambda control, drug: np.full((4, 3), drug.strength),
    "a law of draws": lambda control: Empirical(np.full((3, 4), 1.0)),
    "cells in a sparse matrix": lambda control: sparse.csr_matrix(np.full((4, 3), 1.0)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_model_of_an_arm_may_be_written_in_any_of_these_forms(form):
    control = dataset.base_genes(6, 3, seed=1)
    model = own_models.TakesAnything()
    model.predict = FORMS[form]
    query = Query(control, list(control.var_names), Perturbation("x", 1.0))
    law = guard.answer(model, query, "mine")
    assert law.shape == (3,) and (law.mean == 1).all()


@pytest.mark.parametrize(
    "prediction",
    [
        np.full((120, 1), 2.5),
        np.matrix(np.full((120, 1), 2.5)),
        sparse.csr_matrix(np.full((120, 4), 2)),
        torch.full((120,), 2.5),
    ],
    ids=repr,
)
def test_means_in_a_column_and_sparse_draws_are_answers(test, prediction):
    mean = ask(own_models.TakesAnything(prediction), test, "mech_linear").mean
    assert mean == pytest.approx(np.full(120, float(prediction.max())), abs=0.03)


def test_a_tensor_that_wants_its_gradient_is_refused_in_one_line(test):
    model = own_models.TakesAnything(torch.ones(120, requires_grad=True))
    with pytest.raises(ValueError) as error:
        ask(model, test, "mech_linear", "mine")
    one_line(error, "mine: predicts a Tensor", "must be")


def test_a_model_of_drugs_is_asked_about_the_genes_that_it_sees():
    """As notebook 04 enters it."""
    control = dataset.base_genes(60, 4, 0.5, seed=1)
    train = dataset.concat([control, perturb.additive(control, 5.0, seed=2)])
    genes = list(control.var_names)
    mine = guard.own(own_models.DrugCells, genes, 3)
    guard.enter(mine, train, [Query(control, genes, Perturbation("additive"))], "mine")


def test_a_model_that_has_no_answer_where_hidden_things_are_other_is_refused(train, test):
    class Dodges(own_models.Leaky):
        def predict(self, adata, gene):
            if adata.obs_names[0].startswith("other"):
                raise NotImplementedError
            return super().predict(adata, gene)

    with pytest.raises(ValueError, match="leakage"):
        guard.check_leaks(Dodges().fit(train), Query(test, ["gene_1"]), "mine")


def test_a_model_that_answers_nothing_is_refused_with_its_reason(train, test):
    class Fails(own_models.MyModel):
        def predict(self, adata, gene):
            raise NotImplementedError("no kernel for this device")

    with pytest.raises(ValueError, match="mine: answers no question .*no kernel for this device"):
        guard.enter(Fails(), train, [Query(test, ["gene_1"])], "mine")


def test_a_model_of_ones_own_is_checked_in_all_cells(train, test, base):
    class LeaksInMany(own_models.MyModel):
        def predict(self, adata, gene):
            return own_models._counts(adata, gene) if adata.n_obs > 300 else np.ones(adata.n_obs)

    many = dataset.fresh_cells(train, 400, seed=9)
    with pytest.raises(ValueError, match="leakage"):
        guard.enter(guard.own(LeaksInMany, base), train, [Query(many, ["mech_linear"])], "mine")
