"""Laws of cells with capture, cell types and hidden programs, fitted to real counts.

Means are posterior means, under a weak gamma prior about what the type's total and the mean of all
types let expect, by which a gene without a count in a type of few cells keeps a mean above 0.
Dispersions and programs are from `dispersions` and `programs`. States of a type are the components
of a normal mixture of the programs, as many as the Bayesian information criterion is for, 10 cells
each at least on average. The spread of capture is that of cells' sizes within a state, less what
the noise of counts adds to it. What moves all genes alike is capture and no program, since the
size of a cell is free and loadings have a prior.
"""

from dataclasses import dataclass, replace

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse
from sklearn.mixture import GaussianMixture

from lib import checks
from lib.counts import check_counts, dense
from lib.seeds import stream
from lib.simulate import dispersions, programs
from lib.simulate.layout import labels

_MOST = 3000  # cells that dispersions, programs and states are fitted to: random ones of more
_FEWEST = 10  # cells of a state
_TINY = 1e-8  # mean of a gene without counts
_ROUNDS = 10  # of the likeliest size
_PRIOR = 0.2  # shape of the gamma prior of a mean: about as many counts' worth
_CLEAR = 0.5  # variance of a program's means over cells, above which states are looked for in it
_CHUNK = 5_000_000  # counts drawn at a time


@dataclass(frozen=True)
class Calibration:
    """The law of counts of single cells.

    A count of gene g in cell c of type t is negative binomial, with inverse dispersion
    theta[g, t] and mean

        p[c] * base[g, t] * exp(loadings[g] . z[c] - |loadings[g]|^2 / 2)

    p[c] is log-normal and z[c] is standard normal.

    genes: (n_genes,) names
    cell_types: (n_types,) names; where a type of the data was split into states, these are types
    labels: (n_types,) type in the data that each is, or is a state of
    proportions: (n_types,) share of the cells
    base: (n_genes, n_types) mean number of molecules in a cell
    theta: (n_genes, n_types) inverse dispersion, Var = mu + mu^2 / theta given p and z
    loadings: (n_genes, n_programs) effect of a program on the log of the mean
    median, spread: median of the captured share p, and standard deviation of its log
    """

    genes: np.ndarray
    cell_types: np.ndarray
    labels: np.ndarray
    proportions: np.ndarray
    base: np.ndarray
    theta: np.ndarray
    loadings: np.ndarray
    median: float
    spread: float

    def numbers(self, n_cells: int) -> dict[str, int]:
        """Cell type -> its cells of `n_cells` in all, as its proportion has it to within one."""
        ends = np.round(n_cells * np.cumsum(self.proportions) / self.proportions.sum()).astype(int)
        return {str(t): int(n) for t, n in zip(self.cell_types, np.diff(ends, prepend=0))}

    def sample(self, n_cells: int, seed: int | tuple[int, ...] = 0) -> ad.AnnData:
        """Cells drawn from the law, as CSR of float32 counts.

        obs["cell_type"] has the labels, obs["state"] the names in `cell_types`, and obs["capture"]
        the share p. Types have their proportions to within one cell.
        """
        n_cells = checks.integer("n_cells", n_cells, low=1)
        rng = stream(seed, "cells of a calibration")
        ends = np.cumsum(self.proportions)
        places = ends[-1] * (np.arange(n_cells) + rng.random()) / n_cells
        types = np.minimum(np.searchsorted(ends, places, side="right"), len(ends) - 1)
        capture = self.median * np.exp(self.spread * rng.standard_normal(n_cells))
        shift = np.sum(self.loadings**2, axis=1) / 2
        step, parts = max(1, _CHUNK // len(self.genes)), []
        for start in range(0, n_cells, step):
            t, p = types[start : start + step], capture[start : start + step]
            z = rng.standard_normal((len(t), self.loadings.shape[1]))
            mean = p[:, None] * self.base.T[t] * np.exp(z @ self.loadings.T - shift)
            theta = self.theta.T[t]
            drawn = rng.poisson(rng.standard_gamma(theta) * mean / theta)
            parts.append(sparse.csr_matrix(drawn.astype(np.float32)))
        obs = {"cell_type": pd.Categorical(self.labels[types])}
        obs |= {"state": pd.Categorical(self.cell_types[types]), "capture": capture}
        obs = pd.DataFrame(obs, index=[f"cell_{i}" for i in range(n_cells)])
        var = pd.DataFrame(index=pd.Index(self.genes.astype(str)))
        return ad.AnnData(sparse.vstack(parts, format="csr"), obs=obs, var=var)


def fit(
    counts: ad.AnnData,
    *,
    cell_type_key: str | None = None,
    median_capture: float = 0.15,
    n_programs: int = 10,
    max_states: int = 4,
    layer: str | None = None,
    seed: int | tuple[int, ...] = 0,
) -> Calibration:
    """The law fitted to real counts.

    counts: raw counts; cells without any are left out
    cell_type_key: column of `counts.obs` with the cell types; by default all cells are one type
    median_capture: median share of a cell's molecules that are counted, above 0 and at most 1.
        Counts don't tell it: it sets the scale of `base`
    n_programs: number of programs, 0 for none
    max_states: most states that a type is split into. Labelled types hold several kinds of cells,
        which normal programs would blur; 1 splits none
    layer: the layer that holds the counts, or "raw"; by default X

    Raises ValueError for what is no counts, a missing column, or a parameter out of range.
    """
    matrix = check_counts(counts, layer=layer)
    median = checks.number("median_capture", median_capture, 0, 1)
    if median == 0:
        raise ValueError("median_capture = 0: must be above 0, and at most 1")
    n_programs = checks.integer("n_programs", n_programs, 0, min(100, *counts.shape))
    max_states = checks.integer("max_states", max_states, 1, 100)
    types, names = _types(counts, cell_type_key)
    seen = np.flatnonzero(np.asarray(matrix.sum(axis=1)).ravel() > 0)
    if not len(seen):
        raise ValueError("counts: has no molecule; must have at least one")
    matrix, types = matrix[seen], types[seen]
    sums, n_each = _sums(matrix, types, len(names)), np.bincount(types, minlength=len(names))
    means = _shrunk(sums, n_each, sums.sum(axis=0) / sums.sum())
    kept = np.sort(stream(seed, "cells to fit").permutation(len(seen))[:_MOST])
    cells = _Cells.of(dense(matrix[kept]).astype(float), types[kept], means)
    parents, loadings = np.arange(len(names)), np.zeros((counts.n_vars, 0))
    if n_programs:
        if max_states > 1:
            state = int(stream(seed, "states").integers(2**31))
            cells, parents = _split(cells, n_programs, max_states, state)
        cells, loadings, _ = cells.programmed(n_programs)
    spread = cells.spread()
    within = np.bincount(cells.types, minlength=len(parents)) + 1e-9  # none of a type may be kept
    within /= np.bincount(parents, within)[parents]
    return Calibration(
        genes=counts.var_names.to_numpy(dtype=str),
        cell_types=_numbered(names[parents]),
        labels=names[parents],
        proportions=n_each[parents] / n_each.sum() * within,
        base=cells.means.T / (median * np.exp(spread**2 / 2)),
        theta=cells.theta.T,
        loadings=loadings,
        median=median,
        spread=spread,
    )


def _types(counts, cell_type_key):
    """Number of each cell's type, and the names of the types."""
    names = np.full(counts.n_obs, "A")
    if cell_type_key is not None:
        checks.choice("cell_type_key", cell_type_key, counts.obs.columns)
        names = labels(counts.obs, cell_type_key, f"cell_type_key = {cell_type_key!r}")
    types, names = pd.factorize(names)
    return types, np.asarray(names, dtype=str)


@dataclass(frozen=True)
class _Cells:
    """Cells to fit, and what counts to expect in them.

    counts: (n_cells, n_genes)
    types: (n_cells,) number of the type
    means: (n_types, n_genes) mean counts
    size: (n_cells,) capture relative to that of other cells of the type
    theta: (n_types, n_genes) inverse dispersion
    """

    counts: np.ndarray
    types: np.ndarray
    means: np.ndarray
    size: np.ndarray
    theta: np.ndarray

    @classmethod
    def of(cls, counts, types, means):
        """Cells without programs, with the likeliest size: a gene weighs mu / (1 + mu / theta).

        By totals, a few genes with large and varying counts would set the size for all.
        """
        cells = cls(counts, types, means, counts.sum(axis=1) / means.sum(axis=1)[types], None)
        cells = cells.dispersed(np.zeros(counts.shape[1]))
        size = cells.size
        for _ in range(_ROUNDS):
            damped = 1 / (1 + size[:, None] * (means / cells.theta)[types])
            told = np.sum(damped * means[types], axis=1)
            size = np.maximum(np.sum(damped * counts, axis=1), 0.5) / told
        return cells.sized(size)

    def expected(self):
        return np.maximum(self.means[self.types] * self.size[:, None], _TINY)

    def sized(self, size):
        """The cells with another size, scaled to a mean of 1 in each type."""
        mean = np.bincount(self.types, size) / np.maximum(np.bincount(self.types), 1)
        return replace(self, size=size / mean[self.types])

    def dispersed(self, squares):
        """The cells with their theta, given (n_genes,) squared lengths of loadings."""
        given = self.counts, self.expected(), self.types, len(self.means), squares
        return replace(self, theta=dispersions.fit(*given).T)

    def programmed(self, n_programs, n_times=2):
        """The cells with size and theta given programs, their loadings, and means of programs.

        The theta of the first time has to explain what programs do, and makes them too weak.
        """
        cells = self
        for _ in range(n_times):
            given = cells.counts, np.log(cells.expected()), cells.theta[cells.types]
            loadings, z, shift = programs.fit(*given, n_programs)
            cells = cells.sized(cells.size * np.exp(shift))
            cells = cells.dispersed(np.sum(loadings**2, axis=1))
        return cells, loadings, z

    def spread(self):
        """Standard deviation of the log of the captured share.

        Its square is the variance of log sizes within types, less what the noise of counts makes:
        the inverse of the Fisher information.
        """
        log_size = pd.Series(np.log(self.size))
        within = log_size - log_size.groupby(self.types).transform("mean")
        n_free = max(1, len(log_size) - len(np.unique(self.types)))
        mean = self.expected()
        noise = 1 / np.sum(mean / (1 + mean / self.theta[self.types]), axis=1)
        return float(np.sqrt(max(0.0, np.sum(within**2) / n_free - np.mean(noise))))


def _split(cells, n_programs, max_states, random_state):
    """The cells with the states of types as types, and the type of each, (n_states,)."""
    z = cells.programmed(n_programs, n_times=1)[2]
    z = z[:, np.mean(z**2, axis=0) > _CLEAR]
    types, parents = np.zeros_like(cells.types), []
    for parent in range(len(cells.means)):
        those = np.flatnonzero(cells.types == parent)
        found = _states(z[those], max_states, random_state) if z.size else np.zeros(len(those), int)
        types[those] = len(parents) + found
        parents += [parent] * (found.max(initial=0) + 1)
    parents = np.array(parents)
    n_each = np.bincount(types, minlength=len(parents))
    prior = cells.means[parents] / cells.means[parents].sum(axis=1, keepdims=True)
    means = _shrunk(_sums(cells.counts, types, len(parents)), n_each, prior)
    alone = np.bincount(parents)[parents] == 1
    means[alone] = cells.means[parents[alone]]
    return _Cells.of(cells.counts, types, means), parents


def _states(z, max_states, random_state):
    """Numbers of the states of one type's cells, the largest state first."""
    best, found = np.inf, np.zeros(len(z), dtype=int)
    for n_states in range(1, min(max_states, len(z) // _FEWEST) + 1):
        mixture = GaussianMixture(
            n_states, covariance_type="diag", n_init=3, reg_covar=0.05, random_state=random_state
        )
        state = mixture.fit_predict(z)
        n_each = np.bincount(state, minlength=n_states)
        if n_each.min() >= _FEWEST / 2 and mixture.bic(z) < best:
            best = mixture.bic(z)
            found = np.argsort(np.argsort(-n_each, kind="stable"))[state]
    return found


def _sums(matrix, types, n_types):
    """Sums of counts over the cells of each type, (n_types, n_genes)."""
    rows = (types, np.arange(len(types)))
    return dense(sparse.csr_matrix((np.ones(len(types)), rows)) @ matrix).astype(float)


def _shrunk(sums, n_each, prior):
    """Mean counts of a type, (n_types, n_genes), with a gamma prior of shape `_PRIOR`.

    sums: (n_types, n_genes) sums of counts
    n_each: (n_types,) number of cells
    prior: (n_types or 1, n_genes) shares of the total
    """
    expected = prior * sums.sum(axis=1, keepdims=True)
    means = expected * (sums + _PRIOR) / (expected + _PRIOR)
    means *= sums.sum(axis=1, keepdims=True) / means.sum(axis=1, keepdims=True)
    return means / np.maximum(n_each, 1)[:, None]


def _numbered(names):
    """Names, with a number for those that are there several times."""
    place = pd.Series(names).groupby(names).cumcount().to_numpy() + 1
    several = pd.Series(names).duplicated(keep=False)
    return np.array([f"{n}/{i}" if s else n for n, i, s in zip(names, place, several)])
