import numpy as np
import pytest

from lib import dataset, perturb
from lib.counts import CONTROL
from lib.tasks import realism
from tests.agreement import one_line


@pytest.fixture(scope="module")
def cells():
    """Cells that pass for real ones: counts and types alone."""
    network = dataset.grn.draw(60, 12, n_cell_types=2, seed=5)
    cells = dataset.shown(dataset.grn_cells(network, {"A": 300, "B": 100}, seed=5))
    cells.obs["type"] = cells.obs["cell_type"].astype(str)
    return cells


@pytest.fixture(scope="module")
def a_screen():
    network = dataset.grn.draw(60, 12, fold_range=(8, 30), seed=5)
    sizes = {"n_cells": 150, "n_control": 600}
    return dataset.shown(perturb.screen(network, 6, seed=5, **sizes))


def test_halves_share_no_cell_and_half_of_each_type(cells):
    first, second = realism.halves(cells, "type", seed=1)
    assert not set(first.obs_names) & set(second.obs_names)
    assert first.n_obs == second.n_obs == 200
    assert first.obs["type"].value_counts().to_dict() == {"A": 150, "B": 50}
    assert list(first.var_names) == list(second.var_names)
    again, _ = realism.halves(cells, "type", seed=1)
    other, _ = realism.halves(cells, "type", seed=2)
    assert list(again.obs_names) == list(first.obs_names) != list(other.obs_names)


def test_halves_of_many_cells_are_smaller_and_a_type_of_one_cell_is_no_hindrance(cells):
    alone = cells.copy()
    alone.obs["type"] = ["rare", *alone.obs["type"][1:]]
    first, second = realism.halves(alone, "type", most=100, seed=1)
    assert first.n_obs == second.n_obs == 50
    realism.halves(alone, "type", seed=1)


def test_genes_without_counts_in_the_first_half_are_left_out(cells):
    silent = cells.copy()
    counts = silent.X.toarray()
    counts[:, 3] = 0
    silent.X = counts
    first, second = realism.halves(silent, "type", seed=1)
    assert silent.var_names[3] not in first.var_names and first.n_vars == second.n_vars
    assert (np.asarray(first.X.sum(axis=0)).ravel() > 0).all()


def test_a_network_after_real_cells_has_their_genes_means_and_numbers(cells):
    first, _ = realism.halves(cells, "type", seed=1)
    model = realism.after(first, "type", n_regulators=12, seed=1)
    made = realism.simulated(model, first, "type", 4000, seed=1)
    assert list(made) == ["independent", "network"]
    network = made["network"]
    assert list(network.var_names) == list(first.var_names) and network.n_obs == 4000
    assert made["independent"].n_obs == first.n_obs
    real, drawn = (np.asarray(part.X.mean(axis=0)).ravel() for part in (first, network))
    seen = real > 0.3
    assert abs(np.log(drawn[seen] / real[seen])).mean() < 0.12
    assert np.corrcoef(np.log(drawn[seen]), np.log(real[seen]))[0, 1] > 0.97
    assert len(model.network.regulators) == 12


def test_effects_of_a_real_screen_set_the_folds(a_screen, cells):
    assert realism.is_screen(a_screen) and not realism.is_screen(cells)
    strong = realism.after(a_screen, None, n_regulators=12, seed=1)
    weak = a_screen.copy()
    controls = weak.obs["perturbation"] == CONTROL
    rng = np.random.default_rng(0)  # arms that are controls in truth
    weak.X[~controls.to_numpy()] = weak.X[np.flatnonzero(controls)][
        rng.integers(0, 600, (~controls).sum())
    ]
    none = realism.after(weak, None, n_regulators=12, seed=1)
    assert abs(none.network.effect).max() < abs(strong.network.effect).max()
    sizes = realism.effect_sizes(strong, {"real half": a_screen}, None, n_cells=150, seed=1)
    values = sizes.set_index("model")["value"]
    assert list(values.index) == ["real half", "network"] and (values > 0.01).all()
    assert not len(realism.effect_sizes(strong, {"real half": cells}, None, seed=1))


def test_real_counts_are_pbmc_by_default_and_a_column_must_be_there(tmp_path, cells):
    pbmc, key = realism.real()
    assert key == "bulk_labels" and pbmc.n_obs == 700
    path = str(tmp_path / "mine.h5ad")
    cells.write_h5ad(path)
    assert realism.real(path)[1] is None and realism.real(path, "type")[1] == "type"
    for given in ((path, "none"), ("", "none")):
        with pytest.raises(ValueError) as error:
            realism.real(*given)
        one_line(error, "cell_type_key = 'none'")


def test_halves_are_known_by_seed_counts_and_types():
    given = {"seed": 1, "real_counts": "", "cell_type_key": ""}
    names = {
        realism.identity(**given | {k: v})
        for k, v in (("seed", 1), ("seed", 2), ("real_counts", "a.h5ad"), ("cell_type_key", "type"))
    }
    assert len(names) == 4 and realism.identity(**given, replicates=3) in names
