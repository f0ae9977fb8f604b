import numpy as np
import pandas as pd
import pytest
import torch

from lib.counts import dense
from lib.laws import maximum_likelihood
from lib.predict import guard, references, registry, regressions
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
    on_target = scores.loc[scores["split"] != "off_target", "gene"]
    assert on_target.isin(["mech_linear", "mech_threshold"]).all()


def test_the_oracle_has_skill_1_and_the_marginal_0(scores):
    asked_of = scores[scores["metric"].isin(["skill_kl", "skill_crps"])]
    for name, expected in (("oracle", 1), ("marginal", 0)):
        rows = asked_of[asked_of["model"] == name]
        assert len(rows) == 2 * 2 * 4 and (rows["value"] == expected).all()
    assert (scores.query("model == 'oracle' and split == 'off_target'")["value"] == 0).all()
    assert (scores.query("model == 'no_change' and split == 'off_target'")["value"] == 0).all()


def test_a_model_without_an_answer_has_no_row_there(scores):
    every = {*SPLITS, "off_target"}
    for name in ("no_change", "Declines"):
        assert set(scores[scores["model"] == name]["split"]) == every - {"held_out"}
    assert set(scores[scores["model"] == "ridge"]["split"]) == every


def test_draws_and_means_have_no_kl_and_laws_have(scores):
    metrics_of = scores.groupby("model")["metric"].agg(set)
    without = {"excess_crps", "mse_mean", "skill_crps", "slope_ratio", "off_target_crps"}
    assert metrics_of["MyModel"] == metrics_of["Means"] == without
    of_laws = {"kl_nats", "skill_kl", "mse_mu", "mse_pi", "mse_log_theta", "off_target_kl"}
    assert metrics_of["ridge"] == metrics_of["marginal"] == without | of_laws


def test_a_score_off_target_is_the_mean_over_genes(scores, fitted, asked):
    off = [q for q in asked if q.split == "off_target"]
    laws = [fitted["ridge"].law(q.cells, q.gene) for q in off]
    each = [distances.between(q.true[:, 0], law).mean() for q, law in zip(off, laws)]
    keys = {"model": "ridge", "split": "off_target", "gene": "", "mechanism": ""}
    names = {"off_target_kl": "kl_nats", "off_target_crps": "excess_crps"}
    for metric, name in names.items():
        mean = np.mean([e[name] for e in each])
        assert value(scores, metric=metric, **keys) == pytest.approx(mean)
    assert set(scores[scores["split"] == "off_target"]["metric"]) == set(names)


@pytest.mark.parametrize("split", ["do_inside", "do_beyond"])
def test_slope_ratio_is_that_of_least_squares_lines(scores, fitted, asked, split):
    question = one(asked, split)
    keys = {"metric": "slope_ratio", "gene": "mech_linear", "split": split}
    slope = np.polyfit(question.dose, question.true[:, 0].mean, 1)[0]
    for name in ("ridge", "MyModel"):
        mean = fitted[name].law(question.cells, question.gene).mean
        ratio = np.polyfit(question.dose, mean, 1)[0] / slope
        assert value(scores, model=name, **keys) == pytest.approx(ratio)
    assert value(scores, model="oracle", **keys) == pytest.approx(1)
    assert set(scores[scores["metric"] == "slope_ratio"]["split"]) == {"do_inside", "do_beyond"}


def test_skill_of_draws_is_one_less_the_ratio_of_brute_force_crps(scores, fitted, train, asked):
    question = one(asked, "pairs")
    k = np.arange(3000)
    f = zinb_cdf(k, *params(question.true))
    draws = fitted["MyModel"].law(question.cells, question.gene).draws
    mine = np.stack([(np.sort(d) <= k[:, None]).mean(1) for d in draws])
    law = maximum_likelihood.fit(train[:, question.gene].X)[0]
    constant = zinb_cdf(k, law.mu, law.theta, law.pi)
    crps, marginal = (((f - other) ** 2).sum(1).mean() for other in (mine, constant))
    keys = {"metric": "skill_crps", "gene": "mech_linear", "split": "pairs"}
    found = value(scores, model="MyModel", **keys)
    assert found == pytest.approx(1 - crps / marginal, rel=1e-4)


def test_an_answer_that_is_refused_names_the_model_in_a_score(fitted, asked, train):
    mine = guard.Guarded(own_models.Negative(), "mine").fit(train)
    with pytest.raises(ValueError) as error:
        board.score({"marginal": fitted["marginal"], "mine": mine}, asked)
    one_line(error, "mine: predicts negative values for mech_linear")


def test_squared_error_of_mu_of_base_genes_is_that_by_hand(fitted, train, test, base):
    names = ["oracle", "marginal", "ridge", "MyModel", "no_change"]  # the last two have none
    of_base = [conditional.question(test, gene, "base_genes") for gene in base]
    result = board.base_laws({name: fitted[name] for name in names}, of_base)
    assert list(result["model"]) == ["oracle", "marginal", "ridge"]
    assert set(result["metric"]) == {"mse_mu"}
    assert set(result["split"]) == {"base_genes"} and set(result["gene"]) == {""}
    true = train[:, base].varm["mu"][:, 0]
    constant = [maximum_likelihood.fit(train[:, g].X)[0].mu for g in base]
    varying = [fitted["ridge"].law(test, g).mu for g in base]
    errors = [
        np.mean([np.mean((mu - m) ** 2) for mu, m in zip(predicted, true)])
        for predicted in (constant, varying)
    ]
    np.testing.assert_allclose(result["value"], [0, *errors], rtol=1e-9)


# a replicate: models made, fitted, checked and scored


class LeaksOfBaseGenes(own_models.Means):
    """Honest about mechanistic genes alone."""

    def predict(self, adata, gene):
        if gene.startswith("mech"):
            return super().predict(adata, gene)
        return dense(adata[:, [gene]].X)[:, 0]


@pytest.fixture(scope="module")
def task(train, test, reference, asked, base):
    screen = conditional.interventional_data(train, asked, seed=8)
    of_base = [conditional.question(test, gene, "base_genes") for gene in base]
    return conditional.Task(train, reference, screen, asked, of_base)


def test_models_that_train_on_arms_are_left_out_where_there_are_none(task):
    keys = ["no_change", "ridge", "mean_of_perturbed"]
    rows = [registry.BY_KEY[key] for key in keys]
    assert list(board.entries(rows, task, seed=1)) == keys
    made = board.entries(rows, task._replace(screen=None), seed=1)
    assert list(made) == keys[:2] and made["no_change"].told
    assert made["ridge"].model.inputs == task.inputs
    assert made["no_change"].model.reference is task.reference


def test_each_model_is_fitted_to_its_cells_and_timed(task):
    keys = ["mean_of_perturbed", "mine"]  # the first stands for a model of arms
    models = {key: guard.Guarded(own_models.Means(), key) for key in keys}
    seconds = board.enter(models, task, [], seed=1)
    arms, cells = (models[key].model.train for key in keys)
    np.testing.assert_array_equal(dense(arms.X), dense(task.screen.X))
    np.testing.assert_array_equal(dense(cells.X), dense(task.train.X))
    found = seconds.set_index(["model", "metric"])["value"]
    assert list(found.index) == [(key, metric) for key in keys for metric in board.SECONDS]
    assert (found > 0).all()


def test_only_generative_models_are_checked_for_leaks_of_base_genes(task):
    models = {"mine": guard.Guarded(LeaksOfBaseGenes(), "mine")}
    asked = [q for q in task.asked if q.split != "off_target"]
    board.enter(models, task._replace(asked=asked), [], seed=1)
    with pytest.raises(ValueError) as error:
        board.enter(models, task._replace(asked=asked), ["mine"], seed=1)
    one_line(error, "mine: leakage")


def test_all_scores_are_those_of_the_questions_and_of_the_base_laws_of_generative_models(
    task, fitted
):
    some = {name: fitted[name] for name in ("marginal", "ridge", "no_change")}
    table = board.score_all(some, task, ["ridge", "marginal"])
    of_base = table["split"] == "base_genes"
    asked_about = board.score(some, task.asked)
    pd.testing.assert_frame_equal(table[~of_base].reset_index(drop=True), asked_about)
    assert list(table.loc[of_base, "model"]) == ["marginal", "ridge"]


# what was scored before


def summary(values, identity, scenario=board.SCENARIO):
    """Rows of a summary.csv: model -> its mean skill on these questions."""
    same = {"metric": "skill_crps", "scenario": scenario, "n": 10}
    frame = pd.DataFrame({"model": values.keys(), "mean": values.values(), **same})
    frame = frame.reindex(columns=[*tables.SUMMARY, "questions"]).fillna("")
    return frame.assign(questions=identity)


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


def test_known_means_stand_beside_those_scored_here_in_the_order_of_the_tables():
    columns = {"scenario": board.SCENARIO, "metric": "skill_kl", "split": "pairs", "gene": ""}
    rows = {"model": ["ridge", "ridge", "Mine"], "replicate": [0, 1, 0], "value": [0.2, 0.4, 0.9]}
    scored = pd.DataFrame(rows).assign(mechanism="", **columns)
    before = summary({"vae": 0.1, "marginal": 0.0}, "v1-abc")
    both = board.with_known([scored[:1], scored[1:]], "v1-abc", before)
    assert list(both["model"]) == ["marginal", "ridge", "vae", "Mine"]
    np.testing.assert_allclose(both["mean"].astype(float), [0.0, 0.3, 0.1, 0.9])
    assert set(both["questions"]) == {"v1-abc"} and list(both["n"]) == [10, 2, 10, 1]


def test_published_rows_are_read_as_means(tmp_path):
    assert board.published(tmp_path / "none.csv").empty
    row = {"model": "scgen", "metric": "excess_crps", "scenario": "drug"}
    rows = pd.DataFrame([row | {"value": value, "replicate": value} for value in (1.0, 2.0)])
    tables.write(tables.tidy([rows]), tmp_path / "05_peers.csv")
    (found,) = board.published(tmp_path / "05_peers.csv").itertuples()
    assert (found.model, found.scenario, found.mean, found.n) == ("scgen", "drug", 1.5, 2)
    known = tables.tidy([rows]).assign(questions=["v1-abc", "v1-other"])
    tables.write(known, tmp_path / "07_peers.csv")
    (found,) = board.published(tmp_path / "07_peers.csv", "v1-abc").itertuples()
    assert (found.mean, found.n) == (1.0, 1)
    assert board.published(tmp_path / "07_peers.csv", "v1-none").empty


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
    shown = board.readable_cell_eval(read)
    assert list(shown.columns) == board.JUDGES and list(shown.index) == list(read)
    assert shown.loc["b", "skill_kl"] == 0.6 and np.isnan(shown.loc["a", "skill_kl"])
