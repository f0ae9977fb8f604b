import copy
import os
import random
import subprocess
import sys

import anndata as ad
import numpy as np
import pytest
import torch

from lib import dataset, perturb
from lib.laws import Cells, Empirical
from lib.predict import drug, references
from lib.predict.base import Perturbation, Query
from lib.score import distances
from peers.scgen import ScGen
from peers.scvi import ScVI
from tests.agreement import one_line

torch.set_num_threads(1)


def installed(name):
    return pytest.importorskip(
        name, reason=f"{name} isn't installed: ./run_all.sh peers", exc_type=ImportError
    )


def fitted_scvi(train, max_epochs, **options):
    installed("scvi")
    return ScVI(max_epochs=max_epochs, device="cpu", seed=1, **options).fit(train)


@pytest.fixture(scope="module")
def types():
    """Cells of two types that differ in every gene: what a latent space is for."""
    return dataset.base_genes(
        800, 12, None, (2, 20), (0.1, 0.3), n_cell_types=2, marker_fraction=1.0, seed=3
    )


@pytest.fixture(scope="module")
def scvi(types):
    return fitted_scvi(types, 20, training_options={"plan_kwargs": {"lr": 5e-3}, "batch_size": 64})


@pytest.fixture(scope="module")
def cells(types):
    return dataset.fresh_cells(types, 100, seed=2)


def same(a, b):
    return all(
        np.array_equal(getattr(a.components, p), getattr(b.components, p))
        for p in ("mu", "theta", "pi")
    )


def shuffled(cells, genes):
    rng = np.random.default_rng(0)
    return dataset.with_counts(
        cells, {g: rng.permutation(dataset.dense(cells[:, g].X)[:, 0]) for g in genes}
    )


def test_importing_it_imports_none_of_the_packages():
    code = "import sys, peers.scgen, peers.scvi, peers.celleval, peers.__main__\n"
    code += "assert not {'scvi', 'pertpy', 'jax', 'cell_eval'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("model", "package"), [(ScVI, "scvi"), (ScGen, "pertpy")])
def test_a_missing_package_is_said_in_one_line(types, monkeypatch, model, package):
    monkeypatch.setitem(sys.modules, "scvi", None)
    monkeypatch.setitem(sys.modules, "pertpy.tools", None)
    half = types.obs_names[::2]
    treated = types[half].copy()
    treated.obs["drug"] = "x"
    with pytest.raises(RuntimeError) as error:
        model().fit(dataset.concat([types, treated]))
    one_line(error, package, "./run_all.sh peers")


def test_predicted_cells_are_drawn_whole():
    counts = np.arange(30).reshape(10, 3)
    law = Cells(counts)
    assert law.shape == (3,)
    np.testing.assert_array_equal(law.mean, counts.mean(0))
    np.testing.assert_array_equal(law.cdf(np.array([14, 14, 14])), [0.5, 0.5, 0.5])
    drawn = law.sample_cells(np.random.default_rng(1), 500)
    assert drawn.shape == (500, 3)
    assert {tuple(row) for row in drawn} == {tuple(row) for row in counts}


@pytest.mark.parametrize("inputs", [None, ["gene_00", "gene_01", "gene_02"]])
def test_scvi_never_sees_a_hidden_count(scvi, cells, inputs):
    model = copy.copy(scvi)
    model.inputs = inputs
    hidden = ["gene_02"] if inputs is None else [*cells.var_names[2:]]
    law = model.law_of(cells, "gene_02")
    assert same(law, model.law_of(shuffled(cells, hidden), "gene_02"))
    seen = shuffled(cells, ["gene_01"])
    assert not same(law, model.law_of(seen, "gene_02"))  # so that the line above can fail


def test_scvi_predicts_a_gene_from_the_type_that_the_others_show(scvi, types, cells):
    for gene in ("gene_03", "gene_04"):
        true = dataset.law(cells, gene)[:, 0]
        laws = {
            "scvi": scvi.law_of(cells, gene),
            "marginal": references.Marginal().fit(types).law_of(cells, gene),
        }
        scores = distances.scores(true, laws).set_index(["model", "metric"])["value"]
        assert scores["scvi", "skill_crps"] > 0.5


def test_scvi_decodes_what_scvi_tools_decodes(scvi, types):
    theirs = scvi.scvi.get_likelihood_parameters(n_samples=40, give_mean=True)
    noise, x = torch.Generator().manual_seed(0), dataset.dense(types.X).astype(np.float32)
    laws = [scvi._decoded(x, noise) for _ in range(40)]
    assert np.mean([law.mu for law in laws], axis=0).mean(0) == pytest.approx(
        theirs["mean"].mean(0), rel=0.01
    )
    np.testing.assert_allclose(laws[0].theta, theirs["dispersions"], rtol=1e-4)
    assert np.mean([law.pi for law in laws], axis=0).mean(0) == pytest.approx(
        theirs["dropout"].mean(0), abs=1e-3
    )


def test_scvi_has_mu_theta_and_pi_in_our_units():
    train = dataset.base_genes(3000, 4, 0.5, (5, 20), (0.2, 0.5), seed=4)
    model = fitted_scvi(train, 30, training_options={"plan_kwargs": {"lr": 1e-2}})
    cells = dataset.fresh_cells(train, 50, seed=5)
    for gene in train.var_names:
        true, law = dataset.law(cells, gene)[0, 0], model.law_of(cells, gene)
        point = law.parameters()
        assert point.mu.mean() == pytest.approx(true.mu, rel=0.15)
        assert np.log(point.theta).mean() == pytest.approx(np.log(true.theta), abs=0.3)
        assert point.pi.mean() == pytest.approx(true.pi, abs=0.06)
        assert law.mean.mean() == pytest.approx(true.mean, rel=0.12)
        assert law.zero_prob.mean() == pytest.approx(0.5, abs=0.06)


def test_scvi_is_the_same_twice_and_leaves_global_state_alone(types, cells):
    scvi = installed("scvi")

    def state():
        return (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
            scvi.settings.seed,
            dict(os.environ),
        )

    before = state()
    few = types[::5].copy()
    first, second = (fitted_scvi(few, 2).law_of(cells, "gene_00") for _ in range(2))
    assert state() == before
    torch.manual_seed(99)
    model = fitted_scvi(few, 2)
    assert same(first, second) and same(first, model.law_of(cells, "gene_00"))
    other = ScVI(max_epochs=2, device="cpu", seed=2).fit(few).law_of(cells, "gene_00")
    assert not same(first, other)
    assert len(model.history) == 2


def asked(control):
    return Query(control, list(control.var_names), Perturbation("fold_change"))


SMALL = {
    "model_options": {"n_hidden": 64, "n_latent": 5, "n_layers": 1},
    "training_options": {"batch_size": 64},
}


@pytest.fixture(scope="module")
def trial():
    """Training cells, with type C never treated; control cells of C; their true treated law."""
    control = dataset.base_genes(400, 6, None, (5, 30), (0.02, 0.05), n_cell_types=3, seed=1)
    seen = dataset.fresh_cells(control[control.obs["cell_type"] != "C"], 300, seed=2)
    test = dataset.fresh_cells(control[control.obs["cell_type"] == "C"], 200, seed=3)
    effect = {"genes": ["gene_0", "gene_1"], "seed": 4}
    train = dataset.concat([control, perturb.fold_change(seen, 3.0, **effect)])
    return train, test, dataset.law(perturb.fold_change(test, 3.0, **effect))[0]


@pytest.fixture(scope="module")
def scgen(trial):
    installed("pertpy")
    return ScGen(max_epochs=40, seed=1, **SMALL).fit(trial[0])


def test_scgen_foresees_a_drug_in_a_type_never_treated(scgen, trial):
    train, test, true = trial
    law = scgen.predict(asked(test))
    no_change = drug.NoChange().fit(train).predict(asked(test))
    crps, of_no_change = (distances.between(true, q)["excess_crps"] for q in (law, no_change))
    assert crps[:2].sum() < 0.5 * of_no_change[:2].sum()
    assert law.mean[:2] == pytest.approx(true.mean[:2], rel=0.4)
    assert law.counts.shape == (200, 6)
    assert (law.counts == np.floor(law.counts)).all() and (law.counts >= 0).all()


def test_scgen_predicts_what_pertpy_predicts(scgen, trial):
    _, test, _ = trial
    cells = scgen._expression(test)
    theirs, delta = scgen.scgen.predict(
        "control",
        "fold_change",
        adata_to_predict=cells,
        restrict_arithmetic_to={"cell_type": ["A", "B"]},
    )
    # they differ by the cells that pertpy draws at random
    assert np.corrcoef(delta, scgen.effect)[0, 1] > 0.99
    assert scgen.predict(asked(test)).mean == pytest.approx(np.expm1(theirs.X).mean(0), rel=0.1)


def test_scgen_is_the_same_twice(scgen, trial):
    np.random.seed(99)
    again = ScGen(max_epochs=40, seed=1, **SMALL).fit(trial[0])
    first, second = (model.predict(asked(trial[1])).counts for model in (scgen, again))
    np.testing.assert_array_equal(first, second)


def test_scgen_in_shares_of_a_cells_sum_is_blind_to_a_change_of_the_sum(trial):
    train, _, _ = trial
    twice = ad.AnnData(train.X * 2, obs=train.obs, var=train.var)
    model = ScGen(normalise=True)
    counts = dataset.dense(train.X)
    model.genes = list(train.var_names)
    model.median_sum = float(np.median(counts.sum(1)))
    x = model._expression(train).X
    np.testing.assert_allclose(x, model._expression(twice).X, rtol=1e-6)
    np.testing.assert_allclose(np.expm1(x) * model._scale(train), counts, rtol=1e-5, atol=1e-4)


def test_scgen_needs_a_type_seen_both_ways(trial):
    train, _, _ = trial
    with pytest.raises(ValueError, match="both control and treated"):
        ScGen().fit(train[train.obs["drug"] == "control"].copy())


def test_scored_like_a_law(trial):
    law = Cells(np.random.default_rng(0).poisson(20, (300, 6)))
    scores = distances.between(trial[2], law)
    assert np.isfinite(scores[["excess_crps", "mse_mean"]]).all(axis=None)
    assert isinstance(law, Empirical)
