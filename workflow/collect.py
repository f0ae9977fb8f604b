"""All runs of a sweep as one table, its means, and its figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.score import tables
from lib.show import style, sweeps
from workflow import plan as plans


def collect(plan: plans.Plan, folder: Path, done: list[str], target: Path) -> str:
    """Write results.csv, summary.csv and figure.* of the finished runs into `target`; a table of the means to print."""
    declared = plans.parameters(plan.notebook)
    runs = []
    for run in done:
        swept = {name: plan.runs[run].get(name, declared[name][1]) for name in plan.varied}
        runs.append((swept, tables.read(folder / "runs" / run / "results.csv")))
    table = sweeps.results(runs)
    summary = sweeps.summary(table, plan.varied)
    tables.write(sweeps.exact(table, plan.varied), target / "results.csv")
    tables.write(sweeps.exact(summary, plan.varied), target / "summary.csv")
    try:
        style.save(sweeps.figure(table, plan.varied, plan.figure), target, "figure")
    except ValueError as error:
        return f"No figure: {error}"
    return f"{plan.name}: {len(done)} runs, {len(table)} values"


def publish(plan: plans.Plan, folder: Path) -> None:
    """Put the rows that are drawn of a sweep that ships into figures/tables/, for notebook 06."""
    table = tables.read(folder / "results.csv")
    drawn = np.any([sweeps.rows_of(table, panel) for panel in plan.figure], axis=0)
    tables.write(
        sweeps.exact(table[drawn], plan.varied), Path("figures/tables") / f"{plan.table}.csv"
    )
