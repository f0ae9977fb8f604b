"""Tables of tidy rows, and of their means with intervals: made, written and read."""

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.special

from lib import files

KEYS = ["scenario", "mechanism", "model", "gene", "split", "metric", "replicate"]
_AVERAGED = [key for key in KEYS if key != "replicate"]  # keys of a row of means
SUMMARY = [*_AVERAGED, "mean", "ci_low", "ci_high", "n"]  # columns of a summary


def tidy(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Rows of many frames as one tidy table.

    Columns are the KEYS, empty where one doesn't apply, and `value`.
    """
    joined = pd.concat([f for f in frames if len(f)] or frames, ignore_index=True).reindex(
        columns=[*KEYS, "value"]
    )
    joined[KEYS] = joined[KEYS].astype(object).where(joined[KEYS].notna(), "")
    return joined


def write(tidy: pd.DataFrame, path: str | Path) -> None:
    """Write a table as .csv, to four significant digits: the whole file, or none of it."""
    with files.whole(path) as scratch:
        tidy.to_csv(scratch, index=False, float_format="%.4g")


def read(path: str | Path) -> pd.DataFrame:
    """Read a table that `write` wrote: keys are text, an empty number is NaN."""
    tidy = pd.read_csv(path, keep_default_na=False)
    numbers = [c for c in ("value", "mean", "ci_low", "ci_high") if c in tidy]
    tidy[numbers] = tidy[numbers].apply(pd.to_numeric, errors="coerce")
    return tidy


def summary(tidy: pd.DataFrame, also: list[str] = ()) -> pd.DataFrame:
    """Means over independent replicates, with Student's 95 % interval.

    also: names of more keys, such as parameters that were swept; their columns come first

    Columns are `SUMMARY`. The interval of a single replicate is NaN.
    """
    keys = [*also, *_AVERAGED]
    grouped = tidy.dropna(subset=["value"]).groupby(keys, sort=False, dropna=False)["value"]
    result = grouped.agg(mean="mean", sd="std", n="count").reset_index()
    # the quantile of scipy.stats, which takes a quarter of a second to import
    student = scipy.special.stdtrit(result["n"].clip(lower=2) - 1, 0.975)
    half = student * result["sd"] / np.sqrt(result["n"])
    result["ci_low"] = result["mean"] - half
    result["ci_high"] = result["mean"] + half
    return result[[*also, *SUMMARY]]


def joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Two summaries one below the other, either of which may have no rows."""
    return pd.concat([s for s in (first, second) if len(s)] or [first], ignore_index=True)


def over_mechanisms(summary: pd.DataFrame, metric: str, splits: list[str]) -> pd.DataFrame:
    """One metric's mean over mechanisms, a row a model and a column a split.

    NaN for a model that lacks one of the mechanisms.
    """
    part = summary[summary["metric"] == metric]
    keys = {"index": "model", "columns": ["split", "mechanism"], "values": "mean", "sort": False}
    each = part.pivot_table(**keys)
    return pd.concat({split: each[split].mean(axis=1, skipna=False) for split in splits}, axis=1)


def readable(
    summary: pd.DataFrame, metric: str | list, rows: str = "model", columns: str = "mechanism"
) -> pd.DataFrame:
    """One metric of a summary as a table to read, in cells such as "mean [ci_low, ci_high]".

    metric: its name, or the names of several, which then are `rows` or `columns`
    rows, columns: keys that make the rows and the columns
    """
    part = summary[summary["metric"].isin([metric] if isinstance(metric, str) else metric)]
    short = _skill if str(metric).startswith("skill") else _digits
    text = [_text(*row, short) for row in zip(part["mean"], part["ci_low"], part["ci_high"])]
    table = part.assign(text=text).pivot(index=rows, columns=columns, values="text")
    return table.reindex(index=list(part[rows].unique()), columns=list(part[columns].unique()))


def _text(mean, low, high, short):
    if np.isnan(low):
        return short(mean)
    return f"{short(mean)} [{short(low)}, {short(high)}]"


def _digits(value):
    """A number to three digits; what is rounding alone is 0."""
    return "0" if abs(value) < 1e-12 else f"{value:.3g}"


def _skill(value):
    """A skill to three digits, and none beyond the fourth decimal place."""
    return f"{round(value, 4) + 0.0:.3g}"
