import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
from scipy.special import expit, logit

from benchmarks import __main__ as main
from benchmarks import cases, figure, growth, measure, references
from benchmarks.cases import against_scvi
from lib import dataset, perturb, training
from lib.simulate.arms import Screen
from tests.agreement import scipy_pmf

ROOT = Path(__file__).parents[1]


TRIED = ["training", "log_likelihood", "fitting", "simulate", "intervene", "replicates", "scores"]
TRIED += ["imports"]


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def in_this_process(module, *arguments):
    """As `measure.in_a_process`, without the seconds that Python and torch take to start."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if module == "benchmarks.growth":
            growth.point(*arguments)
        else:
            name, share = arguments
            cases.CASES[name](share)
    return [json.loads(line) for line in printed.getvalue().splitlines()]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    command = ["bench", "--share", "0.01", "--out", str(folder), *TRIED, "growth"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command)
        for module in (main, growth):
            patch.setattr(module, "in_a_process", in_this_process)
        main.main()
    return folder


def test_tables_and_the_figure_come_out(small):
    rows = pd.read_csv(small / "results.csv")
    assert list(rows.columns) == [*measure.COLUMNS, "case", "machine", "commit"]
    assert list(pd.unique(rows["case"])) == TRIED
    signed = rows["measure"].str.contains("behind")
    assert (rows["ours"] >= 0)[~signed].all() and rows["machine"].str.contains("cores").all()
    assert not rows.duplicated(["benchmark", "setting", "measure"]).any()
    points = pd.read_csv(small / "growth.csv")
    assert set(points["task"]) == set(growth.TASKS)
    assert (points[["cpu_seconds", "megabytes"]] > 0).all(axis=None)
    assert (small / "fig9_benchmarks.pdf").stat().st_size > 1000


def test_numbers_that_hold_at_any_size_and_speed(small):
    rows = pd.read_csv(small / "results.csv").set_index("measure")["ours"]
    assert rows["largest difference from the plain formula, float64"].max() < 1e-6
    assert rows["largest difference of a weight from its own single run"].max() < 1e-2
    assert rows["log-likelihood behind SciPy's at most, nats"] < 1e-3
    assert rows["of torch and scanpy loaded"] == 0


def test_one_benchmark_leaves_the_rows_of_the_others(small):
    before = pd.read_csv(small / "results.csv")
    assert run("--share", 0.01, "--out", small, "imports").returncode == 0
    after = pd.read_csv(small / "results.csv")
    pd.testing.assert_frame_equal(
        after[after["case"] != "imports"], before[before["case"] != "imports"]
    )
    assert len(after) == len(before)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["speed"], "'speed': must be one of training"),
        (["--share", "2"], "--share 2: must be above 0 and at most 1"),
        (["--share", "0.5"], "--share: what is published has full sizes"),
        (["--share", "0.5", "--out", "benchmarks"], "--share: what is published has full sizes"),
    ],
)
def test_bad_arguments_end_in_a_line(given, part, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["bench", *given])
    with pytest.raises(SystemExit) as error:
        main.main()
    assert error.value.code == 2
    assert part in capsys.readouterr().err.splitlines()[-1]


def test_a_row_says_whether_it_reached_what_was_to_be_reached():
    for ours, ratio, reach, reached in (
        (1.0, 3.0, ">= 3", "yes"),
        (5.0, 2.9, ">= 3", "no"),
        (1.5, None, "<= 1.5", "yes"),
        (1.6, None, "<= 1.5", "no"),
        (1, None, "", ""),
    ):
        assert measure.row("b", "s", "m", ours, ratio=ratio, reach=reach)["reached"] == reached


def test_alternating_takes_the_median_of_ratios_without_the_first_round():
    times = iter([(100, 1), (1, 10), (2, 10), (4, 8)])
    queue = [t for pair in times for t in pair]
    ours, reference, ratio = measure.alternating(
        None, None, rounds=3, measure=lambda action: queue.pop(0)
    )
    assert (ours, reference, ratio) == (2, 10, 5)


def test_traced_peak_sees_what_is_held_for_a_moment():
    peak, size = measure.traced_peak(lambda: np.ones(1_000_000).nbytes)
    assert size == 8_000_000 and 8_000_000 <= peak < 8_500_000


def test_resident_memory_is_that_of_this_process_alone():
    script = "from benchmarks import measure; print(measure.resident(), measure.resident('VmRSS'))"
    _ = np.ones(40_000_000)  # in the parent: a child must not be charged for it
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    peak, now = map(float, done.stdout.split())
    assert now <= peak < 200


def test_the_plain_simulation_has_the_law_of_ours():
    cells = dataset.base_genes(4000, 5, 0.6, seed=1)
    law = [cells.varm[p][:, 0] for p in ("mu", "theta", "pi")]
    plain, true = references.simulate(*law, 4000, 1).toarray(), dataset.law(cells)[0]
    np.testing.assert_allclose(
        plain.mean(0), true.mean, atol=4 * np.sqrt(true.variance.max() / 4000)
    )
    np.testing.assert_allclose((plain == 0).mean(0), 0.6, atol=0.04)


def test_the_plain_screen_has_the_law_of_ours():
    network = dataset.grn.draw(40, 8, seed=3)
    options = {"n_cells": 1000, "n_control": 1000, "shift": 0.4, "escapers": 0.0, "seed": 3}
    cells = perturb.screen(network, 4, wrong_guides=0.0, **options)
    plan, acting = Screen(**cells.uns["screen"]), cells.obsm["acting"][:, 0]
    measured = dataset.measurement.draw(network.genes)
    counts, molecules = references.screen(network, measured, plan, acting, 1)
    assert molecules.shape == (len(network.regulators), cells.n_obs)
    truth = dataset.Truth(cells, n_cells=1000)
    names = cells.obs["perturbation"].astype(str).to_numpy()
    for name in np.unique(names):
        law = truth.arm(name).law
        rows = counts[names == name].toarray()
        sd = np.sqrt((rows.var(axis=0) + 1e-3) / len(rows))
        assert (abs(rows.mean(axis=0) - law.mean) < 5 * sd + 0.02 * law.mean).all()


def test_no_search_without_gradients_finds_a_better_law_than_scipys_fit():
    counts = dataset.base_genes(1500, 3, 0.6, seed=2).X
    law = references.scipy_fit(counts)
    for gene, column in enumerate(dataset.dense(counts).T):

        def loss(p, column=column):
            return -np.log(scipy_pmf(column, np.exp(p[0]), np.exp(p[1]), expit(p[2]))).sum()

        own = np.array([np.log(law.mu[gene]), np.log(law.theta[gene]), logit(law.pi[gene])])
        for away in (0.1, -0.1):
            found = scipy.optimize.minimize(loss, own + away, method="Nelder-Mead")
            assert loss(own) < found.fun + 1e-3 < loss(own + away)


def test_our_side_of_the_comparison_learns_and_says_its_loss():
    cells, test, loss_of_truth = against_scvi._cells(100, 5, 1)
    side = against_scvi.Ours(cells)
    before = side.negative_elbo(test)
    side.train(10, 128, 5e-3)
    assert loss_of_truth < side.negative_elbo(test) < before


@pytest.mark.parametrize("why", ["divergence", "nan"])
def test_a_training_that_diverges_is_never_the_best(why):
    class Diverges:
        def __init__(self, cells):
            pass

        def train(self, *settings):
            if why == "divergence":
                raise training.DivergenceError(1, float("nan"))

        def negative_elbo(self, cells):
            return float("nan")

    assert against_scvi._run(Diverges, None, None, 0.0, 128, 0.1, 5).gap == np.inf


def test_slope_is_the_power():
    assert measure.slope([1, 10, 100], [3, 300, 30_000]) == pytest.approx(2)


def test_the_figure_is_drawn_of_what_is_committed(tmp_path):
    figure.draw(ROOT / "benchmarks", tmp_path)
    assert (tmp_path / "fig9_benchmarks.pdf").read_bytes() == (
        ROOT / "figures" / "fig9_benchmarks.pdf"
    ).read_bytes()


def test_the_readme_shows_what_is_committed():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert main.as_markdown(ROOT / "benchmarks") in text


def test_what_is_committed_is_of_all_benchmarks_at_full_size():
    rows = pd.read_csv(ROOT / "benchmarks" / "results.csv")
    assert set(rows["case"]) == set(cases.CASES)
    assert {"10,000 x 2,000, 80 % zeros", "1,000,000 x 2,001"} <= set(rows["setting"])
    assert len(pd.unique(rows["machine"])) == 1
