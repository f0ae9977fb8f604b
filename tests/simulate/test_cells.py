"""Mechanistic genes that are drawn many at once: each as if it were drawn alone, in its turn."""

import time

import numpy as np
import pytest

from lib import dataset, perturb
from lib.seeds import stream

OWN = "tests.mechanisms_of_ones_own:"


@pytest.fixture(scope="module")
def cells():
    """120 cells of 3 types: 8 base genes, 9 mechanistic ones up to 5 levels deep."""
    cells = dataset.base_genes(40, 8, n_cell_types=3, seed=1)
    own = {"theta_mechanism": OWN + "growing_theta", "target_zero_prob": None}
    for gene, mechanism, parents, options in (
        ("a", "linear", ["gene_0", "gene_5"], {"parameters": {"weights": np.array([2.0, 1.0])}}),
        ("b", "hill", ["a", "gene_1"], {}),
        ("c", "interaction", ["gene_2", "b", "a"], {"target_zero_prob": None}),
        ("aside", "polynomial", ["gene_6", "gene_7"], {}),
        ("d", "threshold", ["c"], {"target_zero_prob": 0.5}),
        ("e", OWN + "saturating", ["gene_3", "d", "aside"], own),
        ("f", "gate", ["e", "b"], {"target_zero_prob": None}),
        ("g", "hill", ["f", "gene_0"], {"theta_mechanism": "linear", "target_zero_prob": None}),
        ("h", "linear", ["gene_4"], {}),
    ):
        cells = dataset.get_mech_dataset(
            cells, mechanism, gene=gene, parents=parents, **options, seed=2
        )
    return cells


def one_by_one(cells, genes, draw):
    """The cells with genes drawn in their turn, each from `dataset.law` of the cells until then.

    draw: function (gene, law of the cells whose count isn't set, which cells these are)
    """
    free = {gene: ~np.isnan(dataset.law(cells, gene).mu[:, 0]) for gene in genes}
    for gene in genes:  # nothing of what was drawn before is left
        drawn = dataset.dense(cells[:, gene].X)[:, 0]
        drawn[free[gene]] = 0
        cells = dataset.with_counts(cells, {gene: drawn})
    for gene in genes:
        counts = dataset.dense(cells[:, gene].X)[:, 0]
        counts[free[gene]] = draw(gene, dataset.law(cells, gene)[free[gene], 0], free[gene])
        cells = dataset.with_counts(cells, {gene: counts})
    return cells


def after_an_intervention(seed):
    def draw(gene, law, free):
        return law.sample(stream(seed, f"counts of {gene} after an intervention"))

    return draw


def assert_same_counts(one, other):
    for part in ("data", "indices", "indptr"):
        first, second = (getattr(adata.X, part) for adata in (one, other))
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)


def test_fresh_cells_have_their_genes_drawn_one_by_one(cells):
    fresh = dataset.fresh_cells(cells, 50, seed=3)
    genes = list(dataset.parents(cells))
    assert len(genes) == 9

    def draw(gene, law, free):
        assert free.all()
        return law.sample(stream(3, f"fresh counts of {gene}"))

    assert_same_counts(fresh, one_by_one(fresh, genes, draw))


@pytest.mark.parametrize(
    "interventions",
    [
        {"gene_0": 9},
        {"gene_0": np.arange(120) % 11, "d": 2, "gene_6": 0},
        {"gene_0": 2**25},  # counts that float32 rounds
    ],
    ids=["one gene", "three genes", "large counts"],
)
def test_do_draws_descendants_one_by_one(cells, interventions):
    after = perturb.do(cells, interventions, seed=4)
    genes = dataset.descendants(cells, list(interventions))
    assert len(genes) >= 7 and "h" not in genes
    assert_same_counts(after, one_by_one(after, genes, after_an_intervention(4)))


def test_counts_that_were_set_before_stay_and_are_what_children_see(cells):
    some = dataset.concat([perturb.do(cells, {"b": 7, "e": 0}, seed=5), cells])
    after = perturb.do(some, {"gene_0": 9}, seed=6)
    assert (dataset.dense(after[:120, ["b", "e"]].X) == [7, 0]).all()
    assert (dataset.dense(after[120:, ["b", "e"]].X) != [7, 0]).any(axis=0).all()
    genes = dataset.descendants(some, ["gene_0"])
    assert_same_counts(after, one_by_one(after, genes, after_an_intervention(6)))


def test_counterfactuals_are_quantiles_one_by_one(cells):
    noise = perturb.exogenous_noise(cells, seed=7)
    after = perturb.do(cells, {"gene_0": 9, "c": 4}, exogenous=noise)

    def draw(gene, law, free):
        return law.quantile(noise[free, cells.var_names.get_loc(gene)])

    genes = dataset.descendants(cells, ["gene_0", "c"])
    assert_same_counts(after, one_by_one(after, genes, draw))


@pytest.mark.parametrize("kind", ["additive", "fold_change"])
def test_cells_under_a_drug_have_their_genes_drawn_one_by_one(cells, kind):
    targets = {"genes": ["gene_1", "a", "e"], "cell_type_factors": {"B": 0.5, "C": 0.0}}
    before = perturb.do(cells, {"b": np.arange(120) % 5})
    after = perturb.treat(before, kind, 2.0, dose=1.5, **targets, seed=8)
    plain = one_by_one(after, list(dataset.parents(cells)), after_an_intervention(8))
    assert_same_counts(after, plain)


def test_a_chain_of_genes_is_drawn_faster_than_one_by_one():
    cells, parent = dataset.base_genes(200, 50, seed=1), "gene_00"
    for i in range(150):
        weight = {"weights": np.array([1.0])}
        options = {"parents": [parent], "parameters": weight, "target_zero_prob": None}
        cells = dataset.get_mech_dataset(cells, gene=f"link_{i}", **options, seed=1)
        parent = f"link_{i}"
    started = time.process_time()
    after = perturb.do(cells, {"gene_00": 20}, seed=2)
    between = time.process_time()
    links = dataset.descendants(cells, ["gene_00"])
    plain = one_by_one(after, links, after_an_intervention(2))
    ours, theirs = between - started, time.process_time() - between
    assert len(links) == 150
    assert_same_counts(after, plain)
    assert ours < theirs / 10
