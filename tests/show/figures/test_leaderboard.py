import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.predict import registry
from lib.show import style
from lib.show.figures import leaderboard

KINDS = ["linear", "gate"]
SPLITS = ["held_out", "do_inside", "do_beyond", "pairs"]
JUDGES = ["skill_kl", "delta_pearson", "de_wilcoxon_overlap", "pds_cosine"]


@pytest.fixture(scope="module")
def summary():
    """Every model of the table and one of one's own; draws and means have no KL."""
    rng = np.random.default_rng(0)
    models = [*registry.keys("leaderboard"), "Mine"]
    no_law = [row.key for row in registry.ROWS if row.note == registry.NO_LAW]
    rows = []
    for model, split, kind in itertools.product(models, SPLITS, KINDS):
        metrics = ["skill_crps"] if model in no_law else ["skill_kl", "skill_crps"]
        rows += [(model, split, kind, metric) for metric in metrics]
    for model in [*registry.keys("generative", "leaderboard"), "Mine"]:
        rows += [(model, "off_target", "", "off_target_kl"), (model, "base_genes", "", "mse_mu")]
    rows.append(("ridge", "off_target", "", "off_target_kl"))  # has no laws of the base genes
    table = pd.DataFrame(rows, columns=["model", "split", "mechanism", "metric"])
    table["mean"] = rng.uniform(0.05, 0.95, len(table))
    return table.assign(ci_low=table["mean"] - 0.02, ci_high=table["mean"] + 0.02)


@pytest.fixture(scope="module")
def judged():
    rng = np.random.default_rng(1)
    return {model: pd.Series(rng.random(4), JUDGES) for model in registry.keys("judged")}


@pytest.fixture(scope="module")
def figure(summary, judged):
    figure = leaderboard.figure(summary, judged, "Mine")
    yield figure
    plt.close(figure)


def mean_of(summary, **keys):
    rows = summary[np.logical_and.reduce([summary[k] == v for k, v in keys.items()])]
    return rows["mean"].mean()


def test_the_table_has_every_skill_by_kl_and_the_mean_of_mechanisms_by_crps(summary):
    table = leaderboard.skill_table(summary)
    assert list(table.columns) == [
        *itertools.product(SPLITS, KINDS),
        *(("mean_crps", split) for split in SPLITS),
    ]
    for model, split in itertools.product(("ridge", "Mine"), SPLITS):
        for kind in KINDS:
            keys = {"model": model, "split": split, "mechanism": kind, "metric": "skill_kl"}
            assert table.loc[model, (split, kind)] == mean_of(summary, **keys)
        keys = {"model": model, "split": split, "metric": "skill_crps"}
        assert table.loc[model, ("mean_crps", split)] == pytest.approx(mean_of(summary, **keys))
    assert table.loc["bilinear", "held_out"].isna().all()
    assert table.loc["bilinear", "mean_crps"].notna().all()


def test_a_model_that_lacks_a_mechanism_has_no_mean_over_them(summary):
    lacks = (summary["model"] == "ridge") & (summary["mechanism"] == "gate")
    table = leaderboard.skill_table(summary[~lacks | (summary["split"] != "do_inside")])
    assert np.isnan(table.loc["ridge", ("mean_crps", "do_inside")])
    others = table["mean_crps"].drop(columns="do_inside").loc["ridge"]
    assert others.notna().all() and table["mean_crps"].drop(index="ridge").notna().all(axis=None)


def test_splits_that_were_not_asked_have_no_column(summary):
    table = leaderboard.skill_table(summary[summary["split"] != "pairs"])
    assert "pairs" not in table.columns.get_level_values(0)
    assert "pairs" not in table["mean_crps"].columns


def test_rows_of_the_board_are_all_models_in_order_and_empty_ones_say_why(figure):
    board = figure.axes[0]
    names = [t.get_text() for t in board.get_yticklabels()]
    keys = [*registry.keys("leaderboard"), *registry.keys("peers"), "Mine"]
    assert names == [style.label(key) for key in registry.order(keys)]
    said = {round(t.get_position()[1]): t.get_text() for t in board.texts}
    notes = {key: said.get(names.index(style.label(key))) for key in ("scvi", "scgen")}
    assert notes == {"scvi": registry.NOT_RUN, "scgen": registry.DRUGS_ALONE}


def test_notes_are_for_models_without_kl_in_the_table_and_for_others_that_are_not():
    columns = pd.MultiIndex.from_tuples([("held_out", "hill"), ("mean_crps", "held_out")])
    there = pd.DataFrame(0.5, ["bilinear", "scvi", "ridge", "Mine", "Draws"], columns)
    there.loc[["bilinear", "Draws"], "held_out"] = np.nan
    notes = leaderboard.notes(there)
    no_law = dict.fromkeys(["bilinear", "Draws"], registry.NO_LAW)
    assert notes == {**no_law, "scgen": registry.DRUGS_ALONE}


def test_intervals_are_of_the_models_picked_and_of_ones_own_inside(figure, summary):
    ax = figure.axes[1]
    there = [key for key in registry.keys("picked") if key in set(summary["model"])]
    drawn = {c.get_label(): c.lines[0].get_ydata() for c in ax.containers}
    assert list(drawn) == [style.label(key) for key in [*there, "Mine"]]
    for key in [*there, "Mine"]:
        for kind, value in zip(KINDS, drawn[style.label(key)], strict=True):
            keys = {"split": "do_inside", "mechanism": kind, "metric": "skill_kl"}
            assert value == mean_of(summary, model=key, **keys)
    across = [line for line in ax.lines if np.array_equal(line.get_xdata(), [0, 1])]
    assert sorted(line.get_ydata()[0] for line in across) == [0, 0.95, 1]


def test_the_two_harms_are_those_of_models_that_have_both(figure, summary):
    points = {line.get_label(): line for line in figure.axes[2].lines}
    keys = [*registry.keys("generative", "leaderboard"), "Mine"]
    assert {*points} == {style.label(key) for key in keys}
    for key in keys:
        point = points[style.label(key)]
        assert point.get_xdata()[0] == mean_of(summary, model=key, metric="mse_mu")
        assert point.get_ydata()[0] == mean_of(summary, model=key, metric="off_target_kl")
    assert mpl.colors.same_color(points["Mine"].get_color(), style.OWN)


def test_each_score_of_cell_eval_stands_over_the_exact_skill(figure, judged):
    ax = figure.axes[3]
    drawn = {(line.get_marker(), line.get_color()): line for line in ax.lines}
    assert len(drawn) == 3 * len(judged)
    for name, marker in zip(("delta_pearson", "de_wilcoxon_overlap", "pds_cosine"), "os^"):
        for key, means in judged.items():
            line = drawn[marker, style.COLOURS[key]]
            assert (*line.get_xdata(), *line.get_ydata()) == (means["skill_kl"], means[name])
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == ["Pearson delta", "DE overlap", "discrimination (cosine)"]


def test_without_scores_of_cell_eval_their_panel_is_empty(summary):
    figure = leaderboard.figure(summary, {})
    assert not figure.axes[3].lines and figure.axes[3].get_legend() is None
    assert "Mine" not in {c.get_label() for c in figure.axes[1].containers}
    plt.close(figure)


def test_the_legend_names_every_model_of_the_middle_panels_once(figure):
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    drawn = {c.get_label() for c in figure.axes[1].containers}
    drawn |= {line.get_label() for line in figure.axes[2].lines}
    assert len(names) == len({*names}) and {*names} == drawn
