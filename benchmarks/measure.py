"""How things are measured: time side by side, memory as the peak of a process of its own.

Times are CPU seconds and medians of alternating rounds.
"""

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
    """CPU seconds of all threads in one call."""
    started = time.process_time()
    action()
    return time.process_time() - started


def seconds(action: Callable) -> float:
    """Seconds of one call by the clock."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def alternating(
    ours: Callable, reference: Callable, rounds: int = 5, measure: Callable = cpu_seconds
) -> tuple[float, float, float]:
    """Medians of ours, of the reference and of each round's ratio reference / ours.

    The two take turns; a first round warms up and isn't counted.
    """
    pairs = np.array([(measure(ours), measure(reference)) for _ in range(rounds + 1)])[1:]
    return (*np.median(pairs, axis=0), float(np.median(pairs[:, 1] / pairs[:, 0])))


def traced_peak(action: Callable) -> tuple[int, object]:
    """The most bytes that Python's and NumPy's objects took at once, and the action's result.

    Objects that were there before aren't counted.
    """
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = action()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return peak, result


def resident(what: str = "VmHWM") -> float:
    """The most memory that this process has had, in MB; with "VmRSS", the memory it has now.

    Read from /proc, since ru_maxrss would count the parent's memory too.
    """
    return int(re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def forget_peak() -> None:
    """Start the peak of `resident` anew from the memory that there is now."""
    Path("/proc/self/clear_refs").write_text("5")


def in_a_process(module: str, *arguments) -> list[dict]:
    """The lines of JSON that `python -m module arguments` prints."""
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

    reach: a bound such as ">= 3", of the ratio if there is one, else of ours
    """
    reached = ""
    if reach:
        sign, limit = reach.split()
        value = ours if ratio is None else ratio
        is_reached = value >= float(limit) if sign == ">=" else value <= float(limit)
        reached = "yes" if is_reached else "no"
    entries = benchmark, setting, measure, ours, reference, reference_is, ratio, reach, reached
    values = dict(zip(COLUMNS, entries, strict=True))
    print(json.dumps(values, default=float), flush=True)
    return values


def machine() -> str:
    """The machine in words: numbers of another one are not to be compared."""
    import torch

    named = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = named[1].strip() if named else platform.machine()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    software = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{name}, {os.cpu_count()} cores, {gpu}, {software}"


def slope(x, y) -> float:
    """Slope of log y over log x, by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def read(folder: Path) -> pd.DataFrame:
    """results.csv in a folder. A missing text is empty, a missing number is NaN."""
    return pd.read_csv(
        folder / "results.csv",
        keep_default_na=False,
        na_values={c: [""] for c in ("ours", "reference", "ratio")},
    )
