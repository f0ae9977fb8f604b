"""One run of a sweep: papermill, its tables as one, and run.json, which is written last and says that the run is finished.

    python -m workflow.run FOLDER SOURCE.ipynb PARAMETERS DIGEST THREADS GPUS    PARAMETERS as JSON

DIGEST stands for the content of all files that the notebook needs. A run that has finished with the same digest and parameters
isn't done again, even if it was killed before Snakemake took note of its end, and no two processes do it at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import papermill

from lib.score import tables
from workflow import fork, notebooks, plan


def main(arguments: list[str], kernel: fork.Kernel | None = None) -> int:
    """Do a run; 0, or 1 where its notebook failed, whose path and messages then are in its folder."""
    folder, source, parameters, digest, threads, gpus = arguments
    folder, parameters = Path(folder), json.loads(parameters)
    os.environ |= {"CORES": threads, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    scratch, finished = folder / ".scratch", folder / ".finished"
    key = plan.key(digest, parameters)
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(
        folder / ".lock", "w"
    )  # a cluster's job of a sweep that was killed may still be at it
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(lock, fcntl.LOCK_EX)
    if (finished / "key").is_file() and (finished / "key").read_text() == key:
        _hand_over(finished, folder)
        return 0
    for old in (scratch, finished, folder / "figures", folder / "data"):
        shutil.rmtree(old, ignore_errors=True)
    scratch.mkdir(parents=True)
    said = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    gpu = _a_gpu(int(gpus))  # held until this process ends
    if kernel:
        fork.use(kernel, str(folder / "log.txt"))
    notebook = Path(source).stem
    declared = plan.parameters(notebook)
    own = {
        name: str(scratch / name.removesuffix("_dir"))
        for name in plan.own_folders(notebook)
        if name not in parameters
    }
    started, executed = time.perf_counter(), folder / "notebook.ipynb"
    options = {
        "progress_bar": False,
        "log_output": True,
        "stdout_file": sys.stdout,
        "stderr_file": sys.stderr,
    }
    execute = functools.partial(
        papermill.execute_notebook, source, str(executed), parameters | own, **options
    )
    try:
        try:
            execute()
        except RuntimeError as error:
            if "Kernel died before replying" not in str(error):
                raise
            fork.use_none()  # it lost a race for a port, and gets a second chance as a process of its own
            execute()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    rows = [
        tables.read(path)
        for path in sorted((scratch / "figures" / "tables").glob("*.csv"))
        if not path.stem.endswith(("_seconds", "summary"))
    ]
    for kept in own.values():
        if os.path.isdir(kept):
            os.replace(kept, folder / Path(kept).name)
    tables.write(
        tables.tidy(rows) if rows else pd.DataFrame(columns=[*tables.KEYS, "value"]),
        scratch / "results.csv",
    )
    cells = nbformat.read(executed, as_version=4).cells
    about = {
        "notebook": notebook,
        "parameters": {
            name: parameters.get(name, default)
            for name, (_, default) in declared.items()
            if name not in own
        },
        "seconds": round(time.perf_counter() - started, 3),
        "seconds_in_cells": round(
            sum(c.metadata.get("papermill", {}).get("duration") or 0 for c in cells), 3
        ),
        **({"gpu": gpu[0]} if gpu else {}),
        **notebooks.made_with(),
    }
    (scratch / "run.json").write_text(json.dumps(about, indent=1) + "\n")
    (scratch / "key").write_text(key)
    os.replace(scratch, finished)
    _hand_over(finished, folder)
    return 0


def _hand_over(finished, folder):
    """Put what Snakemake waits for in its place: the same files by another name."""
    for name in ("results.csv", "run.json"):
        (folder / name).unlink(missing_ok=True)
        os.link(finished / name, folder / name)


def _a_gpu(wanted):
    """Take one GPU that no other run on this machine holds: its number, and the lock that holds it."""
    if not wanted:
        return None
    import torch

    count = torch.cuda.device_count()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    for number in listed.split(",")[:count] if listed else map(str, range(count)):
        lock = open(f"/tmp/.sweep-gpu-{os.getuid()}-{number}", "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        os.environ["CUDA_VISIBLE_DEVICES"] = number
        return number, lock
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
