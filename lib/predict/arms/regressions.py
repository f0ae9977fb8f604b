"""Regressions of an arm's effect on what is known of the perturbed genes."""

import abc

import numpy as np
import scipy.sparse as sparse

from lib import checks
from lib.counts import CONTROL, counts_of
from lib.predict import bilinear
from lib.predict.arms.answers import Means
from lib.predict.arms.baselines import (
    ArmModel,
    OfFolds,
    control_dispersions,
    genes_of,
    mean_fold,
)
from lib.predict.arms.pseudobulk import TARGET_SUM, Pseudobulk, logs_of
from lib.predict.base import Query
from lib.seeds import stream

EMBEDDINGS = "components", "prior"
FOLDS = 5  # of cross-validation
_PENALTIES = np.logspace(-3, 6, 10)
_COMPONENTS = 1, 2, 3, 5, 7, 10
_NEIGHBOURS = 1, 2, 3, 5, 10, 20, 50


class OfLogs(ArmModel):
    """A model of changes of mean log1p counts. A subclass writes `learn` and `change`.

    It is told no strength, and asked about those alone that it was trained on.
    """

    @abc.abstractmethod
    def change(self, genes: list[str]) -> np.ndarray:
        """Change of each gene's mean of log1p of counts scaled to 10,000, (n_genes,).

        genes: names of what is perturbed
        """

    def predict(self, query):
        checks.same_genes("control", query.cells, self.bulk.genes)
        refuse_other_strengths(self.bulk, query.perturbation)
        return changed(query, self.change(known(genes_of(query.perturbation), self.bulk.genes)))


class MeanOfLogs(ArmModel):
    """The mean change of log1p over all perturbed cells, whatever was perturbed.

    It is `PerturbedMean` on the scale of logs. With `own` it is Systema's own, in which cells count
    in the mean of the gene that is perturbed in them too.
    """

    def __init__(self, *, own: bool = False):
        self.own = bool(own)

    def learn(self, train):
        self.mean = mean_change(self.bulk, own=self.own)

    def predict(self, query):
        checks.same_genes("control", query.cells, self.bulk.genes)
        return changed(query, self.mean)


class Bilinear(OfLogs):
    """The linear model of Ahlmann-Eltze, Huber & Anders: `predict.bilinear` has its formulas.

    Y are changes of means of log1p counts, scaled to 10,000, over the cells of arms of one gene,
    each from the controls of its cell type; the controls are one of its columns, with p = 0. G has
    the first K principal components of the genes' rows of means, and p is the row of the perturbed
    gene in G, or in the prior embedding. Unlike in the paper, a perturbed gene's own change is
    replaced by its mean over other arms, since no other model has it in its mean either. An arm of
    two genes, of which the paper predicts none by this model, has the sum of their rows.

    embedding: of what is perturbed, "components" or "prior"
    n_components, penalty: K and l; None: by cross-validation, in which arms of the same gene are
        left out together. The paper has 10 and 0.1
    seed: of the arms that are left out together
    """

    def __init__(
        self,
        *,
        embedding: str = "components",
        n_components: int | None = None,
        penalty: float | None = None,
        seed=0,
    ):
        self.kind = checks.choice("embedding", embedding, EMBEDDINGS)
        if n_components is not None:
            checks.integer("n_components", n_components, 1)
        if penalty is not None:
            checks.number("penalty", penalty, 1e-12)
        self.n_components, self.penalty = n_components, penalty
        self.seed = seed

    def learn(self, train):
        self.prior = prior_of(train) if self.kind == "prior" else None
        arms = self.bulk.arms
        single = np.flatnonzero([len(genes) == 1 for genes in arms["genes"]])
        names = [arms["genes"].iloc[place][0] for place in single]
        if len(set(names)) < 2:
            raise ValueError("train: must have arms of at least two genes")
        types = list(self.bulk.control_logs)
        before = np.column_stack([self.bulk.control_logs[name] for name in types])
        of_arms = [types.index(name) for name in arms["cell_type"].iloc[single]]
        self.logs = np.hstack([before, self.bulk.logs[single].T])
        self.changes = np.hstack([0 * before, self.bulk.logs[single].T - before[:, of_arms]])
        self.places = np.array(
            [-1] * len(types) + [self.bulk.genes.index(n) for n in known(names, self.bulk.genes)]
        )
        own = np.arange(len(self.changes))[:, None] == self.places
        of_others = (self.places >= 0) & ~own
        mean = np.where(of_others, self.changes, 0).sum(axis=1) / of_others.sum(axis=1)
        self.changes = np.where(own, mean[:, None], self.changes)
        if self.n_components is None or self.penalty is None:
            self._choose()
        rows = np.arange(len(self.places))
        self.components = self._components(rows, self.n_components)
        self.weights, self.offset = self._weights(rows, self.components, self.penalty)

    def _choose(self):
        """Set the numbers that predict arms of genes left out best."""
        ks = _COMPONENTS if self.n_components is None else (self.n_components,)
        penalties = _PENALTIES if self.penalty is None else (self.penalty,)
        loss = np.zeros((len(ks), len(penalties)))
        for out in folds_of(self.places, self.seed):
            rows, held_out = np.flatnonzero(~out), np.flatnonzero(out)
            truth = self.changes[:, held_out]
            asked = self.places[held_out]
            others = np.arange(len(self.changes))[:, None] != asked
            most = self._components(rows, max(ks))
            for i, k in enumerate(ks):
                components = most[:, :k]
                given = (components if self.prior is None else self.prior)[asked]
                for j, penalty in enumerate(penalties):
                    found, offset = self._weights(rows, components, penalty)
                    error = components @ (found @ given.T) + offset[:, None] - truth
                    loss[i, j] += (error**2 * others).sum()
        best = np.unravel_index(loss.argmin(), loss.shape)
        self.n_components, self.penalty = ks[best[0]], float(penalties[best[1]])

    def _components(self, rows, n_components):
        n_components = min(n_components, len(rows) - 1)
        return bilinear.principal_components(self.logs[:, rows], n_components)

    def _weights(self, rows, components, penalty):
        """W and b of the columns `rows`."""
        embedding = components if self.prior is None else self.prior
        places = self.places[rows]
        arms = np.where((places >= 0)[:, None], embedding[places], 0)
        return bilinear.weights(self.changes[:, rows], components, arms, penalty)

    def change(self, genes):
        embedding = self.components if self.prior is None else self.prior
        row = embedding[[self.bulk.genes.index(gene) for gene in genes]].sum(axis=0)
        return self.components @ (self.weights @ row) + self.offset


class Neighbours(OfFolds):
    """The mean fold in the arms of the k genes most like the perturbed one; of a pair, the product.

    Alike are genes with a small angle between their rows of the prior embedding, or, without one,
    that are correlated over control cells. A gene with an arm of its own is its own neighbour; one
    with neither prior nor counts has the mean over all arms. What all arms share counts once in a
    pair.

    n_neighbours: k; None: by leaving one gene out at a time
    """

    def __init__(self, *, n_neighbours: int | None = None):
        if n_neighbours is not None:
            checks.integer("n_neighbours", n_neighbours, 1)
        self.n_neighbours = n_neighbours

    def learn(self, train):
        bulk = self.bulk
        self.mean = mean_fold(bulk)
        has_prior = "prior" in train.varm
        self.directions = _unit(train.varm["prior"] if has_prior else standardised_logs(train))
        before = np.array([bulk.control_means[name] for name in bulk.arms["cell_type"]])
        folds = np.where(before > 0, bulk.means / np.where(before > 0, before, 1), 1)
        folds = np.where(bulk.own(), self.mean, folds)
        arms = {}
        for place, genes in enumerate(bulk.arms["genes"]):
            if len(genes) == 1 and genes[0] in bulk.genes:
                arms.setdefault(bulk.genes.index(genes[0]), []).append(place)
        if len(arms) < 2:
            raise ValueError("train: must have arms of at least two genes")
        self.seen = np.array(list(arms))
        self.folds = np.array([folds[places].mean(axis=0) for places in arms.values()])
        if self.n_neighbours is None:
            control = np.mean(list(bulk.control_means.values()), axis=0)
            self._choose(control / (1 + control_dispersions(train) * control))

    def _choose(self, weights):
        """Set the k that foretells genes left out best, by squares that are about twice a KL."""
        tried = [k for k in _NEIGHBOURS if k < len(self.seen) - 1] + [len(self.seen) - 1]
        loss = np.zeros(len(tried))
        for place, gene in enumerate(self.seen):
            nearest = [i for i in self._nearest(gene) if i != place]
            means = self.folds[nearest].cumsum(axis=0) / np.arange(1, len(nearest) + 1)[:, None]
            errors = means[np.array(tried) - 1] - self.folds[place]
            loss += (errors**2 * weights).sum(axis=1)
        self.n_neighbours = tried[loss.argmin()]

    def _nearest(self, gene):
        """Places of the genes with arms, the most like this one first."""
        return np.argsort(-(self.directions[self.seen] @ self.directions[gene]), kind="stable")

    def _fold(self, gene):
        if not self.directions[gene].any():
            return self.folds.mean(axis=0)
        return self.folds[self._nearest(gene)[: self.n_neighbours]].mean(axis=0)

    def log_fold(self, what, cell_type):
        refuse_other_strengths(self.bulk, what)
        parts = known(genes_of(what), self.bulk.genes)
        folds = [self._fold(self.bulk.genes.index(gene)) for gene in parts]
        logs = np.log(np.maximum(folds, 1e-3))
        return logs.sum(axis=0) - (len(parts) - 1) * np.log(np.maximum(self.mean, 1e-3))


def known(parts: list[str], genes: list[str]) -> list[str]:
    """The perturbed genes. Raises NotImplementedError for one that the data doesn't have."""
    for gene in parts:
        if gene not in genes:
            raise NotImplementedError(f"nothing is known of {gene}")
    return parts


def refuse_other_strengths(bulk, what) -> None:
    """Raises NotImplementedError for a strength that no arm has been trained on."""
    seen = zip(bulk.arms["perturbation_type"], bulk.arms["strength"])
    if (what.perturbation_type, what.strength) not in set(seen):
        raise NotImplementedError("knows no strengths but those seen")


def prior_of(train) -> np.ndarray:
    """The prior embedding, (n_genes, n_dims). Raises NotImplementedError where there is none."""
    if "prior" not in train.varm:
        raise NotImplementedError("needs a prior embedding")
    return np.asarray(train.varm["prior"], dtype=float)


def folds_of(places: np.ndarray, seed) -> list[np.ndarray]:
    """Columns to leave out together, (n_columns,) bool each: all of a gene, controls never.

    places: (n_columns,) places of the perturbed genes; -1: controls
    """
    genes = stream(seed, "arms left out").permutation(np.unique(places[places >= 0]))
    n_folds = min(FOLDS, len(genes))
    return [np.isin(places, genes[first::n_folds]) for first in range(n_folds)]


def changed(query: Query, change: np.ndarray) -> Means:
    """The mean logs of a query's control cells and a change of each of their genes."""
    values = np.maximum(mean_logs(query.cells) + change, 0)
    return Means(values[query.cells.var_names.get_indexer(query.genes)], TARGET_SUM)


def mean_change(bulk: Pseudobulk, *, own: bool = False) -> np.ndarray:
    """Mean over perturbed cells of the change of log1p from controls of their type, (n_genes,).

    own: whether cells count in the mean of a gene that is perturbed in them
    """
    before = np.array([bulk.control_logs[name] for name in bulk.arms["cell_type"]])
    weights = np.where(bulk.own() & (not own), 0, bulk.arms["n_cells"].to_numpy()[:, None])
    return (weights * (bulk.logs - before)).sum(axis=0) / np.maximum(weights.sum(axis=0), 1)


def mean_logs(cells) -> np.ndarray:
    """Mean of `pseudobulk.logs_of`, (n_genes,)."""
    return np.asarray(logs_of(_counts(cells)).mean(axis=0)).ravel()


def _counts(cells):
    return sparse.csr_matrix(counts_of(cells), dtype=float)


def standardised_logs(train) -> np.ndarray:
    """Standardised logs of control cells, (n_genes, n_cells): products are correlations."""
    control = train[(train.obs["perturbation"] == CONTROL).to_numpy()]
    logs = logs_of(_counts(control)).toarray().T
    return logs - logs.mean(axis=1, keepdims=True)


def _unit(rows):
    """Rows of length 1, or 0."""
    length = np.sqrt((np.asarray(rows, dtype=float) ** 2).sum(axis=1, keepdims=True))
    return rows / np.where(length > 0, length, 1)
