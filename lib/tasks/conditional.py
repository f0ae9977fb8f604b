"""Conditional questions: the law of a gene given the other genes' counts in that very cell.

A question is a gene and cells, with the gene's true law in each: held-out cells, cells after do(parent = dose) inside
and beyond the doses of training, after a pair of these, and genes that an intervention doesn't touch.
"""

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks, dataset, perturb
from lib.counts import CONTROL, dense
from lib.predict.base import Query
from lib.seeds import key, stream
from lib.tasks.base import Question, identified

# What each version changed. Scores of two versions don't mix: where the same parameters give other cells or laws than
# before, a new one is due.
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


def identity(*, mechanism: str = "", **parameters) -> str:
    """What the questions of notebook 05 are known by, from its parameters. `mechanism` stands before `mechanisms`."""
    return identified(
        VERSIONS, QUESTIONS, parameters | ({"mechanisms": [mechanism]} if mechanism else {})
    )


def simulate(
    n_cells: int,
    n_genes: int,
    zero_rate: float,
    kinds: list[str],
    n_parents: int = 0,
    *,
    seed: int | tuple[int, ...],
) -> ad.AnnData:
    """Training cells: independent base genes, and a mechanistic gene of each kind, a function of `n_parents` of them.

    n_parents: drawn at random for each kind; 0 for all
    """
    train = dataset.base_genes(n_cells, n_genes, zero_rate, seed=seed)
    base, n_parents = list(train.var_names), checks.integer("n_parents", n_parents, 0, n_genes)
    for kind in kinds:
        places = np.sort(
            stream(seed, f"parents of {kind}").permutation(n_genes)[: n_parents or n_genes]
        )
        train = dataset.get_mech_dataset(
            train, kind, parents=[base[i] for i in places], target_zero_prob=zero_rate, seed=seed
        )
    return train


def question(
    cells: ad.AnnData, gene: str, split: str, mechanism: str = "", dose: np.ndarray | None = None
) -> Question:
    """The question for the law of one gene in some cells, with the truth about it."""
    return Question(Query(cells, [gene]), dataset.law(cells, [gene]), split, mechanism, dose)


def questions(
    train: ad.AnnData,
    test: ad.AnnData,
    reference: ad.AnnData,
    *,
    n_doses: int = 30,
    n_pair_doses: int = 5,
    n_off_target: int = 2,
    seed,
) -> list[Question]:
    """What is asked about each mechanistic gene of a data set.

    test: held-out cells
    reference: cells on which interventions are performed
    n_doses: of the parent with the largest weight (the first, where a mechanism has none), from 0 to twice the 99.9th
        percentile of its counts in `train`; inside are those up to the 99th
    n_pair_doses: of each of that parent and a second one, inside
    n_off_target: base genes that are asked about after do() of a parent of the first mechanistic gene
    """
    seed, kinds = key(seed), dataset.kinds(train)
    if not kinds:
        raise ValueError(
            "train: has no mechanistic gene to ask about; dataset.get_mech_dataset adds one"
        )
    asked, cells = [], range(reference.n_obs)
    for gene, kind in kinds.items():
        asked.append(question(test, gene, "held_out", kind))
        try:
            parent = perturb.parent_to_perturb(train, "largest", gene)
        except ValueError:  # a mechanism of one's own may have no weights
            parent = dataset.parents(train)[gene][0]
        values, end = perturb.doses_to_beyond(train, parent, n_doses, percentile=99.9)
        doses = perturb.dose_series(reference, {parent: values}, cells=cells, seed=seed)
        dose = perturb.dose_of(doses, parent)
        for split, rows in (("do_inside", dose <= end), ("do_beyond", dose > end)):
            asked.append(question(doses[rows].copy(), gene, split, kind, dose[rows]))
        if len(dataset.parents(train)[gene]) > 1:
            second = perturb.second_parent(train, parent, gene)
            tops = {g: perturb.doses_to_beyond(train, g, 2)[1] for g in (parent, second)}
            grid = {
                g: np.unique(np.round(np.linspace(0, np.floor(top), n_pair_doses)))
                for g, top in tops.items()
            }
            pairs = perturb.dose_series(reference, grid, cells=cells[::4], seed=(*seed, 3))
            asked.append(question(pairs, gene, "pairs", kind))
        if gene == next(iter(kinds)):
            some = doses[np.isin(dose, values[values <= end][::2])].copy()
            others = [
                g for g in train.var_names if g != parent and not train.var.loc[g, "mechanistic"]
            ][:n_off_target]
            asked += [question(some, g, "off_target") for g in others]
    return asked


def interventional_data(
    train: ad.AnnData, asked: list[Question], *, seed: int | tuple[int, ...]
) -> ad.AnnData | None:
    """A screen of as many cells as `train`: controls, and an arm for each base gene but those with doses asked about.

    Returns None where this leaves fewer than two genes.
    """
    held_out = {
        str(g) for q in asked if q.dose is not None for g in q.cells.obs["perturbed"].unique()
    }
    genes = [
        g for g in train.var_names if not train.var.loc[g, "mechanistic"] and g not in held_out
    ]
    if len(genes) < 2:
        return None
    return arms(train, genes, n_cells=max(2, train.n_obs // (len(genes) + 1)), seed=seed)


def arms(
    adata: ad.AnnData, genes: list[str], *, n_cells: int, seed: int | tuple[int, ...]
) -> ad.AnnData:
    """A screen of single genes: control cells, and for each gene fresh cells under do(gene = dose).

    n_cells: of each cell type, in an arm and among the controls

    The dose of a gene is the 90 % quantile of its non-zero counts in `adata`, rounded, and 1 if it has none: a strong
    activation that is still inside the training range. Returns AnnData with `obs["perturbed"]`, and the dose in
    `obs["dose_set"]` (NaN for controls), controls first. No two arms share a cell.
    """
    genes = checks.genes("genes", genes, list(adata.var_names))
    seed = key(seed)
    parts = [_labelled(dataset.fresh_cells(adata, n_cells, seed=(*seed, 0)), CONTROL, np.nan)]
    for i, gene in enumerate(genes, start=1):
        counts = dense(adata[:, [gene]].X)[:, 0]
        dose = float(np.round(np.quantile(counts[counts > 0], 0.9))) if (counts > 0).any() else 1.0
        cells = dataset.fresh_cells(adata, n_cells, seed=(*seed, i))
        parts.append(_labelled(perturb.do(cells, {gene: dose}, seed=(*seed, i)), gene, dose))
    joined = dataset.concat(parts)
    joined.obs["perturbed"] = pd.Categorical(
        joined.obs["perturbed"].astype(str), categories=[CONTROL, *genes]
    )
    return joined


def _labelled(cells, name, dose):
    cells.obs["perturbed"] = name
    cells.obs["dose_set"] = dose
    return cells
