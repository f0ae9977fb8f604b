import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from lib import dataset, perturb
from lib.score import tables
from lib.show import style
from lib.show.figures import network as figures
from lib.tasks import network


@pytest.fixture(scope="module")
def example():
    drawn = dataset.grn.draw(60, 12, seed=5)
    cells = perturb.screen(drawn, 10, n_cells=60, n_control=400, seed=5)
    return network.example(cells, dataset.Truth(cells, n_cells=500))


@pytest.fixture(scope="module")
def summary():
    rng = np.random.default_rng(0)
    models = "independent", "network", "real half", "scdesigner"
    metrics = *figures.MEASURES, "forest_auroc"
    shifts = "shift 0", "shift 0.4"
    rows = [
        ("realism", "", model, "", metric, replicate, rng.uniform(0.5, 1))
        for replicate, model, metric in itertools.product(range(3), models, metrics)
    ]
    rows += [
        (shift, kind, "", "as_intended", "kl_nats", replicate, rng.uniform(0, 0.01))
        for replicate, shift, kind in itertools.product(range(3), shifts, network.KINDS)
    ]
    columns = ["scenario", "mechanism", "model", "split", "metric", "replicate", "value"]
    return tables.summary(tables.tidy([pd.DataFrame(rows, columns=columns)]))


@pytest.fixture(scope="module")
def axes(summary, example):
    figure = figures.figure(summary, example)
    yield dict(zip("abcdefg", figure.axes))
    plt.close(figure)


def test_every_gene_has_a_place_of_its_own_in_the_row_of_its_generation(example):
    at = figures._layout(example.nodes)
    assert not at.duplicated().any()
    regulators = example.nodes["regulator"].to_numpy()
    np.testing.assert_array_equal(at["y"][regulators], -example.nodes["depth"][regulators])
    assert at["y"][~regulators].max() < at["y"][regulators].min()


def test_reached_genes_have_the_colour_of_their_change(axes, example):
    points = [c for c in axes["a"].collections if isinstance(c, PathCollection)]
    unreached, reached = points
    nodes = example.nodes
    assert len(unreached.get_offsets()) == (~nodes["reached"]).sum()
    np.testing.assert_allclose(reached.get_array(), nodes["log_fold_change"][nodes["reached"]])


def test_laws_and_cells_are_drawn_as_they_are(axes, example):
    lines = {line.get_label(): line for line in axes["c"].lines}
    for arm, name in figures.ARMS.items():
        np.testing.assert_allclose(lines[name].get_ydata(orig=False), example.laws[arm])
    heights = [bar.get_height() for bar in axes["c"].patches]
    np.testing.assert_allclose(heights, example.laws["observed"])
    drawn = [len(line.get_xdata(orig=False)) for line in axes["d"].lines[:2]]
    reached = example.folds["reached"]
    assert drawn == [(~reached).sum(), reached.sum()]


def test_measures_stand_in_rows_and_models_in_their_colours(axes, summary):
    texts = [tick.get_text() for tick in axes["e"].get_yticklabels()]
    assert texts == list(figures.MEASURES.values())
    bars = dict(zip(["real half", "network", "independent", "scdesigner"], axes["e"].containers))
    for model, bar in bars.items():
        means = summary[summary["model"] == model].set_index("metric")["mean"]
        np.testing.assert_allclose(bar[0].get_xdata(orig=False), means[list(figures.MEASURES)])
        assert bar[0].get_color() == style.COLOURS[model]
    (forest,) = [c for c in axes["f"].containers if c.get_label() == style.label("network")]
    is_forest = (summary["metric"] == "forest_auroc") & (summary["model"] == "network")
    assert np.isclose(forest[0].get_ydata(orig=False)[0], summary[is_forest]["mean"].iloc[0])


def test_effects_are_by_kind_of_arm_and_shift(axes, summary):
    for container, shift in zip(axes["g"].containers, ("shift 0", "shift 0.4")):
        part = summary[summary["scenario"] == shift].set_index("mechanism")["mean"]
        np.testing.assert_allclose(container[0].get_ydata(orig=False), part[list(network.KINDS)])
        assert container.get_label() == shift


def test_one_replicate_is_drawn_without_intervals(summary, example):
    alone = summary[summary["model"] != "scdesigner"].assign(ci_low=np.nan, ci_high=np.nan)
    figure = figures.figure(alone, example)
    (network,) = [c for c in figure.axes[4].containers if c.get_label() == style.label("network")]
    assert len(network[0].get_xdata(orig=False)) == len(figures.MEASURES)
    plt.close(figure)
