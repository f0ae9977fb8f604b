"""Inverse dispersions of genes whose mean is known up to a log-normal factor.

`maximum_likelihood.fit` has one mean for all cells, and statsmodels one gene at a time; neither
has a prior, without which rare genes come out as Poisson, or with a theta near 0.
"""

import numpy as np
from scipy import special

_GRID = np.exp(np.linspace(-4, 5, 19))  # theta: at a mean of 1 from 56 to 1.007 times Poisson's
_NODES = 7  # of the Gauss-Hermite rule over the programs
_AT_ONCE = 200_000  # counts at a time: what fits a cache
_ROUNDS = 30  # of EM for the prior


def fit(counts, mean, types, n_types: int, squares) -> np.ndarray:
    """Inverse dispersion of each gene in each type, (n_genes, n_types).

    counts: (n_cells, n_genes)
    mean: (n_cells, n_genes) expected counts, above 0
    types: (n_cells,) number of the type
    squares: (n_genes,) squared length of the gene's loadings

    The likelihood is integrated over the gene's programs. log theta has a normal prior whose mean
    is quadratic in the log of the gene's mean (the trend of DESeq2, Love, Huber and Anders 2014,
    Genome Biology 15), and within a gene, a normal one about the gene's; the widths are those that
    are likeliest. Returned is 1 / E[1 / theta], by which variances are right on average.
    """
    of_type = [types == number for number in range(n_types)]
    each = np.stack([_likelihoods(counts[i], mean[i], squares) for i in of_type])
    level = np.log(counts.mean(axis=0) + 1 / len(counts))
    centre = _posterior(each.sum(axis=0), level=level)[1]
    joined = each.transpose(1, 0, 2).reshape(len(_GRID), -1)
    weights = _posterior(joined, centre=np.tile(centre, n_types))[0]
    inverse = (weights / _GRID[:, None]).sum(axis=0)
    return 1 / inverse.reshape(n_types, -1).T


def _likelihoods(counts, mean, squares):
    """Log-likelihood of each theta of the grid, (n_grid, n_genes)."""
    n_genes = counts.shape[1]
    found = np.zeros((len(_GRID), n_genes))
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES if squares.any() else 1)
    log_weights = np.log(weights / weights.sum())
    step = max(1, _AT_ONCE // max(1, len(counts)))
    for start in range(0, n_genes, step):
        those = slice(start, start + step)
        x = counts[:, those].astype(np.int64)
        levels, place = np.unique(x, return_inverse=True)
        place = place.reshape(x.shape)
        shifts = np.outer(nodes, np.sqrt(squares[those])) - squares[those] / 2
        log_mean = np.log(mean[:, those])
        for row, theta in enumerate(_GRID):
            rising = special.gammaln(levels + theta) - special.gammaln(theta)
            rising -= levels * np.log(theta)
            terms = []
            for shift, log_weight in zip(shifts, log_weights):
                eta = log_mean + shift
                log_ratio = np.log1p(np.exp(eta) / theta)
                terms.append(log_weight + x * eta - (x + theta) * log_ratio)
            total = terms[0] if len(terms) == 1 else special.logsumexp(terms, axis=0)
            found[row, those] = (total + rising[place]).sum(axis=0)
    return found


def _posterior(likelihoods, centre=None, level=None):
    """Posterior weights of the grid, (n_grid, n), and the mean of log theta, (n,).

    likelihoods: (n_grid, n) logarithms
    centre: (n,) means of the prior; by default a quadratic function of `level`
    """
    log_theta = np.log(_GRID)[:, None]
    prior, width = np.full(likelihoods.shape[1], np.log(5.0)) if centre is None else centre, 1.5
    for _ in range(_ROUNDS):
        weights = special.softmax(likelihoods - (log_theta - prior) ** 2 / (2 * width**2), axis=0)
        mean = (weights * log_theta).sum(axis=0)
        if centre is None:
            degree = min(2, len(np.unique(level)) - 1)
            prior = np.polyval(np.polyfit(level, mean, degree), level)
        square = (weights * (log_theta - prior) ** 2).sum(axis=0)
        width = max(0.1, np.sqrt(square.mean()))
    return weights, mean
