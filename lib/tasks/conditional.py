"""Conditional questions: the law of a gene given the other genes' counts in that very cell.

A question is a gene and cells, with the gene's true law in each cell: held-out cells, cells after
do(parent = dose) inside and beyond the doses of training, after a pair of these, and genes that an
intervention doesn't touch.
"""

from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks, dataset, perturb
from lib.counts import CONTROL, dense
from lib.seeds import key
from lib.tasks.base import Question, Series, identified
from lib.tasks.mechanistic import DISPERSION, base_genes, question, simulate

# What each version changed. Scores of two versions don't mix: where the same parameters give other
# cells or laws than before, a new version is due.
VERSIONS = {
    1: "six mechanisms of 20 base genes; held-out cells, do inside and beyond, pairs, off target"
}
QUESTIONS = (
    "seed",
    "n_cells",
    "n_test",
    "n_reference",
    "n_doses",
    "n_genes",
    "n_parents",
    "zero_rate",
    "mechanisms",
)


class Task(NamedTuple):
    """One replicate of the leaderboard.

    train: cells to train on
    reference: cells on which interventions are performed
    screen: perturbed cells to train on; None where `interventional_data` has too few genes
    asked: questions about mechanistic genes, and off target
    of_base: the question for each base gene in held-out cells, for models that have a law of it
    """

    train: ad.AnnData
    reference: ad.AnnData
    screen: ad.AnnData | None
    asked: list[Question]
    of_base: list[Question]

    @property
    def inputs(self) -> list[str]:
        """The genes whose counts a model may see: the base genes."""
        return base_genes(self.train)


def identity(*, mechanism: str = "", **parameters) -> str:
    """The name by which the questions of notebook 05 are known, from its parameters.

    mechanism: one of one's own, in place of `mechanisms`; "" for none
    """
    if mechanism:
        parameters["mechanisms"] = [mechanism]
    return identified(VERSIONS, QUESTIONS, parameters)


def task(
    n_cells: int,
    n_genes: int,
    zero_rate: float,
    kinds: list[str],
    n_parents: int = 0,
    *,
    n_test: int,
    n_reference: int,
    n_doses: int,
    seed: int | tuple[int, ...],
) -> Task:
    """Cells and questions of notebook 05.

    n_cells, n_genes, zero_rate, kinds, n_parents: as in `mechanistic.simulate`
    n_test: held-out cells
    n_reference: cells on which interventions are performed
    n_doses: doses of a parent, inside and beyond
    """
    seed = key(seed)
    train = simulate(n_cells, n_genes, zero_rate, kinds, n_parents, seed=seed)
    test = dataset.fresh_cells(train, n_test, seed=(*seed, 1))
    reference = dataset.fresh_cells(train, n_reference, seed=(*seed, 2))
    asked = questions(train, test, reference, n_doses=n_doses, seed=seed)
    screen = interventional_data(train, asked, seed=(*seed, 4))
    of_base = [question(test, gene, "base_genes") for gene in base_genes(train)]
    return Task(train, reference, screen, asked, of_base)


def questions(
    train: ad.AnnData,
    test: ad.AnnData,
    reference: ad.AnnData,
    *,
    n_doses: int = 30,
    n_pair_doses: int = 5,
    n_off_target: int = 2,
    seed: int | tuple[int, ...],
) -> list[Question]:
    """What notebook 05 asks about each mechanistic gene of a data set.

    test: held-out cells
    reference: cells on which interventions are performed
    n_doses: doses of the parent with the largest weight (the first, where a mechanism has none),
        from 0 to at least twice the 99.9th percentile of its counts in `train`; inside up to the
        99th
    n_pair_doses: doses of that parent and of a second one, inside
    n_off_target: base genes asked about after do() of a parent of the first mechanistic gene
    """
    seed = key(seed)
    kinds = dataset.kinds(train)
    if not kinds:
        raise ValueError(
            "train: has no mechanistic gene to ask about; dataset.get_mech_dataset adds one"
        )
    asked = []
    for gene in kinds:
        asked.append(question(test, gene, "held_out", kinds[gene]))
        try:
            parent = perturb.parent_to_perturb(train, "largest", gene)
        except ValueError:  # a mechanism of one's own may have no weights
            parent = dataset.parents(train)[gene][0]
        doses = {"n_doses": n_doses, "percentile": 99.9}
        series = dose_series(train, reference, gene, parent, **doses, seed=seed)
        asked += [series.question.part(rows, split) for split, rows in series.splits()]
        if len(dataset.parents(train)[gene]) > 1:
            second = perturb.second_parent(train, parent, gene)
            tops = {g: _percentile_99(train, g) for g in (parent, second)}
            asked.append(_pairs(reference, gene, tops, n_pair_doses, seed))
        if gene == next(iter(kinds)):
            asked += _off_target(series, n_off_target, every=2)
    return asked


def responses(
    train: ad.AnnData,
    reference: ad.AnnData,
    perturbed: str = "largest",
    *,
    n_doses: int = 30,
    n_pair_doses: int = 5,
    n_off_target: int = 2,
    seed: int | tuple[int, ...],
) -> list[tuple[Series, list[Question]]]:
    """What notebook 03 asks about each mechanistic gene but DISPERSION.

    reference: cells on which interventions are performed
    perturbed: the parent with the "largest" or "smallest" weight, or a gene's name
    n_doses: doses of that gene, from 0 to at least twice the 99th percentile of its counts
    n_pair_doses: doses of that gene and of a second one, inside
    n_off_target: base genes asked about after do() of a parent of the first mechanistic gene

    Returns for each gene its dose series, and the questions about pairs and off target.
    """
    seed = key(seed)
    asked = []
    for gene in dataset.kinds(train):
        if gene == DISPERSION:
            continue
        parent = perturb.parent_to_perturb(train, perturbed, gene)
        series = dose_series(train, reference, gene, parent, n_doses=n_doses, seed=seed)
        second = perturb.second_parent(train, parent, gene)
        tops = {g: _percentile_99(train, g) for g in (parent, second)}
        others = [_pairs(reference, gene, tops, n_pair_doses, seed)]
        if not asked:
            others += _off_target(series, n_off_target, every=4)
        asked.append((series, others))
    return asked


def dose_series(
    train: ad.AnnData,
    reference: ad.AnnData,
    gene: str,
    parent: str,
    *,
    n_doses: int,
    percentile: float = 99.0,
    seed: int | tuple[int, ...],
) -> Series:
    """The question for a mechanistic gene in all reference cells at every dose of a parent.

    n_doses, percentile: as in `perturb.doses_to_beyond`
    """
    values, end = perturb.doses_to_beyond(train, parent, n_doses, percentile=percentile)
    every_cell = range(reference.n_obs)
    cells = perturb.dose_series(reference, {parent: values}, cells=every_cell, seed=seed)
    dose = perturb.dose_of(cells, parent)
    return Series(question(cells, gene, "do", dataset.kinds(train)[gene], dose), parent, end)


def _pairs(reference, gene, tops, n_doses, seed):
    """The question after do() of two genes at once, in every fourth reference cell.

    tops: gene -> what its doses go up to, for the two
    """
    ends = {g: np.floor(top) for g, top in tops.items()}  # no rounding leads beyond
    grid = {g: np.unique(np.round(np.linspace(0, end, n_doses))) for g, end in ends.items()}
    every_fourth = range(0, reference.n_obs, 4)
    cells = perturb.dose_series(reference, grid, cells=every_fourth, seed=(*seed, 3))
    return question(cells, gene, "pairs", dataset.kinds(reference)[gene])


def _off_target(series, n_genes, every):
    """Questions for some base genes that aren't set, in the cells of some doses inside.

    every: step between these doses; 1 for all
    """
    cells = series.question.cells
    dose = series.question.dose
    inside = np.unique(dose[dose <= series.end])
    some = cells[np.isin(dose, inside[::every])].copy()
    others = [g for g in base_genes(cells) if g != series.parent]
    return [question(some, g, "off_target") for g in others[:n_genes]]


def _percentile_99(cells, gene):
    return float(np.percentile(dense(cells[:, gene].X), 99))


def interventional_data(
    train: ad.AnnData, asked: list[Question], *, seed: int | tuple[int, ...]
) -> ad.AnnData | None:
    """A screen of as many cells as `train`: controls, and an arm for each of some base genes.

    These are the genes that no dose series sets. Returns None where there are fewer than two.
    """
    set_to_doses = [q.cells.obs["perturbed"] for q in asked if q.dose is not None]
    held_out = {str(gene) for perturbed in set_to_doses for gene in perturbed.unique()}
    genes = [g for g in base_genes(train) if g not in held_out]
    if len(genes) < 2:
        return None
    n_cells = max(2, train.n_obs // (len(genes) + 1))
    return arms(train, genes, n_cells=n_cells, seed=seed)


def arms(
    adata: ad.AnnData, genes: list[str], *, n_cells: int, seed: int | tuple[int, ...]
) -> ad.AnnData:
    """A screen of single genes: control cells, and for each gene fresh cells under do(gene = dose).

    n_cells: cells of each type, in an arm and among the controls

    The dose of a gene is the 90 % quantile of its non-zero counts in `adata`, rounded, and 1 if it
    has none: a strong activation that is still inside the training range. Returns AnnData with
    `obs["perturbed"]`, and the dose in `obs["dose_set"]` (NaN for controls), controls first. No two
    arms share a cell.
    """
    genes = checks.genes("genes", genes, list(adata.var_names))
    seed = key(seed)
    parts = [_labelled(dataset.fresh_cells(adata, n_cells, seed=(*seed, 0)), CONTROL, np.nan)]
    for i, gene in enumerate(genes, start=1):
        counts = dense(adata[:, [gene]].X)[:, 0]
        seen = counts[counts > 0]
        dose = float(np.round(np.quantile(seen, 0.9))) if len(seen) else 1.0
        cells = dataset.fresh_cells(adata, n_cells, seed=(*seed, i))
        parts.append(_labelled(perturb.do(cells, {gene: dose}, seed=(*seed, i)), gene, dose))
    joined = dataset.concat(parts)
    names = joined.obs["perturbed"].astype(str)
    joined.obs["perturbed"] = pd.Categorical(names, categories=[CONTROL, *genes])
    return joined


def _labelled(cells, name, dose):
    cells.obs["perturbed"] = name
    cells.obs["dose_set"] = dose
    return cells
