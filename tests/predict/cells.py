"""Cells that the tests of models share: their genes, their counts, and the same cells changed."""

import numpy as np

from lib import dataset

PARENTS = ["gene_0", "gene_1", "gene_2"]
GENES = [*PARENTS, "gene_3", "mech"]  # of the fixtures `linear` and `cells`


def counts_of(adata, gene):
    return dataset.dense(adata[:, gene].X).ravel()


def with_other_counts(adata, genes, seed=0):
    """The same cells with the counts of some genes replaced by other, larger ones."""
    rng = np.random.default_rng(seed)
    other = {}
    for gene in genes:
        other[gene] = rng.permutation(counts_of(adata, gene)) + rng.integers(0, 9, adata.n_obs)
    return dataset.with_counts(adata, other)


def table(law):
    return law.pmf_table(60)
