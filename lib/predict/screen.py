"""Models that learn from perturbed cells: `obs["perturbed"]` names an arm by a gene, or several joined by "+".

Cells without that column are controls. No model here is told a dose.
"""

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks
from lib.counts import CONTROL, dense
from lib.laws import maximum_likelihood
from lib.predict.base import Conditional, Constant, around

_SEPARATOR = "+"


def perturbed(cells: ad.AnnData) -> np.ndarray:
    """What was perturbed in each cell, (n_cells,) names."""
    if "perturbed" not in cells.obs:
        return np.full(cells.n_obs, CONTROL, dtype=object)
    return cells.obs["perturbed"].astype(str).to_numpy(dtype=object)


def was_set(cells: ad.AnnData) -> np.ndarray:
    """Whether an intervention has set a count, (n_cells, n_genes) bool, by what the arms are called."""
    labels, genes = perturbed(cells), list(cells.var_names)
    was = np.zeros(cells.shape, dtype=bool)
    for label in pd.unique(labels):
        named = [label] if label in genes else label.split(_SEPARATOR)
        columns = [genes.index(g) for g in named if g in genes]
        was[np.ix_(labels == label, columns)] = True
    return was


class MeanOfPerturbed(Constant):
    """One law for every cell: that of the gene's counts in all perturbed cells of the training set.

    The "perturbed mean" of Systema (Viñas Torné et al. 2025, Nature Biotechnology) as a law, by maximum likelihood: how
    much of a score needs no idea of what was perturbed. Unlike there, a count that the intervention itself set is no
    part of it, since it has no law.
    """

    def fit(self, train):
        rows = perturbed(train) != CONTROL
        if not rows.any():
            raise ValueError("train: has no perturbed cells in obs['perturbed']")
        cells = train[rows]
        counts, drawn = dense(cells.X), ~was_set(cells)
        drawn[:, ~drawn.any(0)] = True  # set in every perturbed cell: what was set is all there is
        self.laws = {
            g: maximum_likelihood.fit(counts[drawn[:, i], i : i + 1])[0]
            for i, g in enumerate(train.var_names)
        }
        return self


class Bilinear(Conditional):
    """The linear model of Ahlmann-Eltze, Huber & Anders (2025, Nature Methods 22, 1657): means, no laws.

    Y, (genes x arms), are means of log1p counts over the cells of an arm. With G, (genes x K), the principal components
    of the genes' rows of Y, and P the rows of G for the perturbed genes,

        Y - control ~ G W P' + b,   W = (G'G + l I)^-1 G' (Y - control - b) P (P'P + l I)^-1,

    b the row means, which is the paper's ridge on both sides. An arm never seen has the effect G W p + b, and "a+b" the
    sum of the two single effects. All cells of an arm have one mean, whatever the dose and their own counts.

    As in the authors' `run_linear_pretrained_model.R`, the control arm is one of the columns, with p = 0, and Y is a
    difference from it. Other than there: log1p of raw counts, since simulated cells have no library size; K is at most
    the number of arms less one; and pairs are sums of predicted singles, where the paper has *observed* ones.

    n_components: K
    penalty: l
    smearing: multiply expm1 by a factor a gene, the mean count over the arms by the mean of expm1 of their mean logs
        (Duan 1983, JASA 78, 605): expm1 of a mean of logs lies below the mean count. The paper stays with logs
    """

    def __init__(self, n_components: int = 10, penalty: float = 0.1, smearing: bool = False):
        super().__init__()
        self.n_components, self.smearing = (
            checks.integer("n_components", n_components, low=1),
            smearing,
        )
        self.penalty = checks.number("penalty", penalty, low=1e-12)

    def fit(self, train):
        self.genes, labels = list(train.var_names), perturbed(train)
        names = [
            n for n in pd.unique(labels) if n != CONTROL and _SEPARATOR not in n
        ]  # a pair has no embedding
        if len(names) < 2 or CONTROL not in labels:
            raise ValueError(
                "train: must have control cells and at least two arms of one gene each in obs['perturbed']"
            )
        checks.genes("obs['perturbed'] of train", names, self.genes)
        counts = dense(train.X).astype(float)
        logs, arm_names = np.log1p(counts), (CONTROL, *names)
        means = np.column_stack([logs[labels == n].mean(0) for n in arm_names])
        mean_counts = np.mean([counts[labels == n].mean(0) for n in arm_names], axis=0)
        naive = np.expm1(means).mean(1)
        self.factor = (
            np.where(naive > 0, mean_counts / np.maximum(naive, 1e-12), 1.0)
            if self.smearing
            else np.ones(len(self.genes))
        )
        self.control, changes = means[:, 0], means - means[:, :1]
        left, values, _ = np.linalg.svd(means - means.mean(0), full_matrices=False)
        k = min(self.n_components, len(names))
        self.embedding = left[:, :k] * values[:k]
        arms_embedding = np.vstack(
            [np.zeros(k), self.embedding[[self.genes.index(n) for n in names]]]
        )
        self.offset = changes.mean(1)
        left_inverse = np.linalg.solve(
            self.embedding.T @ self.embedding + self.penalty * np.eye(k), self.embedding.T
        )
        right_inverse = np.linalg.solve(
            arms_embedding.T @ arms_embedding + self.penalty * np.eye(k), arms_embedding.T
        ).T
        self.weights = left_inverse @ (changes - self.offset[:, None]) @ right_inverse
        return self

    def effect(self, name: str) -> np.ndarray:
        """Change of the mean log1p count of every gene, (n_genes,), under a perturbation by its name."""
        if name == CONTROL:
            return np.zeros(len(self.genes))
        parts = checks.genes("obs['perturbed']", name.split(_SEPARATOR), self.genes)
        return sum(
            self.embedding @ self.weights @ self.embedding[self.genes.index(p)] + self.offset
            for p in parts
        )

    def law_of(self, cells, gene):
        return around(self.means(cells, gene))

    def means(self, cells: ad.AnnData, gene: str) -> np.ndarray:
        """Mean count of `gene` in each cell, (n_cells,)."""
        logs = self.log1p_means(cells, gene)
        return self.factor[self.genes.index(gene)] * np.expm1(np.maximum(logs, 0))

    def log1p_means(self, cells: ad.AnnData, gene: str) -> np.ndarray:
        """Mean of log1p of the count of `gene` in each cell, (n_cells,): the scale of the fit."""
        column = self.genes.index(*checks.genes("gene", gene, self.genes))
        labels = perturbed(cells)
        means = {
            name: self.control[column] + self.effect(name)[column] for name in pd.unique(labels)
        }
        return np.array([means[name] for name in labels])
