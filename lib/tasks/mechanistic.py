"""Cells with mechanistic genes, and the question for the law of such a gene in held-out cells."""

import anndata as ad
import numpy as np

from lib import checks, dataset
from lib.predict.base import Query
from lib.seeds import stream
from lib.tasks.base import Question

DISPERSION = "mech_dispersion"  # gene whose dispersion is mechanistic too


def simulate(
    n_cells: int,
    n_genes: int,
    zero_rate: float,
    kinds: list[str],
    n_parents: int = 0,
    *,
    dispersion: bool = False,
    seed: int | tuple[int, ...],
) -> ad.AnnData:
    """Training cells: independent base genes, and a mechanistic gene of each kind.

    n_genes: base genes
    zero_rate: share of zeros of every gene
    n_parents: base genes that a mechanistic gene depends on, drawn for each kind; 0 for all
    dispersion: whether to add the gene DISPERSION, whose mu is linear and theta a Hill function
    """
    train = dataset.base_genes(n_cells, n_genes, zero_rate, seed=seed)
    base = list(train.var_names)
    n_parents = checks.integer("n_parents", n_parents, 0, n_genes) or n_genes
    shared = {"target_zero_prob": zero_rate, "seed": seed}
    for kind in kinds:
        drawn = stream(seed, f"parents of {kind}").permutation(n_genes)[:n_parents]
        parents = [base[i] for i in np.sort(drawn)]
        train = dataset.get_mech_dataset(train, kind, parents=parents, **shared)
    if dispersion:
        mechanisms = {"mechanism": "linear", "theta_mechanism": "hill"}
        train = dataset.get_mech_dataset(train, gene=DISPERSION, **mechanisms, **shared)
    return train


def base_genes(cells: ad.AnnData) -> list[str]:
    """The genes that have a law of their own."""
    return list(cells.var_names[~cells.var["mechanistic"].to_numpy(dtype=bool)])


def question(
    cells: ad.AnnData, gene: str, split: str, mechanism: str = "", dose: np.ndarray | None = None
) -> Question:
    """The question for the law of one gene in some cells, with the truth about it."""
    return Question(Query(cells, [gene]), dataset.law(cells, [gene]), split, mechanism, dose)


def held_out(cells: ad.AnnData) -> list[Question]:
    """The question for each mechanistic gene in cells that no model was trained on."""
    kinds = dataset.kinds(cells)
    return [question(cells, gene, "held_out", kind) for gene, kind in kinds.items()]
