import ast
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

from lib.predict import guard, registry
from lib.predict.base import Predictor
from lib.show import style

ROOT = Path(__file__).parents[2]
SETTING = {
    "n_steps": 5,
    "n_members": 2,
    "device": "cpu",
    "seed": 1,
    "training_options": {"max_epochs": 1},
}


def test_keys_and_labels_are_unique_and_every_model_has_a_colour():
    assert len(registry.BY_KEY) == len(registry.ROWS) == len({row.label for row in registry.ROWS})
    for row in registry.ROWS:
        assert row.colour == "black" or re.fullmatch(r"#[0-9A-F]{6}", row.colour), row
        assert (style.COLOURS[row.key], style.label(row.key)) == (row.colour, row.label)


def test_every_list_is_explained_and_none_is_empty():
    named = {name for row in registry.ROWS for name in row.sets.split()}
    assert named == set(registry.SETS)


def test_rows_are_filtered_by_all_that_is_asked_for_in_the_order_of_the_tables():
    both = [row.key for row in registry.ROWS if {"basic", "compared"} <= set(row.sets.split())]
    assert registry.keys("basic", "compared") == both
    assert "scgen" not in registry.keys(task="conditional")
    assert "vae" in registry.keys("drug", task="drug")
    assert registry.keys(task="conditional", trains_on="arms") == ["mean_of_perturbed", "bilinear"]
    assert registry.order({"your", "mine", "vae", "oracle"}) == ["oracle", "vae", "mine", "your"]


@pytest.mark.parametrize("task", ["conditional", "drug"])
def test_every_row_is_made_for_each_of_its_tasks_and_keeps_the_contract(task, base, reference):
    rows = [row for row in registry.rows(task=task) if "peers" not in row.sets.split()]
    models = guard.models(rows, task, inputs=base, reference=reference, **SETTING)
    assert list(models) == [row.key for row in rows] and len(
        {id(m.model) for m in models.values()}
    ) == len(rows)
    for key, guarded in models.items():
        assert isinstance(guarded.model, Predictor), key
        assert guarded.told == registry.BY_KEY[key].made[task].told, key
        assert getattr(guarded.model, "inputs", None) in (None, base), key


def test_options_of_a_row_stand_before_those_of_the_setting(base):
    made = registry.make(
        registry.BY_KEY["vae_copying"].made["conditional"], inputs=base, beta=0.7, n_latent=3
    )
    assert made.module_options["beta"] == 0.02 and made.module_options["n_latent"] == 3
    ensemble = registry.BY_KEY["dependency_network_ensemble"].made["conditional"]
    assert len(registry.make(ensemble, n_members=2).members) == 2


def test_the_reference_cells_and_their_truth_go_to_those_alone_that_are_told(reference):
    class Peeks:
        def __init__(self, reference=None):
            self.reference = reference

    globals()["Peeks"] = Peeks
    here = f"{__name__}:Peeks"
    assert registry.make(registry.Made(here), reference=reference).reference is None
    assert registry.make(registry.Made(here, told=True), reference=reference).reference is reference


def test_an_option_that_is_not_taken_is_an_error():
    with pytest.raises(TypeError, match="lnk"):
        registry.make(registry.Made("lib.predict.regressions:ridge", {"lnk": "log"}))


def test_only_what_is_told_the_truth_is_made_by_the_room_of_references():
    for row in registry.ROWS:
        for how in row.made.values():
            rooms = ("lib.predict.references:", "lib.predict.arms.references:")
            assert not how.told or how.string.startswith(rooms), row.key


def test_the_rows_are_read_without_torch():
    code = "import sys, lib.predict.registry\n"
    code += "assert not {'torch', 'scanpy', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "source", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem
)
def test_no_notebook_lists_models_of_its_own(source):
    """A list or dict with three keys of the registry or more belongs into the registry."""
    for cell in jupytext.read(source).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
            constants = {item.value for item in items if isinstance(item, ast.Constant)}
            named = constants & set(registry.BY_KEY)
            assert len(named) < 3, (source.name, named)
