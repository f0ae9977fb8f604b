import numpy as np
import pytest
import scipy.stats
import torch

from lib import dataset
from lib.laws import ZINB
from lib.predict.guard import Guarded
from lib.score import drug
from lib.tasks import drug as task

torch.set_num_threads(1)

N_GENES = 10


@pytest.fixture(scope="module")
def control():
    options = {"dispersion_range": (0.1, 0.5), "n_cell_types": 3}
    return dataset.base_genes(60, N_GENES, 0.6, **options, seed=3)


@pytest.fixture(scope="module")
def trial(control):
    test = dataset.fresh_cells(control, 80, seed=4)
    given = task.drugs(control, shift=10.0, fold=6.0, dose=1.0, seed=3)
    (subset,) = [one for one in given if one.name == "subset"]
    return task.trial(control, test, subset, 60, seed=3)


@pytest.fixture(scope="module")
def models(control, trial):
    training = {"max_epochs": 12, "warmup": 10, "learning_rate": 3e-3}
    made = drug.models(control, device="cpu", training_options=training, seed=3)
    drug.enter(made, trial, seed=3)
    return made


@pytest.fixture(scope="module")
def scores(models, trial):
    return drug.score(models, trial, seed=(3, 7))


class Own:
    """A model of one's own that says the same law for all."""

    def __init__(self, inputs):
        self.inputs = inputs

    def fit(self, train):
        return self

    def predict(self, query):
        return ZINB(np.full(len(query.genes), 4.0), 2.0, 0.5)


def test_models_of_the_list_and_one_s_own_are_made(control):
    made = drug.models(control, own=f"{__name__}:Own", seed=1, device="cpu", training_options={})
    listed = {"oracle", "no_change", "mean_shift", "fold_change", "vae"}
    assert set(made) == listed | {"Own"}
    assert made["Own"].model.inputs == list(control.var_names)


def test_the_oracle_is_exact_and_no_change_is_off_by_what_the_drug_did(scores, trial):
    exact = scores[scores["metric"] == "kl_nats"].set_index(["cell_type", "model"])["value"]
    for arm in trial.arms:
        assert exact[arm.cell_type, "oracle"] == pytest.approx(0, abs=1e-9)
        assert exact[arm.cell_type, "no_change"] > 10 * exact[arm.cell_type, "maximum_likelihood"]
    assert set(scores["scenario"]) == {"subset"}
    assert dict(zip(scores["cell_type"], scores["split"])) == {
        arm.cell_type: arm.question.split for arm in trial.arms
    }


def test_errors_of_the_mean_are_means_over_genes(models, scores, trial):
    arm = trial.arms[-1]
    predicted = models["mean_shift"].predict(arm.question.query)
    errors = (predicted.mean - (1 - arm.question.true.pi) * arm.question.true.mu) ** 2
    row = (scores["cell_type"] == arm.cell_type) & (scores["model"] == "mean_shift")
    found = scores[row].set_index("metric")["value"]
    assert found["mse_mean"] == pytest.approx(errors.mean())


def test_genes_are_called_in_the_held_out_type_alone_and_not_for_the_reference(scores):
    called = scores[scores["metric"].isin(["de_recall", "de_precision"])]
    assert set(called["split"]) == {"held_out_type"}
    assert set(called["model"]) == set(scores["model"]) - {"maximum_likelihood"}


def test_means_over_types_keep_splits_models_and_replicates_apart(scores):
    both = [scores.assign(replicate=0), scores.assign(replicate=1, value=scores["value"] + 1)]
    means = drug.over_types(both).set_index(["model", "split", "metric", "replicate"])["value"]
    part = scores[(scores["model"] == "vae") & (scores["metric"] == "kl_nats")]
    values = part[part["split"] == "held_out"]["value"]
    assert len(values) == 2
    assert means["vae", "held_out", "kl_nats", 0] == pytest.approx(values.sum() / 2)
    assert means["vae", "held_out", "kl_nats", 1] == pytest.approx(values.sum() / 2 + 1)


def rank_sum(control, treated):
    """Benjamini-Hochberg of two-sided rank sum tests by their normal approximation."""
    p = np.array([scipy.stats.ranksums(t, c).pvalue for c, t in zip(control.T, treated.T)])
    return scipy.stats.false_discovery_control(p) < 0.05


def test_genes_called_are_those_of_scipy():
    """Values are large, so that none are the same: tests differ in what they do with ties."""
    rng = np.random.default_rng(0)
    control = rng.integers(0, 10**6, (60, 12)).astype(float)
    treated = rng.integers(0, 10**6, (50, 12)) + np.linspace(0, 6e5, 12).round()
    found = drug.called(control, treated)
    np.testing.assert_array_equal(found, rank_sum(control, treated))
    assert 0 < found.sum() < 12


@pytest.fixture
def calls(monkeypatch):
    """Has genes 0 to 2 called, and keeps the cells that were compared."""
    asked = []

    def called(control, treated):
        asked.append((control, treated))
        return np.arange(N_GENES) < 3

    monkeypatch.setattr(drug, "called", called)
    return asked


def changing(arm, *genes):
    return arm._replace(changed=np.isin(np.arange(N_GENES), genes))


def test_recall_and_precision_are_of_the_genes_that_the_drug_changes(trial, calls):
    arm = changing(trial.arms[-1], 2, 5)
    expected = {"de_recall": 1 / 2, "de_precision": 1 / 3}
    assert drug.differential(arm, None, seed=1) == pytest.approx(expected)
    expected = {"de_recall": 3 / 4, "de_precision": 1.0}
    arm = changing(arm, 0, 1, 2, 9)
    assert drug.differential(arm, arm.question.true, seed=1) == pytest.approx(expected)
    none = drug.differential(changing(arm), None, seed=1)
    assert np.isnan(none["de_recall"]) and none["de_precision"] == 0
    for control, _ in calls:
        np.testing.assert_array_equal(control, dataset.dense(arm.question.cells.X))


def test_cells_are_drawn_from_the_predicted_law_where_there_is_one(trial, calls):
    arm = trial.arms[-1]
    drug.differential(arm, None, seed=1)
    law = ZINB(np.linspace(1, 20, N_GENES), 5.0, 0.2)
    drug.differential(arm, law, seed=1)
    (_, truly), (_, drawn) = calls
    np.testing.assert_array_equal(truly, dataset.dense(arm.treated.X))
    assert drawn.shape == truly.shape
    error = np.sqrt(law.variance / len(drawn))
    assert (np.abs(drawn.mean(0) - 0.8 * np.linspace(1, 20, N_GENES)) < 5 * error).all()


def test_no_gene_called_has_no_precision(trial):
    arm = trial.arms[-1]
    same = arm._replace(treated=arm.question.cells)
    values = drug.differential(same, None, seed=1)
    assert values["de_recall"] == 0 and np.isnan(values["de_precision"])


def test_predicted_cells_are_control_cells_moved_by_the_effect(models, trial):
    held = drug.held_out(models, trial)
    vae = models["vae"].model
    moved = held.latent["predicted"] - held.latent["control"]
    np.testing.assert_allclose(moved, np.broadcast_to(vae.effect, moved.shape), atol=1e-6)
    np.testing.assert_array_equal(held.latent["treated"], vae.latent(trial.arms[-1].treated))
    true = trial.arms[-1].question.true
    np.testing.assert_allclose(held.means["true"], (1 - true.pi) * true.mu)
    assert set(held.means) == {"true", "no_change", "mean_shift", "fold_change", "vae"}
    assert list(held.means.index) == list(trial.train.var_names)


class Wrong(Own):
    def predict(self, query):
        return super().predict(query)[:2]


def test_a_wrong_answer_is_refused(control, trial):
    with pytest.raises(ValueError, match="wrong: predicts laws of shape"):
        drug.enter({"wrong": Guarded(Wrong([]), "wrong")}, trial, seed=0)
