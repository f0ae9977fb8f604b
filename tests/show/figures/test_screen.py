import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.predict import registry
from lib.score import screen, tables
from lib.show import style, summary
from lib.show.figures import screen as figures

MODELS = ["perturbed_mean", "no_change", "bilinear_prior", "grn", "grn_true", "exact_means"]


def rows(rng, models=MODELS, places=figures.COLUMNS, **swept):
    """Values of models on splits, as a run has them."""
    found = [
        (model, split, kind, gene, metric, rng.uniform(0, 1))
        for model, (split, kind), gene, metric in itertools.product(
            models, places, ["all", "affected"], ["skill_kl", "beats_mean"]
        )
    ]
    columns = ["model", "split", "mechanism", "gene", "metric", "value"]
    return pd.DataFrame(found, columns=columns).assign(**swept)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables of the two sweeps."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("tables")
    of_one = [p for p in figures.COLUMNS if not p[0].startswith("unseen type")]
    parts = [
        tables.tidy([rows(rng, places=of_one, scenario=f"shift {s:g}", replicate=r)]).assign(
            shift=s
        )
        for s in (0.0, 0.4)
        for r in range(3)
    ]
    tables.write(tables.summary(pd.concat(parts), ["shift"]), folder / "07_sweep.csv")
    usual = {"fidelity": 0.5, "n_arms": 100, "n_cells": 100, "n_cell_types": 1, "divergence": 0.2}
    usual |= {"shift": 0.4, "regulation": "usual"}
    settings = [
        {},
        {"shift": 0.0},
        {"fidelity": 0.0},
        {"fidelity": 1.0},
        {"n_arms": 50, "n_cells": 200},
    ]
    settings += [{"n_arms": 400, "n_cells": 25}, {"n_cells": 400}, {"shift": 0.8}]
    settings += [{"regulation": "gates"}]
    settings += [{"n_cell_types": 3, "divergence": d} for d in (0.0, 0.2, 0.5)]
    parts = []
    for setting, replicate in itertools.product(settings, range(2)):
        part = tables.tidy([rows(rng, scenario="shift 0.4", replicate=replicate)])
        parts.append(part.assign(**usual | setting))
    tables.write(tables.summary(pd.concat(parts), list(usual)), folder / "07_factors.csv")
    return folder


@pytest.fixture(scope="module")
def swept(folder):
    return screen.swept(folder)


@pytest.fixture(scope="module")
def published():
    keys = ["gears", "biolord", "grn", "mlp"]
    parts = [
        rows(np.random.default_rng(2), keys, scenario="published, shift 0", replicate=r)
        for r in range(2)
    ]
    return tables.summary(tables.tidy(parts))


@pytest.fixture(scope="module")
def axes(swept, published):
    figure = figures.figure(swept, pd.DataFrame(), published)
    yield dict(zip("abcdef", figure.axes))
    plt.close(figure)


def mean(swept, model, place, shift=0.4, metric="skill_kl", sweep="sweep", **where):
    usual = screen.usual_of(swept) | {"shift": shift} | where
    part = swept[(swept["model"] == model) & (swept["metric"] == metric)]
    part = part[(part["split"] == place[0]) & (part["mechanism"] == place[1])]
    part = part[(part["gene"] == "all") & (part["sweep"] == sweep)]
    for name, value in usual.items():
        same = part[name] == value if isinstance(value, str) else np.isclose(part[name], value)
        part = part[same]
    return part["mean"].item()


def test_one_sweep_has_the_usual_value_of_what_the_other_varies(swept):
    assert not swept[["shift", "fidelity", "n_arms", "n_cells", "divergence"]].isna().any(axis=None)
    assert screen.usual_of(swept)["shift"] == 0.4 and "depth" not in screen.usual_of(swept)


def test_panel_a_has_each_model_once_and_the_means_of_its_split(axes, swept):
    ax = axes["a"]
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert sorted(labels) == sorted(style.label(key) for key in MODELS)
    assert set(labels[-2:]) == {style.label(key) for key in ("grn_true", "exact_means")}
    columns = [tick.get_text() for tick in ax.get_xticklabels()]
    assert columns == [*list(figures.COLUMNS.values())[:7], *figures.COLUMNS.values()]
    shown = {(t.get_position()[0], t.get_position()[1]): t.get_text() for t in ax.texts}
    row = labels.index(style.label("grn"))
    value = mean(swept, "grn", figures.UNSEEN, shift=0.0)
    assert shown[0, row] == f"{value:.2f}"
    of_type = mean(swept, "grn", figures.TYPE, sweep="factors", n_cell_types=3)
    assert shown[columns.index(figures.COLUMNS[figures.TYPE]), row] == f"{of_type:.2f}"


def test_published_models_stand_with_some_others_on_their_own_screens(axes):
    labels = [tick.get_text() for tick in axes["b"].get_yticklabels()]
    assert labels == ["biolord", "GEARS", style.label("grn")]  # the MLP isn't among the others


def line_of(ax, key):
    lines = [h for h, text in zip(*ax.get_legend_handles_labels()) if text == style.label(key)]
    return lines[0]


def test_curves_are_of_the_models_that_the_registry_names(axes, swept):
    told = {style.label(key) for key in registry.keys("screen", "fidelity")}
    named = set(axes["c"].get_legend_handles_labels()[1])
    assert named == told & {style.label(key) for key in MODELS}
    line = line_of(axes["c"], "bilinear_prior")
    y = np.asarray(getattr(line, "get_ydata", lambda: line.lines[0].get_ydata())(), dtype=float)
    of = {"sweep": "factors"}  # the same networks at every point
    expected = [
        mean(swept, "bilinear_prior", figures.UNSEEN, fidelity=f, **of) for f in (0, 0.5, 1)
    ]
    np.testing.assert_allclose(y, expected)


def test_skill_over_a_parameter_is_at_the_usual_others(swept):
    table = figures.factors(swept, ["regulation", "shift", "depth"])
    assert list(table.columns) == [
        ("regulation", "gates"), ("regulation", "usual"), ("shift", 0.0), ("shift", 0.4),
        ("shift", 0.8),
    ]  # fmt: skip
    assert set(table.index) == set(MODELS)
    for name, given in (("regulation", "gates"), ("regulation", "usual"), ("shift", 0.8)):
        of_grn = mean(swept, "grn", figures.UNSEEN, sweep="factors", **{name: given})
        assert table.loc["grn", (name, given)] == pytest.approx(of_grn)
    assert figures.factors(swept.iloc[:0], ["shift"]).empty
    assert figures.skills(swept, {}, metric="no_such_metric").empty
    nothing = screen.swept("no such folder")
    assert figures.factors(nothing, ["shift"]).empty


def test_at_a_fixed_budget_arms_times_cells_is_the_same(swept):
    part = figures.over_budget(swept, screen.usual_of(swept))
    assert set(part["n_arms"]) == {50, 100, 400} and set(part["sweep"]) == {"factors"}
    assert (part["n_arms"] * part["n_cells"] == figures.BUDGET).all()


def test_shares_of_arms_are_those_of_both_shifts(axes, swept):
    ax = axes["f"]
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    drawn = {
        (line.get_marker(), float(line.get_ydata()[0])): float(line.get_xdata()[0])
        for line in ax.lines
        if line.get_marker() in "os" and len(line.get_xdata())
    }
    place = names.index(style.label("grn"))
    for marker, shift in (("o", 0.0), ("s", 0.4)):
        value = mean(swept, "grn", figures.UNSEEN, shift=shift, metric="beats_mean")
        assert drawn[marker, place] == pytest.approx(value)


def test_without_a_sweep_the_live_run_is_drawn_alone(swept, tmp_path):
    assert not len(screen.swept(tmp_path))
    live = tables.tidy([rows(np.random.default_rng(1), scenario="shift 0.4", replicate=0)])
    nothing = pd.DataFrame(columns=tables.SUMMARY)
    for none in (screen.swept(tmp_path), swept[:0]):
        figure = figures.figure(none, tables.summary(live), nothing)
        assert len(figure.axes) == 1
        plt.close(figure)


def test_the_summary_is_of_the_sweep_or_else_of_the_run(folder, swept, tmp_path):
    text = summary.table(folder)
    value = mean(swept, "grn", figures.PAIRS, shift=0.4)
    line = next(line for line in text.splitlines() if style.label("grn") + " " in line)
    assert f"{value:.2f}" in line and "perturbed mean" not in text
    live = tables.tidy([rows(np.random.default_rng(1), scenario="shift 0.4", replicate=0)])
    tables.write(live, tmp_path / "07_screen.csv")
    assert "unseen regulator" in summary.table(tmp_path)


def test_one_sweep_alone_has_its_board_and_no_curves(folder, published, tmp_path):
    (tmp_path / "07_sweep.csv").write_bytes((folder / "07_sweep.csv").read_bytes())
    figure = figures.figure(screen.swept(tmp_path), pd.DataFrame(), published)
    assert len(figure.axes) == 2
    plt.close(figure)
