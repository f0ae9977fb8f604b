"""Distances of a predicted law to the true one, computed from the laws, not from samples.

With F and G the true and predicted cdf of one gene in one cell, f and g their pmfs:

    kl_nats      sum_k f(k) log f(k) / g(k)
    excess_crps  sum_k (F(k) - G(k))^2, by which the expected CRPS exceeds that of the truth
                 (Gneiting and Raftery 2007, JASA 102, section 4.2)
    skill        1 - distance(model) / distance(marginal): oracle 1, marginal 0, harm below 0
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats

from lib import zinb

TAIL = 1e-9  # the support is cut where the true law has less than this above it
CRPS_TAIL = 1e-4  # and, for the CRPS, where the predicted one has less than this
_MAX_COUNTS = 2**15
_CHUNK = 1024  # laws at a time: few enough to stay in the processor's cache

KEYS = ["scenario", "mechanism", "model", "gene", "split", "metric", "replicate"]


def distances(true: zinb.ZINB, predicted: zinb.Law, tables: list | None = None) -> pd.DataFrame:
    """Every distance of the predicted to the true law of one gene, cell by cell.

    true, predicted : laws of shape (n_cells,); `predicted` may be any Law
    tables : `pmf_tables(true)`, where several predictions are compared with one truth

    Returns a row a cell with kl_nats, excess_crps, mse_mean, and, where the prediction has
    parameters, mse_mu, mse_pi and mse_log_theta (squared errors of one cell). A Mixture is
    given the parameters of `Mixture.parameters`. An Empirical has no kl_nats: one count that was never
    drawn would make it infinite.

    Raises ValueError for a law that isn't there (a count that an intervention has set) and for
    another shape.
    """
    if np.isnan(true.mu).any():
        raise ValueError("true: has NaN parameters; the law of a count that an intervention set can't be predicted")
    if predicted.shape != true.shape or len(true.shape) != 1:
        raise ValueError(f"predicted: shape {predicted.shape}; must be one law a cell, {true.shape}")
    n_cells = true.shape[0]
    kl, crps = np.empty(n_cells), np.empty(n_cells)
    for rows, f in pmf_tables(true) if tables is None else tables:
        kl[rows], crps[rows] = _kl_and_crps(true[rows], predicted[rows], f)
    frame = pd.DataFrame({"kl_nats": kl, "excess_crps": crps, "mse_mean": (predicted.mean - true.mean) ** 2})
    if isinstance(predicted, zinb.Empirical):
        return frame.drop(columns="kl_nats")
    if isinstance(predicted, (zinb.ZINB, zinb.Mixture)):
        point = predicted.parameters()
        frame["mse_mu"] = (point.mu - true.mu) ** 2
        frame["mse_pi"] = (point.pi - true.pi) ** 2
        frame["mse_log_theta"] = (np.log(point.theta) - np.log(true.theta)) ** 2
    return frame


def pmf_tables(true: zinb.ZINB) -> list[tuple[np.ndarray, np.ndarray]]:
    """The true pmf up to the cut of the support: (indices of cells, their pmfs over the counts).

    Cells of like support are together, so that no table is much wider than its cells need.
    """
    n_counts = true.quantile(1 - TAIL) + 1
    chunks = np.array_split(np.argsort(n_counts, kind="stable"), -(-len(n_counts) // _CHUNK))
    return [(rows, true[rows].pmf_table(int(n_counts[rows].max()))) for rows in chunks]


def _kl_and_crps(true, predicted, f):
    n_counts = f.shape[-1]
    g = predicted.pmf_table(n_counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_g = np.log(g)
        lost, counted = (g < 1e-290) & (f > 1e-290), f > 1e-290
        if lost.any():  # too small for a float, not for its logarithm
            rows, counts = np.nonzero(lost)
            log_g[lost] = predicted[rows].log_prob(counts)
        kl = np.where(counted, f * (np.log(f) - log_g), 0.0).sum(-1)
    crps, rows = np.empty(len(kl)), np.arange(len(kl))
    while len(rows):  # a predicted tail that is longer than the true one gets a longer table
        crps[rows] = ((np.cumsum(f, -1) - np.cumsum(g, -1)) ** 2).sum(-1)
        long = 1 - g.sum(-1) > CRPS_TAIL
        rows, n_counts = rows[long], 2 * n_counts
        if n_counts > _MAX_COUNTS:
            crps[rows] += _far_tail(predicted[rows], f.shape[-1])
            break
        f, g = true[rows].pmf_table(n_counts), predicted[rows].pmf_table(n_counts)
    return np.maximum(kl, 0.0), crps


def _far_tail(predicted, start):
    """Sum of (1 - G(k))^2 over k >= start, where the true cdf is 1, by the trapezoid on a fine geometric grid."""
    k = start * np.geomspace(1, 1e6, 4001)
    rest = (1 - predicted[:, None].cdf(k)) ** 2
    return np.trapezoid(rest, k)


def skill(distance: float, marginal: float) -> float:
    """1 - distance / distance of the marginal; NaN where the marginal is exact itself."""
    return float(1 - distance / marginal) if marginal > 0 else float("nan")


def slope_ratio(dose, predicted, true) -> float:
    """Least-squares slope of the predicted over that of the true response to the dose.

    dose, predicted, true : (n_cells,); the response is the mean count. 1 is right, below 1 the
    effect is shrunk. NaN where the true response is flat.
    """
    centred = np.asarray(dose, dtype=float) - np.mean(dose)
    true_slope, rounding = centred @ np.asarray(true), 1e-10 * np.linalg.norm(centred) * np.linalg.norm(true)
    return float(centred @ np.asarray(predicted) / true_slope) if abs(true_slope) > rounding else float("nan")


def score(true: zinb.ZINB, predictions: dict[str, zinb.Law], counts: np.ndarray | None = None) -> pd.DataFrame:
    """Mean distances and skills of several models' predictions of one gene in the same cells.

    predictions : model -> law; "marginal" must be among them, skill is measured against it
    counts : (n_cells,) observed counts of the gene, for nll_nats: what can be scored where the
        truth isn't known, the mean negative log-probability of what was observed

    Returns tidy rows: model, metric, value.
    """
    if "marginal" not in predictions:
        raise ValueError(f"predictions = {list(predictions)}: must have 'marginal', against which skill is measured")
    tables = pmf_tables(true)
    means = {model: distances(true, law, tables).mean(skipna=False) for model, law in predictions.items()}
    for model, mean in means.items():
        if mean.isna().any():
            raise ValueError(f"predictions[{model!r}]: has no {mean.index[mean.isna()][0]} in some cells; must be a law in every cell")
    rows = []
    for model, mean in means.items():
        values = dict(mean)
        if counts is not None:
            values["nll_nats"] = -predictions[model].log_prob(counts).mean()
        if "kl_nats" in mean:
            values["skill_kl"] = skill(mean["kl_nats"], means["marginal"]["kl_nats"])
        values["skill_crps"] = skill(mean["excess_crps"], means["marginal"]["excess_crps"])
        rows += [(model, metric, value) for metric, value in values.items()]
    return pd.DataFrame(rows, columns=["model", "metric", "value"])


def table(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Rows of many frames as one tidy table: the KEYS, empty where they don't apply, and `value`."""
    joined = pd.concat(frames, ignore_index=True)
    for key in KEYS:
        if key not in joined:
            joined[key] = ""
    joined[KEYS] = joined[KEYS].astype(object).where(joined[KEYS].notna(), "")
    return joined[[*KEYS, "value"]]


def write(tidy: pd.DataFrame, path: str | Path) -> None:
    """Write a table as .csv to four significant digits; a whole file or none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    tidy.to_csv(scratch, index=False, float_format="%.4g")
    os.replace(scratch, path)


def read(path: str | Path) -> pd.DataFrame:
    """Read a table that `write` wrote: keys as text, empty where they don't apply, and numbers, NaN where there is none."""
    tidy = pd.read_csv(path, keep_default_na=False)
    numbers = [c for c in ("value", "mean", "ci_low", "ci_high") if c in tidy]
    tidy[numbers] = tidy[numbers].apply(pd.to_numeric, errors="coerce")
    return tidy


def summary(tidy: pd.DataFrame, also: list[str] = ()) -> pd.DataFrame:
    """Mean and 95 % interval over replicates: the KEYS less `replicate`, mean, ci_low, ci_high, n.

    also : more columns to keep apart, such as parameters that were swept

    Student's t interval over independent replicates; without one where there is a single replicate.
    """
    keys = [*also, *(k for k in KEYS if k != "replicate")]
    grouped = tidy.dropna(subset=["value"]).groupby(keys, sort=False, dropna=False)["value"]
    result = grouped.agg(mean="mean", sd="std", n="count").reset_index()
    half = scipy.stats.t.ppf(0.975, result["n"].clip(lower=2) - 1) * result["sd"] / np.sqrt(result["n"])
    result["ci_low"], result["ci_high"] = result["mean"] - half, result["mean"] + half
    return result[[*keys, "mean", "ci_low", "ci_high", "n"]]


def _short(value):
    """Three digits, and none beyond the fourth decimal place."""
    return f"{round(value, 4) + 0.0:.3g}"


def readable(summary: pd.DataFrame, metric: str, rows: str = "model", columns: str = "mechanism") -> pd.DataFrame:
    """One metric of a summary as a table to read: "mean [ci_low, ci_high]" by two of the keys."""
    part = summary[summary["metric"] == metric]
    text = [
        _short(m) if np.isnan(low) else f"{_short(m)} [{_short(low)}, {_short(high)}]"
        for m, low, high in zip(part["mean"], part["ci_low"], part["ci_high"])
    ]
    order = list(pd.unique(part[rows])), list(pd.unique(part[columns]))
    return part.assign(text=text).pivot(index=rows, columns=columns, values="text").reindex(index=order[0], columns=order[1])
