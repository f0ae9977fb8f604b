import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.show import style
from lib.show.figures import drug_response

DRUGS = ["additive", "fold_change", "subset", "cell_type_specific"]
COMPARED = ["no_change", "mean_shift", "fold_change", "vae", "maximum_likelihood"]
METRICS = ["kl_nats", "de_recall", "de_precision", "mse_mean"]
PANELS = [f"{letter}{suffix}" for letter in "ab" for suffix in ("", "2", "3", "4")] + list("cdef")


def rgb(colour):
    return mpl.colors.to_rgb(colour)


@pytest.fixture(scope="module")
def summary():
    """A value of its own in each row; no genes are called for maximum likelihood."""
    models = ["oracle", *COMPARED]
    keys = itertools.product(DRUGS, models, ["held_out", "held_out_type"], METRICS)
    table = pd.DataFrame(keys, columns=["scenario", "model", "split", "metric"])
    table["mean"] = np.random.default_rng(0).uniform(0.2, 0.8, len(table))
    table["ci_low"] = table["mean"] - 0.1
    table["ci_high"] = table["mean"] + 0.15
    uncalled = table["metric"].str.startswith("de_") & (table["model"] == "maximum_likelihood")
    return table[~uncalled]


@pytest.fixture(scope="module")
def positions():
    rng = np.random.default_rng(1)
    source = np.repeat(["control", "treated", "predicted"], 6)
    columns = {drug: rng.normal(size=(18, 2)) for drug in DRUGS}
    return {
        drug: pd.DataFrame({"source": source, "x": xy[:, 0], "y": xy[:, 1]})
        for drug, xy in columns.items()
    }


@pytest.fixture(scope="module")
def means():
    rng = np.random.default_rng(2)
    columns = ["true", "no_change", "vae"]
    return {drug: pd.DataFrame(rng.uniform(1, 9, (7, 3)), columns=columns) for drug in DRUGS}


@pytest.fixture(scope="module")
def axes(summary, positions, means):
    figure = drug_response.figure(summary, positions, means)
    yield dict(zip(PANELS, figure.axes))
    plt.close(figure)


def test_models_beside_those_compared_are_drawn_too(summary, positions, means):
    mine = summary[summary["model"] == "vae"].assign(model="Mine")
    figure = drug_response.figure(pd.concat([summary, mine]), positions, means)
    (legend,) = figure.legends
    assert legend.get_texts()[-1].get_text() == "Mine"
    for ax in figure.axes[-4:]:
        colours = {rgb(bar.lines[0].get_color()) for bar in ax.containers}
        assert rgb(style.OWN) in colours
    plt.close(figure)


@pytest.mark.parametrize("number, drug", list(enumerate(DRUGS)))
def test_each_cell_has_its_place_and_the_colour_of_its_source(axes, positions, number, drug):
    ax = axes[PANELS[number]]
    assert ax.get_title() == style.label(drug)
    (dots,) = ax.collections
    colours = [tuple(c[:3]) for c in dots.get_facecolors()]
    found = dict(zip(map(tuple, dots.get_offsets().data), colours))
    rows = positions[drug].itertuples(index=False)
    assert found == {(row.x, row.y): rgb(style.COLOURS[row.source]) for row in rows}


@pytest.mark.parametrize("number, drug", list(enumerate(DRUGS)))
def test_each_gene_has_its_predicted_and_true_mean(axes, means, number, drug):
    diagonal, *lines = axes[PANELS[4 + number]].lines
    ends = [0, 1.05 * means[drug]["true"].max()]
    np.testing.assert_allclose(diagonal.get_xydata(), np.column_stack([ends, ends]))
    assert len(lines) == 2
    for line, model in zip(lines, ("no_change", "vae")):
        np.testing.assert_array_equal(line.get_xydata(), means[drug][["true", model]])
        assert rgb(line.get_color()) == rgb(style.COLOURS[model])


@pytest.mark.parametrize(
    "panel, split, metric, models",
    [
        ("c", "held_out", "kl_nats", COMPARED),
        ("d", "held_out_type", "kl_nats", COMPARED),
        ("e", "held_out_type", "de_recall", ["oracle", *COMPARED[:-1]]),
        ("f", "held_out_type", "de_precision", ["oracle", *COMPARED[:-1]]),
    ],
)
def test_scores_are_those_of_the_split_and_metric(axes, summary, panel, split, metric, models):
    ax = axes[panel]
    assert [c.get_label() for c in ax.containers] == [style.label(model) for model in models]
    assert [t.get_text() for t in ax.get_xticklabels()] == [style.label(drug) for drug in DRUGS]
    part = summary[(summary["split"] == split) & (summary["metric"] == metric)]
    for model, container in zip(models, ax.containers):
        expected = part[part["model"] == model].set_index("scenario").loc[DRUGS]
        line, _, (bars,) = container.lines
        np.testing.assert_allclose(line.get_ydata(), expected["mean"])
        ends = [sorted(segment[:, 1]) for segment in bars.get_segments()]
        np.testing.assert_allclose(ends, expected[["ci_low", "ci_high"]])
    assert ax.get_yscale() == ("log" if metric == "kl_nats" else "linear")


def test_every_model_is_named_once_below_the_figure(axes):
    (legend,) = axes["c"].figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [style.label(model) for model in ["oracle", *COMPARED]]
