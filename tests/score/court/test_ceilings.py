"""Ceilings against what is known of halves, and of samples with replacement."""

import pytest

from lib.score.court import ceilings
from tests.court import members, panel

N = 60


@pytest.fixture(scope="module")
def table():
    found = ceilings.ceilings(panel(), members()["perturbed_mean"], N, "unseen gene")
    return found.pivot(index="metric", columns="model", values="value")


def test_new_cells_are_the_unit_and_every_kind_is_there(table):
    assert (table["new cells"] == 1).all()
    assert set(table.columns) >= {"many cells", "halves", "interpolated", "bootstrap"}


def test_more_cells_are_nearer_and_half_of_them_farther(table):
    for metric in ("scperteval mse", "scperteval pearson_ctrl", "cell-eval2 expr_mae"):
        assert table.loc[metric, "halves"] < 1 < table.loc[metric, "many cells"]


def test_samples_of_the_same_cells_are_nearer_than_half_of_them(table):
    """Both share cells, so that their means are as near as those of twice as many halves."""
    for metric in ("scperteval mse", "scperteval pearson_ctrl", "scperteval pearson"):
        assert table.loc[metric, "bootstrap"] > table.loc[metric, "halves"]


def test_spearman_brown_is_cell_eval2s_of_a_half_split(table):
    raised = table["Spearman-Brown"].dropna()
    assert "cell-eval2 delta_pearson" in raised.index
    assert not raised.index.str.startswith("scperteval").any()
