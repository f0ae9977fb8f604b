"""Tests for differential expression where nothing, or everything, is known to be different."""

import numpy as np
import pytest

from lib.score.court import expression
from lib.tasks.intended import Intended, intended
from tests.court import panel, task


@pytest.fixture(scope="module")
def screened() -> Intended:
    asked = [question.query.perturbation for question in task().asked if question.kind != "pair"]
    return intended(task(), asked, 150, 600)


@pytest.fixture(scope="module")
def table(screened):
    return expression.tests(screened, [50, 150], "unseen gene")


def value(table, test, what, n=150, scale="normalised"):
    rows = table[(table["model"] == test) & (table["metric"] == what) & (table["gene"] == scale)]
    return rows.loc[rows["mechanism"] == f"{n} cells", "value"].item()


def test_the_rank_tests_of_both_packages_call_the_same(table):
    for what in (expression.POWER, expression.FALSE):
        for n in (50, 150):
            ours = [value(table, t, what, n) for t in ("scperteval MWU", "cell-eval2 wilcoxon")]
            assert ours[0] == pytest.approx(ours[1], abs=0.005)


def test_more_cells_have_more_power(table):
    for test in ("scperteval MWU", "scperteval t-test", "scperteval t-test_overestim_var"):
        assert value(table, test, expression.POWER, 50) <= value(table, test, expression.POWER, 150)


def test_few_nulls_are_called_and_fewer_by_the_cautious_test(table):
    usual, cautious = "scperteval t-test", "scperteval t-test_overestim_var"
    assert value(table, "scperteval MWU", expression.FALSE) < 0.01
    assert value(table, cautious, expression.FALSE) <= value(table, usual, expression.FALSE)


def test_calls_are_those_of_scipy_and_benjamini_and_hochberg(screened):
    from scipy.stats import false_discovery_control, mannwhitneyu

    name = max(screened.affected, key=lambda arm: screened.affected[arm].sum())
    logs = [expression._scaled(x.X, "normalised") for x in (screened.control, screened.arms[name])]
    genes = list(screened.control.var_names)
    called = expression._calls(logs[0], {name: logs[1]}, genes)["scperteval MWU"][name]
    p = mannwhitneyu(logs[1], logs[0], axis=0, method="asymptotic").pvalue
    by_scipy = false_discovery_control(np.nan_to_num(p, nan=1.0)) < 0.05
    assert (called == by_scipy).mean() > 0.98 and by_scipy.any()


def test_a_test_without_calls_has_no_false_discovery_rate(screened):
    none = {name: np.zeros(60, dtype=bool) for name in screened.arms}
    rates = expression._rates(none, screened)
    assert np.isnan(rates[expression.FDR]) and rates[expression.POWER] == 0
    every = {name: np.ones(60, dtype=bool) for name in screened.arms}
    rates = expression._rates(every, screened)
    nulls = sum(screened.nulls[name].sum() for name in screened.arms)
    known = sum((screened.nulls[n] | screened.affected[n]).sum() for n in screened.arms)
    assert rates == {
        expression.FDR: nulls / known,
        expression.POWER: 1.0,
        expression.FALSE: 1.0,
    }


def test_panels_know_their_own_genes():
    assert panel().own().sum(axis=1).tolist() == [1] * len(panel().names)
