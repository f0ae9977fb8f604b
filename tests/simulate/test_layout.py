"""What the truth depends on: kept through files, joins and earlier versions, whatever the names."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from lib import dataset, perturb
from lib.simulate import layout, ondisk
from tests.agreement import one_line

TYPES = ["A", "A/B", "CD4+/CD45RA+ T", "mu_A"]


def assert_same_law(law, other):
    for name in ("mu", "theta", "pi"):
        np.testing.assert_array_equal(getattr(law, name), getattr(other, name))


@pytest.fixture(scope="module")
def many_names():
    """Cell types, genes and drugs with slashes, one the beginning of another."""
    types = [dataset.base_genes(20, 5, cell_type=name, seed=i) for i, name in enumerate(TYPES)]
    cells = dataset.concat(types)
    cells.var_names = ["HLA-A/B", "HLA-A", "b/", "/c", "a.b"]
    options = {"target_zero_prob": None, "seed": 1}
    first = {"gene": "m/1", "theta_mechanism": "hill"}
    cells = dataset.get_mech_dataset(cells, "interaction", **first, **options)
    cells = dataset.get_mech_dataset(cells, gene="m", parents=["m/1", "b/"], **options)
    one = {"genes": ["HLA-A/B", "m"], "cell_type_factors": {"A/B": 0.25, "A": 3.0}}
    drug = perturb.fold_change(cells, 3.0, name="TGF-b/IL-2", **one, seed=1)
    other = perturb.additive(cells, 3.0, genes=["/c", "m/1"], name="TGF-b", dose=0.5, seed=2)
    both = perturb.do(drug, {"HLA-A/B": 7, "m/1": np.arange(80)})
    return dataset.concat([cells, drug, other, both])


def h5ad(cells, path):
    cells.write_h5ad(path / "cells.h5ad")
    return ad.read_h5ad(path / "cells.h5ad")


def zarr(cells, path):
    cells.write_zarr(path / "cells.zarr")
    return ad.read_zarr(path / "cells.zarr")


def chunks(cells, path):
    ondisk.write(path / "cells.h5ad", [cells[:200].copy(), cells[200:].copy()])
    return ondisk.read(path / "cells.h5ad")


def chunks_in_zarr(cells, path):
    ondisk.write(path / "cells.zarr", [cells[:200].copy(), cells[200:].copy()])
    return ad.read_zarr(path / "cells.zarr")


@pytest.mark.parametrize("through", [h5ad, zarr, chunks, chunks_in_zarr])
def test_truth_survives_files_whatever_the_names(tmp_path, many_names, through):
    before = many_names.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Writing zarr v2")
        after = through(before, tmp_path)
    assert dataset.cell_types(after) == TYPES and list(after.var_names) == list(before.var_names)
    assert [str(e["name"]) for e in layout.in_order(after.uns["drugs"])] == ["TGF-b/IL-2", "TGF-b"]
    assert dataset.parents(after) == dataset.parents(before)
    assert set(after.uns["drugs"]) == {"000", "001"}
    for part in (after.uns, after.varm, after.var, after.obs):
        assert not any("/" in key for key in part)
    assert_same_law(dataset.law(after), dataset.law(before))
    arms = [
        perturb.additive(a[:80].copy(), 4.0, name="a/b", cell_type_factors={"A/B": 2.0}, seed=3)
        for a in (before, after)
    ]
    assert (arms[0].X != arms[1].X).nnz == 0
    assert_same_law(*map(dataset.law, arms))


def test_entries_beyond_a_thousand_keep_their_order():
    entries = layout.numbered([{"i": i} for i in range(1002)])
    as_in_a_file = dict(sorted(entries.items()))
    assert [e["i"] for e in layout.in_order(as_in_a_file)] == list(range(1002))


def earlier_version():
    """Cells in the earlier layout, by hand: laws in columns of var, drugs under their names."""
    rng = np.random.default_rng(0)
    var = pd.DataFrame(index=["g0", "g1", "m"])
    for name in ("A", "T cell"):
        var[f"mu_{name}"] = [*rng.uniform(1, 9, 2), np.nan]
        var[f"theta_{name}"] = [*rng.uniform(1, 2, 2), 50.0]
        var[f"pi_{name}"] = [0.5, 0.25, 0.125]
    var["mechanistic"] = [False, False, True]
    given = {"drug": ["control"] * 4 + ["B", "A"] * 2, "dose": [0.0] * 4 + [0.5] * 4}
    obs = pd.DataFrame({"cell_type": ["A", "T cell"] * 4} | given)
    obs.index = [f"cell_{i}" for i in range(8)]
    drugs = {
        "B": {
            "kind": "additive",
            "effect": 4.0,
            "genes": np.array(["g0"]),
            "cell_types": np.array(["T cell"], dtype=object),
            "factors": np.array([2.0]),
        },
        "A": {
            "kind": "fold_change",
            "effect": 9.0,
            "genes": np.array(["g1", "m"]),
            "cell_types": np.array([], dtype=object),
            "factors": np.array([]),
        },
    }
    mechanism = {
        "gene": "m",
        "parents": np.array(["g0", "g1"]),
        "mu": {"mechanism": "linear", "parameters": {"weights": np.array([2.0, 1.0])}},
    }
    do = np.zeros((8, 3), dtype=np.int8)
    do[0, 1] = 1
    return ad.AnnData(
        scipy.sparse.csr_matrix(rng.poisson(3.0, (8, 3)).astype(np.float32)),
        obs=obs.astype({"cell_type": "category", "drug": "category"}),
        var=var,
        uns={"mechanisms": {"000": mechanism}, "drugs": drugs},
        layers={"do": scipy.sparse.csr_matrix(do)},
    )


@pytest.mark.parametrize("file", [False, True])
def test_cells_of_an_earlier_version_have_their_law(tmp_path, file):
    old = earlier_version()
    adata = h5ad(old, tmp_path) if file else old
    x, law = old.X.toarray(), dataset.law(adata)
    types = old.obs["cell_type"].astype(str)
    base = old.var.loc[["g0", "g1"]]
    rows = [[*base[f"mu_{t}"], max(0.1, 2 * a + b)] for t, (a, b) in zip(types, x[:, :2])]
    mu = np.array(rows)
    mu[[4, 6], 0] += 4.0 * 0.5  # drug B at dose 0.5 in cells of type A: no factor
    mu[[5, 7], 1:] *= 9.0**0.5
    mu[0, 1] = np.nan
    np.testing.assert_allclose(law.mu, mu)
    np.testing.assert_array_equal(law.pi[1:], np.tile([0.5, 0.25, 0.125], (7, 1)))
    theta = [old.var.loc["g1", f"theta_{t}"] for t in types[1:]]
    np.testing.assert_array_equal(law.theta[1:, 1], theta)
    assert dataset.cell_types(adata) == ["A", "T cell"]
    assert "mu_A" in adata.var and "mu" not in adata.varm  # it is left as it was


def test_cells_of_an_earlier_version_can_be_used_as_any_others(tmp_path):
    old = h5ad(earlier_version(), tmp_path)
    new = layout.upgraded(old)
    assert layout.upgraded(new) is new and list(new.var.columns) == ["mechanistic"]
    controls = (new[:4].copy(), old[:4].copy())
    for use in (
        lambda a: perturb.do(a, {"g0": 3}, seed=1),
        lambda a: perturb.additive(a, 2.0, name="A", seed=1),
        lambda a: dataset.fresh_cells(a, 5, seed=1),
        lambda a: dataset.get_mech_dataset(
            a, gene="n", parents=["m"], target_zero_prob=None, seed=1
        ),
        lambda a: dataset.concat([a, a]),
        lambda a: chunks(dataset.concat([a] * 60), tmp_path),
    ):
        one, other = (use(a) for a in controls)
        assert (one.X != other.X).nnz == 0 and "mu_A" not in other.var
        assert_same_law(dataset.law(one), dataset.law(other))
    ondisk.write(tmp_path / "old.h5ad", [old, old])
    assert_same_law(dataset.law(ondisk.read(tmp_path / "old.h5ad"))[:8], dataset.law(new))


def test_cell_types_of_one_name_and_two_laws_are_not_joined():
    one, other = (dataset.base_genes(10, 4, seed=s) for s in (1, 2))
    with pytest.raises(ValueError) as error:
        dataset.concat([one, other])
    one_line(error, "cell type 'A'", "number 1", "cell_type=...")
    named = dataset.base_genes(10, 4, seed=2, cell_type="B")
    joined = dataset.concat([one, dataset.fresh_cells(one, 5, seed=3), named])
    assert dataset.cell_types(joined) == ["A", "B"]
    mu = dataset.law(joined).mu
    np.testing.assert_array_equal(mu[:15], np.tile(one.varm["mu"][:, 0], (15, 1)))
    np.testing.assert_array_equal(mu[15:], np.tile(other.varm["mu"][:, 0], (10, 1)))


def test_cells_of_fewer_genes_are_joined_on_those_of_both():
    one = dataset.base_genes(10, 6, seed=1, cell_type="x")
    other = dataset.base_genes(10, 6, seed=2, cell_type="y")
    joined = dataset.concat([one[:, [4, 1, 2]].copy(), other[:, [0, 1, 4]].copy()])
    assert list(joined.var_names) == ["gene_4", "gene_1"]
    mu = np.column_stack([a.varm["mu"][[4, 1], 0] for a in (one, other)])
    np.testing.assert_array_equal(joined.varm["mu"], mu)


def test_a_gene_that_is_mechanistic_in_one_of_them_is_not_joined():
    base = dataset.base_genes(10, 4, seed=1)
    mech = dataset.get_mech_dataset(base[:, :3].copy(), gene="gene_3", target_zero_prob=None)
    with pytest.raises(ValueError) as error:
        dataset.concat([base, mech])
    one_line(error, "adatas", "mechanistic")


def test_laws_that_anndatas_own_concat_has_dropped_are_missed_in_one_line():
    one, other = dataset.base_genes(10, 4, seed=1), dataset.base_genes(10, 4, seed=2, cell_type="B")
    drug = perturb.additive(one, name="x")
    for plain in (
        ad.concat([one, other]),
        ad.concat([one, one], merge="same"),
        ad.concat([one, other], merge="unique", uns_merge="unique"),
        ad.concat([one, other], merge="first", uns_merge="first"),
        ad.concat([drug, perturb.fold_change(one, name="y")], merge="same", uns_merge="unique"),
    ):
        with pytest.raises(ValueError) as error:
            dataset.law(plain)
        one_line(error, "lib.dataset.concat")


@pytest.mark.parametrize("merge", ["same", "unique"])
def test_laws_that_anndatas_own_concat_has_kept_are_right(merge):
    cells = dataset.get_mech_dataset(dataset.base_genes(10, 4, n_cell_types=2, seed=1), seed=1)
    arm = perturb.do(cells, {"gene_1": 4})
    plain = ad.concat([cells, arm], merge=merge, uns_merge=merge, index_unique="-")
    assert_same_law(dataset.law(plain), dataset.law(dataset.concat([cells, arm])))


def test_missing_cell_types_are_refused_in_one_line():
    cells = dataset.base_genes(10, 4, seed=1)
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(object)
    cells.obs.iloc[[2, 5, 6], 0] = [np.nan, None, pd.NA]
    for use in (
        dataset.law,
        lambda a: dataset.fresh_cells(a, 3, seed=1),
        lambda a: perturb.additive(a),
    ):
        with pytest.raises(ValueError) as error:
            use(cells)
        one_line(error, "obs['cell_type'] is missing in 3 of 10 cells")
    with pytest.raises(ValueError) as error:
        dataset.base_genes_from_counts(cells, cell_type_key="cell_type")
    one_line(error, "cell_type_key = 'cell_type'", "missing in 3 of 10 cells")
    del cells.obs["cell_type"]
    with pytest.raises(ValueError) as error:
        dataset.law(cells)
    one_line(error, "has no obs['cell_type']")


def test_genes_of_one_name_are_refused_in_one_line():
    cells = dataset.base_genes(5, 3, seed=1)
    cells.var_names = ["a", "b", "a"]
    with pytest.raises(ValueError) as error:
        dataset.law(cells, "b")
    one_line(error, "gene 'a' is there twice")


def test_cells_without_laws_are_told_apart_in_one_line():
    for use in (
        dataset.law,
        lambda a: dataset.fresh_cells(a, 3, seed=1),
        lambda a: perturb.do(a, {"0": 1}),
        dataset.get_mech_dataset,
    ):
        with pytest.raises(ValueError) as error:
            use(ad.AnnData(np.ones((3, 2), dtype=np.float32)))
        one_line(error, "has no laws")
