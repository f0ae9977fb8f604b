"""What a run of a sweep costs beyond its notebook: Snakemake, papermill, kernel start, imports.

    python benchmarks/sweeps.py [RUNS]      writes benchmarks/sweeps.csv

A notebook that imports the modules of notebook 05 and then waits for 0.2 s is swept on one core,
each run in a process of its own. The time of a call that finds nothing to run is taken off. A run
should cost at most 4 s.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
OWN = 0.2  # seconds that the notebook waits
REACH = 4.0  # seconds a run
NOTEBOOK = f"""
# %% tags=["parameters"]
seed: int = 1  # changes nothing
figures_dir: str = "figures"  # tables go to tables/ in it

# %%
import os
import sys
import time

sys.path.insert(0, os.getcwd())

import pandas as pd
import torch

from lib import checks, dataset
from lib.predict import guard, registry
from lib.score import board, tables
from lib.show import style
from lib.show.figures import leaderboard
from lib.tasks import conditional
from lib import parameters

parameters.check("toy", globals())

# %%
time.sleep({OWN})
row = {{"model": "none", "metric": "seed", "value": seed, "replicate": 0}}
tables.write(tables.tidy([pd.DataFrame([row])]), f"{{figures_dir}}/tables/toy.csv")
"""


def seconds(house: Path, n_runs: int) -> float:
    """Seconds of one call of the sweep by the clock."""
    toy = f"notebook: toy\ngrid: {{seed: {list(range(n_runs))}}}\n"
    (house / "workflow" / "sweeps" / "toy.yaml").write_text(toy)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"CORES": "1", "PATH": path}
    command = ["./run_all.sh", "sweep", "toy"]
    started = time.perf_counter()
    subprocess.run(command, cwd=house, check=True, capture_output=True, env=environment)
    return time.perf_counter() - started


def measured(house: Path, n_runs: int) -> dict:
    """One round: a sweep from nothing, and the same call again."""
    shutil.rmtree(house / "build", ignore_errors=True)
    full = seconds(house, n_runs)
    idle = seconds(house, n_runs)
    cost = (full - idle) / n_runs - OWN
    return {"runs": n_runs, "overhead_seconds_a_run": cost, "seconds_of_an_idle_call": idle}


def main(n_runs: int = 10) -> None:
    with tempfile.TemporaryDirectory() as folder:
        house = Path(folder)
        for part in ("lib", "workflow"):
            shutil.copytree(ROOT / part, house / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("run_all.sh", "requirements.txt"):
            shutil.copy(ROOT / part, house)
        (house / "notebooks").mkdir()
        (house / "notebooks" / "toy.py").write_text(NOTEBOOK)
        rows = [{"round": number} | measured(house, n_runs) for number in range(3)]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    table = pd.DataFrame(rows).assign(machine=machine)
    table.to_csv(ROOT / "benchmarks" / "sweeps.csv", index=False, float_format="%.3g")
    median = table["overhead_seconds_a_run"].median()
    verdict = "reached" if median <= REACH else "not reached"
    print(f"{median:.2g} s a run beyond its notebook (at most {REACH:g} s: {verdict})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
