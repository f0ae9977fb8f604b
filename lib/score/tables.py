"""Tables: tidy rows, their means with intervals, written and read."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats

KEYS = ["scenario", "mechanism", "model", "gene", "split", "metric", "replicate"]
SUMMARY = [
    *(key for key in KEYS if key != "replicate"),
    "mean",
    "ci_low",
    "ci_high",
    "n",
]  # columns of a summary


def tidy(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Rows of many frames as one tidy table: the KEYS, empty where they don't apply, and `value`."""
    joined = pd.concat(frames, ignore_index=True).reindex(columns=[*KEYS, "value"])
    joined[KEYS] = joined[KEYS].astype(object).where(joined[KEYS].notna(), "")
    return joined


def write(tidy: pd.DataFrame, path: str | Path) -> None:
    """Write a table as .csv to four significant digits; a whole file or none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    tidy.to_csv(scratch, index=False, float_format="%.4g")
    os.replace(scratch, path)


def read(path: str | Path) -> pd.DataFrame:
    """Read a table that `write` wrote: keys as text, numbers as such, NaN where there is none."""
    tidy = pd.read_csv(path, keep_default_na=False)
    numbers = [c for c in ("value", "mean", "ci_low", "ci_high") if c in tidy]
    tidy[numbers] = tidy[numbers].apply(pd.to_numeric, errors="coerce")
    return tidy


def summary(tidy: pd.DataFrame, also: list[str] = ()) -> pd.DataFrame:
    """Means over independent replicates with Student's 95 % interval, NaN where there is a single one; columns `SUMMARY`.

    also: more columns to keep apart, which come first, such as parameters that were swept
    """
    keys = [*also, *(key for key in KEYS if key != "replicate")]
    grouped = tidy.dropna(subset=["value"]).groupby(keys, sort=False, dropna=False)["value"]
    result = grouped.agg(mean="mean", sd="std", n="count").reset_index()
    half = (
        scipy.stats.t.ppf(0.975, result["n"].clip(lower=2) - 1)
        * result["sd"]
        / np.sqrt(result["n"])
    )
    result["ci_low"], result["ci_high"] = result["mean"] - half, result["mean"] + half
    return result[[*also, *SUMMARY]]


def readable(
    summary: pd.DataFrame, metric: str, rows: str = "model", columns: str = "mechanism"
) -> pd.DataFrame:
    """One metric of a summary as a table to read: "mean [ci_low, ci_high]" by two of the keys."""
    part = summary[summary["metric"] == metric]

    def short(value):  # three digits, and none beyond the fourth decimal place
        return f"{round(value, 4) + 0.0:.3g}"

    each = zip(part["mean"], part["ci_low"], part["ci_high"])
    text = [
        short(m) + ("" if np.isnan(low) else f" [{short(low)}, {short(high)}]")
        for m, low, high in each
    ]
    order = list(pd.unique(part[rows])), list(pd.unique(part[columns]))
    return (
        part.assign(text=text)
        .pivot(index=rows, columns=columns, values="text")
        .reindex(index=order[0], columns=order[1])
    )
