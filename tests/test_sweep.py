"""A small sweep as a user runs it: for real, killed in the middle, with a run that fails, changed, and asked what it would do."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from lib.score import tables
from lib.show import sweeps
from workflow import fork

ROOT = Path(__file__).parents[1]
TOY = """
# %% tags=["parameters"]
seed: int = 1  # everything random comes from it
n_cells: int = 100  # cells
zero_rate: float = 0.6  # share of zeros
broken: int = 0  # a number of cells at which it fails
figures_dir: str = "figures"  # tables go to tables/ in it

# %%
import os
import sys
import time

sys.path.insert(0, os.getcwd())

import pandas as pd

from lib import dataset
from lib.laws import maximum_likelihood, zinb
from lib.score import tables
from workflow import parameters

parameters.check("toy", globals())

# %%
cells = dataset.base_genes(n_cells, 5, zero_rate, mu_range=(5, 10), seed=seed)
true, fitted = dataset.law(cells), maximum_likelihood.fit(cells.X)
time.sleep(0.5)
if n_cells == broken:
    raise RuntimeError(f"no luck with {n_cells} cells")
rows = [{"model": m, "metric": "mse_mu", "value": ((law.mu - true.mu) ** 2).mean(), "split": "train", "replicate": 0} for m, law in (("maximum_likelihood", fitted), ("oracle", true))]
tables.write(tables.tidy([pd.DataFrame(rows)]), f"{figures_dir}/tables/toy.csv")
tables.write(tables.tidy([pd.DataFrame([{"metric": "seconds", "value": time.time()}])]), f"{figures_dir}/tables/toy_seconds.csv")
"""
SWEEP = "notebook: toy\nset: {zero_rate: 6e-1}\ngrid: {n_cells: [100, 200, 400], seed: [1, 2]}\n"
HERE = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
}  # this environment, also for a copy of the repository
TABLES = ["results.csv", "summary.csv", "figure.pdf", "figure.svg", "figure.png"]


def build(house, toy=TOY):
    """Make a folder a copy of the repository with one quick notebook and its sweep."""
    for part in ("lib", "workflow"):
        shutil.copytree(ROOT / part, house / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("run_all.sh", "requirements.txt"):
        shutil.copy(ROOT / part, house)
    (house / "notebooks").mkdir()
    (house / "notebooks" / "toy.py").write_text(toy)
    (house / "workflow" / "sweeps" / "toy.yaml").write_text(SWEEP)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the repository with one quick notebook, and what an undisturbed sweep of it puts out."""
    house = tmp_path_factory.mktemp("house")
    build(house)
    done = sweep(house)
    assert done.returncode == 0, done.stderr
    shutil.copytree(place(house), house / "undisturbed")
    return house


def place(house):
    return house / "build" / "sweeps" / "toy"


def command(house, *words):
    return subprocess.run(words, cwd=house, capture_output=True, text=True, timeout=300, env=HERE)


def sweep(house, *options):
    return command(house, "./run_all.sh", "sweep", "toy", *options)


def job(house, run, digest):
    """The command of one run as a cluster's job has it."""
    values = json.dumps(json.loads((place(house) / "plan.json").read_text())["runs"][run])
    return [
        sys.executable,
        "workflow/fork.py",
        "",
        f"build/sweeps/toy/runs/{run}",
        "build/sweeps/toy/source/toy.ipynb",
        values,
        digest,
        "1",
        "0",
    ]


def start(house):
    return subprocess.Popen(
        ["./run_all.sh", "sweep", "toy"],
        cwd=house,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=HERE,
    )


def wait_for_a_run(house, running, after=1):
    """Until so many runs have finished, and one has begun."""
    began = time.monotonic()
    while len(finished(house)) < after or not list(place(house).glob("runs/*/*")):
        assert running.poll() is None and time.monotonic() - began < 120
        time.sleep(0.02)


def finished(house):
    """Finished runs and what their run.json says, such as how many seconds they took."""
    return {path: path.read_text() for path in place(house).glob("runs/*/*/run.json")}


def same_as_undisturbed(house):
    return all(
        (place(house) / name).read_bytes() == (house / "undisturbed" / name).read_bytes()
        for name in TABLES
    )


def to_run(house, *options):
    """What a dry run says: run -> why."""
    lines = sweep(house, "--dry-run", *options).stdout.splitlines()
    return dict(line.strip().split(": ", 1) for line in lines[1:])


def test_the_table_holds_every_run_with_its_parameters(house):
    table = pd.read_csv(place(house) / "results.csv")
    assert (
        len(table) == 12
        and set(table["n_cells"]) == {100, 200, 400}
        and set(table["seed"]) == {1, 2}
    )
    assert not table["metric"].eq("seconds").any()  # another number at each run
    for path in finished(house):
        about = json.loads(path.read_text())
        assert (
            about["parameters"]["zero_rate"] == 0.6
            and about["seconds"] > 0
            and about["versions"]["torch"].startswith("2.")
        )
        assert {"notebook.ipynb", "log.txt", "results.csv"} <= {
            p.name for p in path.parent.iterdir()
        }


def test_means_are_over_seeds(house):
    rows = pd.read_csv(place(house) / "results.csv").query(
        "model == 'maximum_likelihood' and n_cells == 200"
    )["value"]
    summary = pd.read_csv(place(house) / "summary.csv").query(
        "model == 'maximum_likelihood' and n_cells == 200"
    )
    assert (
        summary["mean"].item() == pytest.approx(rows.mean(), rel=1e-3) and summary["n"].item() == 2
    )
    assert summary["ci_high"].item() > rows.max()


def test_a_reader_that_has_seen_enough_is_no_fault(house):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        ["./run_all.sh", "sweep", "toy", "--dry-run"],
        cwd=house,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env=HERE,
    )
    os.close(write)
    assert done.returncode == 0 and done.stderr == ""


def test_a_second_call_runs_nothing(house):
    before = finished(house)
    done = sweep(house)
    assert done.returncode == 0 and finished(house) == before and same_as_undisturbed(house)
    assert to_run(house) == {}


@pytest.mark.parametrize(
    "how, after", [("SIGKILL", 0), ("SIGKILL", 3), ("SIGTERM", 2), ("SIGINT", 1)]
)
def test_a_sweep_that_is_killed_goes_on(house, how, after):
    shutil.rmtree(place(house) / "runs")
    running = start(house)
    wait_for_a_run(house, running, after)
    time.sleep(0.3)  # in the middle of a run
    number = getattr(signal, how)
    os.killpg(running.pid, number) if how != "SIGTERM" else os.kill(running.pid, number)
    _, said = running.communicate(timeout=60)
    assert running.returncode != 0
    if how != "SIGKILL":
        assert "the same command goes on with the others" in said.strip().splitlines()[-1]
    gone = time.monotonic()
    while subprocess.run(["pgrep", "-s", str(running.pid)], capture_output=True).stdout:
        assert time.monotonic() - gone < 10, "processes are left over"
        time.sleep(0.1)
    before = finished(house)
    assert after <= len(before) < 6
    done = sweep(house)
    assert done.returncode == 0, done.stderr
    assert {path: finished(house)[path] for path in before} == before, (
        "a finished run has run again"
    )
    assert len(finished(house)) == 6 and same_as_undisturbed(house)


def test_a_sweep_outlives_its_terminal_under_nohup(house):
    shutil.rmtree(place(house) / "runs")
    running = subprocess.Popen(
        ["nohup", "./run_all.sh", "sweep", "toy"],
        cwd=house,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=HERE,
    )
    wait_for_a_run(house, running)
    os.killpg(running.pid, signal.SIGHUP)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 0, said.decode()
    assert same_as_undisturbed(house)


DEAD_AT_FIRST = """
import os, sys
sys.path.insert(0, ".")
from workflow import run

class Dead:
    stdin = stdout = stderr = None
    pid, returncode = 2**22 - 1, 1
    launch = send_signal = lambda self, *_: None
    poll = wait = lambda self: 1
    kill = terminate = lambda self: None

os._exit(run.main(sys.argv[1:], Dead()))
"""


def test_a_kernel_that_dies_before_its_first_cell_gets_a_second_chance(house, tmp_path):
    source, parameters = (
        place(house) / "source" / "toy.ipynb",
        json.dumps({"n_cells": 100, "seed": 1}),
    )
    done = command(
        house,
        sys.executable,
        "-c",
        DEAD_AT_FIRST,
        tmp_path / "run",
        source,
        parameters,
        "digest",
        "1",
        "0",
    )
    assert done.returncode == 0, (tmp_path / "run" / "log.txt").read_text()
    assert (tmp_path / "run" / "run.json").exists()


def test_what_changes_while_a_sweep_runs_runs_again(house):
    needed = house / "lib" / "laws" / "zinb.py"
    kept = needed.read_text()
    shutil.rmtree(place(house) / "runs")
    running = start(house)
    try:
        wait_for_a_run(house, running)
        needed.write_text(kept + "# another line\n")
        assert running.wait(120) == 0
        assert (
            len(to_run(house)) == 6
        )  # all have run by the old file, though the last ones have ended after the change
    finally:
        needed.write_text(kept)
    before = finished(house)
    assert sweep(house).returncode == 0 and finished(house) == before and same_as_undisturbed(house)


def test_runs_of_other_parameters_are_no_result_where_nothing_has_run(house):
    file = house / "workflow" / "sweeps" / "toy.yaml"
    assert sweep(house).returncode == 0
    try:
        file.write_text(SWEEP.replace("6e-1", "7e-1"))
        done = sweep(house, "--profile", "workflow/profiles/slrum")
        assert done.returncode == 1 and "0 of 6 runs are done" in done.stderr.splitlines()[-1]
        assert (
            not (place(house) / "results.csv").exists() and not (place(house) / "partial").exists()
        )
    finally:
        file.write_text(SWEEP)
    assert sweep(house).returncode == 0 and same_as_undisturbed(house)


def test_two_jobs_of_one_run_do_it_once(house):
    """As after a sweep on a cluster was killed whose jobs stay in the queue."""
    path = next(iter(finished(house)))
    run = str(path.parent.relative_to(place(house) / "runs"))
    words = job(house, run, json.loads((place(house) / "plan.json").read_text())["digests"][run])
    shutil.rmtree(path.parent)
    jobs = [subprocess.Popen(words, cwd=house, env=HERE) for _ in range(2)]
    while all(job.poll() is None for job in jobs):
        time.sleep(0.02)
    written = path.read_text()
    assert [job.wait(120) for job in jobs] == [0, 0] and path.read_text() == written
    assert to_run(house) in ({}, {run: "isn't there yet"})


def test_a_full_disk_leaves_nothing_that_looks_finished(house):
    """No file may grow beyond 512 bytes, as on a disk that is nearly full."""
    shutil.rmtree(place(house))
    limited = command(house, "bash", "-c", "ulimit -f 1; exec ./run_all.sh sweep toy")
    assert limited.returncode != 0
    assert not finished(house) and not (place(house) / "results.csv").exists()
    done = sweep(house)
    assert done.returncode == 0 and same_as_undisturbed(house)


def test_a_failed_run_stops_no_other_and_is_named(house):
    done = sweep(house, "-p", "broken", "200")
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    failures = [line for line in lines if "no luck with 200 cells" in line]
    assert len(failures) == 2
    for line in failures:
        path = house / line.rpartition("run so far: ")[2].rstrip(")")
        assert path.is_file() and "no luck" in path.read_text()
    assert "4 of 6 runs are done" in lines[-1]
    assert not (place(house) / "results.csv").exists()
    part = pd.read_csv(place(house) / "partial" / "results.csv")
    assert set(part["n_cells"]) == {100, 400}
    assert (
        sweep(house).returncode == 0
        and same_as_undisturbed(house)
        and not (place(house) / "partial").exists()
    )


def test_what_changes_runs_again_and_nothing_else(house):
    assert sweep(house).returncode == 0
    file, needed, other = (
        house / "workflow" / "sweeps" / "toy.yaml",
        house / "lib" / "laws" / "zinb.py",
        house / "lib" / "perturb.py",
    )
    kept = needed.read_text(), other.read_text()
    try:
        other.write_text(kept[1] + "# another line\n")  # the notebook doesn't need it
        file.write_text(SWEEP.replace("[1, 2]", "[1, 2, 3]"))
        assert to_run(house) == {f"n_cells~{n}/seed~3": "isn't there yet" for n in (100, 200, 400)}
        file.write_text(SWEEP.replace("6e-1", "7e-1"))
        assert list(to_run(house).values()) == ["its parameters have changed"] * 6
        file.write_text(SWEEP)
        needed.write_text(kept[0] + "# another line\n")
        assert (
            list(to_run(house).values())
            == ["a file that it needs has changed (lib/laws/zinb.py)"] * 6
        )
        before = finished(house)
        assert sweep(house).returncode == 0 and same_as_undisturbed(house)
        assert not set(before.values()) & set(finished(house).values())
    finally:
        file.write_text(SWEEP)
        needed.write_text(kept[0])
        other.write_text(kept[1])


def test_two_at_a_time_of_the_same_sweep_are_refused(house):
    shutil.rmtree(place(house) / "runs")
    running = start(house)
    try:
        while not (place(house) / "source" / "toy.ipynb").exists() or not list(
            place(house).glob("runs/*")
        ):
            time.sleep(0.05)
        second = sweep(house)
        assert second.returncode == 2 and "another run of it is under way" in second.stderr
    finally:
        assert running.wait(120) == 0


@pytest.mark.parametrize(
    "options, message",
    [
        (["toys"], "sweep = 'toys': no file workflow/sweeps/toys.yaml; there are"),
        (["toy", "-p", "cells", "3"], "cells: no such parameter"),
        (["toy", "-p", "n_cells", "3"], "n_cells = 3: must be from 100 to 10,000,000"),
        (["toy", "-p", "n_cells", "-1e3"], "n_cells = -1000: must be from 100 to 10,000,000"),
        (["toy", "-p", "n_cells", "many"], "n_cells = 'many': must be of type int"),
        (["toy", "-p", "n_cells", "[]"], "n_cells = []: must be a list of at least one value"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(house, options, message):
    before = finished(house)
    done = command(house, "./run_all.sh", "sweep", *options)
    assert (
        done.returncode == 2
        and message in done.stderr
        and len(done.stderr.strip().splitlines()) == 1
    )
    assert done.stdout == "" and finished(house) == before


def test_progress_is_a_line_a_run(house):
    shutil.rmtree(place(house) / "runs")
    said = sweep(house).stderr.strip().splitlines()
    assert len(said) == 6 and said[-1] == "6/6 runs done, 0 failed" and "left" in said[0]


def test_a_run_without_a_server_puts_out_the_same(house):
    path = next(iter(finished(house)))
    kept = (path.parent / "results.csv").read_bytes()
    done = command(
        house, *job(house, str(path.parent.relative_to(place(house) / "runs")), "another")
    )
    assert done.returncode == 0, done.stderr
    assert (path.parent / "results.csv").read_bytes() == kept


def test_the_server_gives_back_codes_and_dies_with_its_lifeline(tmp_path):
    server, lifeline = fork.start(str(tmp_path / "s"), lambda arguments, kernel: int(arguments[0]))
    try:
        assert [fork.ask(str(tmp_path / "s"), [code]) for code in ("0", "3")] == [0, 3]
        assert fork.ask(str(tmp_path / "s"), ["not a number"]) == 1
    finally:
        os.close(lifeline)
    assert os.waitpid(server, 0)[0] == server


def test_a_run_that_is_killed_is_told_at_once_and_takes_its_kernel_along(tmp_path):
    def do(arguments, kernel):
        kernel.launch(
            ["-f", str(tmp_path / "connection.json")], dict(os.environ), str(tmp_path / "log.txt")
        )
        (tmp_path / "kernel").write_text(str(kernel.pid))
        while not (tmp_path / "connection.json").exists():  # the kernel has started
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)

    server, lifeline = fork.start(str(tmp_path / "s"), do)
    try:
        with ThreadPoolExecutor() as pool:
            assert pool.submit(fork.ask, str(tmp_path / "s"), []).result(timeout=30) == 1
        kernel, began = Path("/proc") / (tmp_path / "kernel").read_text(), time.monotonic()
        while kernel.exists() and (kernel / "stat").read_text().split()[2] != "Z":
            assert time.monotonic() - began < 10, "the kernel is left over"
            time.sleep(0.05)
    finally:
        os.close(lifeline)
        os.waitpid(server, 0)


def table_of(parameters, models=("mlp", "vae"), mechanisms=("hill",)):
    """Results of runs: value 0.5 for the first mechanism and 0.1 more for each other one, one more in replicate 1."""
    runs = []
    for values in parameters:
        rows = [
            {"model": model, "mechanism": mechanism, "metric": "skill_kl", "value": 0.5 + i / 10 + replicate, "split": split, "replicate": replicate}
            for model in models for i, mechanism in enumerate(mechanisms) for split in ("held_out", "do_inside") for replicate in (0, 1)
        ]  # fmt: skip
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
    """Values 0.5 and 0.6 in one replicate, 1.5 and 1.6 in the other: 0.55 and 1.55, whose interval is 1.05 -+ 12.706 / 2."""
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


ASTRAY = """
import os, socket, sys, tempfile, time
from workflow import fork

with tempfile.TemporaryDirectory() as scratch:
    if sys.argv[1] == "kernel":
        kernel = fork.Kernel(socket.socketpair()[0])
        os.write(kernel.tell, b"no json\\n")
        kernel.wait()
    else:
        server, held = fork.start(f"{scratch}/server", lambda arguments, kernel: time.sleep(0.5) or 0)
        with socket.socket(socket.AF_UNIX) as connection:  # that doesn't wait for the answer
            connection.connect(f"{scratch}/server")
            connection.sendall(b"[]\\n")
        time.sleep(1.5)
    print("there" if os.path.exists(scratch) else "gone", flush=True)
"""


@pytest.mark.parametrize("who", ["kernel", "run"])
def test_a_fork_that_goes_astray_clears_nothing_of_its_parents_away(who):
    done = subprocess.run(
        [sys.executable, "-c", ASTRAY, who], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "there\n", done.stderr
