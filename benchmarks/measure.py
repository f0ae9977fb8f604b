"""How things are measured: side by side, in CPU seconds, medians of alternating rounds; memory as the peak of a process of its own."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
COLUMNS = [
    "benchmark",
    "setting",
    "measure",
    "ours",
    "reference",
    "reference_is",
    "ratio",
    "reach",
    "reached",
]


def cpu_seconds(action: Callable) -> float:
    """Of all threads, of one call."""
    started = time.process_time()
    action()
    return time.process_time() - started


def seconds(action: Callable) -> float:
    """By the clock, of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def alternating(
    ours: Callable, reference: Callable, rounds: int = 5, measure: Callable = cpu_seconds
) -> tuple[float, float, float]:
    """Median of ours, of the reference, and of the ratio reference / ours of each round, after one round to warm up."""
    pairs = np.array([(measure(ours), measure(reference)) for _ in range(rounds + 1)])[1:]
    return (*np.median(pairs, axis=0), float(np.median(pairs[:, 1] / pairs[:, 0])))


def traced_peak(action: Callable) -> tuple[int, object]:
    """Largest number of bytes that Python's and NumPy's objects had at once beyond those before, and what the action returned."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = action()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return peak, result


def resident(what: str = "VmHWM") -> float:
    """Largest memory that this process has had, in MB; with "VmRSS" what it has now. (ru_maxrss would count that of its parent.)"""
    return int(re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def forget_peak() -> None:
    """The largest memory so far is what there is now."""
    Path("/proc/self/clear_refs").write_text("5")


def in_a_process(module: str, *arguments) -> list[dict]:
    """What `python -m module arguments` prints as lines of JSON. Other lines are passed on."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: ended with code {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def passed_on(rows: list[dict]) -> list[dict]:
    """Rows of another process, printed again as rows of this one."""
    for values in rows:
        print(json.dumps(values), flush=True)
    return rows


def row(
    benchmark: str,
    setting: str,
    measure: str,
    ours: float,
    reference=None,
    reference_is="",
    ratio=None,
    reach="",
) -> dict:
    """A row of the results, printed as JSON.

    reach : such as ">= 3", of the ratio if there is one, else of ours
    """
    value, reached = (ours if ratio is None else ratio), ""
    if reach:
        sign, limit = reach.split()
        reached = (
            "yes" if (value >= float(limit) if sign == ">=" else value <= float(limit)) else "no"
        )
    values = dict(
        zip(
            COLUMNS,
            (benchmark, setting, measure, ours, reference, reference_is, ratio, reach, reached),
        )
    )
    print(json.dumps(values, default=float), flush=True)
    return values


def machine() -> str:
    """The machine in words: numbers of another one are not to be compared."""
    import torch

    name = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{name}, {os.cpu_count()} cores{gpu}, Python {platform.python_version()}, torch {torch.__version__}"


def slope(x, y) -> float:
    """Of log y over log x, by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def read(folder: Path) -> pd.DataFrame:
    """results.csv in a folder: text, empty where there is none, and numbers, NaN where there is none."""
    return pd.read_csv(
        folder / "results.csv",
        keep_default_na=False,
        na_values={c: [""] for c in ("ours", "reference", "ratio")},
    )
