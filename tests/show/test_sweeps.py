import itertools

import numpy as np
import pandas as pd
import pytest

from lib.show import panels, sweeps

COLUMNS = ["n_cells", "seed", "mechanism", "model"]


@pytest.fixture
def table():
    """Skills of seed + 10 for one mechanism, seed + 20 for the other; tenfold for the MLP."""
    keys = itertools.product([100, 1000], [1, 2, 3], ["hill", "linear"], ["vae", "mlp"])
    rows = pd.DataFrame(keys, columns=COLUMNS)
    rows["value"] = rows["seed"] + rows["mechanism"].map({"hill": 10.0, "linear": 20.0})
    rows["value"] *= rows["model"].map({"vae": 1.0, "mlp": 10.0})
    rows.loc[rows["n_cells"] == 1000, "value"] += 100
    return rows.assign(scenario="", gene="", split="", metric="skill_kl", replicate=0)


def test_a_readable_table_has_the_mean_over_seeds_of_the_mean_over_mechanisms(table):
    """Seeds have 16, 17, 18: mean 17, and half an interval of 4.303 / sqrt(3) = 2.484."""
    shown = sweeps.readable(table, ["n_cells"], "n_cells")
    assert list(shown.columns) == [100, 1000] and list(shown.index) == ["vae", "mlp"]
    assert shown.loc["vae", 100] == "17 [14.5, 19.5]"
    assert shown.loc["vae", 1000] == "117 [115, 119]"
    assert shown.loc["mlp", 100] == "170 [145, 195]"


def test_other_parameters_are_named_beside_the_model(table):
    both = pd.concat([table.assign(zero_rate=z) for z in (0.6, 0.95)])
    shown = sweeps.readable(both, ["zero_rate", "n_cells"], "n_cells")
    assert shown.index.name == "model, zero_rate"
    assert list(shown.index) == ["vae, 0.6", "mlp, 0.6", "vae, 0.95", "mlp, 0.95"]


@pytest.mark.parametrize(
    "values, numeric, log",
    [
        ([1, 10, 100], True, True),
        ([1, 2, 3], True, False),
        ([0, 10, 100], True, False),
        (["x", "y"], False, False),
        ([True, False], False, False),
    ],
)
def test_numbers_have_a_place_on_an_axis_and_words_come_in_a_row(values, numeric, log):
    found = panels._places(pd.DataFrame({"a": values}), "a")
    assert (found.numeric, found.log) == (numeric, log)
    at = found.at(pd.Series(values), 0.0)
    np.testing.assert_array_equal(at, values if numeric else range(len(values)))
    moved = [found.at(pd.Series(values), shift) for shift in (-0.5, 0.5)]
    assert (moved[0] <= at).all() and (moved[1] >= at).all() and (moved[1] > moved[0])[-1]
