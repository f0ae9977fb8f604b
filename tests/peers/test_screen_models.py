"""Published models on a tiny pack: what they answer, and what their scripts share."""

import importlib.util
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sparse

from lib.score import pack as scored
from lib.tasks import pack as exported
from lib.tasks.screen import Design
from peers import pack as packs
from peers.__main__ import GRIDS
from tests.test_house import ROOT

TINY = Design(
    n_genes=30,
    n_regulators=10,
    n_arms=4,
    n_pairs=1,
    n_unseen=2,
    n_asked_pairs=3,
    n_strengths=1,
    n_cells=10,
    n_control=30,
    shift=0.0,
)
MODELS = {  # name: (package, flags, queries it can't be asked)
    "biolord": ("biolord", ["--epochs=2"], {"activation"}),
    "gears": ("gears", ["--epochs=1"], {"activation", "weaker"}),
    "scouter": ("scouter", ["--epochs=2"], {"activation", "weaker"}),
    "cpa": ("cpa", ["--epochs=10"], {"activation"}),
    "state": ("state", ["--steps=50"], {"activation", "weaker"}),
}
TWICE = """
import runpy, sys
script, *options = sys.argv[1:]
for out in ("first", "second"):
    sys.argv = [script, "pack", out + ".h5ad", *options]
    runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    exported.export(folder / "pack", TINY, 1, n_truth=200)
    return folder


@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_answers_what_it_can_and_says_what_it_cannot(name, folder):
    package, flags, cannot = MODELS[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} isn't installed: ./run_all.sh peers {name}")
    script = ROOT / "peers" / name / "fit_predict.py"
    command = [sys.executable, "-c", TWICE, script, "--seed=3", "--budget=60", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    said = json.loads((folder / "first.json").read_text())
    queries = pd.read_csv(folder / "pack" / "queries.csv", index_col="query")
    kinds = {
        "activation": queries["perturbation_type"] == "activation",
        "weaker": (queries["perturbation_type"] == "knockdown") & (queries["strength"] < 0.8),
    }
    assert set(said["cannot"]) == {q for kind in cannot for q in queries.index[kinds[kind]]}
    task, pack = exported.unlocked(folder / "pack")
    answers = scored.read(folder / "first.h5ad", task, pack)  # genes, NaN, signs
    assert set(answers) == set(queries.index) - set(said["cannot"])
    moved = scored.read(folder / "first.effects.csv", task, pack)
    scales = {answer.scale for answer in answers.values()}
    assert set(moved) == set(answers) and {mean.scale for mean in moved.values()} == scales
    assert said["answered"] == len(answers) and said["validations"] and not said["converged"]
    assert said["versions"] and said["cpu_seconds"] > 0 and said["peak_mb"] > 100
    first, second = (ad.read_h5ad(folder / f"{out}.h5ad") for out in ("first", "second"))
    np.testing.assert_array_equal(first.X, second.X)
    assert (first.obs["query"] == second.obs["query"]).all()


def test_pins_are_exact_and_every_model_has_a_grid_of_two():
    for name in MODELS:
        lines = (ROOT / "peers" / name / "requirements.txt").read_text().splitlines()
        assert all("==" in line for line in lines if not line.startswith("#"))
        assert len(GRIDS[name]) == 2
    assert set(GRIDS) == set(MODELS)


def test_no_script_imports_the_library():
    for name in ("pack.py", *(f"{model}/fit_predict.py" for model in MODELS)):
        text = (ROOT / "peers" / name).read_text()
        assert "from lib" not in text and "import lib" not in text


def test_a_pack_is_read_as_models_want_it(folder):
    pack = packs.read(folder / "pack")
    assert len(pack.arms) == 5 and (pack.group >= 0).sum() == 5 * 10
    assert len(pack.controls("A")) == 30
    counts = pack.cells.layers["counts"].toarray()
    logs = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    np.testing.assert_allclose(pack.cells.X.toarray(), logs, rtol=1e-5)
    one, other = pack.cells.var_names[:2]
    pair = pack.vector(f"{one}+{other}")
    np.testing.assert_allclose(pair, pack.vector(one) + pack.vector(other), rtol=1e-6)
    assert not pack.vector("control").any()
    held_out = packs.validation(pack, 1)
    assert len(held_out) == 1 and list(held_out) == list(packs.validation(pack, 1))


def test_effects_are_a_models_answers_against_its_own_of_controls(folder):
    pack = packs.read(folder / "pack")
    queries = pack.queries.iloc[:2]
    rng = np.random.default_rng(0)
    bias, effect = rng.uniform(1, 2, (2, pack.cells.n_vars))

    def predict(arm, controls):
        """A profile that is off, and moved by an effect."""
        moved = (bias + effect) if arm.perturbation != "control" else bias
        return np.tile(moved, (len(controls), 1))

    answers = {q.Index: packs.answered(pack, predict, q, 0) for q in queries.itertuples()}
    table = packs.effects(pack, predict, answers, packs.SCALE, 0)
    measured = pack.cells.X[pack.group < 0].toarray().mean(axis=0)
    found = table.drop(columns=["query", "pack", "scale"]).to_numpy()
    np.testing.assert_allclose(found, [measured + effect] * 2, rtol=1e-5)
    table = packs.effects(pack, predict, answers, "counts", 0)
    measured = pack.cells.layers["counts"][pack.group < 0].toarray().mean(axis=0)
    found = table.drop(columns=["query", "pack", "scale"]).to_numpy()
    folds = (bias + effect + 0.01) / (bias + 0.01)
    np.testing.assert_allclose(found, [measured * folds] * 2, rtol=1e-5)
    assert list(table["query"]) == list(queries.index) and set(table["pack"]) == {pack.name}


def test_log_normalised_leaves_an_empty_cell_empty():
    logs = packs.log_normalised(sparse.csr_matrix([[0.0, 0.0], [1.0, 3.0]]))
    np.testing.assert_allclose(logs.toarray(), [[0, 0], np.log1p([2500, 7500])], rtol=1e-6)


@pytest.mark.parametrize(
    ("curve", "flat"),
    [
        ([9, 5, 3, 2, 2], True),
        ([9, 5, 3, 2, 1.9], False),  # still 5 % better in the last fifth
        ([9, 5, 3, 2, 1.97], True),  # 1.5 %
        ([9, 5, 3, 2, 7], True),  # worse: the best was kept
        ([9, 8, 7, 6], False),  # too few
        ([10 * 0.9**i for i in range(50)], False),
        ([10 * 0.5**i + 1 for i in range(50)], True),
    ],
)
def test_converged_is_flat_over_the_last_fifth(curve, flat):
    assert packs.converged(curve) is flat


def test_a_model_without_types_or_doses_says_so(tmp_path):
    asked = {"n_cell_types": 3, "n_few": 1, "n_asked_types": 2}
    exported.export(tmp_path / "pack", Design(**(TINY.__dict__ | asked)), 1, n_truth=200)
    pack = packs.read(tmp_path / "pack")
    plain = SimpleNamespace(types=False, doses=False)
    assert set(packs.cannot(pack, plain)) == set(pack.queries.index)
    able = SimpleNamespace(types=True, doses=True)
    reasons = packs.cannot(pack, able)
    other = pack.queries["perturbation_type"] == "activation"
    assert set(reasons) == set(pack.queries.index[other])
    unseen = pack.queries["split"] == "unseen type"
    assert unseen.any() and not set(reasons) & set(pack.queries.index[unseen])
