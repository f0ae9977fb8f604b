"""The law of cells whose X no longer holds counts, and the law under a drug without a draw."""

import warnings

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

from lib import dataset, perturb
from lib.simulate import truth
from tests.agreement import one_line


def assert_same_law(law, other):
    for name in ("mu", "theta", "pi"):
        np.testing.assert_array_equal(getattr(law, name), getattr(other, name))


@pytest.fixture(scope="module")
def cells():
    base = dataset.base_genes(150, 60, None, n_cell_types=2, seed=1)
    parents = ["gene_03", "gene_41"]
    return dataset.get_mech_dataset(base, "hill", gene="mech", parents=parents, seed=1)


def changed(cells, how):
    cells = cells.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "total" in how:
            sc.pp.normalize_total(cells)
        if "log1p" in how:
            sc.pp.log1p(cells)
        if "scale" in how:
            sc.pp.scale(cells)
    return cells


USES = {
    "law": dataset.law,
    "law of a gene": lambda a: dataset.law(a, "mech"),
    "do": lambda a: perturb.do(a, {"gene_03": 5}, seed=2),
    "treat": lambda a: perturb.additive(a, 3.0, seed=2),
    "dose_series": lambda a: perturb.dose_series(a, {"gene_03": [0, 5]}, cells=[0, 3], seed=2),
    "exogenous_noise": lambda a: perturb.exogenous_noise(a, seed=2),
    "concat": lambda a: dataset.concat([a, a]),
    "get_mech_dataset": lambda a: dataset.get_mech_dataset(
        a, gene="more", parents=["gene_03"], target_zero_prob=None, seed=2
    ),
}
each_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


def assert_same(one, other):
    if isinstance(one, ad.AnnData):
        np.testing.assert_array_equal(dataset.dense(one.X), dataset.dense(other.X))
        assert_same_law(dataset.law(one), dataset.law(other))
        assert set(one.layers) == {"do"} and one.raw is None and "log1p" not in one.uns
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert_same_law(one, other)


@each_use
@pytest.mark.parametrize(
    "how", [("total",), ("log1p",), ("total", "log1p"), ("total", "log1p", "scale")], ids="+".join
)
def test_cells_whose_counts_are_gone_are_refused_in_one_line(cells, use, how):
    with pytest.raises(ValueError) as error:
        use(changed(cells, how))
    logarithm = ["uns['log1p']"] if "log1p" in how else []
    allowed = "whole numbers of at least 0"
    one_line(error, "adata: X holds", allowed, 'layers["counts"]', *logarithm)


@each_use
def test_counts_kept_in_a_layer_are_used_instead_and_leave_nothing_stale(cells, use):
    kept = cells.copy()
    kept.layers["counts"], kept.raw = kept.X.copy(), kept.copy()
    assert_same(use(changed(kept, ("total", "log1p"))), use(cells))
    assert_same(use(kept), use(cells))


@each_use
def test_cells_of_a_backed_file_are_those_in_memory(tmp_path, cells, use):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert_same(use(backed), use(cells))
    backed.file.close()


def test_x_is_looked_at_where_counts_are_in_both():
    cells = dataset.get_mech_dataset(dataset.base_genes(30, 3, seed=1), seed=1)
    cells.layers["counts"] = cells.X.copy()
    after = dataset.with_counts(cells, {"gene_0": np.full(30, 9)})
    assert (dataset.law(after, "mech_linear").mu != dataset.law(cells, "mech_linear").mu).any()


def test_the_law_of_base_genes_and_new_cells_depend_on_no_counts(cells):
    wrong, base = changed(cells, ("total", "log1p")), list(cells.var_names[:60])
    assert_same_law(dataset.law(wrong, base), dataset.law(cells, base))
    assert_same(dataset.fresh_cells(wrong, 10, seed=1), dataset.fresh_cells(cells, 10, seed=1))
    without = cells.copy()
    without.X = None
    assert_same_law(dataset.law(without, base), dataset.law(cells, base))
    with pytest.raises(ValueError) as error:
        dataset.law(without)
    one_line(error, "X is missing")


def test_a_few_cells_that_a_normalisation_happened_to_double_are_noticed(cells):
    doubled = cells.copy()
    totals = np.asarray(doubled.X.sum(1)).ravel()
    some = np.flatnonzero(np.diff(cells.X.indptr) >= 40)[:1]
    wrong = doubled[some].copy()
    sc.pp.normalize_total(wrong, target_sum=2 * totals[some[0]])
    assert (wrong.X.data == np.round(wrong.X.data)).all()
    with pytest.raises(ValueError) as error:
        dataset.law(wrong)
    one_line(error, "multiples of 2")


@pytest.fixture(scope="module")
def control():
    return dataset.base_genes(40, 6, n_cell_types=3, seed=5)


@pytest.mark.parametrize("kind, effect", [("additive", 6.0), ("fold_change", 0.3)])
@pytest.mark.parametrize(
    "options",
    [{}, {"genes": ["gene_1", "gene_4"], "cell_type_factors": {"B": 0.5, "C": 2.0}, "dose": 1.7}],
)
def test_law_under_a_drug_is_that_of_the_treated_cells_without_a_draw(
    control, kind, effect, options
):
    control = perturb.do(control, {"gene_2": 3})
    treated = perturb.treat(control, kind, effect, name="a/b", seed=1, **options)
    drugs, dose = treated.uns["drugs"], options.get("dose", 1.0)
    for given in (drugs, list(drugs.values())):
        assert_same_law(truth.treated_law(control, given, "a/b", dose), dataset.law(treated))
    twice = dataset.treated_law(control, drugs, "a/b", 2 * dose)
    drawn = perturb.treat(control, kind, effect, **options | {"dose": 2 * dose})
    np.testing.assert_allclose(twice.mu[:, 0], dataset.law(drawn).mu[:, 0])


def test_law_under_a_drug_is_refused_where_there_is_none(cells, control):
    treated = perturb.additive(control, name="x")
    drugs = treated.uns["drugs"]
    below = perturb.additive(control, -1e-6, name="x", dose=0).uns["drugs"]
    for call, *parts in (
        (lambda: truth.treated_law(cells, drugs, "x"), "genes = 'mech'", "base genes"),
        (lambda: truth.treated_law(control, drugs, "y"), "drug = 'y'"),
        (lambda: truth.treated_law(control, drugs, "x", -1), "dose = -1", "at least 0"),
        (lambda: truth.treated_law(treated, drugs, "x"), "control: has treated cells"),
        (lambda: truth.treated_law(control, below, "x", 1e9), "below 0"),
    ):
        with pytest.raises(ValueError) as error:
            call()
        one_line(error, *parts)
