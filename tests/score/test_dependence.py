import numpy as np
import pytest
import scipy.spatial.distance as distance

from lib.predict.arms.answers import ArmCells, Means
from lib.score import dependence
from tests.screens import scores, task, truth


@pytest.fixture(scope="module")
def judge():
    return dependence.Dependence(task(), scores().helper, n_cells=150, n_arms=1)


def test_the_energy_distance_is_its_formula_and_never_below_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (30, 4)), rng.normal(0.5, 1, (20, 4))
    between = distance.cdist(x, y).mean()
    by_hand = 2 * between - distance.cdist(x, x).mean() - distance.cdist(y, y).mean()
    assert dependence.energy(x, y) == pytest.approx(by_hand, rel=1e-6)
    two = np.array([y.mean(axis=0) - 5, y.mean(axis=0) + 5])
    assert dependence.energy(two, y) > dependence.energy(x, y) > 0


def test_one_arm_of_each_split_and_kind_is_asked(judge):
    kinds = [(question.split, question.kind) for question in judge.asked.values()]
    assert len(set(kinds)) == len(kinds) == len({(q.split, q.kind) for q in task().asked})


def test_true_cells_have_the_floor_and_a_repeated_profile_is_far(judge):
    floor = np.mean(list(judge.floor().values()))
    queries = {name: question.query for name, question in judge.asked.items()}
    true = task().cells(list(queries.values()), 150, seed=99)
    answers = {name: ArmCells(cells.X.toarray()) for name, cells in zip(queries, true)}
    assert abs(np.mean(list(judge.of(answers).values())) - floor) < 0.2
    means = {n: Means(task().arm(query).genes["mean"].to_numpy()) for n, query in queries.items()}
    by_copula = np.mean(list(judge.of(means).values()))
    flat = {n: ArmCells(np.tile(answer.values, (20, 1))) for n, answer in means.items()}
    assert np.mean(list(judge.of(flat).values())) > 5 * max(by_copula, 0.05)


def test_the_copula_is_that_of_controls_and_the_laws_are_the_answers(judge):
    helper = scores().helper("A")
    law = helper.law.scaled(np.full(helper.law.shape, 1.5))
    counts = judge._by_copula(law, "A", helper)
    assert abs(counts.mean(axis=0) / law.mean - 1).mean() < 0.2
    rng = np.random.default_rng(0)
    some = helper.counts.toarray()[rng.permutation(helper.counts.shape[0])[:150]]
    mine, controls = (np.corrcoef(np.log1p(c.T)) for c in (counts, some))
    upper = np.triu_indices(len(mine), 1)
    assert np.corrcoef(mine[upper], controls[upper])[0, 1] > 0.3
    independent = np.column_stack([rng.permutation(column) for column in counts.T])
    other = np.corrcoef(np.log1p(independent.T))[upper]
    assert np.corrcoef(other, controls[upper])[0, 1] < 0.2


def test_counts_of_ranks_are_quantiles_of_short_and_of_long_laws():
    ranks = np.random.default_rng(0).uniform(0, 1 - 1e-4, (50, len(task().screen.var_names)))
    law = scores().helper("A").law.scaled(np.geomspace(0.01, 300, ranks.shape[1]))
    np.testing.assert_array_equal(dependence.quantiles(law, ranks), law.quantile(ranks))
    table = truth()[0].table
    np.testing.assert_array_equal(dependence.quantiles(table, ranks), table.quantile(ranks))


def test_cells_on_a_scale_of_logs_are_taken_as_they_are(judge):
    counts = np.random.default_rng(1).poisson(3, (150, len(task().screen.var_names)))
    logs = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 500.0)
    found = judge.cells(ArmCells(logs, 500.0), "A"), judge.cells(ArmCells(counts), "A")
    np.testing.assert_allclose(*found)
