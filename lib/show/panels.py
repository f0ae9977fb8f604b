"""Panels of the figures: a DataFrame and an axes in."""

from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.show.style import COLOURS, OWN, SMALL, TRUTH, label

# of a legend: above the axes, beside their letter
ABOVE = {"loc": "lower left", "bbox_to_anchor": (0.1, 0.99), "ncols": 2, "columnspacing": 0.8}


def intervals(
    ax, summary: pd.DataFrame, x: str, *, order: list | None = None, low: float | None = None
) -> None:
    """Means with their 95 % intervals, models side by side at each `x`.

    summary: columns x, model, mean, ci_low, ci_high
    order: places along x, by default as they come
    low: lower end of the axis; a mean below it is a triangle there, with its value beside it
    """
    places = order or list(pd.unique(summary[x]))
    models = list(pd.unique(summary["model"]))
    for j, key in enumerate(models):
        part = summary[summary["model"] == key].set_index(x).reindex(places)
        at = np.arange(len(places)) + 0.7 * ((j + 0.5) / len(models) - 0.5)
        mean = part["mean"].to_numpy(dtype=float)
        ends = part[["ci_low", "ci_high"]].to_numpy(dtype=float).T
        inside = np.ones(len(mean), dtype=bool) if low is None else ~(mean < low)
        colour = COLOURS.get(key, OWN)
        sides = np.abs(ends - mean)[:, inside]
        look = {"fmt": "o", "color": colour, "ms": 2.5, "lw": 0, "elinewidth": 0.8}
        ax.errorbar(at[inside], mean[inside], sides, label=label(key), **look)
        for place, value in zip(at[~inside], mean[~inside]):
            _below(ax, place, value, low, colour)
    if low is not None:
        ax.set_ylim(bottom=low)
    ax.set_xticks(range(len(places)), [label(p) for p in places])
    ax.set_xlim(-0.5, len(places) - 0.5)


def _below(ax, place, value, low, colour):
    """A triangle at the end of the axis, with the value beside it."""
    ax.plot(place, low, marker="v", color=colour, ms=3, clip_on=False)
    text = f"{value:.2g}".replace("-", "−") if np.isfinite(value) else "−∞"
    above = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    ax.annotate(text, (place, low), fontsize=4.5, color=colour, rotation=90, **above)


def is_number(column: pd.Series) -> bool:
    """Whether a parameter's values are numbers, so that they have a place on an axis."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def sweep(ax, summary: pd.DataFrame, x: str | None, hue: str, *, metric: str) -> None:
    """A metric along a swept parameter with 95 % intervals; lines where the parameter is a number.

    summary: columns x, hue, mean, ci_low, ci_high
    x: swept parameter, None for a single place
    hue: column of the colours, "model" or a parameter
    metric: name of the metric. Of a skill, 1 is dashed, and a mean below -0.25 is a triangle there;
        another one has a logarithmic axis where it spans a factor of 30
    """
    places = _places(summary, x)
    keys = list(pd.unique(summary[hue]))
    shades = plt.get_cmap("viridis_r")(np.linspace(0.1, 0.95, len(keys)))
    values = summary["mean"].dropna()
    skill = metric.startswith("skill")
    steep = not skill and len(values) > 0 and values.min() > 0 and values.max() / values.min() > 30
    low = -np.inf
    if skill:
        low = -0.25
    elif steep:
        low = values.min() / 2
    for number, key in enumerate(keys):
        part = summary[summary[hue] == key]
        if places.numeric:
            part = part.sort_values(x)
        colour = COLOURS.get(key, OWN) if hue == "model" else shades[number]
        look = {"color": colour, "ls": "-" if places.numeric else ""}
        look["label"] = label(key) if isinstance(key, str) else f"{key:g}"
        shift = (number + 0.5) / len(keys) - 0.5  # so that intervals don't hide one another
        column = part[x] if x else pd.Series([""] * len(part))
        _line(ax, places.at(column, shift), part, low, look)
    if skill:
        ax.axhline(1, color=TRUTH, lw=0.6, ls="--")
        ax.axhline(0, color="0.6", lw=0.5)
        ax.set_ylim(max(-0.25, min(-0.05, values.min() - 0.05)), 1.05)
    elif steep:
        ax.set(yscale="log", ylim=(low, values.max() * 2))
    places.mark(ax)
    ax.set_xlabel(label(x) if x else "")


class Places(NamedTuple):
    """Where the values of a swept parameter lie on an axis.

    values: numbers in ascending order, words as they come
    numeric, log: whether they are numbers, and on a logarithmic axis
    """

    values: list
    numeric: bool
    log: bool

    def at(self, column: pd.Series, shift: float) -> np.ndarray:
        """Positions of values, all moved by a share of the axis that doesn't hide a value."""
        if not self.numeric:
            return np.array([self.values.index(v) for v in column]) + 0.6 * shift
        numbers = column.to_numpy(dtype=float)
        first, last = self.values[0], self.values[-1]
        if self.log:
            return numbers * (last / first) ** (0.04 * shift)
        return numbers + 0.04 * shift * (last - first)

    def mark(self, ax) -> None:
        """Draw a tick at each value."""
        if not self.numeric:
            texts = [str(v) for v in self.values]
            ax.set_xticks(range(len(texts)), texts, rotation=30, ha="right")
            return
        ax.set_xscale("log" if self.log else "linear")
        ax.set_xticks(self.values, [_short(v) for v in self.values], minor=False)
        ax.minorticks_off()


def _places(summary, x):
    if x is None:
        return Places([""], False, False)
    if not is_number(summary[x]):
        return Places(list(pd.unique(summary[x])), False, False)
    values = np.sort(summary[x].unique())
    return Places(list(values), True, values[0] > 0 and values[-1] / values[0] >= 20)


def _short(number):
    return f"{number / 1000:g}k" if number >= 1000 and number % 100 == 0 else f"{number:g}"


def _line(ax, at, part, low, look):
    """Means and intervals; a mean below `low` is a triangle there."""
    mean = part["mean"].to_numpy(dtype=float)
    colour = look["color"]
    ax.plot(at, mean, "o", ms=2.2, lw=0.9, **look)
    start = np.maximum(part["ci_low"], low)
    ax.vlines(at, start, part["ci_high"], color=colour, lw=0.6, alpha=0.6)
    below = at[mean < low]
    if below.size:
        ax.plot(below, np.full(len(below), low), "v", ms=3, color=colour, clip_on=False)


def response(ax, curves: pd.DataFrame, value: str, *, end_inside: float) -> None:
    """Dose-response curves: median over cells, and a band from the 10th to the 90th percentile.

    curves: columns model, dose, <value>; model "true" is black and has a dashed line
    end_inside: up to which a dose is interpolation; beyond it, markers are hollow
    """
    for model in pd.unique(curves["model"]):
        grouped = curves[curves["model"] == model].groupby("dose")[value]
        low, middle, high = (grouped.quantile(q) for q in (0.1, 0.5, 0.9))
        colour = COLOURS.get(model, OWN)
        ax.fill_between(middle.index, low, high, color=colour, alpha=0.15, lw=0, zorder=1)
        look = {"color": colour, "label": label(model)}
        if model == "true":
            ax.plot(middle.index, middle, lw=1.2, ls="--", zorder=3, **look)
            continue
        ax.plot(middle.index, middle, lw=0.9, zorder=2, **look)
        inside = middle.index <= end_inside
        for part, face in ((inside, colour), (~inside, "white")):
            thin = middle[part][::3]
            ax.plot(thin.index, thin, "o", ms=2, mfc=face, mec=colour, mew=0.5, zorder=4)
    ax.axvline(np.floor(end_inside) + 0.5, color="0.7", lw=0.5, zorder=0)


def diagonal(ax, low: float, high: float) -> None:
    """The line on which a prediction equals the truth."""
    ax.plot([low, high], [low, high], color=TRUTH, lw=0.6, ls="--")


def against_truth(ax, true, predicted, model: str, *, log: bool = False) -> None:
    """Predicted against true values, each (n_values,), with the diagonal on which they agree."""
    look = {"color": COLOURS.get(model, OWN), "mec": "none", "rasterized": True}
    ax.plot(true, predicted, "o", ms=1.2, alpha=0.35, **look)
    both = np.concatenate([np.ravel(true), np.ravel(predicted)])
    diagonal(ax, both[both > 0].min() if log else min(0, both.min()), both.max())
    if log:
        ax.set(xscale="log", yscale="log")
    ax.set_aspect("equal", adjustable="box")


def board(ax, values: pd.DataFrame, *, notes: dict[str, str]) -> None:
    """A table of scores as coloured cells with their numbers: grey to colour from 0 to 1.

    values: a row a model, columns (group, place); NaN cells stay empty
    notes: model -> text at the left end of its row, such as why the row is empty
    """
    groups = values.columns.get_level_values(0)
    shades = ["#F2F2F2", "#9ECAE1", "#08519C"]
    colours = mpl.colors.LinearSegmentedColormap.from_list("skill", shades)
    numbers = values.to_numpy(dtype=float)
    shares = np.clip(numbers, 0, 1)
    ax.imshow(np.ma.masked_invalid(shares), cmap=colours, vmin=0, vmax=1, aspect="auto")
    middle = {"ha": "center", "va": "center", "fontsize": SMALL}
    for (row, column), value in np.ndenumerate(numbers):
        if np.isfinite(value):
            on = "white" if shares[row, column] > 0.6 else "black"
            ax.text(column, row, _score(value), color=on, **middle)
    look = {"va": "center", "fontsize": SMALL, "color": "0.4", "style": "italic"}
    for model, note in notes.items():
        ax.text(-0.4, values.index.get_loc(model), note, **look)
    for edge in np.flatnonzero(groups[1:] != groups[:-1]) + 0.5:
        ax.axvline(edge, color="white", lw=2)
    above = {"ha": "center", "va": "bottom", "fontsize": SMALL}
    for group in pd.unique(groups):
        ax.text(np.flatnonzero(groups == group).mean(), -0.75, label(group), **above)
    places = [label(c) for c in values.columns.get_level_values(-1)]
    ax.set_xticks(range(len(places)), places, rotation=90)
    ax.set_yticks(range(len(values)), [label(m) for m in values.index])
    for tick, model in zip(ax.get_yticklabels(), values.index):
        tick.set_color(COLOURS.get(model, OWN))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _score(value):
    """A score in four characters: the minus sign takes the room of the zero."""
    if value <= -99.5:
        return "≪0"
    text = f"{value:z.2f}" if value > -0.995 else f"{value:.0f}"
    return text.replace("-0.", "-.").replace("-", "−")


def embedding(
    ax, points: np.ndarray, groups, *, colours: dict[str, str], name: str = "UMAP"
) -> None:
    """A two-dimensional embedding, coloured by group, each group named in the legend."""
    groups = np.asarray(groups)
    order = np.random.default_rng(0).permutation(len(points))  # no group hides another
    dots = [mpl.colors.to_rgba(colours[g], 0.6) for g in groups[order]]
    ax.scatter(*points[order].T, s=1.2, c=dots, lw=0, rasterized=True)
    for group in colours:
        ax.plot([], [], "o", ms=3, color=colours[group], label=label(group))
    ax.set(xticks=[], yticks=[], xlabel=f"{name} 1", ylabel=f"{name} 2")


def models_legend(fig, axes: list, models: list[str], *, ncols: int | None = None) -> None:
    """One legend below the figure, with the models that are in some axes."""
    handles = {}
    for ax in axes:
        for handle, text in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(text, handle)
    wanted = [label(m) for m in models if label(m) in handles]
    shown = [handles[text] for text in wanted]
    fig.legend(shown, wanted, loc="outside lower center", ncols=ncols or len(wanted))
