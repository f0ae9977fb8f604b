"""What a run of a sweep costs beyond its notebook's own computing: Snakemake, papermill, kernel start, imports.

    python benchmarks/sweeps.py [RUNS]      writes benchmarks/sweeps.csv

A notebook that imports what notebook 02 does and then waits for 0.2 s is swept on one core, with the forked server and, side by
side, with `python -m workflow.run` for each run, as on a cluster. What a call costs with nothing to run is taken off.
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

ROOT, OWN = Path(__file__).parents[1], 0.2
NOTEBOOK = f"""
# %% tags=["parameters"]
seed: int = 1  # of nothing
figures_dir: str = "figures"  # tables go to tables/ in it

# %%
import os
import sys
import time

sys.path.insert(0, os.getcwd())

import pandas as pd
import seaborn
import torch

from lib import dataset, training
from lib.score import tables
from lib.simulate import mechanisms
from workflow import parameters

parameters.check("toy", globals())

# %%
time.sleep({OWN})
tables.write(tables.tidy([pd.DataFrame([{{"model": "none", "metric": "seed", "value": seed, "replicate": 0}}])]), f"{{figures_dir}}/tables/toy.csv")
"""


def seconds(house: Path, n_runs: int, environment: dict) -> float:
    """Of one call by the clock."""
    (house / "workflow" / "sweeps" / "toy.yaml").write_text(
        f"notebook: toy\ngrid: {{seed: {list(range(n_runs))}}}\n"
    )
    started = time.perf_counter()
    subprocess.run(
        ["./run_all.sh", "sweep", "toy"],
        cwd=house,
        check=True,
        capture_output=True,
        env=os.environ | environment,
    )
    return time.perf_counter() - started


def main(n_runs: int = 10) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        house = Path(folder)
        for part in ("lib", "workflow"):
            shutil.copytree(ROOT / part, house / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("run_all.sh", "requirements.txt"):
            shutil.copy(ROOT / part, house)
        (house / "notebooks").mkdir()
        (house / "notebooks" / "toy.py").write_text(NOTEBOOK)
        for number in range(3):  # alternating
            for way, more in (("server", {}), ("a process each", {"SWEEP_WITHOUT_SERVER": "1"})):
                shutil.rmtree(house / "build", ignore_errors=True)
                environment = {"CORES": "1", "PATH": path, **more}
                full, idle = (
                    seconds(house, n_runs, environment),
                    seconds(house, n_runs, environment),
                )
                rows.append(
                    {
                        "way": way,
                        "round": number,
                        "runs": n_runs,
                        "overhead_seconds_a_run": (full - idle) / n_runs - OWN,
                        "seconds_of_an_idle_call": idle,
                    }
                )
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows).assign(
        machine=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    table.to_csv(ROOT / "benchmarks" / "sweeps.csv", index=False, float_format="%.3g")
    print(table.groupby("way")[["overhead_seconds_a_run", "seconds_of_an_idle_call"]].median())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
