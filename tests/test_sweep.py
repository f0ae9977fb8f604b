"""A small sweep as a user runs it: killed in the middle, with a run that fails, changed, dry."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

from workflow import plan
from workflow import run as runs
from workflow import sweep as sweeping

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

print("gpu", os.environ.get("CUDA_VISIBLE_DEVICES"), "from", time.time(), flush=True)
sys.path.insert(0, os.getcwd())

import pandas as pd

from lib.laws import maximum_likelihood, zinb
from lib.score import tables
from lib.seeds import stream
from lib import parameters

parameters.check("toy", globals())

# %%
true = zinb.ZINB([5.0, 10.0], [1.0, 2.0], zero_rate)
fitted = maximum_likelihood.fit(true.sample(stream(seed, "toy"), (n_cells, 2)))
time.sleep(0.3)
if n_cells == broken:
    raise RuntimeError(f"no luck with {n_cells} cells")
rows = pd.DataFrame({"model": ["maximum_likelihood", "oracle"], "metric": "mse_mu"})
rows["value"] = [((law.mu - true.mu) ** 2).mean() for law in (fitted, true)]
rows = rows.assign(split="train", replicate=0)
tables.write(tables.tidy([rows]), f"{figures_dir}/tables/toy.csv")
seconds = pd.DataFrame([{"metric": "seconds", "value": time.time()}])
tables.write(tables.tidy([seconds]), f"{figures_dir}/tables/toy_seconds.csv")
print("until", time.time(), flush=True)
"""
SWEEP = "notebook: toy\nset: {zero_rate: 6e-1}\ngrid: {n_cells: [100, 200], seed: [1, 2]}\n"
CORES = 2  # runs at once, whose end a kill may hide from Snakemake
HERE = os.environ | {
    "CORES": str(CORES),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
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
    """A copy of the repository with one quick notebook, and the outputs of an undisturbed sweep."""
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
    """Wait until so many runs have finished, and another has begun."""
    began = time.monotonic()
    while len(finished(house)) < after or not list(place(house).glob("runs/*/*")):
        assert running.poll() is None and time.monotonic() - began < 120
        time.sleep(0.02)


def finished(house):
    """Finished runs, and their executed notebooks, in which times stand."""
    return {path: path.read_text() for path in place(house).glob("runs/*/*/notebook.ipynb")}


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
    assert len(table) == 8 and set(table["n_cells"]) == {100, 200} and set(table["seed"]) == {1, 2}
    assert not table["metric"].eq("seconds").any()  # another number at each run
    for path, text in finished(house).items():
        assert json.loads(text)["metadata"]["papermill"]["parameters"]["zero_rate"] == 0.6
        assert {"notebook.ipynb", "log.txt", "figures"} == {
            p.name for p in path.parent.glob("[!.]*")
        }
    about = json.loads((place(house) / "run.json").read_text())
    assert about["runs"] == 4 and about["versions"]["torch"].startswith("2.")


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
    assert done.returncode in (0, -signal.SIGPIPE) and done.stderr == ""


def test_a_second_call_runs_nothing(house):
    before = finished(house)
    done = sweep(house)
    assert done.returncode == 0 and finished(house) == before and same_as_undisturbed(house)
    assert to_run(house) == {}


@pytest.mark.parametrize(
    "how, after", [("SIGKILL", 0), ("SIGKILL", 2), ("SIGTERM", 0), ("SIGINT", 1)]
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
        assert "the same command goes on with the others" in said
    gone = time.monotonic()
    while subprocess.run(["pgrep", "-s", str(running.pid)], capture_output=True).stdout:
        assert time.monotonic() - gone < 10, "processes are left over"
        time.sleep(0.1)
    before = finished(house)
    assert after <= len(before) < 4
    done = sweep(house)
    assert done.returncode == 0, done.stderr
    again = [path for path, text in before.items() if finished(house)[path] != text]
    assert len(again) <= CORES, "a run has run again whose end Snakemake had noted"
    assert len(finished(house)) == 4 and same_as_undisturbed(house)


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


def test_a_kernel_that_dies_before_its_first_cell_gets_a_second_chance(tmp_path, monkeypatch):
    source, tried = tmp_path / "toy.py", []
    source.write_text("# %%\nprint(1)\n")
    execute = papermill.execute_notebook

    def dies_at_first(*given, **options):
        tried.append(1)
        if len(tried) == 1:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return execute(*given, **options)

    monkeypatch.setattr(papermill, "execute_notebook", dies_at_first)
    assert runs.run(str(source), str(tmp_path / "done.ipynb"), {}) is None
    assert len(tried) == 2 and (tmp_path / "done.ipynb").exists()


@pytest.mark.parametrize(
    "code, said",
    [
        ("raise RuntimeError('no\\nluck')", "toy, cell 2 failed: RuntimeError: no luck"),
        ("import os; os._exit(9)", "toy, failed: Kernel died"),
    ],
)
def test_a_notebook_that_fails_says_why_in_one_line(tmp_path, code, said):
    source, executed = tmp_path / "toy.py", tmp_path / "done.ipynb"
    source.write_text(f"# %%\nprint(1)\n\n# %%\n{code}\n")
    executed.write_text("of an earlier run")
    line = runs.run(str(source), str(executed), {})
    assert line.startswith(said) and "\n" not in line and not executed.exists()
    part = Path(line.rpartition("run so far: ")[2].rstrip(")"))
    cells = [c for c in nbformat.read(part, as_version=4).cells if c.cell_type == "code"]
    assert cells[0].outputs[0].text == "1\n"


def test_runs_of_other_parameters_are_no_result_where_nothing_has_run(house):
    file = house / "workflow" / "sweeps" / "toy.yaml"
    assert sweep(house).returncode == 0
    try:
        file.write_text(SWEEP.replace("6e-1", "7e-1"))
        done = sweep(house, "--profile", "workflow/profiles/slrum")
        assert done.returncode == 1 and "0 of 4 runs are done" in done.stderr.splitlines()[-1]
        assert (
            not (place(house) / "results.csv").exists() and not (place(house) / "partial").exists()
        )
    finally:
        file.write_text(SWEEP)
    assert sweep(house).returncode == 0 and same_as_undisturbed(house)


def test_a_full_disk_leaves_nothing_that_looks_finished(house):
    """No file may grow beyond 1,024 bytes, as on a disk that is nearly full."""
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
    failures = [n for n in lines if re.search(r"cell \d failed: RuntimeError: no luck with 200", n)]
    assert len(failures) == 2
    for line in failures:
        path = house / line.rpartition("run so far: ")[2].partition(")")[0]
        assert path.is_file() and "no luck" in path.read_text()
    assert "2 of 4 runs are done" in lines[-1]
    assert not (place(house) / "results.csv").exists()
    part = pd.read_csv(place(house) / "partial" / "results.csv")
    assert set(part["n_cells"]) == {100}
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
        assert to_run(house) == {f"n_cells~{n}/seed~3": "missing" for n in (100, 200)}
        file.write_text(SWEEP.replace("6e-1", "7e-1"))
        assert list(to_run(house).values()) == ["params changed"] * 4
        file.write_text(SWEEP)
        needed.write_text(kept[0] + "# another line\n")
        assert list(to_run(house).values()) == ["updated input files"] * 4
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
        wait_for_a_run(house, running, after=0)
        second = sweep(house)
        assert second.returncode == 2 and "another run of it is under way" in second.stderr
    finally:
        assert running.wait(120) == 0


@pytest.mark.parametrize(
    "options, message",
    [
        (["toys"], "sweep = 'toys': no file workflow/sweeps/toys.yaml; there are"),
        (["my/my toy.yaml"], "sweep = 'my toy': must be of letters, digits, _, - and ."),
        (["toy", "-p", "cells", "3"], "cells: no such parameter"),
        (["toy", "-p", "n_cells", "3"], "n_cells = 3: must be from 100 to 10,000,000"),
        (["toy", "-p", "n_cells", "-1e3"], "n_cells = -1000: must be from 100 to 10,000,000"),
        (["toy", "-p", "n_cells", "many"], "n_cells = 'many': must be a whole number"),
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
    assert said == [f"{n} of 4 runs done" for n in range(1, 5)]


def test_runs_take_turns_with_the_gpus(house, monkeypatch):
    monkeypatch.chdir(house)
    made = plan.read("workflow/sweeps/toy.yaml")
    for_gpus = made._replace(runs={run: {"device": "auto"} for run in made.runs})
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,9")
    assert sweeping._gpus(made) == [] and sweeping._gpus(for_gpus) == ["7", "9"]
    options = ["--forceall", "--cores", "3", "--resources", "gpu=2"]
    words = sweeping._snakemake(made, place(house), house / "plan.json", *options)
    environment = HERE | {"SWEEP_GPUS": "7 9"}
    said = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=house)
    assert said.returncode == 0, said.stderr
    texts = [path.read_text() for path in place(house).glob("runs/*/*/log.txt")]
    held = [re.search(r"gpu (\d) from ([\d.]+)(?s:.*)until ([\d.]+)", text) for text in texts]
    spans = sorted((found[1], float(found[2]), float(found[3])) for found in held)
    assert len(spans) == 4 and {gpu for gpu, _, _ in spans} == {"7", "9"}
    for (gpu, _, end), (other, start, _) in zip(spans, spans[1:]):
        assert gpu != other or end < start  # never two on one
