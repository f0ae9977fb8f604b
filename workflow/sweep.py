"""./run_all.sh sweep NAME: plan a sweep, check it, run what isn't done, and put all runs into one table and one figure.

Snakemake decides what has to run (`workflow/sweep.smk`); a forked server spares runs on this machine the start of Python.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = (
    "1"  # looking for a GPU must not start CUDA, which doesn't survive a fork
)

from workflow import plan as plans

LOGGERS = Path(__file__).parent / "loggers"


class Stopped(BaseException):
    """A signal has come."""


def main(arguments: list[str]) -> int:
    asked = _arguments(arguments)
    path = (
        Path(asked.name)
        if asked.name.endswith(".yaml")
        else Path("workflow/sweeps") / f"{asked.name}.yaml"
    )
    overrides = {name: plans.parsed(value) for name, value in asked.parameters}
    plan = plans.read(path, overrides, yes=asked.yes)
    folder = Path("build/sweeps") / plan.name
    lock = None if asked.dry_run else _lock(folder)
    with tempfile.TemporaryDirectory() as scratch:
        plans.check_ranges(
            plan.notebook, list(plan.runs.values()), scratch, elsewhere=bool(asked.profile)
        )
        return (
            _dry(plan, folder, Path(scratch))
            if asked.dry_run
            else _run(plan, folder, Path(scratch), lock, asked, overrides)
        )


def _lock(folder):
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / ".lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ValueError(
            f"sweep = {folder.name!r}: another run of it is under way in this folder"
        ) from None
    return lock


def _arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="run_all.sh sweep", description="Run a notebook for many sets of parameters."
    )
    parser.add_argument("name", help="of workflow/sweeps/NAME.yaml, or the path of such a file")
    parser.add_argument(
        "--dry-run", "-n", action="store_true", help="say what is done, and why the rest would run"
    )
    parser.add_argument(
        "-p",
        "--parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter, in place of what the file says; a list of values is swept",
    )
    parser.add_argument("--yes", action="store_true", help="yes, more than 10,000 runs")
    parser.add_argument("--profile", help="of Snakemake, for a cluster: workflow/profiles/slurm")
    parser.add_argument(
        "--cores",
        type=int,
        default=int(os.environ.get("CORES") or os.cpu_count()),
        help="at most so many runs at once; by default all",
    )
    values = {i + 2 for i, a in enumerate(arguments) if a in ("-p", "--parameters")}
    return parser.parse_args(
        [f" {a}" if i in values else a for i, a in enumerate(arguments)]
    )  # else argparse takes -1e-3 for an option


def _dry(plan, folder, scratch):
    about = _about(plan, folder)
    code, events = _snakemake(about, scratch / "plan.json", ["--dry-run", "--cores", "1"], {})
    if code:
        return code
    why = {run: reason for what, run, reason in events if what == "would"}
    says = [
        f"{plan.name}: {len(plan.runs)} runs of {plan.notebook}, {len(plan.runs) - len(why)} done, {len(why)} to run"
    ]
    says += [f"  {run}: {_reason(why[run])}" for run in plan.runs if run in why]
    try:
        print("\n".join(says), flush=True)
    except BrokenPipeError:  # whoever reads, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _reason(said):
    """Why Snakemake would do a run, in words."""
    if "missing output files" in said.lower():
        return "isn't there yet"
    reasons = {
        "Params have changed": "its parameters have changed",
        "Updated input files": "a file that it needs has changed",
        "Input files updated": "a file that it needs has changed",
        "Set of input files has changed": "it needs other files than before",
        "Code has changed": "the workflow has changed",
        "Forced": "asked for",
    }
    found = [text for key, text in reasons.items() if key.lower() in said.lower()]
    changed = said.partition("pdated input files: ")[2].partition(";")[0]
    return "; ".join(dict.fromkeys(found)) + (f" ({changed})" if changed else "") if found else said


def _run(plan, folder, scratch, lock, asked, overrides):
    from workflow import collect, notebooks

    for old in [*folder.glob("figure.*"), *folder.glob("*.csv")]:
        old.unlink()
    shutil.rmtree(folder / "partial", ignore_errors=True)
    gpus = 0 if asked.profile else _gpus(plan)  # what a cluster's jobs ask for, its profile says
    limits = (
        ["--profile", asked.profile]
        if asked.profile
        else ["--cores", str(asked.cores), *(["--resources", f"gpu={gpus}"] if gpus else [])]
    )
    about = _about(plan, folder, int(gpus > 0))
    heard = [
        signal.SIGINT,
        signal.SIGTERM,
        *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []),
    ]  # as nohup has it
    for number in heard:
        signal.signal(number, _stop)
    server, held, environment = None, None, {}
    try:
        if (
            not asked.profile and "SWEEP_WITHOUT_SERVER" not in os.environ
        ):  # a cluster's jobs are on other machines
            from workflow import fork, run

            plans.load(plan.notebook)
            environment["SWEEP_SERVER"] = str(scratch / "server")
            server, held = fork.start(
                environment["SWEEP_SERVER"],
                lambda arguments, kernel: lock.close() or run.main(arguments, kernel),
            )
        code, events = _snakemake(
            about, folder / "plan.json", [*limits, "--keep-going"], environment, lock
        )
    except Stopped as stopped:
        print(
            f"\nrun_all.sh: stopped; {len(_done(about))} of {len(plan.runs)} runs are done, and the same command goes on with the others",
            file=sys.stderr,
        )
        return 128 + stopped.args[0]
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_IGN)
        if server:
            os.close(held)
            os.waitpid(server, 0)
    done = _done(about)
    failed = list(
        dict.fromkeys(run for what, run, _ in events if what == "failed" and run not in done)
    )
    if code == 0 and len(done) == len(plan.runs):
        shown = collect.collect(plan, folder, done, folder)
        if plan.table and not overrides:
            collect.publish(plan, folder)
        drawn = (folder / "figure.pdf").exists()
        print(
            f"{shown}\nTable: {folder}/results.csv, its means: summary.csv{', the figure: figure.pdf, .svg, .png' if drawn else ''}. Runs: {folder}/runs/"
        )
        return 0 if drawn or plan.figure == [{}] else 1
    for run in failed:
        notebook = folder / "runs" / run / "notebook.ipynb"
        print(
            f"run_all.sh: failed: {notebooks.explain(str(notebook)) or _last_line(notebook.with_name('log.txt'))}",
            file=sys.stderr,
        )
    if not failed:
        print(
            f"run_all.sh: Snakemake ended with code {code}; its messages are above", file=sys.stderr
        )
    if done:
        collect.collect(plan, folder, done, folder / "partial")
    print(
        f"run_all.sh: {len(done)} of {len(plan.runs)} runs are done{f' (their table: {folder}/partial/)' if done else ''}; the same command tries the others again",
        file=sys.stderr,
    )
    return 1


def _about(plan, folder, gpu=0):
    """What Snakemake and a report need to know of a plan."""
    files, digests = plans.digests(plan)
    about = {
        "name": plan.name,
        "folder": str(folder),
        "notebook": plan.notebook,
        "varied": plan.varied,
        "gpu": gpu,
    }
    return {**about, "files": files, "digests": digests, "runs": plan.runs}


def _done(about):
    """The runs that are finished, with these parameters and files: an older one may lie in the same folder."""
    done = []
    for run, values in about["runs"].items():
        end = Path(about["folder"]) / "runs" / run
        key = end / ".finished" / "key"
        if (
            (end / "run.json").exists()
            and key.exists()
            and key.read_text() == plans.key(about["digests"][run], values)
        ):
            done.append(run)
    return done


def _snakemake(about, target, options, environment, lock=None):
    """Run Snakemake on a plan: its exit code, and what became of each run. It holds `lock` too, should this process be killed."""
    part = target.with_name(f".{target.name}")
    part.write_text(json.dumps(about, indent=1))
    os.replace(part, target)
    events = target.with_name(".events")
    events.write_text("")
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        "workflow/sweep.smk",
        "--config",
        f"plan={target}",
    ]
    command += [
        "--rerun-incomplete",
        "--nolock",
        "--logger",
        "progress",
        "--scheduler",
        "greedy",
        *options,
    ]
    paths = os.pathsep.join(filter(None, [str(LOGGERS), os.environ.get("PYTHONPATH")]))
    environment = {
        "PYTHONPATH": paths,
        "SWEEP_RUNS": str(len(about["runs"])),
        "SWEEP_EVENTS": str(events),
        **environment,
    }
    process = subprocess.Popen(
        command, env=os.environ | environment, pass_fds=[lock.fileno()] if lock else []
    )
    try:
        code = process.wait()
    except Stopped:
        process.send_signal(signal.SIGINT)  # it gives up its jobs, those of a cluster too
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    return code, [json.loads(line) for line in events.read_text().splitlines()]


def _gpus(plan):
    """How many GPUs of this machine the runs may share: none where all of them ask for the CPU."""
    import torch

    default = plans.parameters(plan.notebook).get("device", (str, "cpu"))[1]
    return (
        torch.cuda.device_count()
        if any(run.get("device", default) != "cpu" for run in plan.runs.values())
        else 0
    )


def _stop(number, _):
    signal.signal(number, signal.SIG_IGN)
    raise Stopped(number)


def _last_line(path):
    """What a run said last that holds no error: it was killed, or cancelled on a cluster."""
    lines = path.read_text().strip().splitlines() if path.exists() else []
    where = f"messages: {path}" if lines else "a cluster's messages: .snakemake/slurm_logs"
    return f"{path.parent}: ended without an error of its own; last it said: {lines[-1] if lines else 'nothing'} ({where})"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
