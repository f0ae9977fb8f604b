"""The packages by their adapters, against their own command lines on the same files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.score.court import packages
from lib.score.court.cells import normalised
from tests.court import members, panel

N = 60


@pytest.fixture(scope="module")
def cells():
    """Measured and predicted cells: counts, and logs."""
    drawn = members()["bilinear"].drawn()
    measured = panel().measured(N)
    predicted = panel().measured(N, cells=[each.counts for each in drawn])
    return measured, predicted, normalised(measured), normalised(predicted)


def run(*command):
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([program, *map(str, command[1:])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scperteval_says_what_its_command_line_says(cells, tmp_path):
    _, _, measured, predicted = cells
    measured.write_h5ad(tmp_path / "measured.h5ad")
    predicted.write_h5ad(tmp_path / "predicted.h5ad")
    names = ["pearson_ctrl", "wmse_exp2", "nir", "energy_distance_pca_k", "de_auprc"]
    run("scperteval", "score", tmp_path / "measured.h5ad", tmp_path / "predicted.h5ad",
        "-p", ",".join(names), "--out-dir", tmp_path / "out", "--quiet")  # fmt: skip
    table = pd.concat(map(pd.read_csv, sorted((tmp_path / "out").rglob("*.csv"))))
    table = table[table["protocol"].notna()] if "protocol" in table else table
    said = packages.ScPertEval(measured, names).judge(predicted)
    assert not said.failed and len(said.means) == len(names)
    for name in said.means:
        protocol = name.partition(" ")[2]
        of_name = table[table["protocol"].str.startswith(protocol.removesuffix("_k"))]
        by_command = of_name.set_index("perturbation")["score"].astype(float)
        assert np.allclose(said.arms[name][by_command.index], by_command, rtol=1e-5, equal_nan=True)
        assert said.means[name] == pytest.approx(np.nanmean(by_command), rel=1e-5)


def test_cell_eval2_says_what_its_command_line_says(cells, tmp_path):
    counts, predicted, _, _ = cells
    packages.renamed(counts).write_h5ad(tmp_path / "real.h5ad")
    packages.renamed(predicted).write_h5ad(tmp_path / "predicted.h5ad")
    run("cell-eval2", "run", "-ap", tmp_path / "predicted.h5ad", "-ar", tmp_path / "real.h5ad",
        "--preset", "vcc2026", "--pert-col", "target_gene", "--set", "num_threads=1",
        "-o", tmp_path / "out")  # fmt: skip
    table = pd.read_csv(tmp_path / "out" / "agg_results.csv").set_index("statistic").loc["mean"]
    said = packages.CellEval2(counts).judge(predicted)  # all metrics, the preset's among them
    assert len(table) == 10
    for name, value in table.astype(float).items():
        found = said.means.get(f"cell-eval2 {name}", np.nan)
        assert found == pytest.approx(value, rel=1e-6, nan_ok=True), name
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    arms = rows[rows["metric"] == "pds_cosine"].set_index("perturbation")["value"]
    assert np.allclose(said.arms["cell-eval2 pds_cosine"][arms.index], arms)


def test_both_suites_score_the_measured_cells_best_and_no_change_low(cells):
    counts, *_ = cells
    judge = packages.CellEval2(counts, suites=("vcc2025", "vcc2026"))
    truth = judge.judge(panel().measured(N, cells=panel().other))
    none = judge.judge(
        panel().measured(N, cells=[d.counts for d in members()["no_change"].drawn()])
    )
    for suite in ("cell-eval2 vcc2025", "cell-eval2 vcc2026"):
        if suite in truth.failed:  # with so few genes an arm may have too few that are significant
            assert "vcc2026" in suite and suite in none.failed
            continue
        assert truth.means[suite] > none.means[suite]
        assert none.means[suite] >= 0 or "2026" in suite  # 2025 clips each score at 0


def test_a_metric_that_fails_has_a_reason_and_no_score(cells):
    counts, predicted, logs, _ = cells
    halves = predicted.copy()
    halves.X = halves.X * 0.5
    said = packages.CellEval2(counts, ["expr_mae", "pds_l1"]).judge(halves)
    assert not said.means
    assert all("fractional" in why for why in said.failed.values()) and len(said.failed) == 2
    missing = logs[logs.obs["perturbation"] != panel().names[0]].copy()
    said = packages.ScPertEval(logs, ["mse"]).judge(missing)
    assert "no cells for perturbation" in said.failed["scperteval mse"]


def test_protocols_of_differential_genes_are_asked_about_arms_that_have_some(cells):
    _, _, logs, predicted = cells
    judge = packages.ScPertEval(logs, ["mse_degs_padj", "mse"])
    said = judge.judge(predicted)
    some = said.arms.get("scperteval mse_degs_padj")
    if some is None:
        assert "fewer than two arms" in said.failed["scperteval mse_degs_padj"]
    else:
        assert 2 <= some.notna().sum() <= len(panel().names)


@pytest.fixture(scope="module")
def nothing():
    """A panel in which nothing happened: control cells under the arms' names."""
    control = panel().controls.toarray()
    rng = np.random.default_rng(0)
    drawn = [control[rng.integers(0, len(control), N)] for _ in panel().names]
    return panel().measured(N, cells=drawn)


def test_without_differential_genes_their_protocols_say_so(nothing):
    logs = normalised(nothing)
    said = packages.ScPertEval(logs, ["mse_degs_padj", "mse"]).judge(logs)
    assert "fewer than two arms" in said.failed["scperteval mse_degs_padj"]
    assert said.means == {"scperteval mse": 0}


def test_a_ratio_of_sums_that_has_no_value_fails_alone(nothing):
    said = packages.CellEval2(nothing).judge(nothing)
    assert said.means["cell-eval2 expr_mae"] == 0
    assert "not positive" in said.failed["cell-eval2 expr_mse_unbiased_capped_norm"]


def test_a_panel_of_pairs_whose_labels_are_no_genes_is_scored_too(cells):
    counts, predicted, *_ = cells
    pairs = [each.copy() for each in (counts, predicted)]
    for each in pairs:
        labels = each.obs["perturbation"].astype(str)
        each.obs["perturbation"] = labels.where(labels == "control", labels + "+gene_0")
    said = packages.CellEval2(pairs[0], ["expr_mae", "pds_cosine"]).judge(pairs[1])
    of_single = packages.CellEval2(counts, ["expr_mae", "pds_cosine"]).judge(predicted)
    assert not said.failed and len(said.means) == 2
    assert said.means["cell-eval2 expr_mae"] == of_single.means["cell-eval2 expr_mae"]


def test_packages_leave_logging_and_progress_as_they_were(monkeypatch):
    import logging
    import os

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    before = logging.getLogger("cell_eval2").level
    with packages.quiet():
        assert os.environ["TQDM_DISABLE"] == "1"
    assert "TQDM_DISABLE" not in os.environ
    assert logging.getLogger("cell_eval2").level == before
