import numpy as np
import pandas as pd
import pytest
import torch

from lib.laws import maximum_likelihood
from lib.predict import guard, references, regressions
from lib.score import board, distances, tables
from lib.tasks import conditional
from tests import models_of_ones_own as own_models
from tests.agreement import one_line, zinb_cdf
from tests.tasks.test_conditional import SPLITS, one, params

torch.set_num_threads(1)


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
    told = ("oracle", "no_change")
    return {
        name: guard.Guarded(model, name, told=name in told).fit(train)
        for name, model in entries.items()
    }


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
    assert (
        scores.loc[scores["split"] != "off_target", "gene"]
        .isin(["mech_linear", "mech_threshold"])
        .all()
    )


def test_the_oracle_has_skill_1_and_the_marginal_0(scores):
    asked_of = scores[scores["metric"].isin(["skill_kl", "skill_crps"])]
    for name, expected in (("oracle", 1), ("marginal", 0)):
        rows = asked_of[asked_of["model"] == name]
        assert len(rows) == 2 * 2 * 4 and (rows["value"] == expected).all()
    assert (scores.query("model == 'oracle' and split == 'off_target'")["value"] == 0).all()
    assert (scores.query("model == 'no_change' and split == 'off_target'")["value"] == 0).all()


def test_a_model_without_an_answer_has_no_row_there(scores):
    for name in ("no_change", "Declines"):
        assert set(scores[scores["model"] == name]["split"]) == {*SPLITS, "off_target"} - {
            "held_out"
        }
    assert set(scores[scores["model"] == "ridge"]["split"]) == {*SPLITS, "off_target"}


def test_draws_and_means_have_no_kl_and_laws_have(scores):
    metrics_of = scores.groupby("model")["metric"].agg(set)
    without = {"excess_crps", "mse_mean", "skill_crps", "slope_ratio", "off_target_crps"}
    assert metrics_of["MyModel"] == metrics_of["Means"] == without
    assert (
        metrics_of["ridge"]
        == metrics_of["marginal"]
        == without | {"kl_nats", "skill_kl", "mse_mu", "mse_pi", "mse_log_theta", "off_target_kl"}
    )


def test_a_score_off_target_is_the_mean_over_genes(scores, fitted, asked):
    off = [q for q in asked if q.split == "off_target"]
    each = [
        distances.between(q.true[:, 0], fitted["ridge"].law(q.cells, q.gene)).mean() for q in off
    ]
    keys = {"model": "ridge", "split": "off_target", "gene": "", "mechanism": ""}
    assert value(scores, metric="off_target_kl", **keys) == pytest.approx(
        np.mean([e["kl_nats"] for e in each])
    )
    assert value(scores, metric="off_target_crps", **keys) == pytest.approx(
        np.mean([e["excess_crps"] for e in each])
    )
    assert {*scores[scores["split"] == "off_target"]["metric"]} == {
        "off_target_kl",
        "off_target_crps",
    }


@pytest.mark.parametrize("split", ["do_inside", "do_beyond"])
def test_slope_ratio_is_that_of_least_squares_lines(scores, fitted, asked, split):
    question = one(asked, split)
    means = {
        name: fitted[name].law(question.cells, question.gene).mean for name in ("ridge", "MyModel")
    }
    slope = np.polyfit(question.dose, question.true[:, 0].mean, 1)[0]
    for name, mean in means.items():
        assert value(
            scores, model=name, metric="slope_ratio", gene="mech_linear", split=split
        ) == pytest.approx(np.polyfit(question.dose, mean, 1)[0] / slope)
    assert value(
        scores, model="oracle", metric="slope_ratio", gene="mech_linear", split=split
    ) == pytest.approx(1)
    assert set(scores[scores["metric"] == "slope_ratio"]["split"]) == {"do_inside", "do_beyond"}


def test_skill_of_draws_is_one_less_the_ratio_of_brute_force_crps(scores, fitted, train, asked):
    question, k = one(asked, "pairs"), np.arange(3000)
    f = zinb_cdf(k, *(p for p in params(question.true)))
    draws, law = (
        fitted["MyModel"].law(question.cells, question.gene).draws,
        maximum_likelihood.fit(train[:, question.gene].X)[0],
    )
    mine = np.stack([(np.sort(d) <= k[:, None]).mean(1) for d in draws])
    crps, marginal = (
        ((f - mine) ** 2).sum(1).mean(),
        ((f - zinb_cdf(k, law.mu, law.theta, law.pi)) ** 2).sum(1).mean(),
    )
    assert value(
        scores, model="MyModel", metric="skill_crps", gene="mech_linear", split="pairs"
    ) == pytest.approx(1 - crps / marginal, rel=1e-4)


def test_an_answer_that_is_refused_names_the_model_in_a_score(fitted, asked, train):
    with pytest.raises(ValueError) as error:
        board.score(
            {
                "marginal": fitted["marginal"],
                "mine": guard.Guarded(own_models.Negative(), "mine").fit(train),
            },
            asked,
        )
    one_line(error, "mine: predicts negative values for mech_linear")


def test_squared_error_of_mu_of_base_genes_is_that_by_hand(fitted, train, test, base):
    wanted = {
        name: fitted[name] for name in ("oracle", "marginal", "ridge", "MyModel", "no_change")
    }  # the last two have none
    result = board.base_laws(
        wanted, [conditional.question(test, gene, "base_genes") for gene in base]
    )
    assert list(result["model"]) == ["oracle", "marginal", "ridge"] and set(result["metric"]) == {
        "mse_mu"
    }
    assert set(result["split"]) == {"base_genes"} and set(result["gene"]) == {""}
    true = train[:, base].varm["mu"][:, 0]
    constant = np.mean(
        [(maximum_likelihood.fit(train[:, g].X)[0].mu - m) ** 2 for g, m in zip(base, true)]
    )
    varying = np.mean(
        [np.mean((fitted["ridge"].law(test, g).mu - m) ** 2) for g, m in zip(base, true)]
    )
    np.testing.assert_allclose(result["value"], [0, constant, varying], rtol=1e-9)


# what was scored before


def summary(values, identity, scenario=board.SCENARIO):
    """Rows of a summary.csv: model -> its mean skill on these questions."""
    frame = pd.DataFrame(
        {
            "model": values.keys(),
            "mean": values.values(),
            "metric": "skill_crps",
            "scenario": scenario,
            "n": 10,
        }
    )
    return (
        frame.reindex(columns=[*tables.SUMMARY, "questions"]).fillna("").assign(questions=identity)
    )


def test_means_of_the_same_questions_are_taken_and_no_others(tmp_path):
    path = tmp_path / "summary.csv"
    written = [
        summary({"ridge": 0.1, "mine": 0.2}, "v1-abc"),
        summary({"ridge": 0.3}, "v1-def"),
        summary({"ridge": 0.4}, "v2-abc"),
        summary({"ridge": 0.5}, "", scenario="mechanistic_gene"),
        summary({"scgen": 0.6}, "v1-drugs", scenario="drug"),
    ]
    tables.write(pd.concat(written), path)
    taken = board.known(path, "v1-abc", ["mine"])
    assert taken.set_index("model")["mean"].to_dict() == {"ridge": 0.1}
    assert (taken["n"] == 10).all()
    assert board.known(str(path), "v3-abc").empty and len(board.read_summary(path)) == 6


def test_without_a_table_or_in_one_of_before_nothing_is_known(tmp_path):
    path = tmp_path / "summary.csv"
    assert board.known(path, "v1-abc", []).empty
    tables.write(summary({"ridge": 0.1}, "v1-abc").drop(columns="questions"), path)
    nothing = board.known(path, "v1-abc", [])
    assert nothing.empty and "questions" in nothing


def test_scores_of_cell_eval_are_read_as_means_by_model(tmp_path):
    assert board.cell_eval(tmp_path / "none.csv") == {}
    written = pd.DataFrame(
        {
            "model": ["b", "b", "a", "b", "b"],
            "metric": ["mae"] * 3 + ["skill_kl"] * 2,
            "value": [1.0, 2, 5, 0.5, 0.7],
            "replicate": [0, 1, 0, 0, 1],
        }
    )
    tables.write(written, tmp_path / "known.csv")
    read = board.cell_eval(tmp_path / "known.csv")
    assert set(read) == {"a", "b"} and read["a"]["mae"] == 5
    assert read["b"]["mae"] == 1.5 and read["b"]["skill_kl"] == pytest.approx(0.6)
