"""Rows against what the packages list themselves, and against scores of known predictions."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.score.court import hearing, metrics
from tests.court import members, panel

ROWS = metrics.rows()


def listed_by(command):
    """First words of what a package's own command line lists."""
    program = Path(sys.executable).with_name(command[0])
    said = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in said.stdout.splitlines() if line.strip()]


def test_every_protocol_that_scperteval_lists_has_a_row():
    listed = listed_by(["scperteval", "list", "protocols"])
    assert len(listed) == 38
    assert [f"scperteval {name}" for name in listed] == [k for k in ROWS if k.startswith("scp")]


def test_every_metric_of_cell_eval2s_full_profile_has_a_row_and_both_suites():
    from cell_eval2.catalog import PROFILES

    keys = [key.partition(" ")[2] for key in ROWS if key.startswith("cell-eval2")]
    assert keys == [*PROFILES["full"], "vcc2025", "vcc2026"]
    assert set(PROFILES["vcc2026"]) < set(keys) and set(PROFILES["vcc"]) < set(keys)


def test_a_row_says_what_it_takes_its_range_and_what_it_claims():
    for key, row in ROWS.items():
        assert row.key == key and row.takes in ("means", "cells", "tests", "laws")
        assert row.better in ("higher", "lower", "") and row.low < row.high
        assert len(row.claims) > 20 and "\n" not in row.claims and row.label
    assert metrics.BY_CONSTRUCTION == ["definition nll", "definition crps"]
    assert ROWS["scperteval mse"].oriented(2.0) == -2 and ROWS["scperteval nir"].oriented(2.0) == 2


@pytest.fixture(scope="module")
def heard():
    """What metrics say of the truth, of no change, and of two tricks."""
    some = [members()[key] for key in ("oracle", "no_change", "mean_repeated", "random")]
    return hearing.hear(panel(), some, {panel().n_cells: lambda member: True})


def test_scores_are_in_the_range_that_a_row_says(heard):
    means = heard.means[panel().n_cells]
    assert len(means.columns) > 90
    for key in means:
        values = means[key].dropna()
        assert (values >= ROWS[key].low - 1e-9).all(), key
        assert (values <= ROWS[key].high + 1e-9).all(), key


def test_the_truth_is_better_than_no_change_as_a_row_says_better(heard):
    means, wrong = heard.means[panel().n_cells], []
    for key in means:
        row = ROWS[key]
        best, none = (row.oriented(means.loc[who, key]) for who in ("oracle", "no_change"))
        if row.better and np.isfinite([best, none]).all() and best <= none:
            wrong.append(key)
    # fifty of sixty genes are in any ranking's first fifty; who calls no gene gets no sign wrong
    may = {"scperteval de_overlap_k", "cell-eval2 de_wilcoxon_direction_fidelity"}
    assert set(wrong) <= may
