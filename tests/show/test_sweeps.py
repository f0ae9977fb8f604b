"""Tables and figures of sweeps."""

import itertools

import pandas as pd
import pytest

from lib.score import tables
from lib.show import sweeps


def table_of(parameters, models=("mlp", "vae"), mechanisms=("hill",)):
    """Rows of runs: 0.5 for the first mechanism, 0.1 more for each other; 1 more in replicate 1."""
    runs = []
    for values in parameters:
        rows = []
        for model, split, replicate in itertools.product(models, ("held_out", "do_inside"), (0, 1)):
            keys = {"model": model, "metric": "skill_kl", "split": split, "replicate": replicate}
            for i, mechanism in enumerate(mechanisms):
                value = 0.5 + i / 10 + replicate
                rows.append({**keys, "mechanism": mechanism, "value": value})
        runs.append((values, tables.tidy([pd.DataFrame(rows)])))
    return sweeps.results(runs)


@pytest.mark.parametrize(
    "names, models, panels, colours",
    [
        (["a"], ["mlp", "vae"], 1, 2),  # one line a model
        (["a", "b"], ["mlp", "vae"], 2, 2),  # the second one across
        (["a", "b"], ["vae"], 1, 2),  # one model: the second one is the colour
        (["a", "b", "c"], ["mlp", "vae"], 4, 2),  # the third one down
        (["word"], ["mlp", "vae"], 1, 2),
        (["word", "a"], ["mlp", "vae"], 2, 2),
        (["a", "seed"], ["mlp", "vae"], 1, 2),  # seeds are replicates
    ],
)
def test_the_figure_fits_the_grid(names, models, panels, colours):
    levels = {
        "a": [1, 10, 100],
        "b": [0.1, 0.2],
        "c": [True, False],
        "word": ["x", "y"],
        "seed": [1, 2],
    }
    grid = pd.MultiIndex.from_product([levels[n] for n in names], names=names).to_frame(index=False)
    made = sweeps.figure(table_of(grid.to_dict("records"), models), names)
    assert len(made.axes) == panels
    handles, _ = made.axes[0].get_legend_handles_labels()
    assert len(handles) == colours
    x = made.axes[-1]
    assert x.get_xscale() == ("log" if "a" in names else "linear")


def test_means_of_a_sweep_that_ships_are_of_all_splits_and_of_references():
    table = table_of([{"a": 1}], models=("oracle", "vae"))
    kept = table[sweeps.rows_of(table, {"metric": "skill_kl"}, drawn=False)]
    assert len(kept) == len(table)
    part = sweeps.rows_of(table, {"where": {"split": "held_out"}}, drawn=False)
    assert set(table[part]["split"]) == {"held_out"} and set(table[part]["model"]) == {
        "oracle",
        "vae",
    }


def test_a_figure_never_mixes_splits():
    table = table_of([{"a": 1}, {"a": 2}])
    assert set(table[sweeps.rows_of(table, {})]["split"]) == {"held_out"}
    assert set(table[sweeps.rows_of(table, {"where": {"split": "do_inside"}})]["split"]) == {
        "do_inside"
    }
    with pytest.raises(ValueError, match="split = 'pairs': must be one of held_out, do_inside"):
        sweeps.figure(table, ["a"], [{"where": {"split": "pairs"}}])
    with pytest.raises(ValueError, match="metric = 'mse': must be one of skill_kl"):
        sweeps.figure(table, ["a"], [{"metric": "mse"}])


def test_the_mean_over_mechanisms_is_taken_in_each_replicate():
    """0.5 and 0.6 in one replicate, 1.5 and 1.6 in the other: means 0.55 and 1.55.

    Their interval is 1.05 -+ 12.706 / 2.
    """
    table = table_of([{"a": 1}, {"a": 2}], ["mlp"], ["hill", "gate"])
    lines = sweeps.figure(table, ["a"]).axes[0].collections[0].get_segments()
    assert lines[0][:, 1] == pytest.approx(
        [-0.25, 1.05 + 12.706 / 2], rel=1e-3
    )  # its lower end is cut off at the axis


def test_runs_that_are_no_grid_have_a_figure_too():
    runs = [{"a": 1.5, "b": 0.1, "c": 5}, {"a": 2, "b": 0.2, "c": 6}, {"a": 3, "b": 0.3, "c": 7}]
    made = sweeps.figure(table_of(runs), ["a", "b", "c"])
    drawn = [ax for ax in made.axes if ax.axison]
    assert len(made.axes) == 9 and len(drawn) == 3 and all(ax.get_ylabel() for ax in drawn)


def test_null_is_a_value_among_others():
    made = sweeps.figure(table_of([{"a": None}, {"a": 0.5}]), ["a"])
    assert [text.get_text() for text in made.axes[0].get_xticklabels()] == ["null", "0.5"]
    across = sweeps.figure(
        table_of([{"a": a, "b": b} for a in (None, 0.5) for b in (1, 2, 3)]), ["a", "b"]
    )
    assert [ax.get_title() for ax in across.axes] == ["a = null", "a = 0.5"] and all(
        ax.lines for ax in across.axes
    )


def test_no_rows_are_no_figure():
    with pytest.raises(ValueError, match="the runs have written no table"):
        sweeps.figure(
            sweeps.results([({"a": 1}, pd.DataFrame(columns=[*tables.KEYS, "value"]))]), ["a"]
        )


def test_swept_numbers_are_written_as_they_are(tmp_path):
    values = [0.031622776, 0.031624, 12345.6, 30000.0, 1e-05, None]
    table = table_of([{"beta": v, "n": 123456} for v in values])
    tables.write(sweeps.exact(table, ["beta", "n"]), tmp_path / "t.csv")
    read = pd.read_csv(tmp_path / "t.csv")
    assert (
        list(read["beta"].drop_duplicates().dropna()) == values[:-1]
        and read["beta"].isna().sum() == len(read) / 6
    )
    assert set(read["swept_n"]) == {123456}


def test_a_parameter_with_the_name_of_a_key_keeps_both():
    table = table_of([{"mechanism": "hill"}, {"mechanism": "linear"}])
    assert set(table["swept_mechanism"]) == {"hill", "linear"} and "mechanism" in table
    assert len(sweeps.figure(table, ["mechanism"]).axes) == 1


@pytest.fixture
def swept():
    """Skills of seed + 10 for one mechanism, seed + 20 for the other; tenfold for the MLP."""
    keys = itertools.product([100, 1000], [1, 2, 3], ["hill", "linear"], ["vae", "mlp"])
    columns = ["n_cells", "seed", "mechanism", "model"]
    rows = pd.DataFrame(keys, columns=columns)
    rows["value"] = rows["seed"] + rows["mechanism"].map({"hill": 10.0, "linear": 20.0})
    rows["value"] *= rows["model"].map({"vae": 1.0, "mlp": 10.0})
    rows.loc[rows["n_cells"] == 1000, "value"] += 100
    return rows.assign(scenario="", gene="", split="", metric="skill_kl", replicate=0)


def test_a_readable_table_has_the_mean_over_seeds_of_the_mean_over_mechanisms(swept):
    """Seeds have 16, 17, 18: mean 17, and half an interval of 4.303 / sqrt(3) = 2.484."""
    shown = sweeps.readable(swept, ["n_cells"], "n_cells")
    assert list(shown.columns) == [100, 1000] and list(shown.index) == ["vae", "mlp"]
    assert shown.loc["vae", 100] == "17 [14.5, 19.5]"
    assert shown.loc["vae", 1000] == "117 [115, 119]"
    assert shown.loc["mlp", 100] == "170 [145, 195]"


@pytest.mark.parametrize("key", ["metric", "scenario", "split"])
def test_what_must_not_be_averaged_is_refused(swept, key):
    both = pd.concat([swept, swept.assign(**{key: "other"})])
    with pytest.raises(ValueError, match=f"table: has {key} .*other; must be of one"):
        sweeps.readable(both, ["n_cells"], "n_cells")


def test_a_readable_table_has_parameters_with_the_name_of_a_key(swept):
    named = swept.rename(columns={"n_cells": sweeps.column("model")})
    shown = sweeps.readable(named, ["model"], "model")
    assert shown.loc["vae", 100] == "17 [14.5, 19.5]"


def test_other_parameters_are_named_beside_the_model(swept):
    both = pd.concat([swept.assign(zero_rate=z) for z in (0.6, 0.95)])
    shown = sweeps.readable(both, ["zero_rate", "n_cells"], "n_cells")
    assert shown.index.name == "model, zero_rate"
    assert list(shown.index) == ["vae, 0.6", "mlp, 0.6", "vae, 0.95", "mlp, 0.95"]
