"""Panels of the figures: a DataFrame and an axes in."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.show.style import COLOURS, OWN, SMALL, TRUTH, label


def intervals(
    ax, summary: pd.DataFrame, x: str, *, order: list | None = None, low: float | None = None
) -> None:
    """Means with their 95 % intervals, models side by side at each `x`.

    summary: columns x, model, mean, ci_low, ci_high
    order: of the places along x, by default as they come
    low: what lies below is drawn as a triangle at this value, its mean written beside it
    """
    places, models = order or list(pd.unique(summary[x])), list(pd.unique(summary["model"]))
    for j, key in enumerate(models):
        part = summary[summary["model"] == key].set_index(x).reindex(places)
        at = np.arange(len(places)) + 0.7 * ((j + 0.5) / len(models) - 0.5)
        mean, colour = part["mean"].to_numpy(dtype=float), COLOURS.get(key, OWN)
        inside = np.ones(len(mean), dtype=bool) if low is None else ~(mean < low)
        errors = np.abs(part[["ci_low", "ci_high"]].to_numpy(dtype=float).T - mean)
        ax.errorbar(
            at[inside],
            mean[inside],
            errors[:, inside],
            fmt="o",
            color=colour,
            ms=2.5,
            lw=0,
            elinewidth=0.8,
            label=label(key),
        )
        for place, value in zip(at[~inside], mean[~inside]):
            ax.plot(place, low, marker="v", color=colour, ms=3, clip_on=False)
            text = "−∞" if not np.isfinite(value) else f"{value:.2g}".replace("-", "−")
            ax.annotate(
                text,
                (place, low),
                (0, 4),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=4.5,
                color=colour,
                rotation=90,
            )
    if low is not None:
        ax.set_ylim(bottom=low)
    ax.set_xticks(range(len(places)), [label(p) for p in places])
    ax.set_xlim(-0.5, len(places) - 0.5)


def is_number(column: pd.Series) -> bool:
    """Whether a parameter's values are numbers, so that they have a place on an axis."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def sweep(ax, summary: pd.DataFrame, x: str | None, hue: str, *, metric: str) -> None:
    """A metric along a swept parameter with 95 % intervals: a line for each `hue`, points where it isn't a number.

    summary: columns x, hue, mean, ci_low, ci_high
    metric: of skill, 1 is dashed, and what lies below -0.25 is a triangle there; another one gets a logarithmic axis
        where it spans a factor of 30
    """
    keys = list(pd.unique(summary[hue]))
    shades = plt.get_cmap("viridis_r")(np.linspace(0.1, 0.95, len(keys)))
    order = list(pd.unique(summary[x])) if x else [""]
    numeric = bool(x) and is_number(summary[x])
    ends = np.sort(summary[x].unique()) if numeric else []
    log = numeric and ends[0] > 0 and ends[-1] / ends[0] >= 20
    values, skill = summary["mean"].dropna(), metric.startswith("skill")
    steep = not skill and len(values) > 0 and values.min() > 0 and values.max() / values.min() > 30
    low = -0.25 if skill else values.min() / 2 if steep else -np.inf
    for place, key in enumerate(keys):
        part = summary[summary[hue] == key]
        colour = COLOURS.get(key, OWN) if hue == "model" else shades[place]
        text = label(key) if isinstance(key, str) else f"{key:g}"
        shift = (place + 0.5) / len(keys) - 0.5  # so that intervals don't hide one another
        if numeric:
            part = part.sort_values(x)
            at = part[x].to_numpy(dtype=float)
            at = (
                at * (ends[-1] / ends[0]) ** (0.04 * shift)
                if log
                else at + 0.04 * shift * (ends[-1] - ends[0])
            )
        else:
            at = (
                np.array([order.index(v) for v in part[x]] if x else [0.0] * len(part))
                + 0.6 * shift
            )
        mean = part["mean"].to_numpy(dtype=float)
        ax.plot(at, mean, "o", ls="-" if numeric else "", ms=2.2, lw=0.9, color=colour, label=text)
        ax.vlines(
            at, np.maximum(part["ci_low"], low), part["ci_high"], color=colour, lw=0.6, alpha=0.6
        )
        if (below := at[mean < low]).size:
            ax.plot(below, np.full(len(below), low), "v", ms=3, color=colour, clip_on=False)
    if skill:
        ax.axhline(1, color=TRUTH, lw=0.6, ls="--")
        ax.axhline(0, color="0.6", lw=0.5)
        ax.set_ylim(max(-0.25, min(-0.05, values.min() - 0.05)), 1.05)
    elif steep:
        ax.set(yscale="log", ylim=(low, values.max() * 2))
    if numeric:
        ax.set_xscale("log" if log else "linear")
        ax.set_xticks(
            ends,
            [f"{t / 1000:g}k" if t >= 1000 and t % 100 == 0 else f"{t:g}" for t in ends],
            minor=False,
        )
        ax.minorticks_off()
    else:
        ax.set_xticks(range(len(order)), [str(v) for v in order], rotation=30, ha="right")
    ax.set_xlabel(label(x) if x else "")


def response(ax, curves: pd.DataFrame, value: str, *, end_inside: float) -> None:
    """Dose-response curves: median over cells, and a band from the 10th to the 90th percentile.

    curves: columns model, dose, <value>; model "true" is black and has a dashed line
    end_inside: the largest dose that is interpolation; beyond it, markers are hollow
    """
    for model in pd.unique(curves["model"]):
        grouped = curves[curves["model"] == model].groupby("dose")[value]
        low, middle, high = (grouped.quantile(q) for q in (0.1, 0.5, 0.9))
        colour, is_true = COLOURS.get(model, OWN), model == "true"
        ax.fill_between(middle.index, low, high, color=colour, alpha=0.15, lw=0, zorder=1)
        ax.plot(
            middle.index,
            middle,
            color=colour,
            lw=1.2 if is_true else 0.9,
            ls="--" if is_true else "-",
            zorder=3 if is_true else 2,
            label=label(model),
        )
        if not is_true:
            for part, face in (
                (middle.index <= end_inside, colour),
                (middle.index > end_inside, "white"),
            ):
                thin = middle[part][::3]
                ax.plot(thin.index, thin, "o", ms=2, mfc=face, mec=colour, mew=0.5, zorder=4)
    ax.axvline(end_inside + 0.5, color="0.7", lw=0.5, zorder=0)


def against_truth(ax, true, predicted, model: str, *, log: bool = False) -> None:
    """Predicted against true values, with the diagonal on which they agree."""
    ax.plot(
        true,
        predicted,
        "o",
        ms=1.2,
        alpha=0.35,
        color=COLOURS.get(model, OWN),
        mec="none",
        rasterized=True,
    )
    both = np.concatenate([np.ravel(true), np.ravel(predicted)])
    ends = [both[both > 0].min() if log else min(0, both.min()), both.max()]
    ax.plot(ends, ends, color=TRUTH, lw=0.6, ls="--")
    if log:
        ax.set(xscale="log", yscale="log")
    ax.set_aspect("equal", adjustable="box")


def board(ax, values: pd.DataFrame, *, notes: dict[str, str]) -> None:
    """A table of scores as coloured cells with their numbers: grey to colour from 0 to 1.

    values: a row a model, columns (group, place); NaN cells stay empty
    notes: model -> what its row says at its left end, such as why it is empty
    """
    groups = values.columns.get_level_values(0)
    colours = mpl.colors.LinearSegmentedColormap.from_list(
        "skill", ["#F2F2F2", "#9ECAE1", "#08519C"]
    )
    shares = np.clip(values.to_numpy(dtype=float), 0, 1)
    ax.imshow(np.ma.masked_invalid(shares), cmap=colours, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values.to_numpy(dtype=float)):
        if np.isfinite(value):
            text = f"{value:z.2f}" if value > -0.995 else f"{value:.0f}" if value > -99.5 else "≪0"
            text = text.replace("-0.", "-.").replace(
                "-", "−"
            )  # the minus sign takes the room of the zero
            ax.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=SMALL,
                color="white" if shares[row, column] > 0.6 else "black",
            )
    for model, note in notes.items():
        ax.text(
            -0.4,
            values.index.get_loc(model),
            note,
            va="center",
            fontsize=SMALL,
            color="0.4",
            style="italic",
        )
    for edge in np.flatnonzero(groups[1:] != groups[:-1]) + 0.5:
        ax.axvline(edge, color="white", lw=2)
    for group in pd.unique(groups):
        ax.text(
            np.flatnonzero(groups == group).mean(),
            -0.75,
            label(group),
            ha="center",
            va="bottom",
            fontsize=SMALL,
        )
    ax.set_xticks(
        range(values.shape[1]), [label(c) for c in values.columns.get_level_values(-1)], rotation=90
    )
    ax.set_yticks(range(len(values)), [label(m) for m in values.index])
    for tick, model in zip(ax.get_yticklabels(), values.index):
        tick.set_color(COLOURS.get(model, OWN))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def embedding(
    ax, points: np.ndarray, groups, *, colours: dict[str, str], name: str = "UMAP"
) -> None:
    """A two-dimensional embedding, coloured by group, each group named in the legend."""
    groups = np.asarray(groups)
    order = np.random.default_rng(0).permutation(len(points))  # no group hides another
    ax.scatter(
        *points[order].T,
        s=1.2,
        c=[mpl.colors.to_rgba(colours[g], 0.6) for g in groups[order]],
        lw=0,
        rasterized=True,
    )
    for group in colours:
        ax.plot([], [], "o", ms=3, color=colours[group], label=label(group))
    ax.set(xticks=[], yticks=[], xlabel=f"{name} 1", ylabel=f"{name} 2")


def models_legend(fig, axes: list, models: list[str], *, ncols: int | None = None) -> None:
    """One legend below the figure, of those of the models that are in some axes."""
    handles = {}
    for ax in axes:
        for handle, text in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(text, handle)
    wanted = [label(m) for m in models if label(m) in handles]
    fig.legend(
        [handles[w] for w in wanted], wanted, loc="outside lower center", ncols=ncols or len(wanted)
    )
