"""Tables and figures of parameter sweeps: rows of many runs in, means with intervals, and a figure that fits the grid."""

import itertools
import json

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
    """The column of a swept parameter in a table: its name, or `swept_<name>` where a table has a column of that name."""
    return (
        f"swept_{parameter}"
        if parameter in [*tables.KEYS, "value", "mean", "sd", "n", "ci_low", "ci_high"]
        else parameter
    )


def results(runs: list[tuple[dict, pd.DataFrame]]) -> pd.DataFrame:
    """One tidy table of all runs: the swept parameters, the keys of the tables, and `value`.

    runs: of each run, its swept parameters (lists become JSON) and its rows as `tables.tidy` makes them
    """
    swept = pd.DataFrame(
        [
            {
                column(name): json.dumps(v) if isinstance(v, list) else v
                for name, v in parameters.items()
            }
            for parameters, _ in runs
        ]
    )
    swept = swept.loc[np.repeat(swept.index, [len(rows) for _, rows in runs])].reset_index(
        drop=True
    )
    return pd.concat([swept, pd.concat([rows for _, rows in runs], ignore_index=True)], axis=1)


def summary(table: pd.DataFrame, parameters: list[str]) -> pd.DataFrame:
    """Mean and 95 % interval over replicates and seeds, by swept parameters and keys, of a table of `results`."""
    return tables.summary(table, [column(p) for p in parameters if p != REPLICATE])


def exact(table: pd.DataFrame, parameters: list[str]) -> pd.DataFrame:
    """A table with the values of swept parameters as text, so that they are written as they are and not to four digits."""

    def whole(value):
        if np.isnan(value):
            return ""
        return _text(value) if float(_text(value)) == value else repr(float(value))

    floats = [
        c for c in map(column, parameters) if c in table and pd.api.types.is_float_dtype(table[c])
    ]
    return table.assign(**{c: table[c].map(whole) for c in floats})


def figure(
    table: pd.DataFrame, parameters: list[str], panels: list[dict] | None = None
) -> plt.Figure:
    """A metric against what was swept, with 95 % intervals; what lies where follows from the shape of the grid.

    table: of `results`
    parameters: that were swept. The one of most numeric values is the horizontal axis (the last such one), the next one
        the columns of panels (or, where there is a single model, the colours), all others the rows
    panels: for each row of panels its `metric`, by default skill_kl or else the first, and `where`, values of the keys
        to keep: by default the first split and scenario. `models` are those to draw, by default all but the references.
        Over genes and mechanisms that are left the mean is taken, in each replicate

    A panel of which there is no run is left out. Raises ValueError for a metric or a value that isn't there, and where
    more than 40 panels would be needed.
    """
    if table.empty:
        raise ValueError("figure: the runs have written no table")
    swept = [column(p) for p in parameters if p != REPLICATE]
    table = table.assign(
        **{p: [_text(v) for v in table[p]] for p in swept if table[p].isna().any()}
    )  # null is a word among words
    places = [p for p in swept if table[p].nunique(dropna=False) > 1] or swept[:1]
    shown = [_shown(table, places, panel) for panel in panels or [{}]]
    numeric = [p for p in places if drawn.is_number(table[p])]
    x = max(reversed(numeric or places), key=lambda p: table[p].nunique(), default=None)
    rest = [p for p in places if p != x]
    one_model = all(part["model"].nunique() == 1 for _, part, _ in shown)
    hue = rest.pop(0) if one_model and rest and table[rest[0]].nunique() <= 7 else "model"
    across = rest.pop(0) if rest else None
    columns = list(pd.unique(table[across])) if across else [None]
    down = list(table[rest].drop_duplicates().itertuples(index=False, name=None)) if rest else [()]
    n_rows, n_columns = len(shown) * len(down), len(columns)
    if n_rows * n_columns > MAX_PANELS:
        raise ValueError(f"figure: {n_rows * n_columns} panels; at most {MAX_PANELS} can be drawn")
    width, height = min(183, max(89, 16 + SIZE * n_columns)), 14 + SIZE * n_rows
    names = [[f"{r},{c}" for c in range(n_columns)] for r in range(n_rows)]
    fig, axes = style.figure(names, width, height, sharex=x in numeric)
    for r, ((metric, part, title), values) in enumerate(itertools.product(shown, down)):
        row = [axes[name] for name in names[r]]
        for p, v in zip(rest, values):
            part = part[part[p] == v]
        for ax, value in zip(row, columns):
            here = part[part[across] == value] if across else part
            if here.empty:
                ax.set_axis_off()
            else:
                drawn.sweep(ax, here, x, hue, metric=metric)
            if across and r == 0:
                ax.set_title(f"{style.label(across)} = {_text(value)}")
            if r < n_rows - 1:
                ax.set_xlabel("")
                ax.tick_params(labelbottom=False)
            if ax is not row[0]:
                ax.tick_params(labelleft=False)
        row = [ax for ax in row if ax.axison] or row
        _same_height(row)
        note = ", ".join(f"{style.label(p)} = {_text(v)}" for p, v in zip(rest, values))
        row[0].set_ylabel("\n".join(filter(None, [style.label(metric), title, note])))
    handles = {
        text: handle
        for ax in axes.values()
        for handle, text in zip(*ax.get_legend_handles_labels())
    }
    if len(handles) > 1:
        about = {} if hue == "model" else {"title": style.label(hue), "title_fontsize": style.SMALL}
        n_wide = min(len(handles), 7 if width > 150 else 4)
        fig.legend(handles.values(), handles, loc="outside lower center", ncols=n_wide, **about)
    return fig


def rows_of(table: pd.DataFrame, panel: dict) -> np.ndarray:
    """Which rows of a table or summary a panel of `figure` is about, a boolean for each. Raises ValueError."""
    there = list(pd.unique(table["metric"]))
    for key in panel:
        checks.choice("figure", key, ["metric", "where", "models"])
    metric = checks.choice(
        "metric", panel.get("metric", "skill_kl" if "skill_kl" in there else there[0]), there
    )
    rows = (table["metric"] == metric).to_numpy()
    where = {
        key: v if isinstance(v, list) else [v] for key, v in (panel.get("where") or {}).items()
    }
    if "models" in panel:
        where["model"] = panel["models"]
    for key, values in where.items():
        for value in values:
            checks.choice(
                checks.choice("where", key, tables.KEYS),
                value,
                list(pd.unique(table.loc[rows, key])),
            )
        rows = rows & table[key].isin(values).to_numpy()
    for key in ("scenario", "split"):
        if key not in where:
            rows = rows & (table[key] == table.loc[rows, key].iloc[0]).to_numpy()
    if "model" not in where and set(table.loc[rows, "model"]) - {"oracle", "marginal"}:
        rows = rows & ~table["model"].isin(["oracle", "marginal"]).to_numpy()
    return rows


def _shown(table, places, panel):
    """The metric of a panel, its means with intervals, and what they are of."""
    part = table[rows_of(table, panel)]
    metric = part["metric"].iloc[0]
    part = part.replace({"model": {"": "value"}})
    about = part["split"].iloc[0] or part["scenario"].iloc[0]
    said = [style.label(about)] if about else []
    several = next(
        ((key, part[key].unique()) for key in ("mechanism", "gene") if part[key].nunique() > 1),
        None,
    )
    replicate = [key for key in ("replicate", REPLICATE) if key in part]
    part = part.groupby([*places, "model", *replicate], sort=False, as_index=False, dropna=False)[
        "value"
    ].mean()
    part = tables.summary(
        part.assign(**{key: "" for key in tables.KEYS if key not in part}), places
    )
    said += [f"mean of {len(several[1])} {style.label(several[0])}s"] if several else []
    return metric, part, "\n".join(said)


def _same_height(row):
    low, high = min(ax.get_ylim()[0] for ax in row), max(ax.get_ylim()[1] for ax in row)
    log = any(ax.get_yscale() == "log" for ax in row)
    for ax in row:
        ax.set(yscale="log" if log else "linear", ylim=(low, high))


def _text(value):
    if pd.isna(value):
        return "null"
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)
