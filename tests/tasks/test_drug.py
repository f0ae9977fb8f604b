import numpy as np
import pytest

from lib import dataset
from lib.tasks import drug

SEED = 3
N_CELLS, N_TEST, N_GENES = 50, 40, 10


@pytest.fixture(scope="module")
def control():
    options = {"dispersion_range": (0.1, 0.5), "n_cell_types": 3}
    return dataset.base_genes(N_CELLS, N_GENES, 0.6, **options, seed=SEED)


@pytest.fixture(scope="module")
def held_back(control):
    return dataset.fresh_cells(control, N_TEST, seed=SEED + 1)


@pytest.fixture(scope="module")
def trials(control, held_back):
    drugs = drug.drugs(control, shift=10.0, fold=3.0, dose=1.0, seed=SEED)
    made = [drug.trial(control, held_back, one, N_CELLS, seed=SEED) for one in drugs]
    return {trial.drug.name: trial for trial in made}


def test_the_last_type_is_never_seen_treated(trials):
    for name, trial in trials.items():
        obs = trial.train.obs.astype(str)
        counted = obs.groupby(["cell_type", "drug"]).size()
        types = sorted(set(obs["cell_type"]))
        assert all(counted[t, "control"] == N_CELLS for t in types)
        treated = {t for t in types if (t, name) in counted.index}
        assert treated == set(types[:-1])
        assert all(counted[t, name] == N_CELLS for t in treated)
        splits = {arm.cell_type: arm.question.split for arm in trial.arms}
        assert splits == {t: "held_out" if t in treated else "held_out_type" for t in types}


def true_mu(control, name, cell_type):
    """Laws of treated cells by the table of notebook 04."""
    rows = control[control.obs["cell_type"] == cell_type]
    mu = dataset.law(rows).mu[0]
    factors = dict(zip(dataset.cell_types(control), [0.25, 1.0, 1.75]))
    return {
        "additive": mu + 10,
        "fold_change": 3 * mu,
        "subset": mu,
        "cell_type_specific": mu + 10 * factors[cell_type],
    }[name]


@pytest.mark.parametrize("name", ["additive", "fold_change", "subset", "cell_type_specific"])
def test_the_true_law_is_the_control_law_with_the_drug_s_mu(trials, control, name):
    for arm in trials[name].arms:
        before = dataset.law(control[control.obs["cell_type"] == arm.cell_type])[0]
        true = arm.question.true
        expected = true_mu(control, name, arm.cell_type)
        if name == "subset":
            assert arm.changed.sum() == N_GENES // 5
            expected = np.where(arm.changed, 3 * expected, expected)
        else:
            assert arm.changed.all()
        np.testing.assert_allclose(true.mu, expected)
        np.testing.assert_allclose(true.theta, before.theta)
        np.testing.assert_allclose(true.pi, before.pi)


def test_what_is_asked_about_are_control_cells_of_one_type(trials, held_back):
    for name, trial in trials.items():
        for arm in trial.arms:
            cells = arm.question.cells
            assert set(cells.obs["cell_type"]) == {arm.cell_type} and cells.n_obs == N_TEST
            kept = held_back[held_back.obs["cell_type"] == arm.cell_type]
            np.testing.assert_array_equal(dataset.dense(cells.X), dataset.dense(kept.X))
            assert arm.question.query.perturbation.name == name
            assert arm.question.query.genes == list(held_back.var_names)


def test_treated_cells_follow_the_true_law(control):
    """Their mean counts: within five standard errors of the law's, over 2000 cells."""
    many = dataset.fresh_cells(control, 2000, seed=9)
    additive = drug.drugs(control, shift=10.0, fold=3.0, dose=1.0, seed=SEED)[0]
    for arm in drug.trial(many, many, additive, 2000, seed=SEED).arms:
        true = arm.question.true
        error = np.sqrt(true.variance / 2000)
        for cells in (arm.treated, arm.alike):
            assert set(cells.obs["cell_type"]) == {arm.cell_type}
            mean = dataset.dense(cells.X).mean(0)
            assert (np.abs(mean - true.mean) < 5 * error).all()


def test_the_treated_cells_of_a_seen_type_are_those_trained_on(trials):
    trial = trials["additive"]
    train = trial.train[trial.train.obs["drug"].astype(str) == "additive"]
    for arm in trial.arms:
        there = train[train.obs["cell_type"].astype(str) == arm.cell_type]
        if arm.question.split == "held_out":
            np.testing.assert_array_equal(dataset.dense(arm.alike.X), dataset.dense(there.X))
        else:
            assert there.n_obs == 0 and arm.alike.n_obs == N_CELLS


def test_the_dose_is_told_and_scales_the_effect(control, held_back):
    half = drug.drugs(control, shift=10.0, fold=3.0, dose=0.5, seed=SEED)[0]
    (first, *_) = drug.trial(control, held_back, half, N_CELLS, seed=SEED).arms
    before = dataset.law(first.question.cells)[0]
    np.testing.assert_allclose(first.question.true.mu, before.mu + 5)
    assert first.question.query.perturbation.strength == 0.5
