"""Laws of genes over the cells of a population: mixtures over a grid of rates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lib.laws.base import BLOCK
from lib.laws.mixture import Mixture
from lib.laws.zinb import ZINB

TAIL = 1e-10  # what a table of counts may leave out
_LARGEST = 2_000_000  # probabilities of a gene that are kept: 16 MB


class Rates(NamedTuple):
    """The distribution over cells of a rate of each gene, on the gene's own grid of logs.

    step: (n_genes,) distance of the grid's points, which are whole multiples of it
    first: (n_genes,) the multiple that the first point is
    shares: (n_points, n_genes) shares of the cells
    none: (n_genes,) share of the cells with a rate of 0
    """

    step: np.ndarray
    first: np.ndarray
    shares: np.ndarray
    none: np.ndarray

    @classmethod
    def of(cls, rates: Iterable[np.ndarray], step: np.ndarray) -> Rates:
        """The distribution of samples, each shared by two points so that the mean is kept.

        rates: (n_genes, n_samples) at least 0, or its rows one after the other
        step: (n_genes,)
        """
        found = [_shared(row, h) for row, h in zip(rates, step)]
        shares = np.zeros((max(len(row) for _, row, _ in found), len(found)))
        for gene, (_, row, _) in enumerate(found):
            shares[: len(row), gene] = row
        first = np.array([first for first, _, _ in found], dtype=np.int64)
        return cls(step, first, shares, np.array([none for _, _, none in found]))

    def times(self, other: Rates) -> Rates:
        """The distribution of the product of two independent rates, on the same grids."""
        shares = np.zeros((len(self.shares) + len(other.shares) - 1, len(self.step)))
        for place, row in enumerate(other.shares):
            shares[place : place + len(self.shares)] += row * self.shares
        none = 1 - (1 - self.none) * (1 - other.none)
        return Rates(self.step, self.first + other.first, shares, none)

    def put(self, genes: np.ndarray, others: Rates) -> Rates:
        """The same with the distributions `others` for some genes."""
        first = self.first.copy()
        first[genes] = others.first
        n_points = max(len(self.shares), len(others.shares))
        shares = np.zeros((n_points, len(first)))
        shares[: len(self.shares)] = self.shares
        shares[:, genes] = 0
        shares[: len(others.shares), genes] = others.shares
        none = self.none.copy()
        none[genes] = others.none
        return Rates(self.step, first, shares, none)

    @property
    def rates(self) -> np.ndarray:
        """The rates of the points, (n_points, n_genes)."""
        logs = self.step * (self.first + np.arange(len(self.shares))[:, None])
        return np.exp(np.minimum(logs, 600))  # of points beyond a gene's own, which have no share

    @property
    def mean(self) -> np.ndarray:
        """Mean rate, (n_genes,)."""
        return (self.shares * self.rates).sum(axis=0)


def _shared(rates, step):
    """The first point of a gene's grid, the shares of its points, and the share of rates of 0."""
    n_samples = len(rates)
    rates = rates[rates > 0]
    none = 1 - len(rates) / n_samples
    if not len(rates):
        return 0, np.zeros(1), none
    point = np.floor(np.log(rates) / step).astype(np.int64)
    first = int(point.min())
    point -= first
    n_points = int(point.max()) + 2
    per_rate = np.exp(-step * (first + np.arange(n_points)))
    upper = (rates * per_rate[point] - 1) / np.expm1(step)
    above = np.bincount(point, upper, n_points)
    shares = np.bincount(point, minlength=n_points) - above
    shares[1:] += above[:-1]
    return first, np.maximum(shares, 0) / n_samples, none


def aligned(parts: list[Rates]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distributions on the same grids, from one first point on.

    Returns the first multiples (n_genes,), shares (n_parts, n_points, n_genes), and the shares of
    rates of 0 (n_parts, n_genes).
    """
    first = np.min([part.first for part in parts], axis=0)
    n_points = max(int((part.first - first).max()) + len(part.shares) for part in parts)
    shares = np.zeros((len(parts), n_points, len(first)))
    genes = np.arange(len(first))
    for part, whole in zip(parts, shares):
        whole[part.first - first + np.arange(len(part.shares))[:, None], genes] = part.shares
    return first, shares, np.array([part.none for part in parts])


def divergence(f: np.ndarray, g: np.ndarray) -> float:
    """Kullback-Leibler divergence, in nats, of g from f, probabilities of the counts 0, 1, ..."""
    some = f > 0
    return max(0.0, float(f[some] @ np.log(f[some] / np.maximum(g[some], 1e-300))))


def mixed(parts: list[Rates], weights: list[float]) -> Rates:
    """The mixture of distributions on the same grids.

    weights: of sum 1; one may be below 0, to take a part away from a mixture that it is in
    """
    first, shares, none = aligned(parts)
    weights = np.asarray(weights)
    together = np.maximum(np.einsum("i,ijk->jk", weights, shares), 0)
    return Rates(parts[0].step, first, together, np.clip(weights @ none, 0, 1))


class Population(Mixture):
    """The law of each gene's count in a cell of a population, (n_genes,).

    rates: distributions of mu over the cells
    theta: (n_genes,) inverse dispersion given mu
    pi: (n_genes,) probability of a structural zero

    A cell of rate 0 is a structural zero too.
    """

    def __init__(self, rates: Rates, theta: np.ndarray, pi: np.ndarray):
        some = rates.shares.sum(axis=0)
        is_none = some <= 0
        shares = np.where(is_none, 1 / len(rates.shares), rates.shares)
        weights = shares / np.where(is_none, 1, some)
        pi = np.where(is_none, 1.0, 1 - (1 - pi) * (1 - rates.none))
        super().__init__(ZINB(rates.rates, theta, pi), weights)

    def reach(self, tail: float):
        above = np.cumsum(self.weights[::-1], axis=0)[::-1]
        return np.where(above > tail / 10, self.components.reach(tail), 0).max(axis=0)


class Tables:
    """Probabilities of counts at each point of genes' grids, to mix them fast and often.

    scale: distributions on the same grids by which rates are multiplied, such as capture
    theta, pi: (n_genes,) as in `Population`
    """

    def __init__(self, scale: Rates, theta: np.ndarray, pi: np.ndarray):
        self.scale, self.theta, self.pi = scale, theta, pi
        self._tables: dict[int, tuple[int, np.ndarray]] = {}

    def pmf(self, gene: int, first: int, shares: np.ndarray, none: np.ndarray) -> np.ndarray:
        """Probabilities of the counts 0, 1, ... of mixtures, (n_mixtures, n_counts).

        gene: place
        first: multiple of the gene's step that the first point is
        shares: (n_mixtures, n_points)
        none: (n_mixtures,) share of the cells with a rate of 0
        """
        stop = first + shares.shape[1]
        start, table = self._tables.get(gene, (first, np.zeros((0, 0))))
        if first < start or stop > start + len(table):
            start, stop = min(first, start), max(stop, start + len(table))
            weights = np.trim_zeros(self.scale.shares[:, gene], "b")
            laws, n_counts = self._laws(gene, start, stop, len(weights))
            if laws.shape[0] * n_counts > _LARGEST:
                laws, n_counts = self._laws(gene, first, first + shares.shape[1], len(weights))
                return self._streamed(laws, n_counts, gene, weights, shares, none)
            table = self._made(laws, n_counts, gene, weights)
            self._tables[gene] = start, table
        mixed_ones = shares @ table[first - start : first - start + shares.shape[1]]
        mixed_ones[:, 0] += none
        return mixed_ones

    def _laws(self, gene, start, stop, n_weights):
        """Laws at the scaled points from `start` to before `stop`, and where their counts end."""
        step, first = self.scale.step[gene], start + self.scale.first[gene]
        rates = np.exp(step * (first + np.arange(stop - start + n_weights - 1)))
        laws = ZINB(rates, self.theta[gene], self.pi[gene])
        return laws, int(np.ceil(laws.reach(TAIL).max())) + 2

    def _streamed(self, laws, n_counts, gene, weights, shares, none):
        """`pmf` without a table, which would be too large."""
        each = np.array([np.convolve(row, weights) for row in shares])
        found = np.empty((len(shares), n_counts))
        for start, block in zip(range(0, n_counts, BLOCK), laws.pmf_blocks()):
            found[:, start : start + BLOCK] = (each @ block.T)[:, : n_counts - start]
        found[:, 0] += none + self.scale.none[gene] * shares.sum(axis=1)
        return found

    def _made(self, laws, n_counts, gene, weights):
        """The table of the points that these laws are of, (n_points, n_counts)."""
        n_points = laws.shape[0] - len(weights) + 1
        parts = laws.pmf_table(n_counts)
        table = np.zeros((n_points, n_counts))
        for place, weight in enumerate(weights):
            table += weight * parts[place : place + n_points]
        table[:, 0] += self.scale.none[gene]
        return table
