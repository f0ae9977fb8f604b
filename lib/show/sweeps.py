"""Parameter sweeps: rows of many runs as one table, their means, and a figure of the grid."""

import itertools
import json
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib import checks
from lib.score import tables
from lib.show import panels as drawn
from lib.show import style

REPLICATE = "seed"  # a parameter whose values are replicates of one another, not places to look at
MAX_PANELS, SIZE = 40, 40  # panels of a figure, and mm of one


def column(parameter: str) -> str:
    """The column of a swept parameter in a table: its name, `swept_<name>` where that is taken."""
    taken = [*tables.KEYS, "value", "mean", "sd", "n", "ci_low", "ci_high"]
    return f"swept_{parameter}" if parameter in taken else parameter


def results(runs: list[tuple[dict, pd.DataFrame]]) -> pd.DataFrame:
    """One tidy table of all runs: the swept parameters, the keys of the tables, and `value`.

    runs: swept parameters of each run (lists become JSON), and its rows from `tables.tidy`
    """
    texts = [
        {column(name): json.dumps(v) if isinstance(v, list) else v for name, v in values.items()}
        for values, _ in runs
    ]
    swept = pd.DataFrame(texts)
    run = np.repeat(swept.index, [len(rows) for _, rows in runs])
    swept = swept.loc[run].reset_index(drop=True)
    return pd.concat([swept, pd.concat([rows for _, rows in runs], ignore_index=True)], axis=1)


def summary(table: pd.DataFrame, parameters: list[str]) -> pd.DataFrame:
    """Mean and 95 % interval over replicates and seeds, by swept parameters and keys.

    table: rows of many runs, from `results`
    """
    return tables.summary(table, [column(p) for p in parameters if p != REPLICATE])


def exact(table: pd.DataFrame, parameters: list[str]) -> pd.DataFrame:
    """The table with swept parameters as text of all their digits; numbers are written to four."""

    def whole(value):
        if np.isnan(value):
            return ""
        return _text(value) if float(_text(value)) == value else repr(float(value))

    there = [c for c in map(column, parameters) if c in table]
    floats = [c for c in there if pd.api.types.is_float_dtype(table[c])]
    return table.assign(**{c: table[c].map(whole) for c in floats})


def readable(table: pd.DataFrame, parameters: list[str], values: str) -> pd.DataFrame:
    """One metric as a table to read: "mean [ci_low, ci_high]" over seeds, by swept parameters.

    table: rows of one metric, scenario and split. The mean over mechanisms is taken for each seed
    parameters: swept parameters to keep apart
    values: parameter whose values are the columns; the model and the others are the rows

    Raises ValueError for rows of several metrics, scenarios or splits.
    """
    for key in ("metric", "scenario", "split"):
        several = list(pd.unique(table[key]))
        if len(several) > 1:
            raise ValueError(f"table: has {key} {', '.join(several)}; must be of one")
    swept = [column(p) for p in parameters]
    means = _means(table, ["model", "metric", *swept, REPLICATE], swept)
    rows = ["model", *(p for p in swept if p != column(values))]
    means["row"] = means[rows].astype(str).agg(", ".join, axis=1)
    shown = tables.readable(means, means["metric"].iloc[0], rows="row", columns=column(values))
    return shown.rename_axis(index=", ".join(rows), columns=values)


class Shown(NamedTuple):
    """A row of panels, or several where the grid has more than two parameters.

    means: columns of the swept parameters, model, mean, ci_low, ci_high
    about: the split or scenario, and over what the mean was taken; "" for neither
    """

    metric: str
    means: pd.DataFrame
    about: str


class Layout(NamedTuple):
    """Where the swept parameters lie in a figure.

    x: parameter along the horizontal axis, None where nothing was swept
    hue: parameter of the colours, or "model"
    across: parameter of the columns of panels, or None
    columns: values of `across`
    down: parameters of the rows of panels
    rows: values of `down`, a tuple for each row
    """

    x: str | None
    hue: str
    across: str | None
    columns: list
    down: list[str]
    rows: list[tuple]


def figure(
    table: pd.DataFrame, parameters: list[str], panels: list[dict] | None = None
) -> plt.Figure:
    """A metric against what was swept, with 95 % intervals, in panels that follow from the grid.

    table: rows of many runs, from `results`
    parameters: swept parameters. The one of most numeric values is the horizontal axis (the last
        such one). The next one is the columns of panels, or the colours where there is a single
        model. All others are the rows
    panels: contents of each row of panels, by default one. `metric` is skill_kl by default, or else
        the first one. `where` has values of the keys to keep, by default the first split and
        scenario. `models` are drawn, by default all but the references

    The mean over the genes and mechanisms that are left is taken in each replicate. A panel without
    a run is left out. Raises ValueError for a metric or a value that isn't there, and where more
    than 40 panels would be needed.
    """
    if table.empty:
        raise ValueError("figure: the runs have written no table")
    swept = [column(p) for p in parameters if p != REPLICATE]
    with_null = [p for p in swept if table[p].isna().any()]  # null is a word among words
    table = table.assign(**{p: [_text(v) for v in table[p]] for p in with_null})
    places = [p for p in swept if table[p].nunique(dropna=False) > 1] or swept[:1]
    shown = [_shown(table, places, panel) for panel in panels or [{}]]
    one_model = all(part.means["model"].nunique() == 1 for part in shown)
    layout = _layout(table, places, one_model)
    rows = list(itertools.product(shown, layout.rows))
    n_panels = len(rows) * len(layout.columns)
    if n_panels > MAX_PANELS:
        raise ValueError(f"figure: {n_panels} panels; at most {MAX_PANELS} can be drawn")
    width = min(183, max(89, 16 + SIZE * len(layout.columns)))
    names = [[f"{r},{c}" for c in range(len(layout.columns))] for r in range(len(rows))]
    shared = bool(layout.x) and drawn.is_number(table[layout.x])
    fig, axes = style.figure(names, width, 14 + SIZE * len(rows), sharex=shared)
    for r, (part, values) in enumerate(rows):
        row = [axes[name] for name in names[r]]
        _draw_row(row, part, values, layout)
        if r == 0 and layout.across:
            for ax, value in zip(row, layout.columns):
                ax.set_title(f"{style.label(layout.across)} = {_text(value)}")
        if r < len(rows) - 1:
            for ax in row:
                ax.set_xlabel("")
                ax.tick_params(labelbottom=False)
    _legend(fig, list(axes.values()), layout.hue, 7 if width > 150 else 4)
    return fig


def _layout(table, places, one_model):
    numeric = [p for p in places if drawn.is_number(table[p])]
    x = max(reversed(numeric or places), key=lambda p: table[p].nunique(), default=None)
    rest = [p for p in places if p != x]
    hue = rest.pop(0) if one_model and rest and table[rest[0]].nunique() <= 7 else "model"
    across = rest.pop(0) if rest else None
    columns = list(pd.unique(table[across])) if across else [None]
    rows = [()]
    if rest:
        rows = list(table[rest].drop_duplicates().itertuples(index=False, name=None))
    return Layout(x, hue, across, columns, rest, rows)


def _draw_row(row, shown, values, layout):
    """A row of panels of the same height.

    values: one value for each parameter in `layout.down`
    """
    part = shown.means
    for p, value in zip(layout.down, values):
        part = part[part[p] == value]
    for ax, value in zip(row, layout.columns):
        here = part[part[layout.across] == value] if layout.across else part
        if here.empty:
            ax.set_axis_off()
        else:
            drawn.sweep(ax, here, layout.x, layout.hue, metric=shown.metric)
    for ax in row[1:]:
        ax.tick_params(labelleft=False)
    there = [ax for ax in row if ax.axison] or row
    _same_height(there)
    note = ", ".join(f"{style.label(p)} = {_text(v)}" for p, v in zip(layout.down, values))
    lines = [style.label(shown.metric), shown.about, note]
    there[0].set_ylabel("\n".join(filter(None, lines)))


def _legend(fig, axes, hue, n_columns):
    named = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels())]
    handles = {text: handle for handle, text in named}
    if len(handles) < 2:
        return
    title = {} if hue == "model" else {"title": style.label(hue), "title_fontsize": style.SMALL}
    place = {"loc": "outside lower center", "ncols": min(len(handles), n_columns)}
    fig.legend(handles.values(), handles, **place, **title)


def rows_of(table: pd.DataFrame, panel: dict, *, drawn: bool = True) -> np.ndarray:
    """The rows of a table that a panel of `figure` shows, (n_rows,) bool. Raises ValueError.

    drawn: only those of one scenario and split, and without references, unless the panel names them
    """
    for key in panel:
        checks.choice("figure", key, ["metric", "where", "models"])
    there = list(pd.unique(table["metric"]))
    default = "skill_kl" if "skill_kl" in there else there[0]
    metric = checks.choice("metric", panel.get("metric", default), there)
    rows = (table["metric"] == metric).to_numpy()
    where = dict(panel.get("where") or {})
    if "models" in panel:
        where["model"] = panel["models"]
    for key, values in where.items():
        checks.choice("where", key, tables.KEYS)
        values = values if isinstance(values, list) else [values]
        for value in values:
            checks.choice(key, value, list(pd.unique(table.loc[rows, key])))
        rows = rows & table[key].isin(values).to_numpy()
    if not drawn:
        return rows
    for key in ("scenario", "split"):
        if key not in where:
            rows = rows & (table[key] == table.loc[rows, key].iloc[0]).to_numpy()
    references = ["oracle", "marginal"]
    if "model" not in where and set(table.loc[rows, "model"]) - {*references}:
        rows = rows & ~table["model"].isin(references).to_numpy()
    return rows


def _shown(table, places, panel):
    part = table[rows_of(table, panel)].replace({"model": {"": "value"}})
    metric = part["metric"].iloc[0]
    about = part["split"].iloc[0] or part["scenario"].iloc[0]
    said = [style.label(about)] if about else []
    for key in ("mechanism", "gene"):
        several = part[key].nunique()
        if several > 1:
            said.append(f"mean of {several} {style.label(key)}s")
            break
    replicate = [key for key in ("replicate", REPLICATE) if key in part]
    keys = [*places, "model", *replicate]
    means = _means(part, keys, places)
    return Shown(metric, means, "\n".join(said))


def _means(table, keys, parameters):
    """Summary of the means of rows that have the same `keys`, by swept parameters and keys."""
    means = table.groupby(keys, sort=False, as_index=False, dropna=False)["value"].mean()
    empty = {key: "" for key in tables.KEYS if key not in means}
    return tables.summary(means.assign(**empty), parameters)


def _same_height(row):
    low, high = min(ax.get_ylim()[0] for ax in row), max(ax.get_ylim()[1] for ax in row)
    log = any(ax.get_yscale() == "log" for ax in row)
    for ax in row:
        ax.set(yscale="log" if log else "linear", ylim=(low, high))


def _text(value):
    if pd.isna(value):
        return "null"
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)
