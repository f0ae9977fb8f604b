"""The benchmarks, each in a process of its own: python -m benchmarks.cases NAME SHARE prints its rows.

SHARE of the full sizes, 1 for what is published; a small one tries the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import (
    ROOT,
    alternating,
    cpu_seconds,
    in_a_process,
    passed_on,
    resident,
    row,
    seconds,
    slope,
    traced_peak,
)
from lib import dataset, perturb
from lib.laws import ZINB, Mixture, maximum_likelihood
from lib.score import distances
from lib.simulate import ondisk


def simulate(share: float) -> None:
    """10,000 cells x 2,000 genes, 80 % zeros, into CSR."""
    from benchmarks import references

    n_cells = max(200, int(10_000 * share))
    cells = dataset.base_genes(n_cells, 2000, seed=1)
    law = [cells.varm[p][:, 0] for p in ("mu", "theta", "pi")]
    ours, plain, ratio = alternating(
        lambda: dataset.base_genes(n_cells, 2000, seed=1),
        lambda: references.simulate(*law, n_cells, 1),
    )
    setting = f"{n_cells:,} x 2,000, 80 % zeros"
    row("simulate", setting, "CPU seconds", ours, plain, "plain vectorised NumPy", ratio, ">= 3")
    peak, cells = traced_peak(lambda: dataset.base_genes(n_cells, 2000, seed=1))
    size = sum(a.nbytes for a in (cells.X.data, cells.X.indices, cells.X.indptr))
    row("simulate", setting, "peak memory / that of the counts", peak / size, reach="<= 1.5")


def write_once(n_cells: int, path: str) -> None:
    """Simulate, perturb and write `n_cells` x 2,001: for `on_disk`, which measures this process's memory."""
    genes = dataset.get_mech_dataset(
        dataset.base_genes(2000, 2000, seed=1),
        "hill",
        parents=[f"gene_{i:04d}" for i in range(10)],
        seed=1,
    )
    arm = lambda cells, seed: perturb.do(cells, {"gene_0000": 5}, seed=seed)
    started, cpu = time.perf_counter(), time.process_time()
    ondisk.write(path, ondisk.simulated(genes, n_cells, seed=2, perturb=arm))
    taken, cpu = time.perf_counter() - started, time.process_time() - cpu
    back = ondisk.read(path, n_cells - 100, n_cells)
    whole = dataset.law(back, "mech_hill").mu[:, 0]
    assert (
        back.shape == (100, 2001)
        and np.isfinite(whole).all()
        and (dataset.dense(back[:, "gene_0000"].X) == 5).all()
    )
    row("write", f"{n_cells:,} x 2,001", "seconds", taken)
    row("write", f"{n_cells:,} x 2,001", "CPU seconds", cpu)
    row("write", f"{n_cells:,} x 2,001", "peak memory, MB", resident(), reach="<= 2000")


def write(share: float) -> None:
    """Cells simulated, perturbed and written in chunks."""
    sizes = [max(500, int(n * share)) for n in (10_000, 100_000, 1_000_000)]
    taken = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DISK")) as folder:
        for n in sizes:
            rows = passed_on(
                in_a_process("benchmarks.cases", "write_once", n, f"{folder}/cells.h5ad")
            )
            taken.append(rows[1]["ours"])
    row(
        "write",
        f"{sizes[1]:,} to {sizes[2]:,} cells",
        "slope of log CPU seconds over log cells",
        slope(sizes[1:], taken[1:]),
        reach="<= 1.1",
    )


def log_likelihood(share: float) -> None:
    """Value and gradient of the ZINB log-likelihood, 512 cells x 2,000 genes."""
    import torch

    from benchmarks.references import plain_log_likelihood as plain
    from lib.laws.likelihood import log_likelihood as ours

    n_cells = max(32, int(512 * share))
    for zeros in (0.8, 0.95):
        for theta_of in ("a gene", "a cell"):
            cells = dataset.base_genes(n_cells, 2000, zeros, seed=1)
            rng = np.random.default_rng(1)
            law = {
                p: np.broadcast_to(cells.varm[p][:, 0], (n_cells, 2000))
                for p in ("mu", "theta", "pi")
            }
            mu, theta, logit = (
                law["mu"] * np.exp(0.2 * rng.normal(size=law["mu"].shape)),
                law["theta"],
                np.log(law["pi"] / (1 - law["pi"])),
            )
            made = [dataset.dense(cells.X), mu, theta[0] if theta_of == "a gene" else theta, logit]
            exact = [torch.tensor(np.ascontiguousarray(a), dtype=torch.float64) for a in made]
            given = [t.float().requires_grad_(i > 0) for i, t in enumerate(exact)]

            def step(function, given=given):
                torch.autograd.grad(function(*given).sum(), given[1:])

            setting = f"{n_cells} x 2,000, {zeros * 100:.0f} % zeros, a theta {theta_of}"
            medians = alternating(lambda step=step: step(ours), lambda step=step: step(plain), 15)
            row(
                "log-likelihood",
                setting,
                "CPU seconds",
                *medians[:2],
                "the plain formula",
                medians[2],
                ">= 2",
            )
            row(
                "log-likelihood",
                setting,
                "largest difference, float64",
                (ours(*exact) - plain(*exact)).abs().max().item(),
                reach="<= 1e-6",
            )


def training(share: float) -> None:
    """A VAE of scVI's default size on cells of independent genes, all trained on, none to validate: rate, and held-out ELBO after as many epochs each."""
    import torch

    from benchmarks import references
    from lib import model
    from lib import training as loop

    torch.set_num_threads(1)
    for n_genes, n_cells, n_rate, n_epochs, batch_size, reach in (
        (20, 10_000, 10, 60, 2048, ">= 10"),
        (2000, 5000, 3, 40, 512, ">= 3"),
    ):
        n_cells, n_epochs = max(600, int(n_cells * share)), max(2, int(n_epochs * share))
        cells = dataset.base_genes(n_cells, n_genes, seed=31)
        test = dataset.fresh_cells(cells, max(200, int(2000 * share)), seed=32)
        x, y = model.to_tensor(cells.X), model.to_tensor(test.X)

        def ours(epochs, x=x, n_genes=n_genes, batch_size=batch_size):
            module = model.ZINBVAE(
                n_genes, n_layers=1, dispersion="gene", generator=torch.Generator().manual_seed(0)
            )
            module.start_at(x)
            recipe = {"learning_rate": 2e-2, "betas": (0.9, 0.99), "schedule": "one_cycle"}
            loop.fit(
                module, x, max_epochs=epochs, batch_size=batch_size, validation_fraction=0, **recipe
            )
            return module

        setting = f"{n_cells:,} x {n_genes:,}, 1 x 128 hidden, 10 latent"
        try:
            scvi = references.ScVI(cells)
        except ImportError:
            scvi = None
        taken = (lambda: ours(4 * n_rate)), (lambda: scvi.train(n_rate))
        if scvi:
            mine, its, ratio = alternating(*taken, rounds=3)
            rates = 4 * n_rate * n_cells / mine, n_rate * n_cells / its, 4 * ratio
        else:
            rates = 4 * n_rate * n_cells / cpu_seconds(taken[0]), None, None
        row(
            "training",
            setting,
            "cells a CPU second",
            *rates[:2],
            "scVI",
            rates[2],
            reach if scvi else "",
        )
        module = ours(n_epochs)
        with torch.no_grad():
            loss = np.mean(
                [module.loss(y, torch.Generator().manual_seed(i)).mean().item() for i in range(5)]
            )
        its = None
        if scvi:
            scvi = references.ScVI(cells)
            scvi.train(n_epochs)
            its = scvi.negative_elbo(test)
        oracle = -dataset.law(test).log_prob(dataset.dense(test.X)).sum(1).mean()
        setting = f"{setting}, {n_epochs} epochs"
        row(
            "training",
            setting,
            "negative ELBO of held-out cells less that of the true law, nats",
            loss - oracle,
            its - oracle if scvi else None,
            "scVI",
        )
        if scvi:
            row(
                "training",
                setting,
                "negative ELBO of held-out cells less scVI's, nats",
                loss - its,
                reach="<= 0",
            )


def train_once(path: str) -> None:
    """An epoch from disk: for `from_disk`, which measures this process's memory."""
    import torch

    from lib import model
    from lib import training as loop
    from lib.neural import minibatches

    torch.set_num_threads(1)
    cells = minibatches.OnDisk(path)
    module = model.ZINBVAE(
        cells.n_genes, n_layers=1, dispersion="gene", generator=torch.Generator().manual_seed(0)
    )
    module.start_at(next(cells.minibatches(4096, np.random.default_rng(0))))
    taken = seconds(lambda: loop.fit(module, cells, max_epochs=1, validation_fraction=0.01))
    row(
        "training from disk",
        f"{len(cells):,} x {cells.n_genes:,}",
        "cells a second",
        len(cells) / taken,
    )
    row("training from disk", f"{len(cells):,} x {cells.n_genes:,}", "peak memory, MB", resident())


def from_disk(share: float) -> None:
    """Training on a file against training on the same counts in memory, and memory over the number of cells."""
    import torch

    from lib import model
    from lib import training as loop
    from lib.neural import minibatches

    torch.set_num_threads(1)
    sizes = [max(1000, int(n * share)) for n in (20_000, 100_000, 1_000_000)]
    peaks = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DISK")) as folder:
        path = f"{folder}/cells.h5ad"
        genes = dataset.base_genes(2000, 2000, seed=1)
        for n in sizes:
            ondisk.write(path, ondisk.simulated(genes, n, seed=2))
            if n == sizes[0]:
                sparse, disk = minibatches.Sparse(ondisk.read(path).X), minibatches.OnDisk(path)
                start = next(disk.minibatches(4096, np.random.default_rng(0)))

                def epoch(cells, start=start):
                    module = model.ZINBVAE(
                        2000,
                        n_layers=1,
                        dispersion="gene",
                        generator=torch.Generator().manual_seed(0),
                    )
                    module.start_at(start)
                    loop.fit(module, cells, max_epochs=1, validation_fraction=0.01)

                mine, its, ratio = alternating(
                    lambda: epoch(disk),
                    lambda sparse=sparse: epoch(sparse),
                    rounds=3,
                    measure=seconds,
                )
                row(
                    "training from disk",
                    f"{n:,} x 2,000",
                    "cells a second",
                    n / mine,
                    n / its,
                    "the same counts in memory, sparse",
                    ratio,
                    ">= 0.8",
                )
            else:
                peaks.append(
                    passed_on(in_a_process("benchmarks.cases", "train_once", path))[1]["ours"]
                )
    row(
        "training from disk",
        f"{sizes[2]:,} against {sizes[1]:,} cells",
        "peak memory, ratio",
        peaks[1] / peaks[0],
        reach="<= 1.1",
    )


def time_to_quality(share: float) -> None:
    """Seconds until the decoded mu is within twice the error of maximum likelihood, against a plain full-batch loop's to its final loss."""
    import torch

    from benchmarks import references
    from lib.predict import neural

    torch.set_num_threads(1)
    n_cells, n_epochs = max(600, int(10_000 * share)), max(5, int(2000 * share))
    cells = dataset.base_genes(n_cells, 20, seed=41)
    true = dataset.law(cells)
    error = lambda mu: float(np.mean((mu - true.mu) ** 2))
    floor = error(maximum_likelihood.fit(cells.X).mu)
    for epochs in (5, 8, 12, 20, 40):  # a cycle must be planned: the shortest that gets there
        recipe = {
            "max_epochs": epochs,
            "learning_rate": 2e-2,
            "betas": (0.9, 0.99),
            "schedule": "one_cycle",
            "validation_fraction": 0.0,
        }
        vae = neural.VAE(
            vae_options={"hide": 0.0, "n_layers": 1}, training_options=recipe, device="cpu", seed=1
        )
        taken = cpu_seconds(lambda vae=vae: vae.fit(cells))
        reached = error(vae.reconstruct(cells).mu) / floor
        if reached <= 2:
            break
    started, losses, at = time.process_time(), [], []
    for mu, loss in references.full_batch(torch.tensor(dataset.dense(cells.X)), n_epochs):  # noqa: B007
        losses.append(loss)
        at.append(time.process_time() - started)
    final = next(i for i, loss in enumerate(losses) if loss <= losses[-1] + 0.01 * abs(losses[-1]))
    row(
        "time to quality",
        f"{n_cells:,} x 20, {epochs} epochs",
        "CPU seconds to twice the error of maximum likelihood",
        taken,
        at[final],
        f"plain full-batch loop to within 1 % of its loss at epoch {n_epochs:,}",
        at[final] / taken,
        ">= 20",
    )
    row(
        "time to quality",
        f"{n_cells:,} x 20, {epochs} epochs",
        "squared error of mu / that of maximum likelihood",
        reached,
        error(mu.numpy()) / floor,
        "plain full-batch loop",
    )


def replicates(share: float) -> None:
    """16 VAEs of different seeds, each on counts of its own, at once against one after another."""
    import copy

    import torch

    from lib import model
    from lib import training as loop

    torch.set_num_threads(1)
    n_cells = max(300, int(5000 * share))
    for device in ("cpu", "cuda"):
        if device == "cuda" and not torch.cuda.is_available():
            print("replicates on a GPU: no CUDA device, left out", file=sys.stderr)
            continue
        for batch_size in (128, 512):
            counts = [
                model.to_tensor(dataset.base_genes(n_cells, 20, seed=(51, i)).X, device)
                for i in range(16)
            ]
            starts = [
                model.ZINBVAE(20, n_layers=1, generator=torch.Generator().manual_seed(i)).to(device)
                for i in range(16)
            ]
            for module, x in zip(starts, counts):
                module.start_at(x)
            how = {"max_epochs": 3, "batch_size": batch_size}
            ends: dict = {}

            def together(ends=ends, starts=starts, counts=counts, how=how):
                ends["together"] = copy.deepcopy(starts)
                loop.fit_together(ends["together"], counts, seeds=list(range(16)), **how)

            def one_by_one(n, ends=ends, starts=starts, counts=counts, how=how):
                ends["alone"] = copy.deepcopy(starts[:n])
                for i, (module, x) in enumerate(zip(ends["alone"], counts)):
                    loop.fit(module, x, seed=i, **how)

            setting = f"16 x {n_cells:,} x 20, batches of {batch_size}, {device}"
            if device == "cpu":
                mine, its, ratio = alternating(together, lambda: one_by_one(16), 3)
                row(
                    "replicates",
                    setting,
                    "CPU seconds",
                    mine,
                    its,
                    "one after another",
                    1 / ratio,
                    "<= 1",
                )
            else:
                mine, its, ratio = alternating(together, lambda: one_by_one(1), 3, seconds)
                row("replicates", setting, "seconds", mine, its, "one of them", 1 / ratio, "<= 3")
                one_by_one(16)
            pairs = [
                zip(a.state_dict().values(), b.state_dict().values())
                for a, b in zip(ends["together"], ends["alone"])
            ]
            far = max((w - v).abs().max().item() for pair in pairs for w, v in pair)
            row(
                "replicates",
                setting,
                "largest difference of a weight from its own single run",
                far,
                reach="<= 1e-2",
            )


def scores(share: float) -> None:
    """KL and CRPS of law against law, at means near 10."""
    n, rng = max(500, int(20_000 * share)), np.random.default_rng(61)
    for name, theta in (
        ("theta 0.5 to 2", rng.uniform(0.5, 2, n)),
        ("theta 1,000", np.full(n, 1000.0)),
    ):
        true = ZINB(rng.uniform(5, 15, n), theta, np.full(n, 0.7))
        off = lambda *shape: np.exp(0.1 * rng.normal(size=(*shape, n)))
        for kind, law in (
            ("ZINB", ZINB(true.mu * off(), theta * off(), true.pi)),
            (
                "mixture of 16",
                Mixture(
                    ZINB(true.mu * off(16), theta * off(16), np.broadcast_to(true.pi, (16, n)))
                ),
            ),
        ):
            rate = n / np.median(
                [
                    cpu_seconds(lambda law=law, true=true: distances.between(true, law))
                    for _ in range(5)
                ]
            )
            row(
                "exact scores",
                f"{kind}, {name}, mean 5 to 15",
                "laws a CPU second",
                rate,
                reach=">= 200000" if kind == "ZINB" else "",
            )


def fitting(share: float) -> None:
    """Maximum-likelihood laws of 2,000 genes in 10,000 cells, against statsmodels gene by gene."""
    from benchmarks import references

    n_cells, n_tried = max(500, int(10_000 * share)), max(2, int(20 * share))
    cells = dataset.base_genes(n_cells, 2000, seed=71)
    ours = np.median([cpu_seconds(lambda: maximum_likelihood.fit(cells.X)) for _ in range(5)])
    fitted = maximum_likelihood.fit(cells.X)
    setting = f"{n_cells:,} x 2,000, 80 % zeros"
    row("fit", setting, "CPU seconds", ours, reach="<= 5")
    some = dataset.dense(cells.X[:, :n_tried]).astype(float)
    its: list[float] = []
    taken = cpu_seconds(lambda: its.extend(references.statsmodels_fit(column) for column in some.T))
    all_genes = taken / n_tried * 2000
    row(
        "fit",
        setting,
        "CPU seconds",
        ours,
        all_genes,
        f"statsmodels, 2,000 times the mean of {n_tried} genes",
        all_genes / ours,
        ">= 20",
    )
    behind = np.array([i - fitted[g].log_prob(some[:, g]).sum() for g, i in enumerate(its)])
    setting = f"{n_cells:,} x {n_tried}, of which statsmodels fits {np.isfinite(behind).sum()}"
    row(
        "fit",
        setting,
        "log-likelihood behind statsmodels' at most, nats",
        np.nanmax(behind),
        reach="<= 0.001",
    )


def imports(share: float) -> None:
    """What importing the simulator loads."""
    script = "import sys, time; t = time.perf_counter(); import lib.dataset; print(time.perf_counter() - t, len({'torch', 'scanpy'} & set(sys.modules)))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(3)
    ]
    row("imports", "import lib.dataset", "seconds", float(np.median([float(r[0]) for r in runs])))
    row(
        "imports",
        "import lib.dataset",
        "of torch and scanpy loaded",
        float(runs[0][1]),
        reach="<= 0",
    )


def notebooks(share: float) -> None:
    """Notebooks 01 to 04 as `./run_all.sh` runs them, on all cores."""
    out = Path("build/bench")
    shutil.rmtree(ROOT / out, ignore_errors=True)
    mode = "full" if share == 1 else "tiny"
    tables = ["01_parameter_recovery", "02_mechanism", "03_perturbation", "04_drug"]
    cores = os.environ.get("CORES", str(os.cpu_count()))
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        "workflow/Snakefile",
        "--config",
        f"mode={mode}",
        f"out={out}",
        "--cores",
        cores,
    ]
    targets = [f"{out}/figures/tables/{t}.csv" for t in tables]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    run = lambda: subprocess.run(
        [*command, "--nolock", "--quiet", "all", "--", *targets],
        cwd=ROOT,
        check=True,
        env=environment,
        stdout=sys.stderr,
        stderr=subprocess.STDOUT,
    )
    row("notebooks", f"01 to 04, {mode}, {cores} cores", "minutes", seconds(run) / 60, reach="<= 6")
    shutil.rmtree(ROOT / out)


CASES = {
    c.__name__: c
    for c in (
        simulate,
        write,
        log_likelihood,
        training,
        from_disk,
        time_to_quality,
        replicates,
        scores,
        fitting,
        imports,
        notebooks,
    )
}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name == "write_once":
        write_once(int(arguments[0]), arguments[1])
    elif name == "train_once":
        train_once(arguments[0])
    else:
        CASES[name](float(arguments[0]))
