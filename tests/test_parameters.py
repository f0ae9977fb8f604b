"""Every parameter of every notebook, given what it can't be: one line that names it, at once."""

import math
import time
from pathlib import Path

import jupytext
import pytest
import yaml

from lib import checks, dataset, parameters
from tests.agreement import one_line

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(p.stem for p in (ROOT / "notebooks").glob("*.py"))


def declared(notebook):
    """What the cell tagged `parameters` leaves behind."""
    cells = jupytext.read(ROOT / "notebooks" / f"{notebook}.py").cells
    namespace = {}
    exec(next(c.source for c in cells if "parameters" in c.metadata.get("tags", [])), namespace)
    return namespace


DECLARED = {notebook: declared(notebook) for notebook in NOTEBOOKS}
EVERY = [(n, name) for n in NOTEBOOKS for name in DECLARED[n]["__annotations__"]]

BAD = {
    "zero": 0,
    "negative": -1,
    "fraction": 0.5,
    "one": 1,
    "text": "nonsense",
    "none": None,
    "bool": True,
    "NaN": math.nan,
    "infinite": math.inf,
    "huge": 10**30,
    "huger": 10**400,
    "empty text": "",
    "empty list": [],
    "numbers, the larger first": [10, 1],
    "a long list": [0.5] * 10**6,
    "a list of text": ["nonsense"],
    "a list of lists": [[1], [1, 2]],
    "names": {"name": 1},
    "control character": "a\x07b",
    "two lines": "a\nb",
    "a long text": "x" * 10**6,
    "no such module": "no_such_module:Name",
    "relative module": ".module:Name",
    "under a file": "file/below",
    "longer than a file's name": "x" * 300,
}
COUNTS_FROM_0 = {
    "seed", "n_parents", "n_off_target", "n_pairs", "n_asked_pairs", "n_strengths", "n_few",
    "n_asked_types",
}  # fmt: skip
COUNTS_FROM_1 = {
    "replicates", "n_reference", "n_pair_doses", "n_members", "n_latent", "max_epochs", "n_steps",
    "n_regulators",
}  # fmt: skip
SHARES = {"strength", "escapers", "wrong_guides", "divergence", "fidelity"}
REAL = {"shift", "dose", "beta", "control_bias"} | SHARES
READ_IF_THERE = {"known_dir"}
MADE = {"figures_dir", "data_dir"}
LEGAL = {  # of the above, what some parameters may be
    "zero": COUNTS_FROM_0 | REAL,  # nothing of it
    "one": COUNTS_FROM_0 | COUNTS_FROM_1 | REAL | {"fold"},
    "fraction": REAL | {"fold", "type_zero_rate"},
    "numbers, the larger first": {"betas"},  # no interval: in any order
    "empty text": {
        "counts",
        "mechanism",
        "model",
        "real_counts",
        "cell_type_key",
        "real_screen",
    },  # none of one's own
    "empty list": {"models", "more_models", "suites", "ceilings", "tests"},  # all; none
    "bool": {"infinite", "with_zoo", "every_model"},
    "text": MADE | READ_IF_THERE,  # as good a name of a folder as others
    "no such module": MADE | READ_IF_THERE,
    "relative module": MADE | READ_IF_THERE,
    "under a file": READ_IF_THERE,
    "longer than a file's name": READ_IF_THERE,
}
LEGAL_IN = {  # in one notebook, in place of the above
    ("03_perturb_and_predict", "data_dir"): set(),  # is read, and must hold what notebook 02 wrote
    ("07_screen", "n_asked_pairs"): {"zero"},  # a third each with 2, 1 and 0 genes seen
    ("07_screen", "n_cells"): {"one"},
    ("07_screen", "n_cell_types"): {"one"},
    ("07_screen", "depth"): {"one", "fraction"},
    ("08_metrics", "n_asked_pairs"): {"zero"},
    ("08_metrics", "n_cells"): {"one"},
    ("08_metrics", "n_cell_types"): {"one"},
    ("08_metrics", "depth"): {"one", "fraction"},
    ("04_drug_response", "max_epochs"): set(),  # at least 12
    ("04_drug_response", "zero_rate"): {"fraction"},  # its genes have fewer zeros
}


def legal(notebook, name):
    return LEGAL_IN.get((notebook, name), {what for what in LEGAL if name in LEGAL[what]})


@pytest.fixture(scope="module")
def cells():
    return dataset.get_mech_dataset(dataset.base_genes(30, 3, seed=1), "linear", seed=1)


@pytest.fixture
def good(tmp_path, monkeypatch, cells):
    """A notebook's parameters as they stand, with the files that they need."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for name in ("06_cells", "06_steps", "06_vae", "06_genes"):
        (tmp_path / "tables").mkdir(exist_ok=True)
        (tmp_path / "tables" / f"{name}.csv").write_text("")
    (tmp_path / "data").mkdir()
    for part in ("train", "vae", "vae_copying", "vae_conditional"):
        for replicate in range(10):
            (tmp_path / "data" / f"02_{part}_{replicate}.pt").write_text("")
    cells.write_h5ad(tmp_path / "data" / "02_train_0.h5ad")

    def values(notebook):
        namespace = {"__annotations__": DECLARED[notebook]["__annotations__"]}
        for name in namespace["__annotations__"]:
            namespace[name] = DECLARED[notebook][name]
        places = {"data_dir": "data", "tables_dir": "tables"}
        return namespace | {name: place for name, place in places.items() if name in namespace}

    return values


def in_full(number):
    return next(notebook for notebook in NOTEBOOKS if notebook.startswith(f"{number}_"))


def there():
    return sorted(path for path in Path.cwd().rglob("*") if path.is_file())


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_parameters_as_they_stand_pass_and_once_more(good, notebook):
    namespace, before = good(notebook), there()
    parameters.check(notebook, namespace)
    namespace["a_result"] = 3  # of a later cell
    parameters.check(notebook, namespace)
    assert there() == before


@pytest.mark.parametrize("notebook, name", EVERY)
def test_what_a_parameter_can_not_be_ends_in_one_line(good, notebook, name):
    values = good(notebook)
    parameters.check(notebook, dict(values))  # has imported what it needs
    before, tried = there(), 0
    for what, value in BAD.items():
        began = time.perf_counter()
        if what in legal(notebook, name):
            parameters.check(notebook, values | {name: value})
            continue
        with pytest.raises(ValueError) as error:
            parameters.check(notebook, values | {name: value})
        assert time.perf_counter() - began < 1, what
        said = str(error.value)
        assert said.startswith(f"{name} = ") and ("must" in said or "no such" in said), what
        assert "\n" not in said and len(said) < 700, what
        tried += 1
    assert tried >= 14 and there() == before


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_notebook_checks_itself_by_its_own_name(notebook):
    script = (ROOT / "notebooks" / f"{notebook}.py").read_text()
    assert f'\nparameters.check("{notebook}", globals())\n' in script


def test_every_parameter_has_a_rule_and_every_rule_a_parameter():
    assert [(n, name) for n, name in EVERY if parameters.rule(n, name) is None] == []
    own = {(n, name) for n, rules in parameters.OWN.items() for name in rules}
    assert own <= set(EVERY)
    assert {name for n, name in EVERY if (n, name) not in own} == set(parameters.RULES)


@pytest.mark.parametrize(
    "notebook, values, message",
    [
        ("01", {"n_cells": 10**30}, "from 100 to 10,000,000"),
        ("01", {"n_cells": 99}, "n_cells = 99: must be from 100"),
        ("01", {"betas": [0.5] * 101}, "at most 100"),
        ("01", {"betas": [0.5, "x"]}, "betas = 'x': must be a number"),
        ("01", {"mu_range": [10, 1]}, "mu_range = (10, 1): must be two numbers, the smaller"),
        ("01", {"mu_range": [1, 1e30]}, "mu_range = 1e+30: must be from 0.001 to 1,000,000"),
        ("01", {"zero_rate": 0.57}, "zero_rate = 0.57: must be at least 0.577; a gene with mu 1"),
        ("01", {"type_zero_rate": 0.44}, "must be at least 0.444; a gene with mu 1 and theta 2"),
        ("01", {"zero_rate": 0.6, "mu_range": [0.5, 1]}, "zero_rate = 0.6: must be at least 0.70"),
        ("05", {"zero_rate": 0.5}, "zero_rate = 0.5: must be at least 0.577"),
        ("01", {"counts": "no.h5ad"}, "counts = 'no.h5ad': no such file"),
        ("01", {"counts": "file"}, "counts = 'file': not a readable .h5ad"),
        ("01", {"device": "tpu"}, "device = 'tpu': must be auto, cpu or cuda"),
        ("01", {"figures_dir": "file"}, "figures_dir = 'file': must be a folder that can"),
        ("02", {"mechanisms": ["hill", "hil"]}, "mechanisms = 'hil': must be linear, polynomial"),
        ("02", {"mechanisms": ["hill", "hill"]}, "['hill', 'hill']: must not have 'hill' twice"),
        ("02", {"mechanisms": ["hill", None]}, "mechanisms = None: must be text"),
        ("02", {"mechanisms": ["hill", ""]}, "mechanisms = '': must not be empty"),
        (
            "03",
            {"data_dir": "tables"},
            "must hold 02_train_0, and has not; run notebook 02",
        ),
        ("03", {"replicates": 11}, "data_dir = 'data': must hold 02_train_10"),
        ("03", {"perturbed_gene": "gene_9"}, "perturbed_gene = 'gene_9': must be one of largest"),
        ("03", {"perturbed_gene": "mech_linear"}, "must be one of largest, smallest, gene_0"),
        ("03", {"perturbed_gene": "gene_9", "data_dir": None}, "data_dir = None: must be text"),
        ("04", {"n_cells": 19}, "n_cells = 19: must be from 20"),
        ("04", {"max_epochs": 11}, "max_epochs = 11: must be from 12"),
        ("04", {"model": "json:JSONEncoder"}, "model = 'json:JSONEncoder': must be a class with"),
        ("05", {"n_parents": 21}, "n_parents = 21: must be from 0 to 20"),
        ("05", {"mechanism": ["x"]}, "mechanism = ['x']: must be text"),
        ("05", {"models": ["ridge", "rigde"]}, "models = 'rigde': must be one of oracle"),
        ("05", {"models": ["vae_leaky"]}, "models = 'vae_leaky': must be one of oracle"),
        ("05", {"known_dir": ""}, "known_dir = '': must not be empty"),
        ("06", {"tables_dir": "data"}, "tables_dir = 'data': must hold 06_cells, and has not; ./r"),
        ("06", {"tables": "data"}, "tables = 'data': no such parameter; there are tables_dir"),
    ],
)
def test_the_line_says_what_is_allowed(good, notebook, values, message):
    notebook = in_full(notebook)
    with pytest.raises(ValueError) as error:
        parameters.check(notebook, good(notebook) | values)
    one_line(error, message)


@pytest.mark.parametrize(
    "notebook, values",
    [
        ("01", {"counts": "data/02_train_0.h5ad", "mu_range": (1, 1)}),
        ("01", {"figures_dir": "figures of mine/é"}),
        ("01", {"zero_rate": 0.578, "type_zero_rate": 0.445}),
        ("04", {"zero_rate": 0.4, "dispersion_range": [0.001, 0.01], "n_genes": 5}),
        ("02", {"mechanisms": ["hill", "tests.mechanisms_of_ones_own:saturating"]}),
        ("03", {"perturbed_gene": "gene_2", "replicates": 1}),
        ("03", {"perturbed_gene": "smallest"}),
        ("04", {"n_cells": 20, "n_genes": 5, "max_epochs": 12}),
        ("05", {"n_genes": 4, "n_parents": 4, "models": ["marginal", "ridge"]}),
        ("05", {"mechanism": "tests.mechanisms_of_ones_own:saturating"}),
        ("05", {"model": "tests.models_of_ones_own:MyModel"}),
    ],
)
def test_what_is_allowed_passes(good, notebook, values):
    notebook = in_full(notebook)
    parameters.check(notebook, good(notebook) | values)


@pytest.mark.parametrize("bad", [{"n_cells": 0}, {"data_dir": ""}, {"data_dir": 3}])
def test_no_folder_is_made_before_all_else_is_right(good, bad):
    values = good("02_mechanistic_gene") | {"figures_dir": "mine"} | bad
    with pytest.raises(ValueError):
        parameters.check("02_mechanistic_gene", values)
    assert not Path("mine").exists()


MODES = yaml.safe_load((ROOT / "workflow" / "modes.yaml").read_text())


@pytest.mark.parametrize("mode", MODES)
def test_the_modes_of_the_workflow_pass(good, mode):
    for notebook, values in MODES[mode].items():
        parameters.check(notebook, good(notebook) | values)


TOY = """
import math
n_cells: int = 100
dose: float = 1.0
quick: bool = False
name: str = "a"
_hidden = 3
def helper(): pass
"""


def toy(injected=""):
    namespace = {}
    exec(TOY + injected, namespace)
    return namespace


@pytest.mark.parametrize(
    ("injected", "parts"),
    [
        ("n_cell = 5", ("n_cell = 5", "no such parameter", "n_cells, dose, quick, name")),
        (f"n_cell = [1] * {10**6}", ("n_cell = [1, 1, ", "...]: no such parameter")),
        ("n_cells = 0", ("n_cells = 0", "at least 1")),
        ("n_cells = 1e4", ("n_cells = 10000.0", "whole number")),
        ("dose = '1e-3'", ("dose = '1e-3'", "a number")),
        ("quick = 'true'", ("quick = 'true'", "bool")),
        ("quick = 1", ("quick = 1", "bool")),
        ("name = 3", ("name = 3", "str")),
    ],
)
def test_parameters_of_another_notebook_are_held_to_their_types(injected, parts, monkeypatch):
    monkeypatch.setitem(parameters.OWN, "toy", {"n_cells": parameters.by(checks.integer, 1)})
    parameters.check("toy", toy("n_cells = 5\ndose = 2"))
    with pytest.raises(ValueError) as error:
        parameters.check("toy", toy(injected))
    one_line(error, *parts)
