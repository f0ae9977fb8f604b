"""Additive models against exact laws: right where nothing but the sum of two effects is there."""

import numpy as np
import pandas as pd
import pytest

from lib import dataset, perturb
from lib.laws.tabulated import Tabulated
from lib.predict.arms.baselines import Additive
from lib.predict.arms.pseudobulk import Pseudobulk
from lib.predict.base import Perturbation, Query
from lib.score import distances

EDGES = {
    "regulator": ["TF1", "TF1", "TF2", "TF2", "TF3", "TF3"],
    "target": ["A", "B", "A", "C", "TF4", "D"],
    "effect": [2.0, -1.0, 1.5, 2.0, 2.5, 1.0],
}
MORE = {"regulator": ["TF4"], "target": ["D"], "effect": [2.0]}
ARMS = ["TF1", "TF2", "TF3", "TF4", "TF1+TF2", "TF3+TF4"]


@pytest.fixture(scope="module")
def truth():
    edges = pd.concat([pd.DataFrame(EDGES), pd.DataFrame(MORE)], ignore_index=True)
    network = dataset.grn.from_table(edges, base=20)
    quiet = {"n_guides": 1, "guide_spread": 0.0, "escapers": 0.0, "wrong_guides": 0.0}
    cells = perturb.screen(network, ARMS, n_cells=10, n_control=300, seed=1, **quiet)
    return cells, dataset.Truth(cells, n_cells=4000)


@pytest.fixture(scope="module")
def model(truth):
    """The additive model of the exact means of single arms, as endless cells would give them."""
    cells, exact = truth
    single = [arm for arm in ARMS if "+" not in arm]
    arms = pd.DataFrame({"perturbation": single, "perturbation_type": "knockdown", "strength": 0.8})
    arms = arms.assign(cell_type=exact.cell_type, n_cells=10**9, genes=[[arm] for arm in single])
    means = np.array([exact.arm(arm).genes["mean"] for arm in single])
    control = exact.arm("control").genes["mean"].to_numpy()
    of_type = {exact.cell_type: control}
    three = means, means, np.log1p(means)
    bulk = Pseudobulk(list(cells.var_names), arms, *three, of_type, of_type, {})
    additive = Additive()
    additive.bulk = bulk
    additive.learn(None)
    return additive


def divergence(truth, model, pair):
    """KL of the exact law of each gene but the pair's own from control's, scaled as predicted."""
    cells, exact = truth
    log_fold = model.log_fold(Perturbation(pair, 0.8, "knockdown"), exact.cell_type)
    arm = exact.arm(pair)
    error = log_fold - arm.genes["log_fold_change"].to_numpy()
    return pd.Series(error, cells.var_names).drop(pair.split("+"))


def test_pairs_without_a_path_between_them_are_additive_on_products(truth, model):
    error = divergence(truth, model, "TF1+TF2")
    assert abs(error).max() < 2e-3
    assert abs(truth[1].arm("TF1+TF2").genes["log_fold_change"][["A", "B", "C"]]).min() > 0.2


def test_pairs_with_a_path_are_not(truth, model):
    assert abs(divergence(truth, model, "TF3+TF4")["D"]) > 0.05


def test_a_law_predicted_by_the_truths_own_table_has_no_distance(truth):
    cells, exact = truth
    arm = exact.arm("TF1")
    table = distances.between(arm.table, arm.law)
    assert table["kl_nats"].max() < 1e-8 and isinstance(arm.table, Tabulated)
    assert Query(cells, list(cells.var_names)).shape == cells.shape
