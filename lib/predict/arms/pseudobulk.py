"""Means over the cells of each arm of a screen, as models of arms begin with them."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib.counts import CONTROL, SEPARATOR, counts_of

TARGET_SUM = 1e4  # of log1p, as usual
ARM = ["perturbation", "perturbation_type", "strength", "cell_type"]  # of obs: what an arm is


@dataclass(frozen=True)
class Pseudobulk:
    """Controls and arms of a screen.

    genes: names
    arms: a row an arm: perturbation, perturbation_type, strength, cell_type, n_cells, and `genes`,
        the list of what is perturbed
    counted: (n_arms, n_genes) mean counts
    means: (n_arms, n_genes) the same at the controls' mean total of the cell type
    logs: (n_arms, n_genes) mean of log1p of counts scaled to a total of 10,000
    control_means, control_logs: cell type -> the same of control cells, (n_genes,)
    n_control: cell type -> cells
    """

    genes: list[str]
    arms: pd.DataFrame
    counted: np.ndarray
    means: np.ndarray
    logs: np.ndarray
    control_means: dict[str, np.ndarray]
    control_logs: dict[str, np.ndarray]
    n_control: dict[str, int]

    @classmethod
    def of(cls, train: ad.AnnData) -> Pseudobulk:
        """Those of the cells to train on. Raises ValueError without control cells."""
        if "perturbation" not in train.obs:
            raise ValueError("train: has no obs['perturbation']; must be a screen's cells")
        obs = labels_of(train)
        code = obs.groupby(ARM, sort=False).ngroup().to_numpy()
        counts = sparse.csr_matrix(counts_of(train), dtype=float)
        logs = logs_of(counts)
        member = sparse.csr_matrix((np.ones(len(code)), (code, np.arange(len(code)))))
        n_cells = np.bincount(code)
        sums, of_logs = (member @ counts).toarray(), (member @ logs).toarray()
        of_logs /= n_cells[:, None]
        depth = np.maximum(sums.sum(axis=1), 1)
        table = obs.drop_duplicates().reset_index(drop=True).assign(n_cells=n_cells)
        is_control = (table["perturbation"] == CONTROL).to_numpy()
        if not is_control.any():
            raise ValueError("train: has no control cells")
        control_means, control_logs, n_control, level = {}, {}, {}, {}
        for place in np.flatnonzero(is_control):
            name = table["cell_type"].iloc[place]
            control_means[name] = sums[place] / n_cells[place]
            control_logs[name], n_control[name] = of_logs[place], int(n_cells[place])
            level[name] = depth[place] / n_cells[place]
        lacking = set(table["cell_type"]) - set(level)
        if lacking:
            raise ValueError(f"train: cell type {min(lacking)!r} has no control cells")
        per_count = table["cell_type"].map(level).to_numpy() / depth
        means = sums * per_count[:, None]
        table["genes"] = [name.split(SEPARATOR) for name in table["perturbation"]]
        arms = table[~is_control].reset_index(drop=True)
        counted = sums / n_cells[:, None]
        given = arms, *(values[~is_control] for values in (counted, means, of_logs))
        return cls(list(train.var_names), *given, control_means, control_logs, n_control)

    def folds(self, pseudo_cells: float = 5.0) -> np.ndarray:
        """Log fold of each arm's means over those of its type's controls, (n_arms, n_genes).

        pseudo_cells: cells' worth of the controls' mean that are added to both, so that a gene
            without counts has no infinite one
        """
        before = self.before()
        n = self.arms["n_cells"].to_numpy()[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            folds = np.log(n * self.means + pseudo_cells * before) - np.log(
                (n + pseudo_cells) * before
            )
        return np.where(before > 0, folds, 0.0)

    def before(self) -> np.ndarray:
        """Mean counts of the controls of each arm's cell type, (n_arms, n_genes)."""
        means = [self.control_means[name] for name in self.arms["cell_type"]]
        return np.array(means).reshape(self.means.shape)

    def own(self) -> np.ndarray:
        """Whether an arm perturbs a gene, (n_arms, n_genes) bool."""
        places = {gene: place for place, gene in enumerate(self.genes)}
        own = np.zeros(self.means.shape, dtype=bool)
        for arm, genes in enumerate(self.arms["genes"]):
            own[arm, [places[gene] for gene in genes if gene in places]] = True
        return own


def labels_of(train: ad.AnnData) -> pd.DataFrame:
    """The arm of each cell, controls among them, columns ARM."""
    return train.obs[ARM].astype({name: str for name in ARM if name != "strength"})


def logs_of(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """log1p of counts scaled to a total of 10,000, (n_cells, n_genes)."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    return (sparse.diags(TARGET_SUM / np.maximum(totals, 1)) @ counts).log1p()
