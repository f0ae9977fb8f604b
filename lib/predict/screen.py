"""Models that learn from perturbed cells.

`obs["perturbed"]` names an arm by a gene, or by several joined by "+". Cells without that column
are controls. No model here is told a dose.
"""

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks
from lib.counts import CONTROL, SEPARATOR, dense
from lib.laws import maximum_likelihood
from lib.predict import bilinear
from lib.predict.base import Conditional, Constant, around


def perturbed(cells: ad.AnnData) -> np.ndarray:
    """Name of what was perturbed in each cell, (n_cells,)."""
    if "perturbed" not in cells.obs:
        return np.full(cells.n_obs, CONTROL, dtype=object)
    return cells.obs["perturbed"].astype(str).to_numpy(dtype=object)


def was_set(cells: ad.AnnData) -> np.ndarray:
    """Whether an intervention set a count, (n_cells, n_genes) bool, by the names of the arms."""
    labels = perturbed(cells)
    genes = list(cells.var_names)
    was = np.zeros(cells.shape, dtype=bool)
    for label in pd.unique(labels):
        named = [label] if label in genes else label.split(SEPARATOR)
        columns = [genes.index(g) for g in named if g in genes]
        was[np.ix_(labels == label, columns)] = True
    return was


class MeanOfPerturbed(Constant):
    """One law for every cell: the law of the gene's counts in all perturbed training cells.

    It is the "perturbed mean" of Systema (Viñas Torné et al. 2025, Nature Biotechnology), as a law
    by maximum likelihood. It shows how much of a score needs no idea of what was perturbed. Unlike
    in Systema, counts that the intervention itself set are left out, since they have no law.
    """

    def fit(self, train):
        rows = perturbed(train) != CONTROL
        if not rows.any():
            raise ValueError("train: has no perturbed cells in obs['perturbed']")
        cells = train[rows]
        counts = dense(cells.X)
        drawn = ~was_set(cells)
        drawn[:, ~drawn.any(0)] = True  # a gene that was set in every cell has no other counts
        self.laws = {}
        for i, gene in enumerate(train.var_names):
            self.laws[gene] = maximum_likelihood.fit(counts[drawn[:, i], i : i + 1])[0]
        return self


class Bilinear(Conditional):
    """The linear model of Ahlmann-Eltze, Huber & Anders (2025, Nature Methods 22, 1657): means.

    Y, (genes x arms), are means of log1p counts over the cells of an arm. With G, (genes x K), the
    principal components of the genes' rows of Y, and P the rows of G for the perturbed genes,

        Y - control ~ G W P' + b,   W = (G'G + l I)^-1 G' (Y - control - b) P (P'P + l I)^-1,

    b the row means, which is the paper's ridge on both sides. An arm never seen has the effect
    G W p + b, and "a+b" the sum of the two single effects. All cells of an arm have one mean,
    whatever the dose and their own counts.

    As in the authors' `run_linear_pretrained_model.R`, the control arm is one of the columns, with
    p = 0, and Y is a difference from it. Three things differ: counts are log1p of raw counts, since
    simulated cells have no library size; K is at most the number of arms less one; and pairs are
    sums of predicted singles, where the paper has *observed* ones.

    n_components: K
    penalty: l
    smearing: whether to multiply expm1 by a factor a gene: its mean count over the arms, divided by
        the mean of expm1 of its mean logs (Duan 1983, JASA 78, 605). expm1 of a mean of logs lies
        below the mean count. The paper stays with logs
    """

    def __init__(self, n_components: int = 10, penalty: float = 0.1, smearing: bool = False):
        super().__init__()
        self.n_components = checks.integer("n_components", n_components, low=1)
        self.penalty = checks.number("penalty", penalty, low=1e-12)
        self.smearing = smearing

    def fit(self, train):
        self.genes = list(train.var_names)
        labels = perturbed(train)
        # a pair has no embedding
        names = [n for n in pd.unique(labels) if n != CONTROL and SEPARATOR not in n]
        if len(names) < 2 or CONTROL not in labels:
            needed = "control cells and at least two arms of one gene each"
            raise ValueError(f"train: must have {needed} in obs['perturbed']")
        checks.genes("obs['perturbed'] of train", names, self.genes)
        counts = dense(train.X).astype(float)
        arms = [labels == name for name in (CONTROL, *names)]
        logs = np.log1p(counts)
        means = np.column_stack([logs[arm].mean(0) for arm in arms])
        self.factor = np.ones(len(self.genes))
        if self.smearing:
            mean_counts = np.mean([counts[arm].mean(0) for arm in arms], axis=0)
            naive = np.expm1(means).mean(1)
            self.factor = np.where(naive > 0, mean_counts / np.maximum(naive, 1e-12), 1.0)
        self.control = means[:, 0]
        changes = means - means[:, :1]
        self.embedding = bilinear.principal_components(means, min(self.n_components, len(names)))
        arms_embedding = np.zeros((len(arms), self.embedding.shape[1]))
        arms_embedding[1:] = self.embedding[[self.genes.index(n) for n in names]]
        self.weights, self.offset = bilinear.weights(
            changes, self.embedding, arms_embedding, self.penalty
        )
        return self

    def effect(self, name: str) -> np.ndarray:
        """Change of the mean log1p count of every gene, (n_genes,).

        name: perturbation, as in `obs["perturbed"]`
        """
        if name == CONTROL:
            return np.zeros(len(self.genes))
        parts = checks.genes("obs['perturbed']", name.split(SEPARATOR), self.genes)
        rows = [self.embedding[self.genes.index(part)] for part in parts]
        return sum(self.embedding @ self.weights @ row + self.offset for row in rows)

    def law_of(self, cells, gene):
        return around(self.means(cells, gene))

    def means(self, cells: ad.AnnData, gene: str) -> np.ndarray:
        """Mean count of `gene` in each cell, (n_cells,)."""
        logs = self.log1p_means(cells, gene)
        return self.factor[self.genes.index(gene)] * np.expm1(np.maximum(logs, 0))

    def log1p_means(self, cells: ad.AnnData, gene: str) -> np.ndarray:
        """Mean log1p count of `gene` in each cell, (n_cells,): the scale of the fit."""
        column = self.genes.index(*checks.genes("gene", gene, self.genes))
        labels = perturbed(cells)
        changes = {name: self.effect(name)[column] for name in pd.unique(labels)}
        return np.array([self.control[column] + changes[name] for name in labels])
