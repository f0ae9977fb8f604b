"""Cells simulated, cells written, and what a user waits for: the import and the notebooks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import references
from benchmarks.measure import (
    ROOT,
    alternating,
    in_a_process,
    passed_on,
    resident,
    row,
    seconds,
    slope,
    traced_peak,
)
from lib import dataset, perturb
from lib.simulate import ondisk


def simulate(share: float) -> None:
    """10,000 cells x 2,000 genes, 80 % zeros, into CSR."""
    n_cells = max(200, int(10_000 * share))
    cells = dataset.base_genes(n_cells, 2000, seed=1)
    law = [cells.varm[p][:, 0] for p in ("mu", "theta", "pi")]
    ours, plain, ratio = alternating(
        lambda: dataset.base_genes(n_cells, 2000, seed=1),
        lambda: references.simulate(*law, n_cells, 1),
    )
    setting = f"{n_cells:,} x 2,000, 80 % zeros"
    reference = "vectorised NumPy that draws every entry"
    row("simulate", setting, "CPU seconds", ours, plain, reference, ratio, ">= 3")
    peak, cells = traced_peak(lambda: dataset.base_genes(n_cells, 2000, seed=1))
    size = sum(a.nbytes for a in (cells.X.data, cells.X.indices, cells.X.indptr))
    row("simulate", setting, "peak memory / that of the counts", peak / size, reach="<= 1.5")


def intervene(share: float) -> None:
    """An intervention on a gene of 255 descendants among 450 genes."""
    n_cells, n_base, n_mechanistic = (max(20, int(n * share)) for n in (1000, 195, 255))
    cells = _cascade(n_cells, n_base, n_mechanistic)
    gene = cells.var_names[0]
    arms = []

    def ours():
        arms.append(perturb.do(cells, {gene: 5}, seed=1))

    def former():
        arms.append(references.intervene(cells, gene, 5, 1))

    taken = alternating(ours, former)
    setting = f"{n_mechanistic} descendants, {n_base} other genes, {n_cells:,} cells"
    reference = "gene by gene, all counts rewritten after each"
    row("intervene", setting, "CPU seconds", taken[0], reach="<= 0.3")
    measure = "CPU seconds, side by side"
    row("intervene", setting, measure, *taken[:2], reference, taken[2], ">= 30")
    differ = (arms[0].X != arms[1].X).nnz
    row("intervene", setting, "counts that differ", differ, reach="<= 0")


def _cascade(n_cells, n_base, n_mechanistic):
    """Cells of base genes and of mechanistic ones, all of which descend from the first gene."""
    cells = dataset.base_genes(n_cells, n_base, seed=1)
    reached = [cells.var_names[0]]
    rng = np.random.default_rng(1)
    for i in range(n_mechanistic):
        first = rng.choice(reached[-20:])  # a late one, so that levels are many
        others = [gene for gene in cells.var_names if gene != first]
        parents = [str(first), *map(str, rng.choice(others, rng.integers(4), replace=False))]
        options = {"gene": f"mech_{i:03d}", "parents": parents, "seed": (1, i)}
        cells = dataset.get_mech_dataset(cells, ("linear", "hill")[i % 2], **options)
        reached.append(options["gene"])
    return cells


def write_once(n_cells: int, path: str) -> None:
    """Simulate, perturb and write `n_cells` x 2,001: for `write`, which measures this process."""
    base = dataset.base_genes(2000, 2000, seed=1)
    parents = [f"gene_{i:04d}" for i in range(10)]
    genes = dataset.get_mech_dataset(base, "hill", parents=parents, seed=1)

    def arm(cells, seed):
        return perturb.do(cells, {"gene_0000": 5}, seed=seed)

    started = time.perf_counter()
    cpu_started = time.process_time()
    ondisk.write(path, ondisk.simulated(genes, n_cells, seed=2, perturb=arm))
    taken = time.perf_counter() - started
    cpu_taken = time.process_time() - cpu_started
    back = ondisk.read(path, n_cells - 100, n_cells)
    assert back.shape == (100, 2001)
    assert np.isfinite(dataset.law(back, "mech_hill").mu).all()
    assert (dataset.dense(back[:, "gene_0000"].X) == 5).all()
    setting = f"{n_cells:,} x 2,001"
    row("write", setting, "seconds", taken)
    row("write", setting, "CPU seconds", cpu_taken)
    row("write", setting, "peak memory, MB", resident(), reach="<= 2000")


def write(share: float) -> None:
    """Cells simulated, perturbed and written in chunks."""
    sizes = [max(500, int(n * share)) for n in (10_000, 100_000, 1_000_000)]
    taken = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DISK")) as folder:
        path = f"{folder}/cells.h5ad"
        for n in sizes:
            rows = passed_on(in_a_process("benchmarks.cases", "write_once", n, path))
            taken.append(rows[1]["ours"])
    setting = f"{sizes[1]:,} to {sizes[2]:,} cells"
    measure = "slope of log CPU seconds over log cells"
    row("write", setting, measure, slope(sizes[1:], taken[1:]), reach="<= 1.1")


IMPORT = """
import sys, time
started = time.perf_counter()
import lib.dataset
print(time.perf_counter() - started, len({"torch", "scanpy"} & set(sys.modules)))
"""


def imports(share: float) -> None:
    """What importing the simulator loads."""
    command = [sys.executable, "-c", IMPORT]
    runs = [
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    ]
    taken = np.median([float(seconds_taken) for seconds_taken, _ in runs])
    row("imports", "import lib.dataset", "seconds", float(taken))
    loaded = float(runs[0][1])
    row("imports", "import lib.dataset", "of torch and scanpy loaded", loaded, reach="<= 0")


def notebooks(share: float) -> None:
    """Notebooks 01 to 04 as `./run_all.sh` runs them, on all cores."""
    out = Path("build/bench")
    shutil.rmtree(ROOT / out, ignore_errors=True)
    mode = "full" if share == 1 else "tiny"
    cores = os.environ.get("CORES", str(os.cpu_count()))
    tables = ["01_parameter_recovery", "02_mechanism", "03_perturbation", "04_drug"]
    options = f"--snakefile workflow/Snakefile --config mode={mode} out={out} --cores {cores}"
    targets = [f"{out}/figures/tables/{table}.csv" for table in tables]
    command = [sys.executable, "-m", "snakemake", *options.split()]
    command += ["--nolock", "--quiet", "all", "--", *targets]
    own = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    environment = os.environ | own | {"JUPYTER_PREFER_ENV_PATH": "1"}

    def run():
        streams = {"stdout": sys.stderr, "stderr": subprocess.STDOUT}
        subprocess.run(command, cwd=ROOT, check=True, env=environment, **streams)

    minutes = seconds(run) / 60
    row("notebooks", f"01 to 04, {mode}, {cores} cores", "minutes", minutes, reach="<= 6")
    shutil.rmtree(ROOT / out)
