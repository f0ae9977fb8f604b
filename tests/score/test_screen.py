import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from lib.laws import ZINB
from lib.laws.tabulated import Tabulated
from lib.predict.arms import references as arm_references
from lib.predict.arms.answers import ArmCells, Means
from lib.score import screen
from tests.screens import scores, task, truth


def said(function):
    """Answers to all questions, from a function of the truth about an arm."""
    return {exact.question.name: function(exact) for exact in truth()}


def value(table, gene="all", metric="kl_nats"):
    part = table[(table["gene"] == gene) & (table["metric"] == metric)]
    return part.set_index("question")["value"]


def test_the_sets_are_of_the_genes_that_they_name():
    for exact in truth():
        arm = task().arm(exact.question.query).genes
        own = arm.index.isin(exact.question.query.perturbation.name.split("+"))
        assert (exact.sets["own"] == own).all() and (exact.sets["all"] == ~own).all()
        assert (exact.sets["affected"] == (arm["affected"] & ~own)).all()
        assert (exact.sets["not reached"] == ~arm["reached"]).all()
        strongest = exact.sets["strongest 20"]
        assert strongest.sum() == 20 and not (strongest & own).any()
        others = arm["kl_nats"][~own & ~strongest]
        assert arm["kl_nats"][strongest].min() >= others.max()


def test_the_oracle_has_no_risk_and_exact_means_have_a_little():
    oracle = scores().of(said(lambda exact: exact.table))
    others = oracle[oracle["metric"] != "kl_of_mean"]
    assert others["value"].abs().max() < 1e-8
    means = value(scores().of(said(lambda exact: Means(exact.mean))))
    assert (means > 1e-7).all() and (means < 0.01).all()
    np.testing.assert_allclose(value(oracle, metric="kl_of_mean"), means, rtol=1e-4, atol=1e-9)
    error = value(scores().of(said(lambda exact: Means(exact.mean))), metric="mse_log_mean")
    assert error.max() < 1e-12


def test_laws_of_ones_own_are_scored_by_what_they_are():
    exact = truth()[0]
    law = ZINB(exact.mean, np.full(len(exact.mean), 2.0), np.zeros(len(exact.mean)))
    table = scores().of({exact.question.name: law})
    by_hand = []
    for gene in np.flatnonzero(exact.sets["all"]):
        f = exact.table.rows[gene]
        k = np.arange(len(f))
        mean = exact.mean[gene]
        g = scipy.stats.nbinom.pmf(k, 2.0, 2.0 / (2.0 + mean))
        by_hand.append(divergence(f, g, gene))
    assert value(table).iloc[0] == pytest.approx(np.mean(by_hand), rel=1e-6)


def divergence(f, g, gene):
    """That of a gene, a billionth of the controls' law in the predicted one."""
    usual = scores().helper("A").law[gene].pmf(np.arange(len(f)))
    some = f > 0
    g = (1 - 1e-9) * g[some] + 1e-9 * usual[some]
    return (f[some] * np.log(f[some] / g)).sum()


def test_a_table_that_ends_too_early_is_as_wrong_as_any_other_law_that_does():
    exact = truth()[0]
    n_genes = len(exact.mean)
    name, zero = exact.question.name, np.array([1.0])
    rows = [np.append(zero, np.zeros(len(row) - 1)) for row in exact.table.rows]
    by_hand = [divergence(f, g, gene) for gene, (f, g) in enumerate(zip(exact.table.rows, rows))]
    by_hand = np.mean(np.array(by_hand)[exact.sets["all"]])
    for law in (Tabulated([zero] * n_genes), ZINB(np.ones(n_genes), 1.0, 1.0)):
        assert value(scores().of({name: law})).iloc[0] == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("scale", [100.0, 1e4, 1e6])
def test_true_cells_in_logs_of_their_own_totals_score_as_their_counts_do(scale):
    arms = [exact for exact in truth() if exact.question.split == "unseen gene"]
    cells = task().cells([exact.question.query for exact in arms], 10_000, seed=12)
    by_counts, by_logs = {}, {}
    for exact, some in zip(arms, cells):
        counts = some.X.toarray()
        totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        by_counts[exact.question.name] = Means(counts.mean(axis=0))
        logs = np.log1p(counts * (scale / totals))
        by_logs[exact.question.name] = Means(logs.mean(axis=0), scale)
    no_change = value(scores().of(said(lambda exact: Means(scores().helper("A").law.mean))))
    usual, found = value(scores().of(by_counts)), value(scores().of(by_logs))
    of_totals = 0.1 * no_change[found.index].sum()  # what they, which aren't told, are worth
    assert abs(found.sum() - usual.sum()) < of_totals


def test_means_on_a_scale_of_logs_and_of_counts_that_say_the_same_score_alike():
    helper = scores().helper("A")
    counts, totals = helper.counts.toarray(), np.maximum(helper.totals, 1)
    logs = np.log1p(counts * (1e4 / totals)[:, None]).mean(axis=0)
    by_counts = value(scores().of(said(lambda exact: Means(helper.law.mean))))
    by_logs = value(scores().of(said(lambda exact: Means(logs, 1e4))))
    np.testing.assert_allclose(by_counts, by_logs, rtol=1e-3)


def test_means_on_another_scale_than_they_say_are_scored_with_a_doubt():
    train = task().train()
    counts = train.X.toarray()[(train.obs["perturbation"] != "control").to_numpy()]
    logs = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    right = [("counts", counts.mean(axis=0)), (1e4, logs)]
    wrong = [("counts", logs), (1e4, counts.mean(axis=0)), (1e6, logs)]
    answers = [
        dict.fromkeys(said(lambda exact: None), Means(values, scale))
        for scale, values in right + wrong
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for predicted in answers[: len(right)]:
            scores().of(predicted)
        scores().of(said(lambda exact: exact.table))
    for predicted in answers[len(right) :]:
        with pytest.warns(UserWarning, match="mine: predicts .* is its scale right"):
            scores().of(predicted, name="mine")


def test_the_crps_of_cells_has_no_bias_and_a_repeated_profile_none_taken_away():
    rng = np.random.default_rng(0)
    p = np.array([0.3, 0.4, 0.2, 0.1])
    other = np.array([0.2, 0.3, 0.3, 0.2])
    true = Tabulated([p, p])
    draws = rng.choice(4, p=other, size=(4000, 10, 2))
    found = np.array([screen.crps_of_cells(true, cells, are_draws=True) for cells in draws])
    exact = ((p.cumsum() - other.cumsum()) ** 2).sum()
    error = found.std() / np.sqrt(found.size)
    assert abs(found.mean() - exact) < 5 * error
    repeated = screen.crps_of_cells(true, np.ones((50, 2)))
    assert repeated == pytest.approx(((p.cumsum() - [0, 1, 1, 1]) ** 2).sum())
    many = screen.crps_of_cells(true, np.full((5, 2), 9.0))
    assert many == pytest.approx((p.cumsum() ** 2)[:3].sum() + 6)
    plain = np.array([screen.crps_of_cells(true, cells) for cells in draws])
    spread = (other.cumsum() * (1 - other.cumsum())).sum() / 10
    assert plain.mean() - found.mean() == pytest.approx(spread, rel=0.05)


def test_no_cells_that_a_model_may_choose_are_better_than_the_truth():
    means = {exact.question.name: exact.mean for exact in truth()}
    for few in ([0.0, 2.0], [0.0, 0.0, 3.0], [1.0, 1.0]):
        answers = {n: ArmCells(np.array(few)[:, None] * mean) for n, mean in means.items()}
        table = scores().of(answers)
        assert (table[table["metric"] != "mse_log_mean"]["value"] > 0).all()


def test_a_law_of_ones_own_gains_no_more_than_its_shape_is_worth():
    """The law of all perturbed cells, whatever was perturbed, is no better than exact means."""
    cells = task().train("none")
    perturbed = cells.X[(cells.obs["perturbation"] != "control").to_numpy()].toarray().astype(int)
    usual = scores().helper("A").law.pmf_table(4 * perturbed.max())
    rows = [np.bincount(column, minlength=len(p)) for column, p in zip(perturbed.T, usual)]
    pooled = Tabulated([0.9 * row / row.sum() + 0.1 * p for row, p in zip(rows, usual)])
    mean = said(lambda exact: Means(perturbed.mean(axis=0)))
    exact_means = value(scores().of(said(lambda exact: Means(exact.mean)))).sum()
    by_law, by_mean = (value(scores().of(a)).sum() for a in (said(lambda exact: pooled), mean))
    assert by_mean - by_law < exact_means < min(by_law, by_mean)


def test_duplicates_exceed_the_oracle_by_what_their_cells_explain():
    """KL of a fold with error d is about I d^2 / 2; a mean of n cells has d^2 near 1 / (n I)."""
    usual = value(scores().of(said(lambda exact: Means(exact.mean))))
    found = {}
    for n in (50, 200):
        duplicate = arm_references.Duplicate(task(), n, seed=3)
        answers = said(lambda exact, d=duplicate: d.predict(exact.question.query))
        found[n] = (value(scores().of(answers, are_draws=True)) - usual).mean()
    assert found[50] / found[200] == pytest.approx(4, rel=0.5)
    assert 0.25 < found[200] * 2 * 200 < 4


def test_skill_is_measured_from_the_perturbed_mean_and_over_whole_splits():
    mean = scores().of(said(lambda exact: Means(scores().helper("A").law.mean)))
    answers = said(lambda exact: Means(exact.mean))
    pair = next(e.question.name for e in truth() if e.question.split == "pair, seen 1")
    part = scores().of({name: answer for name, answer in answers.items() if name != pair})
    table = screen.summarised({screen.MEAN: mean, "mine": part})
    mine = table[(table["model"] == "mine") & (table["gene"] == "all")]
    assert "pair, seen 1" not in set(mine["split"]) and "pair, seen 2" in set(mine["split"])
    of_split = {e.question.name for e in truth() if e.question.split == "pair, seen 2"}
    total, usual = (value(t)[value(t).index.isin(of_split)].sum() for t in (part, mean))
    skill = mine[(mine["split"] == "pair, seen 2") & (mine["metric"] == "skill_kl")]["value"].item()
    assert skill == pytest.approx(1 - total / usual, rel=0.02)  # own genes differ in number
    zero = table[(table["model"] == screen.MEAN) & (table["metric"] == "skill_kl")]
    assert (zero["value"] == 0).all()
    beats = mine[mine["metric"] == "beats_mean"]["value"]
    assert beats.between(0, 1).all()
    assert isinstance(table, pd.DataFrame) and not table["value"].isna().all()


def test_cells_keep_their_own_shape_in_the_crps_alone():
    exact = truth()[0]
    name = exact.question.name
    flat = ArmCells(np.tile(exact.mean, (40, 1)))
    means = scores().of({name: Means(exact.mean)})
    cells = scores().of({name: flat})
    assert value(cells).iloc[0] == pytest.approx(value(means).iloc[0])
    crps = value(cells, metric="excess_crps").iloc[0]
    assert crps > 3 * value(means, metric="excess_crps").iloc[0]
