"""Figure 9: speed beside the references, and how cost grows with cells and genes."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from benchmarks.growth import AT_CELLS, AT_GENES, TASKS
from benchmarks.measure import read, slope
from lib.show import style

TASK_COLOURS = {"simulate": "#882255", "fit": "#009E73", "score": "#E69F00", "train": "#0072B2"}


def draw(folder: Path, figures: Path) -> None:
    """Draw results.csv and growth.csv of `folder` into `figures`."""
    results = read(folder)
    growth = pd.read_csv(folder / "growth.csv")
    fig, axes = style.figure([["a", "b", "c"], ["a", "d", "e"]], 183, 105, width_ratios=[1.5, 1, 1])
    _ratios(axes["a"], results)
    for key, over, what in (
        ("b", "cells", "cpu_seconds"),
        ("c", "genes", "cpu_seconds"),
        ("d", "cells", "megabytes"),
        ("e", "genes", "megabytes"),
    ):
        _growth(axes[key], growth[growth["over"] == over], over, what)
    style.save(fig, figures, "fig9_benchmarks")


def _ratios(ax: plt.Axes, results: pd.DataFrame) -> None:
    """Times as fast as the reference, a dot a benchmark, with a bar at the speed to be reached."""
    rows = results[results["ratio"].notna() & results["reach"].str.startswith(">=")].reset_index(
        drop=True
    )
    limits = rows["reach"].str.removeprefix(">= ").astype(float)
    for i, (row, limit) in enumerate(zip(rows.itertuples(), limits)):
        ax.plot([1, row.ratio], [i, i], color="0.8", lw=0.8, zorder=0)
        ax.plot(row.ratio, i, "o", color=style.COLOURS["vae"], ms=3.5)
        ax.plot([limit, limit], [i - 0.3, i + 0.3], color=style.TRUTH, lw=1)
    ax.set_yticks(
        range(len(rows)),
        [f"{r.benchmark}: {r.setting}\nagainst {r.reference_is}" for r in rows.itertuples()],
        fontsize=style.SMALL,
    )
    ax.set(
        xscale="log",
        xlabel="times as fast as the reference; bar: to be reached",
        ylim=(len(rows) - 0.5, -0.5),
    )
    ax.axvline(1, color="0.6", lw=0.6)


def _growth(ax: plt.Axes, points: pd.DataFrame, over: str, what: str) -> None:
    """One line a task, with its slope over the last three points, where fixed costs count least."""
    for task, part in points.groupby("task", sort=False):
        n, cost = part[f"n_{over}"].to_numpy(), part[what].to_numpy()
        text = f"{TASKS[task]} ({slope(n[-3:], cost[-3:]):.2f})" if len(n) >= 3 else TASKS[task]
        ax.plot(n, cost, "o-", color=TASK_COLOURS[task], ms=2.5, lw=0.8, label=text)
    fixed = f"{AT_GENES} genes" if over == "cells" else f"{AT_CELLS:,} cells"
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=f"{over} ({fixed})",
        ylabel="CPU seconds" if what == "cpu_seconds" else "memory beyond the input, MB",
    )
    ax.set_ylim(top=40 * points[what].max())  # room for the legend
    ax.legend(
        fontsize=style.SMALL,
        title="slope of the last three",
        title_fontsize=style.SMALL,
        loc="upper left",
    )
