"""Figure 12: all metrics, by charge."""

from __future__ import annotations

import matplotlib.transforms as mtransforms
import numpy as np
import pandas as pd

from lib.score.court import judgement
from lib.score.court.metrics import CELLS, LAWS, MEANS, TESTS, rows
from lib.show import style

GROUPS = {LAWS: "laws", MEANS: "means", CELLS: "cells", TESTS: "tests of cells"}
_INK, _OTHER, _THIRD = "black", "#D55E00", "#0072B2"
_BAND = "#F2F2F2"
_LEAST_GAIN, _MOST_GAIN = -0.5, 1.5  # of a score that is drawn


def figure(summary: pd.DataFrame, split: str = "unseen gene"):
    """All metrics (rows) by charge (columns), in the order of their agreement in each group.

    summary: means over networks, columns `tables.SUMMARY`
    split: the panel
    """
    table = ordered(judgement.judged(summary, split))
    height = 18 + 2.35 * (len(table) + 2 * table["takes"].nunique())
    fig, axes = style.figure("abcde", 183, height, sharey=True, width_ratios=[5, 4, 4, 3, 4])
    for name, ax in axes.items():  # the axis is at the top, and so is its legend
        ax.set_title(name, loc="left", fontweight="bold", fontsize=style.LETTER, pad=26)
    at = _places(table)
    agreement(axes["a"], table, at)
    others(axes["b"], table, at)
    gaming(axes["c"], table, at)
    power(axes["d"], table, at)
    ceilings(axes["e"], table, at)
    for ax in axes.values():
        _rows(ax, table, at)
    axes["a"].set_yticks(at, [_label(key) for key in table.index])
    axes["a"].set_ylim(at.max() + 1, at.min() - 2.2)
    return fig


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `judgement.judged` group by group."""
    parts = [table[table["takes"] == takes] for takes in GROUPS]
    return pd.concat([part for part in parts if len(part)])


def _label(key):
    row = rows()[key]
    mark = {"scperteval": "s", "cell-eval2": "c"}.get(row.source)
    return f"{row.label} ({mark})" if mark else row.label


def _places(table):
    """Heights of the rows, with room above each group."""
    starts = table["takes"].ne(table["takes"].shift()).cumsum().to_numpy() - 1
    return np.arange(len(table)) + 2.0 * starts


def _rows(ax, table, at):
    for place in at[::2]:
        ax.axhspan(place - 0.5, place + 0.5, color=_BAND, lw=0, zorder=0)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_label_position("top")
    ax.xaxis.tick_top()
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.spines["top"].set_visible(True)
    if ax.get_subplotspec().is_first_col():
        for takes, name in GROUPS.items():
            some = at[(table["takes"] == takes).to_numpy()]
            if len(some):
                text = f"sees {name}"
                ax.text(
                    -1, some[0] - 0.8, text, fontsize=style.SMALL, fontweight="bold", va="bottom"
                )


def _legend(ax):
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1, 1, 1), bbox_transform=_above(ax),
        borderaxespad=0, handletextpad=0.2, labelspacing=0.2,
    )  # fmt: skip


def _above(ax):
    """The axes, above their label and ticks and beside their letter, whatever their size."""
    return ax.transAxes + mtransforms.ScaledTranslation(8 / 72, 22 / 72, ax.figure.dpi_scale_trans)


def _dots(ax, values, at, colour, label, **look):
    look = {"marker": "o", "ms": 2.2, "ls": "", "mew": 0.5} | look
    ax.plot(values, at, color=colour, label=label, clip_on=False, zorder=3, **look)


def agreement(ax, table, at) -> None:
    """Kendall's tau over models, with the KL of all genes and of affected ones."""
    off = np.abs(table[["tau_low", "tau_high"]].sub(table["tau"], axis=0)).to_numpy().T
    ax.errorbar(table["tau"], at, xerr=np.nan_to_num(off), fmt="none", ecolor="0.5", lw=0.5)
    _dots(ax, table["tau_affected"], at, _OTHER, "affected genes", mfc="white", ms=2.8)
    _dots(ax, table["tau"], at, _INK, "all genes", ms=1.6)
    ax.axvline(0, color="0.6", lw=0.5)
    ax.set(xlim=(-1, 1), xlabel="τ with exact KL, models")
    _legend(ax)


def others(ax, table, at) -> None:
    """The same over other members."""
    _dots(ax, table["tau_own"], at, _THIRD, "own laws or cells")
    _dots(ax, table["tau_zoo"], at, _INK, "all, with the zoo", mfc="white")
    ax.axvline(0, color="0.6", lw=0.5)
    ax.set(xlim=(-1, 1), xlabel="τ, other members")
    _legend(ax)


def gaming(ax, table, at) -> None:
    """The largest gain of what is truly worse, and the best score without skill."""
    for column, colour, label, look in (
        ("gain", _OTHER, "gain of what is worse", {}),
        ("no_skill", _INK, "score without skill", {"mfc": "white"}),
    ):
        if column in table:
            values = np.maximum(table[column].to_numpy(dtype=float), _LEAST_GAIN)
            beyond = values > _MOST_GAIN
            _dots(ax, np.where(beyond, np.nan, values), at, colour, label, **look)
            far = np.where(beyond, _MOST_GAIN, np.nan)
            _dots(ax, far, at, colour, None, marker=">", **look)
    ax.axvline(0, color="0.6", lw=0.5)
    ax.axvline(1, color="0.6", lw=0.5, ls=":")
    ax.set(xlim=(_LEAST_GAIN, _MOST_GAIN), xlabel="mean 0, truth 1")
    _legend(ax)


def power(ax, table, at) -> None:
    """Cells needed to order models right, and the share of models on the right side of the mean."""
    ns = [25, 50, 100, 400]
    places = {n: place for place, n in enumerate(ns)} | {np.inf: len(ns)}
    _dots(ax, table["needed"].map(places), at, _INK, f"{judgement.RIGHT:.0%} of pairs right")
    ax.set_xticks(range(len(ns) + 1), [*ns, "∞"])
    ax.set(xlim=(-0.5, len(ns) + 0.5), xlabel="cells needed")
    _legend(ax)


def ceilings(ax, table, at) -> None:
    """Ceilings of replicates, where as many new cells have 1."""
    _dots(ax, table["halves"].clip(-1, 3), at, _THIRD, "halves")
    _dots(ax, table["bootstrap"].clip(-1, 3), at, _OTHER, "bootstrap", mfc="white")
    ax.axvline(1, color="0.6", lw=0.5, ls=":")
    ax.set(xlim=(-1, 3), xlabel="new cells 1")
    _legend(ax)
