"""Figures 12 and 13, of a table of numbers at random and of a small panel."""

import numpy as np
import pandas as pd
import pytest

from lib.score import tables
from lib.score.court import charges, zoo
from lib.score.court.metrics import rows
from lib.show.figures import cases, metrics
from tests.court import panel

AT, SPLIT = "100 cells", "unseen gene"
RISK = {"exact_means": 0.02, "effects_50": 0.3, "effects_150": 0.4, "effects_200": 1.3}


@pytest.fixture(scope="module")
def summary():
    rng, found = np.random.default_rng(0), []

    def add(scenario, metric, value, at=AT, model=charges.MODELS, gene="KL"):
        keys = (scenario, at, model, gene, SPLIT, metric)
        found.append(dict(zip(tables.SUMMARY, (*keys, value, value - 0.1, value + 0.1, 3))))

    members = ["oracle", "exact_means", "perturbed_mean", "no_change", *zoo.ROWS]
    for key, row in rows().items():
        if row.better:
            add("agreement", key, rng.uniform(-0.8, 0.8))
            add("raw", key, 0.5, model="oracle", gene="")
            add("order", key, rng.uniform(0.9, 1), model="20 to 50 %")
            for kind in charges.CEILINGS:
                add("ceiling", key, rng.normal(1, 3), model=kind, gene="")
            for member in members:
                add("score", key, rng.normal(0, 3), model=member, gene="")
    for member in members:
        add("risk", "exact risk", RISK.get(member, 2.0), at="", model=member)
    return pd.DataFrame(found)


def test_all_metrics_stand_in_figure_12_with_their_values(summary):
    fig = metrics.figure(summary)
    axes = fig.axes
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    assert len(names) > 60 and "mse (s)" in names and "held-out NLL" in names
    assert len(set(names)) == len(names)
    all_genes = next(line for line in axes[0].lines if line.get_label() == "all genes")
    at = names.index("mse (s)")
    of_table = metrics.ordered(metrics.judgement.judged(summary, "unseen gene"))
    assert all_genes.get_xdata()[at] == of_table.loc["scperteval mse", "tau"]
    assert list(of_table["takes"].unique()) == ["laws", "means", "cells", "tests"]


def test_nothing_is_drawn_beyond_its_panel(summary):
    for ax in metrics.figure(summary).axes[:5]:
        low, high = ax.get_xlim()
        for line in ax.lines:
            x = np.asarray(line.get_xdata(), dtype=float)
            assert (np.isnan(x) | ((x >= low - 1e-9) & (x <= high + 1e-9))).all()


def test_the_four_cases_show_scores_and_the_exact_skill(summary):
    fig = cases.figure(summary, panel())
    assert len(fig.axes) == 8
    curve = next(line for line in fig.axes[4].lines if line.get_linewidth() == 1.6)
    risk = summary[(summary["scenario"] == "risk") & (summary["gene"] == "KL")]
    risk = risk.set_index("model")["mean"]
    expected = [1 - risk[k] for k in ("effects_50", "exact_means", "effects_150", "effects_200")]
    assert np.allclose(curve.get_ydata()[:4], np.clip(expected, -1, 2))
    assert curve.get_xdata().tolist() == [0.5, 1, 1.5, 2, 3]


def test_without_the_zoo_both_figures_are_drawn_and_say_none(summary):
    models = summary[~summary["model"].isin(zoo.ROWS)]
    assert len(metrics.figure(models).axes) == 5
    fig = cases.figure(models, panel())
    said = [text.get_text() for text in fig.axes[5].texts]
    assert said.count("none") == len(said) > 5
