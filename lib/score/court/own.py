"""Metrics that neither package has, by their published definitions.

`Definitions` sees what the packages see: measured cells of a panel, then one prediction after the
other. `lib.score.court.metrics` names the papers.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances

from lib.counts import CONTROL, dense
from lib.laws import Law
from lib.score.court.metrics import OURS
from lib.score.court.packages import Judged
from lib.score.court.real_cells import LABEL

_PSEUDOCOUNT = 0.1  # added to means of logs before log2, by PerturBench
_TIMES = 4  # as many counts as were seen, beyond which all count alike in the CRPS
_TINY = 1e-12  # probability of a count that a law gives none


class Definitions:
    """PerturBench's and Systema's scores, and Vendi's, of means over cells.

    measured: log1p of normalised counts, with `LABEL`
    names: of the arms, in order
    """

    def __init__(self, measured: ad.AnnData, names: list[str]):
        self.names = names
        self.control = centroids(measured, [CONTROL])[0]
        self.true = centroids(measured, names)

    def judge(self, predicted: ad.AnnData) -> Judged:
        """Scores of predicted cells, on the same scale."""
        from vendi_score.vendi import score_dual

        found = centroids(predicted, self.names)
        logfc = logfc_of(found, self.control), logfc_of(self.true, self.control)
        cosine = cosine_distances(*logfc)  # (n predicted, n true)
        squares = euclidean_distances(found, self.true)
        rmse = squares / np.sqrt(found.shape[1])
        scores = {
            "cosine_logfc": 1 - np.diag(cosine),
            "rank_cosine_logfc": rank_among_predictions(cosine),
            "rmse_average": np.diag(rmse),
            "rank_rmse_average": rank_among_predictions(rmse),
            "centroid_accuracy": share_farther(squares),
        }
        said = Judged({}, {}, {})
        for name, values in scores.items():
            said.arms[f"{OURS} {name}"] = pd.Series(values, self.names)
            said.means[f"{OURS} {name}"] = float(np.nanmean(values))
        effects = found - self.control
        said.means[f"{OURS} vendi"] = float(score_dual(effects))
        return said


def centroids(cells: ad.AnnData, names: list[str]) -> np.ndarray:
    """Mean over the cells of each arm, (n_arms, n_genes)."""
    labels = cells.obs[LABEL].astype(str).to_numpy()
    return np.array([dense(cells.X[labels == name].mean(axis=0)).ravel() for name in names])


def logfc_of(means: np.ndarray, control: np.ndarray) -> np.ndarray:
    """PerturBench's log2 fold changes of means of logs."""
    return np.log2(means + _PSEUDOCOUNT) - np.log2(control + _PSEUDOCOUNT)


def rank_among_predictions(distances: np.ndarray) -> np.ndarray:
    """Share of other arms' predictions that are nearer to an arm than its own; half of the ties.

    distances: (n predicted, n true)

    PerturBench draws the order of ties at random: this is its mean.
    """
    own = np.diag(distances)
    nearer = (distances < own).sum(axis=0) + ((distances == own).sum(axis=0) - 1) / 2
    return nearer / (len(own) - 1)


def share_farther(distances: np.ndarray) -> np.ndarray:
    """Share of other arms that are farther from a prediction than its own arm is.

    distances: (n predicted, n true)
    """
    own = np.diag(distances)[:, None]
    return (distances > own).sum(axis=1) / (len(own) - 1)


def of_laws(
    laws: list[Law], cells: list[np.ndarray], kept: np.ndarray, ns: list[int]
) -> dict[int, np.ndarray]:
    """Held-out NLL and CRPS of laws, means over genes: n -> (2, n_arms).

    laws: of each arm, (n_genes,)
    cells: counts of each arm, (n_cells, n_genes)
    kept: (n_arms, n_genes) which genes count
    ns: numbers of cells, of which the first are taken

    The CRPS of a law G and a count y is sum_k (G(k) - 1{y <= k})^2; a count to which a law gives
    less than 1e-12 has that probability in the NLL.
    """
    found = {n: np.empty((2, len(laws))) for n in ns}
    for arm, (law, counts, genes) in enumerate(zip(laws, cells, kept)):
        counts = counts[:, genes].astype(np.int64)
        table = law[genes].pmf_table(int(counts.max(initial=0)) + 1)  # (n_genes, n_counts)
        logs = np.log(np.maximum(table, _TINY))
        below = table.cumsum(axis=1)
        beyond = _squares_beyond(law[genes], table.shape[1])
        places = np.arange(table.shape[0])[:, None]
        for n in ns:
            shown = np.zeros(table.shape)
            np.add.at(shown, (places, counts[:n].T), 1 / n)
            nll = -(shown * logs).sum(axis=1)
            share = shown.cumsum(axis=1)  # of cells with at most k counts
            crps = (share * (1 - below) ** 2 + (1 - share) * below**2).sum(axis=1) + beyond
            found[n][:, arm] = nll.mean(), crps.mean()
    return found


def _squares_beyond(law, start):
    """sum over k >= start of (1 - G(k))^2, (n_genes,), up to four times as many counts."""
    end = min(int(law.reach(1e-9).max()) + 1, _TIMES * start)
    if end <= start:
        return np.zeros(law.shape[0])
    return ((1 - law.pmf_table(end).cumsum(axis=1)[:, start:]) ** 2).sum(axis=1)
