"""Models of a screen's arms that everything else has to beat: no change, the mean, additivity.

Each is a fold of every gene, by which the mean counts of the control cells in the query are
multiplied.
"""

import abc
from typing import NamedTuple, Self

import anndata as ad
import numpy as np

from lib import checks
from lib.counts import CONTROL, SEPARATOR, counts_of, dense
from lib.predict.arms.answers import Means
from lib.predict.arms.pseudobulk import Pseudobulk
from lib.predict.base import Perturbation, Query

_MOST = 0.99  # share of expression taken away, at most, in the logarithm that scales an effect


class ArmModel(abc.ABC):
    """A model that learns from means over the cells of arms. A subclass writes `learn`, `predict`.

    bulk: `Pseudobulk` of the cells to train on
    """

    def fit(self, train: ad.AnnData) -> Self:
        self.bulk = Pseudobulk.of(train)
        self.learn(train)
        return self

    @abc.abstractmethod
    def learn(self, train: ad.AnnData) -> None:
        """Learn from `self.bulk`, and from the cells that it was made of."""

    @abc.abstractmethod
    def predict(self, query: Query) -> Means: ...


class OfFolds(ArmModel):
    """A model of the folds of mean counts. A subclass writes `learn` and `log_fold`."""

    @abc.abstractmethod
    def log_fold(self, what: Perturbation, cell_type: str) -> np.ndarray:
        """Log fold of each gene's mean count in an arm over controls, (n_genes,)."""

    def predict(self, query):
        checks.same_genes("control", query.cells, self.bulk.genes)
        mean = dense(counts_of(query.cells).mean(axis=0)).ravel().astype(float)
        folds = np.exp(self.log_fold(query.perturbation, query.cell_type))
        return Means((mean * folds)[query.cells.var_names.get_indexer(query.genes)])


class NoChange(OfFolds):
    """The mean counts of the control cells."""

    def learn(self, train):
        """Nothing."""

    def log_fold(self, what, cell_type):
        return np.zeros(len(self.bulk.genes))


class PerturbedMean(OfFolds):
    """The mean fold over all perturbed cells, whatever was perturbed: Systema's "perturbed mean".

    (Viñas Torné et al. 2025, Nature Biotechnology.) Cells of all types count alike. Unlike in
    Systema, cells in which a gene was perturbed itself are left out of its mean.
    """

    def learn(self, train):
        self.fold = mean_fold(self.bulk)

    def log_fold(self, what, cell_type):
        return np.log(np.maximum(self.fold, 1e-9))


class Additive(OfFolds):
    """The sum of the log folds that each perturbed gene has when it is perturbed alone.

    These are taken from arms of the same cell type, if there are any, else from those of others.
    An arm's log fold is proportional to the log of the fold of the perturbed gene itself, so that
    an arm at one strength foretells others.
    """

    def learn(self, train):
        self.effects = Effects.of(self.bulk, self.bulk.folds())

    def log_fold(self, what, cell_type):
        return sum(self.effects.find(part, what, cell_type) for part in genes_of(what))


class ShrunkenAdditive(OfFolds):
    """As `Additive`, with each arm's log folds shrunken towards their mean over arms.

    An empirical Bayes estimate (Efron and Morris 1975, JASA 70, 311). With m_g the log fold of
    `PerturbedMean`, the log fold of gene g in an arm of one gene is

        y_ag = m_g + d_ag + noise,   d_ag ~ N(0, u_a t_g),   noise ~ N(0, v_ag),

    v by the counts' variance in controls and the number of cells, t and u by the moments of y - m
    over arms and over genes, y and m both at the controls' mean total here. The estimate of d_ag is
    (y_ag - m_g) u_a t_g / (u_a t_g + v_ag), and a gene without an arm of its own has 0. A pair's
    log fold is m_g + r (d_ag + d_bg): what all arms share counts once, and r, by least squares over
    the pairs to train on, is how much of the rest comes again in another arm, from 0 to 1; 1
    without pairs.
    """

    def learn(self, train):
        bulk, own, folds = self.bulk, self.bulk.own(), self.bulk.folds()
        self.mean = np.log(np.maximum(mean_fold(bulk), 1e-9))
        variance = noise_variance(bulk, control_dispersions(train))
        away = folds - np.log(np.maximum(mean_fold(bulk, bulk.means), 1e-9))
        is_single = np.array([len(genes) == 1 for genes in bulk.arms["genes"]], dtype=bool)
        kept = np.ones(away.shape)
        kept[is_single] = shrinkage(np.where(own, np.nan, away)[is_single], variance[is_single])
        self.effects = Effects.of(bulk, np.where(own, away, kept * away))
        self.repeated = self._repeated(away, np.where(own, 0, 1 / variance))

    def _repeated(self, away, weights):
        """The factor r of pairs.

        away, weights: (n_arms, n_genes) deviations of all arms from the mean, and their weights
        """
        both = np.zeros(2)
        for place, row in enumerate(self.bulk.arms.itertuples(index=False)):
            if len(row.genes) > 1:
                what = Perturbation(row.perturbation, row.strength, row.perturbation_type)
                expected = self._deviation(what, row.cell_type)
                both += weights[place] * expected @ np.column_stack([away[place], expected])
        return float(np.clip(both[0] / both[1], 0, 1)) if both[1] > 0 else 1.0

    def _deviation(self, what, cell_type):
        """Sum of what the perturbed genes with an arm of their own do beyond the mean."""
        seen = [gene for gene in genes_of(what) if gene in self.effects.genes]
        found = [self.effects.find(gene, what, cell_type) for gene in seen]
        return np.sum(found, axis=0) if found else np.zeros(len(self.mean))

    def log_fold(self, what, cell_type):
        parts = genes_of(what)
        if len(parts) == 1:
            self.effects.known(parts)
        repeated = 1.0 if len(parts) == 1 else self.repeated
        return self.mean + repeated * self._deviation(what, cell_type)


class Effects(NamedTuple):
    """What arms of one gene did, to be carried over to other strengths and cell types.

    genes: gene -> places of its arms
    kinds, strengths, cell_types: of the arms
    values: (n_arms, n_genes) log folds
    """

    genes: dict[str, list[int]]
    kinds: list[str]
    strengths: list[float]
    cell_types: list[str]
    values: np.ndarray

    @classmethod
    def of(cls, bulk: Pseudobulk, values: np.ndarray) -> Self:
        """Those of the single arms.

        values: (n_arms, n_genes), of all arms
        """
        genes = {}
        for place, names in enumerate(bulk.arms["genes"]):
            if len(names) == 1:
                genes.setdefault(names[0], []).append(place)
        columns = (list(bulk.arms[c]) for c in ("perturbation_type", "strength", "cell_type"))
        return cls(genes, *columns, values)

    def known(self, genes: list[str]) -> None:
        """Raises NotImplementedError for a gene without an arm."""
        for gene in genes:
            if gene not in self.genes:
                raise NotImplementedError(f"no arm of {gene} alone was seen")

    def find(self, gene: str, what: Perturbation, cell_type: str) -> np.ndarray:
        """The mean over a gene's arms, (n_genes,), each scaled to the strength of `what`.

        Arms of the same cell type, of the same perturbation type and of the same strength come
        before others, in that order.
        """
        self.known([gene])
        places = self.genes[gene]
        for column, wanted in (
            (self.cell_types, cell_type),
            (self.kinds, what.perturbation_type),
            (self.strengths, what.strength),
        ):
            places = [place for place in places if column[place] == wanted] or places
        target = own_log_fold(what.perturbation_type, what.strength)
        seen = [own_log_fold(self.kinds[p], self.strengths[p]) for p in places]
        if not all(seen) and target:
            raise NotImplementedError(f"an arm of {gene} at strength 0 tells nothing of others")
        scales = [target / own if target else 0.0 for own in seen]
        return np.mean([scale * self.values[p] for scale, p in zip(scales, places)], axis=0)


def genes_of(what: Perturbation) -> list[str]:
    """Names of the perturbed genes."""
    return what.name.split(SEPARATOR)


def own_log_fold(kind: str, strength: float) -> float:
    """Log fold of a gene that is perturbed itself: log(1 - s), or the log of an activation's fold.

    kind: knockdown, knockout or activation
    """
    if kind == "activation":
        return float(np.log(strength))
    return float(np.log1p(-min(strength, _MOST)))


def mean_fold(bulk: Pseudobulk, means: np.ndarray | None = None) -> np.ndarray:
    """Counts of perturbed cells over those that as many controls of their types have, (n_genes,).

    Cells in which a gene is perturbed itself are left out of both; 1 where none is left.

    means: (n_arms, n_genes) of arms, in place of `bulk.counted`
    """
    if not len(bulk.arms):
        raise ValueError("train: has no perturbed cells")
    n_cells = np.where(bulk.own(), 0, bulk.arms["n_cells"].to_numpy()[:, None])
    expected = (n_cells * bulk.before()).sum(axis=0)
    found = (n_cells * (bulk.counted if means is None else means)).sum(axis=0)
    return np.where(expected > 0, found / np.where(expected > 0, expected, 1), 1.0)


def control_dispersions(train: ad.AnnData) -> np.ndarray:
    """phi in variance = mean + phi mean² of control counts, by moments, (n_genes,), at least 0.

    Counts are taken at the mean total of the cells, within each cell type, and averaged.
    """
    labels = train.obs["perturbation"].to_numpy() == CONTROL
    types = train.obs["cell_type"].astype(str).to_numpy()
    found = []
    for name in np.unique(types[labels]):
        counts = dense(counts_of(train)[labels & (types == name)]).astype(float)
        totals = counts.sum(axis=1, keepdims=True)
        scale = totals.mean() / np.maximum(totals, 1)
        scaled = counts * scale
        mean = scaled.mean(axis=0)
        # of Poisson counts that are multiplied by a factor c, the variance is c times the mean
        excess = scaled.var(axis=0) - (scaled * scale).mean(axis=0)
        found.append(np.where(mean > 0, excess / np.where(mean > 0, mean, 1) ** 2, 0.0))
    return np.maximum(np.mean(found, axis=0), 0)


def noise_variance(
    bulk: Pseudobulk, dispersions: np.ndarray, pseudo_cells: float = 5.0
) -> np.ndarray:
    """Sampling variance of the log folds of `bulk.folds`, (n_arms, n_genes), to first order."""
    types = bulk.arms["cell_type"]
    before = bulk.before()
    n_control = types.map(bulk.n_control).to_numpy()[:, None]
    n_cells = bulk.arms["n_cells"].to_numpy()[:, None]
    both = (n_cells * bulk.means + pseudo_cells * before) / (n_cells + pseudo_cells)
    some = before > 0
    both, before = np.where(some, both, 1), np.where(some, before, 1)
    part = n_cells / (n_cells + pseudo_cells)
    of_arm = part**2 * (1 / both + dispersions) / n_cells
    of_controls = part**2 * (1 / before + dispersions) / n_control
    return np.where(some, of_arm + of_controls, 1.0)


def shrinkage(away: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Share of each deviation that is no noise, from 0 to 1: u_a t_g / (u_a t_g + v_ag).

    away: (n_arms, n_genes) deviations from their mean; NaN: unknown
    variance: (n_arms, n_genes) of their noise, v

    t_g is the excess of the mean square over the arms, u_a that over genes as a share of what t
    leads to expect, each at least 0.
    """
    known = np.isfinite(away)
    n_arms = known.sum(axis=0)
    excess = np.where(known, np.where(known, away, 0) ** 2 - variance, 0)
    of_gene = np.maximum(excess.sum(axis=0) / np.maximum(n_arms, 1), 0)
    expected = np.maximum((known * of_gene).sum(axis=1), 1e-300)
    of_arm = np.maximum(excess.sum(axis=1) / expected, 0)
    signal = of_arm[:, None] * of_gene
    return signal / (signal + variance)
