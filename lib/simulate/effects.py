"""How large the true effects in a screen are, once sampling noise is taken off."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse
from scipy import special

from lib import checks
from lib.counts import check_counts
from lib.simulate.layout import labels

_FEWEST = 10  # cells of an arm
_ROUNDS = 200  # of EM for the mixture
_PENALTY = 9  # genes' worth of evidence for no effect: ash's default prior is 10, 1, 1 ...
_WIDTHS = np.concatenate([[0], np.geomspace(0.05, 3.2, 13)])  # in natural log


def effect_sizes(
    screen: ad.AnnData,
    control: str = "control",
    *,
    key: str = "perturbation",
    least_mean: float = 0.05,
    layer: str | None = None,
) -> pd.DataFrame:
    """The distribution of true log fold changes over genes, in each arm.

    screen: raw counts, of one cell type, or of several in the same shares in all arms
    control: value of `screen.obs[key]` that control cells have
    key: column with the arms
    least_mean: smallest mean count in control cells of a gene that is looked at
    layer: the layer that holds the counts, or "raw"; by default X

    A log fold change is that of means of counts over cells' totals, less the median over genes,
    since what strong genes gain in a total all others lose; its variance is that of the delta
    method. The true ones are taken for a mixture of normals about 0, of fixed widths, and a point
    at 0, with weights as in ash (Stephens 2017, Biostatistics 18): its penalty favours 0, so that
    the share is at least what the data tell for sure.

    Returns a row for each arm of at least 10 cells: n_cells, n_genes, share of genes affected, sd
    of true log fold changes (natural log) over all genes, sd_affected over those affected, and
    sd_seen, that of the estimates, noise included.

    Raises ValueError for what is no counts, a missing column or control, or no gene to look at.
    """
    matrix = sparse.csr_matrix(check_counts(screen, "screen", layer), dtype=float)
    checks.choice("key", key, screen.obs.columns)
    arms = labels(screen.obs, key, "screen")
    checks.choice("control", control, list(pd.unique(arms)))
    least_mean = checks.number("least_mean", least_mean, low=0)
    total = np.asarray(matrix.sum(axis=1)).ravel()
    seen = total > 0
    matrix, arms, total = matrix[seen], arms[seen], total[seen]
    scaled = sparse.diags(np.median(total) / total) @ matrix
    mean, error = _log_means(scaled[arms == control])
    genes = np.flatnonzero(matrix[arms == control].mean(axis=0).A1 >= max(least_mean, 1e-12))
    if not len(genes):
        raise ValueError(
            f"least_mean = {least_mean:g}: no gene has as many counts in control cells"
        )
    rows = []
    for arm, n_cells in pd.Series(arms).value_counts().items():
        if arm == control or n_cells < _FEWEST:
            continue
        own, own_error = _log_means(scaled[arms == arm])
        change, variance = (own - mean)[genes], (own_error + error)[genes]
        change -= np.median(change)
        weights = _mixture(change, variance)
        share, square = 1 - weights[0], weights @ _WIDTHS**2
        found = {"arm": arm, "n_cells": n_cells, "n_genes": len(genes), "share": share}
        found |= {"sd": np.sqrt(square), "sd_affected": np.sqrt(square / max(share, 1e-12))}
        rows.append(found | {"sd_seen": np.std(change)})
    return pd.DataFrame(rows)


def _log_means(scaled):
    """Logs of genes' means, and their variances by the delta method.

    Half a count is added to each gene, so that one without counts has both.
    """
    n_cells = scaled.shape[0]
    mean = scaled.mean(axis=0).A1
    variance = scaled.multiply(scaled).mean(axis=0).A1 - mean**2
    mean = mean + 0.5 / n_cells
    variance = np.maximum(variance, mean)
    return np.log(mean), variance / (n_cells * mean**2)


def _mixture(change, variance):
    """The likeliest weights of the normals, (n_widths,)."""
    wide = variance[:, None] + _WIDTHS**2
    log_density = -(change[:, None] ** 2 / wide + np.log(wide)) / 2
    weights = np.full(len(_WIDTHS), 1 / len(_WIDTHS))
    for _ in range(_ROUNDS):
        with np.errstate(divide="ignore"):
            weights = special.softmax(log_density + np.log(weights), axis=1).sum(axis=0)
        weights[0] += _PENALTY
        weights /= weights.sum()
    return weights
