"""A screen's cells: what an experimenter sees, what acts in truth, and their law."""

import numpy as np
import pandas as pd
import pytest

from lib import dataset, perturb
from lib.simulate import regulated
from lib.simulate.arms import IS_CONTROL, NOTHING
from lib.simulate.regulated import World, drawn
from tests.agreement import one_line
from tests.simulate.networks import GENES, TYPES, six
from tests.simulate.test_regulated import FILES, MEASURED, assert_follow, assert_same_law, counts_of
from tests.test_dataset import bytes_of

pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2")
ARMS = ["HLA-A/B", "d", "é", "d+é", "e"]
OPTIONS = {"n_cells": 600, "n_control": 600, "measurement": MEASURED, "seed": 1}


@pytest.fixture(scope="module")
def cells():
    hidden = {"escapers": 0.2, "wrong_guides": 0.1, "shift": 0.7, "control_bias": 0.2}
    return perturb.screen(six(), ARMS, **hidden, **OPTIONS)


def test_counts_of_a_screen_follow_their_law_in_each_arm(cells):
    for arm in cells.obs["perturbation"].cat.categories:
        assert_follow(cells[cells.obs["perturbation"] == arm].copy())


def test_obs_is_what_an_experimenter_has(cells):
    obs = cells.obs
    columns = ["cell_type", "batch", "perturbation", "perturbation_type", "strength", "guide"]
    assert list(obs) == [*columns, "n_perturbations", "total_counts"]
    assert obs.groupby(["cell_type", "perturbation"], observed=True).size().to_dict() == {
        (t, arm): 600 for t in TYPES for arm in ["control", *ARMS]
    }
    is_control = (obs["perturbation"] == "control").to_numpy()
    for column, value in (
        ("perturbation_type", "control"),
        ("strength", 0.0),
        ("guide", "non-targeting"),
        ("n_perturbations", 0),
    ):
        assert ((obs[column] == value).to_numpy() == is_control).all()
    assert (obs["strength"][~is_control] == 0.8).all()
    assert (obs["perturbation_type"][~is_control] == "knockdown").all()
    n_genes = obs["perturbation"].astype(str).str.count(r"\+") + 1
    assert (obs["n_perturbations"] == np.where(is_control, 0, n_genes)).all()
    of_guide = obs["guide"].astype(str).str.rpartition("_")[0]
    assert (of_guide == obs["perturbation"].astype(str))[~is_control].all()
    per_guide = (
        obs[~is_control].groupby(["perturbation", "guide", "cell_type"], observed=True).size()
    )
    assert (per_guide == 200).all() and len(per_guide) == 5 * 3 * 2


def test_guides_and_batches_are_spread_over_each_other():
    measured = dataset.measurement.draw(GENES, 3)
    cells = perturb.screen(six(), ARMS, n_cells=300, n_control=30, measurement=measured)
    in_arms = cells.obs[cells.obs["perturbation"] != "control"]
    table = pd.crosstab(in_arms["guide"], in_arms["batch"])
    assert table.to_numpy().min() >= 60  # of 600 / 9


def test_what_acts_in_truth_is_hidden_and_as_stated(cells):
    acting = cells.obsm["acting"][:, 0]
    screen = World.of(cells).screen
    is_control = (cells.obs["perturbation"] == "control").to_numpy()
    assert ((acting == IS_CONTROL) == is_control).all()
    of_arms = acting[~is_control]
    n = len(of_arms)
    assert abs((of_arms == NOTHING).mean() - 0.2) < 4.5 * np.sqrt(0.16 / n)
    truly = np.array(ARMS)[screen.arm[of_arms]]
    wrong = (of_arms >= 0) & (truly != cells.obs["perturbation"][~is_control].astype(str))
    assert abs(wrong.mean() - 0.08) < 4.5 * np.sqrt(0.08 * 0.92 / n)
    # the program "stress" gains the shift of the arm whose guide acts, and of no other
    stress, gained = cells.obsm["programs"][:, 2], np.zeros(len(acting))
    gained[acting >= 0] = screen.shift[screen.arm[acting[acting >= 0]]]
    for arm in np.unique(gained):
        own = stress[gained == arm]
        assert abs(own.mean() - arm) < 4.5 / np.sqrt(len(own))
    shown = dataset.shown(cells)
    assert not shown.uns and not shown.obsm
    assert set(shown.obs) == set(cells.obs)


def test_controls_differ_by_their_bias():
    cells = perturb.screen(six(), ["e"], control_bias=0.4, n_guides=1, wrong_guides=0, **OPTIONS)
    bias = World.of(cells).screen.control_bias
    assert np.abs(bias).max() > 0.1
    some = cells[:200].copy()
    plain = some.copy()
    plain.obsm["acting"][:] = NOTHING
    ratio = dataset.law(some).mu / dataset.law(plain).mu
    np.testing.assert_allclose(ratio, np.tile(np.exp(bias), (200, 1)))


@pytest.mark.parametrize("kind", ["knockdown", "knockout", "activation"])
def test_a_perturbation_of_strength_nought_changes_no_byte(kind):
    none = {"kind": kind, "strengths": [1.0 if kind == "activation" else 0.0]}
    screened = perturb.screen(six(), ARMS, escapers=0.3, wrong_guides=0.2, **none, **OPTIONS)
    types = screened.obs["cell_type"].cat.codes.to_numpy()
    world = World(six(), MEASURED)
    plain = drawn(world, types, np.full(len(types), NOTHING), seed=1)
    assert bytes_of(screened) == bytes_of(plain)
    np.testing.assert_array_equal(screened.obsm["molecules"], plain.obsm["molecules"])


def test_a_knockout_leaves_nothing_and_an_activation_a_fold():
    certain = {"escapers": 0.0, "wrong_guides": 0.0, "guide_spread": 0.0}
    table = pd.DataFrame({
        "perturbation": ["d", "d", "e"],
        "perturbation_type": ["knockout", "knockdown", "activation"],
        "strength": [1.0, 0.6, 3.0],
    })  # fmt: skip
    cells = perturb.screen(six(), table, **certain, **OPTIONS)
    law, obs = dataset.law(cells), cells.obs
    plain = cells.copy()
    plain.obsm["acting"][:] = NOTHING
    unperturbed = dataset.law(plain)
    for kind, gene, fold in (("knockout", 3, 0.0), ("knockdown", 3, 0.4), ("activation", 4, 3.0)):
        rows = (obs["perturbation_type"] == kind).to_numpy()
        np.testing.assert_allclose(law.mu[rows, gene], fold * unperturbed.mu[rows, gene])
        others = np.delete(np.arange(6), gene)
        np.testing.assert_array_equal(law.mu[rows][:, others], unperturbed.mu[rows][:, others])
    lost = (obs["perturbation_type"] == "knockout").to_numpy()
    assert counts_of(cells)[lost, 3].sum() == 0 and cells.obsm["molecules"][lost, 3].sum() == 0
    # strengths name the arms where a gene is there more than once
    guides = {"d_knockout_1_1", "d_knockout_1_3", "d_knockdown_0.6_1", "e_1"}
    assert set(obs["guide"].cat.categories) >= guides


def test_blocks_of_cells_have_their_own_perturbations(monkeypatch, cells):
    monkeypatch.setattr(regulated, "_CELLS", 100)
    again = perturb.screen(
        six(), ARMS, escapers=0.2, wrong_guides=0.1, shift=0.7, control_bias=0.2, **OPTIONS
    )
    np.testing.assert_array_equal(again.obsm["acting"], cells.obsm["acting"])
    np.testing.assert_array_equal(again.obsm["molecules"], cells.obsm["molecules"])
    assert_follow(again)


def test_same_seed_same_bytes_and_another_seed_other_cells(cells):
    hidden = {"escapers": 0.2, "wrong_guides": 0.1, "shift": 0.7, "control_bias": 0.2}
    again = perturb.screen(six(), ARMS, **hidden, **OPTIONS)
    assert bytes_of(again) == bytes_of(cells)
    other = perturb.screen(six(), ARMS, **hidden, **OPTIONS | {"seed": 2})
    assert bytes_of(other) != bytes_of(cells)
    folds = [World.of(a).screen.folds for a in (cells, other)]
    assert (folds[0] != folds[1])[:, 0].all()
    assert (cells.obsm["acting"] != other.obsm["acting"]).any()


def test_one_arm_of_one_guide_is_a_screen_too():
    for shift in (0.0, 0.5):
        cells = perturb.screen(
            six(), ["e"], n_guides=1, wrong_guides=0.0, shift=shift, **OPTIONS | {"n_cells": 5}
        )
        assert set(cells.obs["guide"]) == {"non-targeting", "e_1"}


def test_numbers_of_cells_may_differ_between_types():
    numbers = {"n_cells": {TYPES[0]: 0, TYPES[1]: 90}, "n_control": {TYPES[0]: 40, TYPES[1]: 20}}
    cells = perturb.screen(six(), ARMS, **OPTIONS | numbers)
    found = cells.obs.groupby(["cell_type", "perturbation"], observed=True).size().to_dict()
    of_arms = {(TYPES[1], arm): 90 for arm in ARMS}
    assert found == of_arms | {(TYPES[0], "control"): 40, (TYPES[1], "control"): 20}
    assert_follow(cells)
    for wrong, *parts in (
        ({"n_cells": {"B": 3}}, "cell type in n_cells = 'B'", "CD4+"),
        ({"n_cells": {TYPES[0]: -1}}, f"n_cells['{TYPES[0]}'] = -1", "at least 0"),
        ({"n_cells": dict.fromkeys(TYPES, 0)}, "sum of n_cells = 0", "at least 1"),
        ({"n_control": {TYPES[0]: 5}}, f"n_control of {TYPES[1]} = 0", "at least 1"),
    ):
        with pytest.raises(ValueError) as error:
            perturb.screen(six(), ARMS, **OPTIONS | wrong)
        one_line(error, *parts)


@pytest.mark.parametrize("through", FILES.values(), ids=FILES)
def test_the_law_survives_files(tmp_path, cells, through):
    some = cells[::15].copy()
    after = through(some.copy(), tmp_path)
    assert_same_law(dataset.law(after), dataset.law(some))
    joined = dataset.concat([after, some])
    assert_same_law(dataset.law(joined)[some.n_obs :], dataset.law(some))


def test_a_screen_is_not_joined_with_cells_that_have_none(cells):
    with pytest.raises(ValueError) as error:
        dataset.concat([cells, dataset.fresh_cells(cells, 5, seed=1)])
    one_line(error, "uns['screen'] differs")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"n_cells": 0}, ("n_cells = 0", "at least 1")),
        ({"n_control": 0}, ("n_control = 0", "at least 1")),
        ({"n_cells": 1.5}, ("n_cells = 1.5", "whole number")),
        ({"arms": ["z"]}, ("'z' is no gene",)),
        ({"arms": ["e"], "wrong_guides": 0.1}, ("wrong_guides = 0.1", "second arm")),
        ({"depth": 0.0}, ("depth = 0", "to 1")),
        ({"measurement": dataset.measurement.draw(GENES[:3])}, ("measurement", "in that order")),
        ({"seed": -1}, ("seed = -1",)),
    ],
)
def test_bad_options_are_refused_in_one_line(options, parts):
    with pytest.raises(ValueError) as error:
        perturb.screen(six(), **{"arms": ["e", "d"], "n_cells": 5, "n_control": 5} | options)
    one_line(error, *parts)
