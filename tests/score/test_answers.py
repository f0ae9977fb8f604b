import numpy as np
import pandas as pd
import pytest
import scipy.stats

from lib import dataset
from lib.predict import guard, references, regressions
from lib.score import answers
from lib.tasks import conditional, mechanistic
from tests import models_of_ones_own as own_models
from tests.tasks.test_conditional import counts_of, one, params


class Counting(own_models.ALaw):
    """Counts what it is asked, and numbers the cells of each call."""

    calls = 0

    def predict(self, adata, gene):
        self.calls += 1
        law = super().predict(adata, gene)
        return type(law)(1.0 + np.arange(adata.n_obs), law.theta, law.pi)


@pytest.fixture(scope="module")
def fitted(train, base):
    entries = {
        "marginal": references.Marginal(),
        "ridge": regressions.ridge(base),
        "MyModel": own_models.MyModel(base),
        "Declines": own_models.Declines(),
    }
    return {name: guard.Guarded(model, name).fit(train) for name, model in entries.items()}


@pytest.fixture(scope="module")
def responses(train, reference):
    return conditional.responses(train, reference, n_doses=8, n_pair_doses=2, seed=4)


def test_answers_are_laws_of_the_gene_by_model_and_who_declines_is_left_out(fitted, asked):
    held_out, inside = (one(asked, split) for split in ("held_out", "do_inside"))
    assert list(answers.ask(fitted, inside).laws) == list(fitted)
    answered = answers.ask(fitted, held_out)
    assert answered.question is held_out and "Declines" not in answered.laws
    for name, law in answered.laws.items():
        assert law.shape == (held_out.cells.n_obs,)
        expected = fitted[name].law(held_out.cells, held_out.gene).mean
        np.testing.assert_array_equal(law.mean, expected)


def test_a_dose_series_is_asked_once_and_parted_afterwards(train, responses):
    model = Counting()
    entries = {"counting": guard.Guarded(model, "counting").fit(train)}
    series, others = responses[0]
    answered = answers.ask_series(entries, series, others)
    assert model.calls == 1 + len(others)
    inside, beyond = answered[:2]
    assert (inside.question.split, beyond.question.split) == ("do_inside", "do_beyond")
    number = 1.0 + np.arange(series.question.cells.n_obs)
    np.testing.assert_array_equal(
        inside.laws["counting"].mu, number[series.question.dose <= series.end]
    )
    np.testing.assert_array_equal(
        beyond.laws["counting"].mu, number[series.question.dose > series.end]
    )
    assert [a.question for a in answered[2:]] == others


def test_scores_of_responses_have_slopes_by_split_and_one_mean_off_target(fitted, responses):
    answered = [a for asked in responses for a in answers.ask_series(fitted, *asked)]
    table = answers.scores(answered)
    keys = ["model", "metric", "mechanism", "gene", "split"]
    assert not table.duplicated(keys).any()
    assert set(table.loc[table["metric"] == "slope_ratio", "split"]) == {"do_inside", "do_beyond"}
    off_target = table[table["split"] == "off_target"]
    assert set(off_target["gene"]) == {""}
    assert set(off_target["metric"]) == {"off_target_kl", "off_target_crps"}


def test_observed_counts_are_scored_by_their_mean_negative_log_probability(fitted, train, test):
    question = mechanistic.held_out(test)[0]
    answered = answers.ask(fitted, question)
    laws = {name: answered.laws[name] for name in ("marginal", "ridge")}
    table = answers.scores([answered._replace(laws=laws)], observed=True)
    found = table[table["metric"] == "nll_nats"].set_index("model")["value"]
    counts = counts_of(test, question.gene)
    for name, law in laws.items():
        p = law.theta / (law.theta + law.mu)
        pmf = (1 - law.pi) * scipy.stats.nbinom.pmf(counts, law.theta, p) + law.pi * (counts == 0)
        assert found[name] == pytest.approx(-np.log(pmf).mean(), rel=1e-9)
    assert "nll_nats" not in set(answers.scores([answered._replace(laws=laws)])["metric"])


def test_parameters_are_those_of_the_truth_and_of_each_law_cell_by_cell(fitted, asked, test):
    inside, held_out = (one(asked, split) for split in ("do_inside", "held_out"))
    table = answers.parameters(answers.ask(fitted, q) for q in (inside, held_out))
    # neither draws nor means have parameters
    assert list(pd.unique(table["model"])) == ["true", "marginal", "ridge"]
    n_inside = 3 * inside.cells.n_obs
    for question, rows in ((inside, table[:n_inside]), (held_out, table[n_inside:])):
        assert set(rows["gene"]) == {"mech_linear"} and set(rows["mechanism"]) == {"linear"}
        true, ridge = (rows[rows["model"] == name] for name in ("true", "ridge"))
        np.testing.assert_array_equal(
            true[["mu", "theta", "pi"]].T,
            params(dataset.law(question.cells, "mech_linear"))[..., 0],
        )
        law = fitted["ridge"].law(question.cells, "mech_linear")
        np.testing.assert_array_equal(ridge[["mu", "theta", "pi"]].T, params(law))
    dose = table.loc[: n_inside - 1].query("model == 'ridge'")["dose"]
    np.testing.assert_array_equal(dose, inside.dose)
    assert table.loc[n_inside:, "dose"].isna().all()
