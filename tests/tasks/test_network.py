import numpy as np
import pandas as pd
import pytest
import scipy.stats

from lib import dataset, perturb
from lib.tasks import network


@pytest.fixture(scope="module")
def cells():
    drawn = dataset.grn.draw(60, 12, seed=5)
    sizes = {"pairs": 3, "n_cells": 60, "n_control": 400}
    return perturb.screen(drawn, 10, shift=0.4, seed=5, **sizes)


@pytest.fixture(scope="module")
def truth(cells):
    return dataset.Truth(cells, n_cells=1000)


def test_kinds_of_arms_follow_the_graph(cells, truth):
    targets = dict(truth.network.digraph().out_degree())
    for name in network.arms_of(cells):
        genes = name.split("+")
        kind = "pair" if len(genes) == 2 else "regulator" if targets[name] else "other gene"
        assert network.kind_of(cells, name) == kind
    assert "control" not in network.arms_of(cells) and len(network.arms_of(cells)) == 13


def test_described_leaves_the_perturbed_genes_out_and_averages_over_arms_of_a_kind(cells, truth):
    table = network.described(cells, truth).set_index(["mechanism", "split", "metric"])["value"]
    assert set(table.index.get_level_values("mechanism")) == set(network.KINDS)
    for kind in network.KINDS:
        names = [n for n in network.arms_of(cells) if network.kind_of(cells, n) == kind]
        kl, reached = [], []
        for name in names:
            genes = truth.arm(name, sense="as_labelled").genes.drop(name.split("+"))
            kl.append(genes["kl_nats"].mean())
            reached.append(genes["reached"].sum())
        assert np.isclose(table[kind, "as_labelled", "kl_nats"], np.mean(kl))
        assert np.isclose(table[kind, "as_labelled", "n_reached"], np.mean(reached))
    assert table["other gene", "as_intended", "n_reached"] == 0
    assert table["regulator", "as_intended", "n_reached"] > 0


def test_estimated_folds_are_those_of_mean_counts(cells, truth):
    example = network.example(cells, truth)
    of_arm, of_control = (
        cells[cells.obs["perturbation"] == name] for name in (example.perturbation, "control")
    )
    gene = example.folds.index[0]
    means = [part[:, gene].X.toarray().mean() for part in (of_arm, of_control)]
    assert np.isclose(example.folds.loc[gene, "estimated"], np.log(means[0] / means[1]))
    exact = truth.arm(example.perturbation, sense="as_labelled").genes["log_fold_change"]
    pd.testing.assert_series_equal(
        example.folds["exact"], exact[example.folds.index], check_names=False
    )


def test_an_example_runs_from_the_network_to_counts(cells, truth):
    example = network.example(cells, truth)
    name = example.perturbation
    assert cells.var["regulator"][name] and name in network.arms_of(cells)
    assert example.target != name
    reached = set(example.nodes.index[example.nodes["reached"]])
    carried = example.edges[example.edges["carried"]]
    assert set(carried["regulator"]) | set(carried["target"]) == reached
    assert (example.molecules["counts"] <= example.molecules["molecules"]).all()
    assert set(example.molecules["arm"]) == {"control", name}
    laws = example.laws
    assert np.isclose(laws["observed"].sum(), 1)
    mean = (laws["count"] * laws["observed"]).sum()
    sd = (laws["count"] ** 2 * laws["as_labelled"]).sum() ** 0.5
    assert abs(mean - (laws["count"] * laws["as_labelled"]).sum()) < 4.5 * sd / 60**0.5
    asked = network.arms_of(cells)[1]
    assert network.example(cells, truth, asked).perturbation == asked


def test_the_correlation_of_folds_is_pearsons_and_nan_where_nothing_changes(cells, truth):
    example = network.example(cells, truth)
    found = network._correlation(example.folds)
    assert np.isclose(
        found, scipy.stats.pearsonr(example.folds["exact"], example.folds["estimated"])[0]
    )
    assert np.isnan(network._correlation(example.folds.assign(exact=0.0)))
