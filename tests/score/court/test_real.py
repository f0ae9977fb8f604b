"""The checks that need no truth, on cells whose labels are known."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sparse

from lib.score.court import real, real_cells
from tests.agreement import one_line

GENES = 40


def screen(n=60, effect=1.5, seed=0):
    """Counts of controls and of four arms, each of which raises five genes of its own."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.normal(1, 0.5, GENES))
    blocks, labels = [rng.poisson(mean, (4 * n, GENES))], ["control"] * 4 * n
    for arm in range(4):
        fold = np.ones(GENES)
        fold[5 * arm : 5 * arm + 5] = effect
        blocks.append(rng.poisson(mean * fold * 1.1, (n, GENES)))
        labels += [f"gene_{5 * arm}" + ("+gene_39" if arm == 3 else "")] * n
    obs = pd.DataFrame({"perturbation": labels, "cell_type": "A"})
    obs.index = obs.index.astype(str)
    var = pd.DataFrame(index=[f"gene_{i}" for i in range(GENES)])
    return ad.AnnData(sparse.csr_matrix(np.vstack(blocks).astype(float)), obs=obs, var=var)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("real") / "cells.h5ad"
    screen().write_h5ad(path)
    return path


def test_counts_come_back_from_logs_of_any_sum(path, tmp_path):
    counts = screen()
    for target in (1e4, 317.0):
        logs = counts.copy()
        totals = np.asarray(counts.X.sum(axis=1)).ravel()
        logs.X = (sparse.diags(target / totals) @ counts.X).log1p().astype(np.float32)
        logs.write_h5ad(tmp_path / "logs.h5ad")
        found = real_cells.read(tmp_path / "logs.h5ad")
        assert (found.counts.X != counts.X).nnz == 0
        assert found.arms == real_cells.read(path).arms and len(found.arms) == 4


def test_of_several_cell_types_the_largest_is_taken(tmp_path):
    cells = screen()
    cells.obs["cell_type"] = ["B" if i % 4 == 0 else "A" for i in range(cells.n_obs)]
    cells.write_h5ad(tmp_path / "types.h5ad")
    assert real_cells.read(tmp_path / "types.h5ad").counts.n_obs == cells.n_obs * 3 // 4


def test_files_that_hold_no_screen_are_refused_in_one_line(tmp_path):
    cells = screen()
    few = cells[cells.obs["perturbation"].isin(["control", "gene_0"])].copy()
    few.write_h5ad(tmp_path / "few.h5ad")
    unlabelled = ad.AnnData(cells.X, var=cells.var)
    unlabelled.write_h5ad(tmp_path / "unlabelled.h5ad")
    fractions = cells.copy()
    fractions.X = fractions.X * np.pi + 0.01 * sparse.random(*cells.shape, 0.5, random_state=0)
    fractions.X = sparse.csr_matrix(fractions.X)
    fractions.write_h5ad(tmp_path / "fractions.h5ad")
    (tmp_path / "text.h5ad").write_text("no cells")
    for name, message in {
        "none": "no such file",
        "text": "can't be read",
        "few": "three arms of at least 20 cells",
        "unlabelled": "has no obs['perturbation']",
        "fractions": "must have counts, or log1p of normalised ones",
    }.items():
        with pytest.raises(ValueError) as error:
            real_cells.read(tmp_path / f"{name}.h5ad")
        one_line(error, "real_screen = ", message)


def test_the_mean_has_0_the_duplicate_1_and_tricks_what_they_gain(path):
    table = real.tricks(real_cells.read(path), seed=3)
    wide = table.pivot(index="metric", columns="member", values="value")
    assert set(wide.columns) == set(real.MEMBERS) and len(wide) > 50
    assert np.allclose(wide["duplicate"], 1) and np.allclose(wide["perturbed mean"], 0)
    # a profile without noise is nearer in squares, and no cells at all in their distances
    assert wide.loc["scperteval mse", "mean, repeated"] > 0
    assert wide.loc["scperteval energy_distance_pca_k", "mean, repeated"] < 0
    again = real.tricks(real_cells.read(path), seed=3)
    pd.testing.assert_frame_equal(again, table)


def test_multiplied_counts_keep_the_mean_and_stay_whole():
    rng = np.random.default_rng(0)
    counts, fold = rng.poisson(3, (20_000, 3)), np.array([0.4, 1.0, 2.3])
    found = real._multiplied(counts, fold, rng)
    assert (found == np.floor(found)).all() and (found[:, 1] == counts[:, 1]).all()
    assert np.allclose(found.mean(axis=0), counts.mean(axis=0) * fold, rtol=0.02)
