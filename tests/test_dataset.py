import hashlib
import subprocess
import sys
import tracemalloc

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.stats

from lib import dataset, perturb
from tests.agreement import one_line, pit_p_value
from tests.test_counts import own_h5ad

OWN = "tests.mechanisms_of_ones_own:"
BAD = OWN + "returns_"


def counts_of(adata, genes=None):
    return dataset.dense((adata if genes is None else adata[:, genes]).X).astype(float)


def assert_same_law(law, other):
    assert law.shape == other.shape
    for name in ("mu", "theta", "pi"):
        np.testing.assert_array_equal(getattr(law, name), getattr(other, name))


def bytes_of(adata):
    return b"".join(
        np.ascontiguousarray(a).tobytes() for a in (adata.X.data, adata.X.indices, adata.X.indptr)
    )


@pytest.fixture(scope="module")
def cells():
    """4000 cells of 6 base genes and a linear mechanistic one of known weights."""
    base = dataset.base_genes(4000, 6, seed=1)
    return dataset.get_mech_dataset(
        base,
        parameters={"weights": np.array([2.0, 1, 0, -1, 0.5, 1])},
        theta=50,
        target_zero_prob=None,
        seed=1,
    )


def test_base_genes_have_the_asked_zero_rate_and_ranges():
    adata = dataset.base_genes(5000, 30, 0.7, (2, 5), (0.5, 1.0), seed=3)
    assert adata.shape == (5000, 30) and scipy.sparse.isspmatrix_csr(adata.X)
    zeros = (counts_of(adata) == 0).mean(axis=0)
    assert (np.abs(zeros - 0.7) < 4 * np.sqrt(0.7 * 0.3 / 5000)).all()
    mu, theta = adata.varm["mu"], adata.varm["theta"]
    assert mu.shape == theta.shape == (30, 1)
    assert mu.min() >= 2 and mu.max() <= 5
    assert theta.min() >= 1 and theta.max() <= 2


def test_counts_of_base_genes_follow_their_law():
    adata = dataset.base_genes(3000, 10, seed=4)
    law = dataset.law(adata)
    np.testing.assert_array_equal(law.mu, np.tile(adata.varm["mu"][:, 0], (3000, 1)))
    assert pit_p_value(counts_of(adata), law.mu, law.theta, law.pi) > 1e-3


def test_theta_is_inverse_dispersion_in_the_simulated_variance():
    adata = dataset.base_genes(20_000, 5, None, (20, 30), (0.1, 0.2), seed=0)
    mu, theta, counts = adata.varm["mu"][:, 0], adata.varm["theta"][:, 0], counts_of(adata)
    np.testing.assert_allclose(counts.mean(axis=0), mu, rtol=0.02)
    np.testing.assert_allclose(counts.var(axis=0), mu + mu**2 / theta, rtol=0.06)


def test_base_genes_are_independent_of_each_other():
    correlation = np.corrcoef(counts_of(dataset.base_genes(5000, 12, seed=5)).T)
    assert np.abs(correlation[np.triu_indices(12, 1)]).max() < 5 / np.sqrt(5000)


def test_zero_rate_out_of_reach_is_never_clipped_in_silence():
    options = dict(target_zero_prob=0.1, mu_range=(1, 1), dispersion_range=(1, 1))
    with pytest.raises(ValueError) as error:
        dataset.base_genes(10, 4, **options)
    one_line(error, "target_zero_prob = 0.1", "4 of 4", "0.500")
    with pytest.warns(UserWarning, match="4 of 4"):
        clipped = dataset.base_genes(10, 4, **options, unreachable="clip")
    assert (clipped.varm["pi"] == 0).all()


def test_zero_rate_of_a_mechanistic_gene_is_never_clipped_in_silence():
    base = dataset.base_genes(100, 3, seed=0)
    floor = {"weights": np.zeros(3)}  # mu is 0.1
    with pytest.raises(ValueError) as error:
        dataset.get_mech_dataset(base, parameters=floor, theta=1e8, target_zero_prob=0.5)
    one_line(error, "target_zero_prob = 0.5", "mech_linear", f"{np.exp(-0.1):.3f}")


def test_cell_types_share_all_genes_but_their_markers():
    adata = dataset.base_genes(2000, 20, n_cell_types=3, marker_fraction=0.25, seed=2)
    mu = adata.varm["mu"]
    assert list(adata.uns["cell_types"]) == list("ABC")
    n_different = (mu != mu[:, :1]).any(axis=1).sum()
    assert n_different == 5 and len(np.unique(mu)) == 15 + 3 * 5
    for column, name in enumerate("ABC"):
        one = adata[adata.obs["cell_type"] == name]
        parameters = (adata.varm[p][:, column] for p in ("mu", "theta", "pi"))
        assert one.n_obs == 2000
        assert pit_p_value(counts_of(one), *parameters) > 1e-3


def test_same_seed_same_bytes_and_different_seed_different():
    def made(seed):
        return dataset.get_mech_dataset(dataset.base_genes(200, 5, seed=seed), seed=seed)

    assert bytes_of(made(3)) == bytes_of(made(3)) != bytes_of(made(4))
    assert not np.isin(made(3).varm["mu"][:5], made(4).varm["mu"][:5]).any()


@pytest.mark.parametrize(
    ("options", "digest"),
    [
        (
            {"n_cells": 500, "n_genes": 40, "seed": 2},
            "de71a3cdb8092d73f417355e041b1aaa5358816042b5a77e393ac3a854410464",
        ),
        (
            {"n_cells": 300, "n_genes": 500, "n_cell_types": 3, "seed": (3, 1)},
            "334ae1d261290f776ba7aae46aaa8a2a12c2f0d9c6ccf430fe562a1942f01b52",
        ),
        (
            {"n_cells": 200, "n_genes": 30, "target_zero_prob": None, "seed": 4},
            "eddb41ae2a7f0e5550a6729576ed7229c6dfd55ca3dac429c2ee647c4e0fa773",
        ),
    ],
    ids=["one type", "three types", "no dropout"],
)
def test_data_sets_of_earlier_versions_come_back(options, digest):
    assert hashlib.sha256(bytes_of(dataset.base_genes(**options))).hexdigest() == digest


def test_fresh_cells_of_earlier_versions_come_back():
    adata = dataset.get_mech_dataset(dataset.base_genes(150, 20, n_cell_types=2, seed=5), seed=5)
    both = adata, dataset.fresh_cells(adata, 100, seed=6)
    digests = [hashlib.sha256(bytes_of(cells)).hexdigest() for cells in both]
    assert digests[0] == "3fcadb22c1a6de878da2c3e5b5943484bcee06b2a555539e3ddd1a34079ac5e0"
    assert digests[1] == "3f33d7e5f8c1e932f5465aa57b99e9744ad551fa7c95816345cb12342becafce"


def test_cells_and_a_mechanism_on_them_need_hardly_more_memory_than_their_counts():
    tracemalloc.start()
    adata = dataset.base_genes(10_000, 2000, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    size = len(bytes_of(adata))
    assert peak < 1.5 * size
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    dataset.get_mech_dataset(adata, parents=["gene_0000", "gene_0001"], seed=1)
    assert tracemalloc.get_traced_memory()[1] - before < 1.5 * size
    tracemalloc.stop()


def test_means_and_weights_of_one_seed_share_no_random_numbers():
    mu, theta, weights = [], [], []
    for seed in range(40):
        base = dataset.base_genes(20, 15, None, seed=seed)
        adata = dataset.get_mech_dataset(base, target_zero_prob=None, seed=seed)
        mu.append((adata.varm["mu"][:-1, 0] - 1) / 9)
        theta.append((1 / adata.varm["theta"][:-1, 0] - 0.5) / 1.5)
        weights.append((dataset.weights(adata, "mech_linear").to_numpy() + 2) / 4)
    # generators seeded alike would give the same uniform numbers, in place or shifted
    uniform = np.array([mu, theta, weights]).reshape(3, -1)
    assert np.abs(np.corrcoef(uniform)[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(40 * 15)
    assert np.diff(np.sort(uniform.ravel())).min() > 1e-10


def test_law_of_a_mechanistic_gene_is_its_formula_of_the_cells_own_counts(cells):
    law, x = dataset.law(cells, "mech_linear"), counts_of(cells)
    mu = np.maximum(0.1, 2 * x[:, 0] + x[:, 1] - x[:, 3] + 0.5 * x[:, 4] + x[:, 5])
    np.testing.assert_allclose(law.mu[:, 0], mu)
    assert pit_p_value(x[:, 6], mu, 50.0, 0.0) > 1e-3


def test_law_is_that_of_the_present_counts_not_of_stored_ones(cells):
    changed = dataset.with_counts(cells, {"gene_0": np.full(4000, 100)})
    x = counts_of(cells)
    mu = np.maximum(0.1, 200 + x[:, 1] - x[:, 3] + 0.5 * x[:, 4] + x[:, 5])
    np.testing.assert_allclose(dataset.law(changed, "mech_linear").mu[:, 0], mu)


@pytest.mark.parametrize("mechanism", ["linear", "polynomial", "interaction", "hill", "threshold"])
def test_mechanistic_gene_reaches_its_zero_rate_and_follows_its_law(mechanism):
    adata = dataset.get_mech_dataset(
        dataset.base_genes(4000, 8, 0.5, seed=6), mechanism, target_zero_prob=0.6, seed=6
    )
    gene, law = f"mech_{mechanism}", dataset.law(adata, f"mech_{mechanism}")
    np.testing.assert_allclose(law.zero_prob.mean(), 0.6)
    assert pit_p_value(counts_of(adata, [gene]), law.mu, law.theta, law.pi) > 1e-3
    assert len(np.unique(law.mu)) > 1


def with_ones_own(adata):
    """The cells with one gene more, whose mu and theta are mechanisms of one's own."""
    own = {"mechanism": OWN + "saturating", "theta_mechanism": OWN + "growing_theta"}
    return dataset.get_mech_dataset(adata, gene="own", target_zero_prob=None, **own)


def test_ones_own_mechanisms_give_mu_and_theta():
    base = dataset.base_genes(5000, 4, 0.6, seed=7)
    adata = with_ones_own(base)
    total, law = counts_of(base).sum(axis=1), dataset.law(adata, "own")
    np.testing.assert_allclose(law.mu[:, 0], 1 + 20 * total / (10 + total))
    np.testing.assert_allclose(law.theta[:, 0], 0.5 + total)
    assert pit_p_value(counts_of(adata, ["own"])[:, 0], law.mu[:, 0], 0.5 + total, 0.0) > 1e-3


@pytest.fixture(scope="module")
def cascade():
    """gene_0, gene_1 -> child -> grandchild, the last with gene_1 as a parent too."""
    base = dataset.base_genes(4000, 3, 0.5, seed=8)
    child = dataset.get_mech_dataset(
        base,
        gene="child",
        parents=["gene_0", "gene_1"],
        parameters={"weights": np.array([2.0, 1.0])},
        theta=20,
        target_zero_prob=0.5,
    )
    return dataset.get_mech_dataset(
        child,
        gene="a_grandchild",
        parents=["child", "gene_1"],
        parameters={"weights": np.array([1.5, 0.5])},
        theta=30,
        target_zero_prob=0.6,
    )


def assert_cascade_follows_its_own_counts(adata):
    x = dict(zip(adata.var_names, counts_of(adata).T))
    mu_child = np.maximum(0.1, 2 * x["gene_0"] + x["gene_1"])
    mu_grandchild = np.maximum(0.1, 1.5 * x["child"] + 0.5 * x["gene_1"])
    law = dataset.law(adata, ["child", "a_grandchild"])
    np.testing.assert_allclose(law.mu, np.stack([mu_child, mu_grandchild], axis=1))
    pi = dict(zip(adata.var_names, adata.varm["pi"][:, 0]))
    assert pit_p_value(x["child"], mu_child, 20.0, pi["child"]) > 1e-3
    assert pit_p_value(x["a_grandchild"], mu_grandchild, 30.0, pi["a_grandchild"]) > 1e-3


def test_mechanistic_gene_may_be_the_parent_of_another(cascade):
    assert_cascade_follows_its_own_counts(cascade)
    assert dataset.parents(cascade) == {
        "child": ["gene_0", "gene_1"],
        "a_grandchild": ["child", "gene_1"],
    }


def test_fresh_cells_of_a_cascade_are_drawn_parents_first(cascade):
    assert_cascade_follows_its_own_counts(dataset.fresh_cells(cascade, 4000, seed=99))


def test_do_on_a_grandparent_redraws_in_topological_order(cascade):
    after = perturb.do(cascade, {"gene_0": 40}, seed=9)
    assert (counts_of(after, ["gene_0"]) == 40).all()
    assert_cascade_follows_its_own_counts(after)


def test_descendants_are_found_at_any_depth(cascade):
    assert dataset.descendants(cascade, ["gene_0"]) == ["child", "a_grandchild"]
    assert dataset.descendants(cascade, ["child"]) == ["a_grandchild"]
    assert dataset.descendants(cascade, ["gene_2"]) == []
    assert dataset.descendants(cascade, ["a_grandchild"]) == []


def test_fresh_cells_are_new_cells_of_the_same_genes(cells):
    fresh = dataset.fresh_cells(cells, 4000, seed=2)
    pd.testing.assert_frame_equal(fresh.var, cells.var)
    for parameter in ("mu", "theta", "pi"):
        np.testing.assert_array_equal(fresh.varm[parameter], cells.varm[parameter])
    old, new, law = counts_of(cells), counts_of(fresh), dataset.law(fresh)
    between = np.corrcoef(old.T, new.T)[:7, 7:]
    assert np.abs(between).max() < 5 / np.sqrt(4000)
    assert pit_p_value(new, law.mu, law.theta, law.pi) > 1e-3


def test_fresh_cells_are_never_the_training_cells_even_with_their_seed(cells):
    old, new = counts_of(cells), counts_of(dataset.fresh_cells(cells, 4000, seed=1))
    assert np.abs(np.corrcoef(old.T, new.T)[:7, 7:]).max() < 5 / np.sqrt(4000)


def full_house(cell_type="A"):
    """Everything that the truth can depend on: types, mechanisms, a drug and an intervention."""
    types = {"n_cell_types": 2} if cell_type == "A" else {"cell_type": cell_type}
    adata = dataset.base_genes(60, 5, seed=3, **types)
    adata = dataset.get_mech_dataset(adata, "interaction", seed=3)
    adata = with_ones_own(adata)
    drug = {"genes": ["gene_1", "own"], "dose": 0.5, "cell_type_factors": {cell_type: 0.25}}
    adata = perturb.fold_change(adata, 3.0, **drug)
    return perturb.do(adata, {"gene_0": 7, "mech_interaction": np.arange(adata.n_obs)})


@pytest.mark.parametrize("cell_type", ["A", "CD4+/CD45RA+ T"])
def test_law_survives_the_h5ad_round_trip(tmp_path, cell_type):
    before = full_house(cell_type)
    before.write_h5ad(tmp_path / "cells.h5ad")
    after = ad.read_h5ad(tmp_path / "cells.h5ad")
    law = dataset.law(after)
    assert_same_law(law, dataset.law(before))
    assert np.isnan(law.mu[:, 0]).all() and np.isfinite(law.mu[:, 1:5]).all()
    assert bytes_of(after) == bytes_of(before)


def test_interventions_on_cells_read_back_are_those_on_the_cells_written(tmp_path):
    before = dataset.get_mech_dataset(dataset.base_genes(100, 5, seed=1), "hill", seed=1)
    before.write_h5ad(tmp_path / "cells.h5ad")
    arms = [
        perturb.additive(perturb.do(a, {"gene_2": 9}), 4.0)
        for a in (before, ad.read_h5ad(tmp_path / "cells.h5ad"))
    ]
    assert bytes_of(arms[0]) == bytes_of(arms[1])
    assert_same_law(dataset.law(arms[0]), dataset.law(arms[1]))


def test_concat_of_control_and_treated_keeps_the_law_of_both():
    control = dataset.get_mech_dataset(dataset.base_genes(50, 4, n_cell_types=2, seed=1), seed=1)
    drugs = [perturb.additive(control, 5.0, dose=2), perturb.fold_change(control, 3.0)]
    arms = [control, *drugs, perturb.do(control, {"gene_0": 3})]
    law = dataset.law(dataset.concat(arms))
    for i, arm in enumerate(arms):
        assert_same_law(law[100 * i : 100 * (i + 1)], dataset.law(arm))


def test_concat_of_cell_types_made_apart_keeps_the_law_of_each():
    options = {"parameters": {"weights": np.array([1.0, -1, 2, 0])}, "target_zero_prob": None}
    types = []
    for seed, name in enumerate("AB"):
        base = dataset.base_genes(50, 4, cell_type=name, seed=seed)
        types.append(dataset.get_mech_dataset(base, seed=seed, **options))
    joined = dataset.concat(types)
    law = dataset.law(joined)
    assert_same_law(law[:50], dataset.law(types[0]))
    assert_same_law(law[50:], dataset.law(types[1]))
    assert joined.obs_names.is_unique


def test_concat_of_one_drug_with_two_meanings_never_changes_the_law_in_silence():
    control = dataset.base_genes(20, 3, seed=1)
    arms = [perturb.additive(control, cell_type_factors={"A": 0.5}), perturb.additive(control)]
    try:
        law = dataset.law(dataset.concat(arms))
    except ValueError:
        return
    assert_same_law(law[20:], dataset.law(arms[1]))


def test_concat_of_one_mechanism_with_two_meanings_never_changes_the_law_in_silence():
    base = dataset.base_genes(20, 3, seed=1)
    weights = np.ones(3)
    parameters = [{"weights": weights, "floor": 30.0}, {"weights": weights}]
    arms = [dataset.get_mech_dataset(base, parameters=p, target_zero_prob=None) for p in parameters]
    try:
        law = dataset.law(dataset.concat(arms))
    except ValueError:
        return
    assert_same_law(law[20:], dataset.law(arms[1]))


def test_cells_simulated_from_real_counts_match_them_gene_by_gene():
    real = counts_of(dataset.pbmc_counts())
    simulated = counts_of(dataset.base_genes_from_counts(n_cells=1400, seed=1))
    assert simulated.shape == (1400, 765)
    scale = np.sqrt(real.var(axis=0) / 1400) + 1e-9
    z = (simulated.mean(axis=0) - real.mean(axis=0)) / scale
    assert abs(np.median(z)) < 0.2 and np.percentile(np.abs(z), 90) < 2.5
    # a gene with fewer zeros than any negative binomial has pi = 0 and a few zeros too many
    excess = (simulated == 0).mean(axis=0) - (real == 0).mean(axis=0)
    assert abs(excess.mean()) < 0.005 and np.abs(excess).mean() < 0.015


def test_genes_are_fitted_to_an_h5ad_of_ones_own(tmp_path):
    counts = own_h5ad(tmp_path / "own.h5ad")
    adata = dataset.base_genes_from_counts(tmp_path / "own.h5ad", seed=3)
    assert adata.shape == (3000, 3) and list(adata.var_names) == ["a", "b", "c"]
    np.testing.assert_allclose(
        (adata.varm["mu"] * (1 - adata.varm["pi"]))[:, 0], counts.mean(axis=0), rtol=0.02
    )
    np.testing.assert_allclose(adata.varm["theta"], 2, rtol=0.25)
    assert pit_p_value(counts_of(adata), [1.0, 5, 20], 2.0, 0.0) > 1e-3


def test_cell_types_of_real_counts_are_fitted_apart(tmp_path):
    counts = own_h5ad(tmp_path / "own.h5ad")
    adata = dataset.base_genes_from_counts(str(tmp_path / "own.h5ad"), cell_type_key="kind")
    assert adata.obs["cell_type"].value_counts().to_dict() == {"x": 2000, "y": 1000}
    for name, chosen in (("x", np.arange(3000) % 3 > 0), ("y", np.arange(3000) % 3 == 0)):
        column = list(adata.uns["cell_types"]).index(name)
        mean = adata.varm["mu"][:, column] * (1 - adata.varm["pi"][:, column])
        np.testing.assert_allclose(mean, counts[chosen].mean(axis=0), rtol=0.03)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"n_cells": 0}, ("n_cells = 0", "at least 1")),
        ({"n_cells": 1.5}, ("n_cells = 1.5", "whole number")),
        ({"n_genes": -1}, ("n_genes = -1", "at least 1")),
        ({"target_zero_prob": 1.2}, ("target_zero_prob = 1.2", "from 0 to 1")),
        ({"target_zero_prob": np.nan}, ("target_zero_prob = nan", "finite")),
        ({"mu_range": (10, 1)}, ("mu_range = (10, 1)", "smaller one first")),
        ({"mu_range": (0, 1)}, ("mu_range = 0", "at least 1e-06")),
        ({"dispersion_range": (2.0, 0.5)}, ("dispersion_range = (2, 0.5)", "smaller one first")),
        ({"n_cell_types": 27}, ("n_cell_types = 27", "from 1 to 26")),
        ({"marker_fraction": -0.1}, ("marker_fraction = -0.1", "from 0 to 1")),
        ({"unreachable": "ignore"}, ("unreachable = 'ignore'", "'raise' or 'clip'")),
        ({"seed": -1}, ("seed = -1", "at least 0")),
    ],
)
def test_bad_option_of_base_genes_is_named_in_one_line(options, parts):
    with pytest.raises(ValueError) as error:
        dataset.base_genes(**({"n_cells": 10, "n_genes": 3} | options))
    one_line(error, *parts)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"mechanism": "cubic"}, ("mechanism = 'cubic'", "linear, polynomial")),
        ({"mechanism": BAD + "nan"}, ("mechanism = ", "returned nan", "finite and at least 0")),
        ({"mechanism": BAD + "negative"}, ("mechanism = ", "returned -1", "finite and at least 0")),
        ({"mechanism": BAD + "wrong_shape"}, ("mechanism = ", "shape (20, 3)", "one value a cell")),
        ({"theta_mechanism": BAD + "nan"}, ("mechanism = ", "returned nan")),
        ({"gene": "m", "parents": ["gene_0", "m"]}, ("parents = 'm'", "own gene")),
        ({"parents": ["gene_7"]}, ("parents = 'gene_7'", "gene_0 ... gene_2")),
        ({"parents": []}, ("parents = []", "at least one")),
        ({"parents": ["gene_0", "gene_0"]}, ("parents", "twice")),
        ({"gene": "gene_1", "parents": ["gene_0"]}, ("gene = 'gene_1'", "already")),
        ({"mechanism": "interaction", "parents": ["gene_0"]}, ("parents", "at least two")),
        ({"theta": 0}, ("theta = 0", "at least 0.0001")),
        ({"target_zero_prob": -0.5}, ("target_zero_prob = -0.5", "from 0 to 1")),
    ],
)
def test_bad_mechanism_is_refused_in_one_line(options, parts):
    with pytest.raises(ValueError) as error:
        dataset.get_mech_dataset(dataset.base_genes(20, 3), **options)
    one_line(error, *parts)


def test_law_of_unknown_or_no_genes_is_refused(cells):
    for genes, parts in (
        (["nope"], ("genes = 'nope'", "gene_0 ... mech_linear")),
        ([], ("genes = []", "at least one")),
    ):
        with pytest.raises(ValueError) as error:
            dataset.law(cells, genes)
        one_line(error, *parts)


def test_law_that_misses_its_causes_is_refused(cells):
    without_parent = cells[:10, 1:].copy()
    without_mechanism = cells[:10].copy()
    del without_mechanism.uns["mechanisms"]
    other_type = cells[:10].copy()
    other_type.obs["cell_type"] = "Z"
    unknown_drug = cells[:10].copy()
    unknown_drug.obs["drug"] = "aspirin"
    for adata, part in (
        (without_parent, "'gene_0'"),
        (without_mechanism, "'mech_linear'"),
        (other_type, "'Z'"),
        (unknown_drug, "'aspirin'"),
    ):
        with pytest.raises(ValueError) as error:
            dataset.law(adata)
        one_line(error, part)


def test_fresh_cells_refuse_no_cells(cells):
    with pytest.raises(ValueError) as error:
        dataset.fresh_cells(cells, 0, seed=0)
    one_line(error, "n_cells = 0", "at least 1")


def test_importing_it_loads_neither_torch_nor_scanpy():
    modules = "sys, lib.dataset, lib.perturb, lib.score.distances, lib.score.tables"
    script = f"import {modules}; print({{'torch', 'scanpy'}} & set(sys.modules))"
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
