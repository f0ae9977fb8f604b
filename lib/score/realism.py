"""How far simulated cells are from real ones that no model has seen.

Real cells are split in two: a simulator is fitted to one half, and its cells are compared with
the other, as is the first half itself, which shows what a perfect simulator would get. Distances
between distributions over genes, pairs and cells are those of Kolmogorov and Smirnov, from 0 to 1,
so that neither units nor logarithms matter. Which properties to compare is from countsimQC (Soneson
and Robinson 2018, Bioinformatics 34) and SimBench (Cao, Yang and Yang 2021, Nature Communications
12).
"""

import anndata as ad
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from lib import checks
from lib.counts import check_counts, dense
from lib.seeds import stream

REAL = "real half"  # the model that shows what a perfect simulator would get
METRICS = {  # name -> what it is; those without another word are best at 0
    "gene_mean": "Kolmogorov-Smirnov distance between genes' mean counts",
    "mean_variance": "the same of variance / mean, the variance given the mean",
    "mean_zeros": "the same of the share of zeros less exp(-mean), which a Poisson would have",
    "library_size": "the same of cells' totals",
    "gene_correlation": "the same of Spearman correlations of log-normalised counts between the "
    "100 genes that are most expressed in held-out cells",
    "cell_correlation": "the same of Spearman correlations of log-normalised counts between cells",
    "gene_pairs": "root mean square difference of genes' correlations, pair by pair; correlations "
    "of few cells are noisy, so that best is what the real half has",
    "components": "greatest difference of the share of variance that the first 1 ... 20 principal "
    "components of log-normalised counts explain together",
    "mmd": "squared maximum mean discrepancy on 20 principal components, unbiased, so that it can "
    "be below 0, with a Gaussian kernel as wide as the median distance (Gretton et al. 2012, JMLR "
    "13, eq. 3)",
    "forest_auroc": "AUROC with which a random forest tells simulated from held-out cells, by "
    "counts and total, out of five folds; best is 0.5, and cross-validation is a little below it "
    "where data are few and equal (Lopez-Paz and Oquab 2017, ICLR; for cells, Zinati et al. 2024, "
    "Nature Communications 15)",
    "copied": "share of cells nearer to a fitted cell than to any held-out one; best is 0.5, and "
    "copies have 1 (Platzer and Reutterer 2021, Frontiers in Big Data 4)",
    "copied_p": "two-sided binomial p-value of that share, as if cells were independent",
}
_FEWEST = 20  # cells that folds and components need
_PAIRED = 100  # most expressed genes, whose correlations are compared
_COMPONENTS = 20


def report(
    fitted_on: ad.AnnData,
    held_out: ad.AnnData,
    simulated: dict[str, ad.AnnData],
    *,
    layer: str | None = None,
    trees: int = 500,
    seed: int | tuple[int, ...] = 0,
) -> pd.DataFrame:
    """Distances of simulated cells, and of the real ones they were fitted to, from held-out ones.

    fitted_on: real cells that all simulators were fitted to
    held_out: real cells, with the genes of `fitted_on`
    simulated: name of a simulator -> its cells, with the same genes
    layer: the layer that holds the real counts, or "raw"; by default X
    trees: number of trees of the forest

    Returns tidy rows (model, metric, value), with the metrics that `METRICS` explains; the first
    model is "real half", the fitted cells themselves. As many cells of each are compared as the
    smallest data set has, random ones of the others.

    Raises ValueError for other genes, fewer than 20 cells, what is no counts, or a model that is
    named "real half".
    """
    trees = checks.integer("trees", trees, low=1)
    if REAL in simulated:
        raise ValueError(f"simulated: no model may be named {REAL!r}, which the fitted cells are")
    genes = list(fitted_on.var_names)
    counts = {REAL: _checked("fitted_on", fitted_on, genes, layer)}
    truth = _checked("held_out", held_out, genes, layer)
    for name, cells in simulated.items():
        counts[name] = _checked(f"simulated[{name!r}]", cells, genes)
    fewest = min(len(truth), *map(len, counts.values()))
    truth = _drawn(truth, fewest, stream(seed, "held-out cells"))
    counts = {n: _drawn(x, fewest, stream(seed, f"cells of {n}")) for n, x in counts.items()}
    state, rows = int(stream(seed, "forest").integers(2**31)), []
    for name, matrix in counts.items():
        values = distributions(truth, matrix)
        values["mmd"] = mmd(truth, matrix)
        values["forest_auroc"] = forest_auroc(truth, matrix, trees=trees, random_state=state)
        values["copied"], values["copied_p"] = copied(counts[REAL], truth, matrix)
        rows += [(name, metric, values[metric]) for metric in METRICS]
    return pd.DataFrame(rows, columns=["model", "metric", "value"])


def _checked(name, cells, genes, layer=None):
    """Counts of at least 20 cells with these genes, (n_cells, n_genes)."""
    checks.same_genes(name, cells, genes)
    matrix = check_counts(cells, name, layer)
    checks.integer(f"{name}, its number of cells", cells.n_obs, low=_FEWEST)
    return dense(matrix).astype(np.float32)


def _drawn(counts, n_cells, rng):
    """Random cells, in the order in which they stood."""
    return counts[np.sort(rng.permutation(len(counts))[:n_cells])]


def distributions(truth: np.ndarray, cells: np.ndarray) -> dict[str, float]:
    """The distances between distributions, by name as in `METRICS`.

    truth, cells: (n_cells, n_genes) counts
    """
    paired = np.argsort(-truth.mean(axis=0), kind="stable")[:_PAIRED]
    first, second = _properties(truth, paired), _properties(cells, paired)
    found = {name: float(stats.ks_2samp(first[name], second[name]).statistic) for name in first}
    pairs = first["gene_correlation"] - second["gene_correlation"]
    found["gene_pairs"] = float(np.sqrt(np.mean(pairs**2)))
    scale = np.median(truth.sum(axis=1))
    explained = [np.cumsum(_components(log_normalised(x, scale))) for x in (truth, cells)]
    found["components"] = float(np.abs(explained[0] - explained[1]).max())
    return found


def _properties(counts, paired):
    """Properties of genes, cells and pairs, whose distributions are compared."""
    mean, variance = counts.mean(axis=0, dtype=float), counts.var(axis=0, dtype=float)
    scaled = log_normalised(counts, np.median(counts.sum(axis=1)))
    seen = mean > 0
    return {
        "gene_mean": mean,
        "mean_variance": variance[seen] / mean[seen] if seen.any() else np.zeros(1),
        "mean_zeros": np.mean(counts == 0, axis=0) - np.exp(-mean),
        "library_size": counts.sum(axis=1),
        "gene_correlation": spearman(scaled[:, paired]),
        "cell_correlation": spearman(scaled.T),
    }


def spearman(columns: np.ndarray) -> np.ndarray:
    """Spearman correlations of all pairs of columns, (n_pairs,); 0 where a column is constant."""
    ranks = stats.rankdata(columns, axis=0)
    ranks -= ranks.mean(axis=0)
    lengths = np.linalg.norm(ranks, axis=0)
    ranks /= np.where(lengths > 0, lengths, 1)
    return (ranks.T @ ranks)[np.triu_indices(ranks.shape[1], 1)]


def _components(scaled):
    """Shares of variance of the first principal components."""
    n_components = min(_COMPONENTS, *scaled.shape)
    return PCA(n_components, svd_solver="covariance_eigh").fit(scaled).explained_variance_ratio_


def log_normalised(counts: np.ndarray, scale: float) -> np.ndarray:
    """log(1 + counts of a cell that has `scale` in all), (n_cells, n_genes)."""
    return np.log1p(scale * normalize(counts, norm="l1"))


def mmd(truth: np.ndarray, cells: np.ndarray) -> float:
    """Squared maximum mean discrepancy of log-normalised counts, as in `METRICS`.

    truth, cells: (n_cells, n_genes) counts
    """
    scale = np.median(truth.sum(axis=1))
    both = log_normalised(np.concatenate([truth, cells]), scale)
    n_components = min(_COMPONENTS, *both.shape)
    places = PCA(n_components, svd_solver="covariance_eigh").fit_transform(both)
    return unbiased_mmd(places[: len(truth)], places[len(truth) :])


def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Squared maximum mean discrepancy of two samples, (n, d) and (m, d), without bias.

    The kernel is exp(-d^2 / (2 m^2)), with m the median distance between points of both.
    """
    both = np.concatenate([x, y])
    median = np.median(euclidean_distances(both)[np.triu_indices(len(both), 1)])
    gamma = 1 / (2 * max(median, 1e-12) ** 2)
    within = 0.0
    for sample in (x, y):
        kernel = rbf_kernel(sample, gamma=gamma)
        within += (kernel.sum() - np.trace(kernel)) / (len(sample) * (len(sample) - 1))
    return float(within - 2 * rbf_kernel(x, y, gamma=gamma).mean())


def forest_auroc(
    truth: np.ndarray, cells: np.ndarray, *, trees: int = 500, random_state: int = 0
) -> float:
    """AUROC of a random forest that tells `cells` from `truth`, out of five folds.

    truth, cells: (n_cells, n_genes) counts
    """
    counts = np.concatenate([truth, cells])
    features = np.column_stack([counts, counts.sum(axis=1)])
    labels = np.repeat([0, 1], [len(truth), len(cells)])
    forest = RandomForestClassifier(trees, random_state=random_state)
    folds = StratifiedKFold(5, shuffle=True, random_state=random_state)
    chances = cross_val_predict(forest, features, labels, cv=folds, method="predict_proba")
    return float(roc_auc_score(labels, chances[:, 1]))


def copied(fitted_on: np.ndarray, held_out: np.ndarray, cells: np.ndarray) -> tuple[float, float]:
    """Share of cells whose nearest real cell was fitted, not held out, and its p-value.

    fitted_on, held_out, cells: (n_cells, n_genes) counts; as many fitted as held out

    A tie counts for half a cell.
    """
    scale = np.median(held_out.sum(axis=1))
    query, distances = log_normalised(cells, scale), []
    for real in (fitted_on, held_out):
        nearest = NearestNeighbors(n_neighbors=1).fit(log_normalised(real, scale))
        distances.append(nearest.kneighbors(query)[0][:, 0])
    nearer = np.sum(distances[0] < distances[1]) + np.sum(distances[0] == distances[1]) / 2
    chance = stats.binomtest(int(np.floor(nearer + 0.5)), len(cells), 0.5).pvalue
    return float(nearer / len(cells)), float(chance)
