"""./run_all.sh sweep NAME: a notebook for many sets of parameters, into build/sweeps/NAME/.

Snakemake runs what isn't there or isn't up to date; what is put together here is all runs as one
table, its means, and its figure. Beside it, `plan` says what a sweep file may hold.
"""

import argparse
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from workflow import plan as plans

SHIPPED = Path("workflow/sweeps").resolve()


def main(arguments: list[str]) -> int:
    """Read and check a sweep, and run it or say what would run; an exit code. Raises ValueError."""
    asked = _arguments(arguments)
    overrides = {name: plans.parsed(text) for name, text in asked.parameters}
    is_path = asked.name.endswith((".yaml", ".yml")) or "/" in asked.name
    path = asked.name if is_path else f"workflow/sweeps/{asked.name}.yaml"
    plan = plans.read(path, overrides, yes=asked.yes)
    folder = Path("build/sweeps") / plan.name
    with tempfile.TemporaryDirectory() as scratch:
        plans.check_ranges(plan, scratch, elsewhere=bool(asked.profile))
        if asked.dry_run:
            waiting = _waiting(plan, folder, Path(scratch) / "plan.json")
            n_done = len(plan.runs) - len(waiting)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # for a reader such as head
            print(f"{plan.name}: {n_done} of {len(plan.runs)} runs of {plan.notebook} are done")
            print("".join(f"  {run}: {why}\n" for run, why in waiting.items()), end="")
            return 0
    lock = _lock(folder)
    ships = not overrides and Path(path).resolve().parent == SHIPPED
    return _run(plan, folder, asked, publish=ships, lock=lock)


def _arguments(arguments):
    parser = argparse.ArgumentParser(prog="run_all.sh sweep")
    add = parser.add_argument
    add("name", help="workflow/sweeps/NAME.yaml, or the path of such a file")
    add("--dry-run", "-n", action="store_true", help="say which runs are done, and which would run")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    add("-p", "--parameters", **pair, help="a value in place of the file's; a list is swept")
    add("--yes", action="store_true", help="yes, more than 10,000 runs")
    add("--profile", help="Snakemake's, for a cluster: workflow/profiles/slurm")
    cores = int(os.environ.get("CORES", 1))  # run_all.sh counts them
    add("--cores", type=int, default=cores, help="runs at once, by default one a core")
    values = {i + 2 for i, a in enumerate(arguments) if a in ("-p", "--parameters")}
    # a space, else argparse takes -1e-3 for an option
    return parser.parse_args([f" {a}" if i in values else a for i, a in enumerate(arguments)])


def _lock(folder):
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / ".lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ValueError(f"sweep = {folder.name!r}: another run of it is under way") from None
    return lock


def _snakemake(plan, folder, target, *options):
    """The command that runs a plan, which is written to `target` for it."""
    about = plan._asdict() | {"folder": str(folder), "own": plans.own_folders(plan.notebook)}
    target.write_text(json.dumps(about, indent=1))
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/sweep.smk"]
    return [*command, "--config", f"plan={target}", "--rerun-incomplete", "--nolock", *options]


def _waiting(plan, folder, target):
    """The runs that Snakemake would do, and why."""
    command = _snakemake(plan, folder, target, "--summary")
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode:
        raise ValueError(said.stderr)
    rows = pd.read_csv(StringIO(said.stdout), sep="\t").query("rule == 'run'")
    rows = rows[rows["plan"] != "no update"]
    runs = [str(Path(path).parent.relative_to(folder / "runs")) for path in rows["output_file"]]
    return dict(zip(runs, rows["status"], strict=True))


def _run(plan, folder, asked, *, publish, lock):
    for old in [*folder.glob("figure.*"), *folder.glob("*.csv")]:
        old.unlink()
    shutil.rmtree(folder / "partial", ignore_errors=True)
    limits = ["--profile", asked.profile] if asked.profile else ["--cores", str(asked.cores)]
    gpus = [] if asked.profile else _gpus(plan)
    limits += ["--resources", f"gpu={len(gpus)}"] if gpus else []
    command = _snakemake(plan, folder, folder / "plan.json", "--keep-going", *limits)
    command += ["--quiet", "rules", "host", "reason"]
    os.environ["SWEEP_GPUS"] = " ".join(gpus)
    stopped = []

    def stop(number, _):  # Ctrl-C reaches Snakemake too, which ends its jobs, a cluster's as well
        stopped.append(number)
        if number == signal.SIGTERM:
            process.send_signal(signal.SIGINT)

    # before Snakemake starts, which otherwise ignores them where this process was told to
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    held = {"pass_fds": [lock.fileno()]}  # by Snakemake too, should this process be killed
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **held)
    _show(process.stderr, len(plan.runs), stopped)
    code = process.wait()
    if code == 0:
        return _finish(plan, folder, publish)
    waiting = _waiting(plan, folder, folder / "plan.json")
    for run in waiting if not stopped else ():
        log = folder / "runs" / run / "log.txt"
        if log.exists():
            last = log.read_text().strip().splitlines()[-1:] or ["said nothing"]
            print(f"run_all.sh: {run}: {last[0]} (messages: {log})", file=sys.stderr)
    done = [run for run in plan.runs if run not in waiting]
    if done:
        collect(plan, folder, done, folder / "partial")
    their = f" (their table: {folder}/partial/)" if done else ""
    count = f"{len(done)} of {len(plan.runs)} runs are done{their}"
    print(f"run_all.sh: {count}; the same command goes on with the others", file=sys.stderr)
    return 1


def _gpus(plan):
    """The GPUs of this machine that runs take turns with: none where all ask for the CPU."""
    default = plans.defaults(plan.notebook).get("device", "cpu")
    if all(values.get("device", default) == "cpu" for values in plan.runs.values()):
        return []
    import torch

    every = range(torch.cuda.device_count())
    listed = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, every))
    return listed.split(",")[: len(every)]


def _show(stream, n_runs, stopped):
    """Print Snakemake's progress as one line, and its errors."""
    end = "\r" if sys.stderr.isatty() else "\n"
    for line in stream:
        found = re.search(r"(\d+) of (\d+) steps \(\d+%\) done", line)
        left = int(found[2]) - int(found[1]) - 1 if found else -1  # the last step is the whole
        if left >= 0:
            said = f"{n_runs - left} of {n_runs} runs done"
            print(said, end=end if left else "\n", file=sys.stderr, flush=True)
        elif not stopped and re.search(r"[Ee]rror|Exception", line):
            print(line, end="", file=sys.stderr)


def collect(plan: plans.Plan, folder: Path, done: list[str], target: Path) -> pd.DataFrame:
    """Write results.csv, summary.csv and figure.* of finished runs into `target`; all rows."""
    from lib.score import tables  # here, so that a mistake in a sweep file is told at once
    from lib.show import style, sweeps
    from workflow import notebooks

    default = plans.defaults(plan.notebook)
    nothing = pd.DataFrame(columns=[*tables.KEYS, "value"])
    runs = []
    for run in done:
        swept = {name: plan.runs[run].get(name, default[name]) for name in plan.varied}
        written = sorted((folder / "runs" / run).glob("figures/tables/*.csv"))
        rows = [p for p in written if not p.stem.endswith(("_seconds", "summary"))]
        runs.append((swept, tables.tidy([*map(tables.read, rows)] or [nothing])))
    table = sweeps.results(runs)
    summary = sweeps.summary(table, plan.varied)
    tables.write(sweeps.exact(table, plan.varied), target / "results.csv")
    tables.write(sweeps.exact(summary, plan.varied), target / "summary.csv")
    about = {"notebook": plan.notebook, "runs": len(done), **notebooks.made_with()}
    (target / "run.json").write_text(json.dumps(about, indent=1) + "\n")
    try:
        if plan.figure:
            style.save(sweeps.figure(table, plan.varied, plan.figure), target, "figure")
    except ValueError as error:
        print(f"No figure: {error}")
    return table


def _finish(plan, folder, publish):
    """Put the runs together; rows of the panels of a sweep that ships go to a notebook."""
    table = collect(plan, folder, list(plan.runs), folder)
    if plan.table and publish:
        from lib.score import tables
        from lib.show import sweeps

        of_panels = [sweeps.rows_of(table, p, drawn=not plan.means) for p in plan.figure]
        rows = table[np.any(of_panels, axis=0)] if of_panels else table
        rows = sweeps.summary(rows, plan.varied) if plan.means else rows
        path = Path("figures/tables") / f"{plan.table}.csv"
        tables.write(sweeps.exact(rows, plan.varied), path)
    print(f"{plan.name}: {len(plan.runs)} runs, {len(table)} values")
    print(f"In {folder}/: results.csv, summary.csv (means), figure.pdf, and runs/")
    drawn = (folder / "figure.pdf").exists() or plan.means  # these are drawn by a notebook
    return 0 if drawn or plan.figure == [{}] else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
