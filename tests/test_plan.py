"""What a sweep file may say, and the line in which each mistake ends."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lib import checks, parameters
from workflow import plan

ROOT = Path(__file__).parents[1]
NOTEBOOK = """
# %% tags=["parameters"]
n: int = 5  # a whole number
rate: float = 0.5  # from 0 to 1
rates: list = [0.1]  # numbers
quick: bool = False  # whether
name: str = "a"  # text
limit: float = 1.0  # a number
figures_dir: str = "figures"  # folder

# %%
from lib import parameters

print("the notebook itself must not run")
parameters.check("toy", globals())
"""


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "toy.py").write_text(NOTEBOOK)
    rules = {
        "n": parameters.by(checks.integer, 1),
        "rate": parameters.by(checks.number, 0, 1),
        "rates": lambda name, value, others: checks.numbers(name, value, 0, others["rate"]),
        "limit": parameters.by(checks.number),
    }
    monkeypatch.setitem(parameters.OWN, "toy", rules)

    def read(text, overrides=None, **options):
        path = tmp_path / "mine.yaml"
        path.write_text("notebook: toy\n" + text)
        return plan.read(path, overrides, **options)

    return read


def swept(values):
    """A sweep of a single run of notebook 02."""
    return plan.Plan("mine", "02_mechanistic_gene", [], {"run~default": values}, [{}], "")


def values(made):
    return list(made.runs.values())


def test_a_grid_is_every_combination_in_the_order_of_the_file(there):
    made = there("set: {quick: true}\ngrid: {n: [1, 2], rate: [0.1, 0.2]}")
    assert values(made) == [{"quick": True, "n": n, "rate": r} for n in (1, 2) for r in (0.1, 0.2)]
    assert list(made.runs)[0] == "n~1/rate~0.1" and made.varied == ["n", "rate"]


def test_values_arrive_as_what_they_are(there):
    runs = "- {rate: 1e-3, n: 1e3, rates: [1e-3, 2], quick: true, name: 'true'}\n- {limit: 1e-5}"
    first, second = values(there(f"runs:\n{runs}"))
    assert first == {
        "rate": 1e-3,
        "n": 1000,
        "rates": [1e-3, 2],
        "quick": True,
        "name": "true",
    }
    assert type(first["n"]) is int and type(first["rate"]) is float and second == {"limit": 1e-5}


def test_a_csv_is_a_row_a_run(there, tmp_path):
    text = 'n,quick,rates\n1,true,"[1e-3, 1e-2]"\n2,,\n'
    for start in ("", "\N{BYTE ORDER MARK}"):  # as spreadsheets write it
        (tmp_path / "runs.csv").write_text(start + text)
        assert values(there("runs: runs.csv")) == [
            {"n": 1, "quick": True, "rates": [1e-3, 1e-2]},
            {"n": 2},
        ]


def test_a_notebook_without_parameters_is_told(there, tmp_path):
    (tmp_path / "notebooks" / "toy.py").write_text("# %%\nprint(1)\n")
    with pytest.raises(ValueError, match="notebook = 'toy': has no cell tagged parameters"):
        there("grid: {n: [1]}")


def test_a_run_needs_its_own_modules_and_no_others(there, tmp_path, monkeypatch):
    for name in ("first_model.py", "second_model.py"):
        (tmp_path / name).write_text("one = 1\n")
    both = there("grid: {name: [marginal, 'first_model:A', 'second_model:B']}")
    needed = [set(plan.files("toy", run)) - set(plan.files("toy")) for run in values(both)]
    assert needed == [set(), {"first_model.py"}, {"second_model.py"}]


def test_a_run_needs_the_files_that_its_parameters_name(there, tmp_path):
    (tmp_path / "mine.h5ad").write_text("")
    (run,) = values(there("grid: {name: [mine.h5ad]}"))
    assert set(plan.files("toy", run)) - set(plan.files("toy")) == {"mine.h5ad"}
    assert plan.defaults("toy")["rates"] == [0.1]


def test_an_override_fixes_a_parameter_or_sweeps_it(there):
    grid = "grid: {n: [1, 2], rate: [0.1, 0.2]}"
    assert [run["n"] for run in values(there(grid, {"n": 7}))] == [7, 7]
    assert [run["n"] for run in values(there(grid, {"n": [7, 8]}))] == [7, 8, 7, 8]
    assert values(there("grid: {n: [1]}", {"rates": [0.1, 0.2]})) == [{"n": 1, "rates": [0.1, 0.2]}]
    assert [run["rates"] for run in values(there("grid: {n: [1]}", {"rates": [[0.1], [0.2]]}))] == [
        [0.1],
        [0.2],
    ]
    assert [
        run["quick"]
        for run in values(there("set: {quick: false}\ngrid: {n: [1, 2]}", {"quick": True}))
    ] == [True, True]


def test_paths_tell_all_runs_apart_and_are_safe(there):
    names = ["a/b", "a-b", "../x", "", "true", "ü b", "y" * 300, "y" * 301]
    made = there(f"grid: {{name: {names}}}")
    assert len(made.runs) == len(names)
    for path in made.runs:
        assert path.startswith("name~") and "/" not in path and ".." not in path and len(path) < 80


@pytest.mark.parametrize(
    "text, message",
    [
        ("grid: {m: [1]}", "m: no such parameter; there are n, rate"),
        ("set: {m: 1}\ngrid: {n: [1]}", "m: no such parameter"),
        ("grid: {}", "must have either a grid or runs"),
        ("grid: {n: []}", "grid.n = []: List should have at least 1 item"),
        ("grid: {n: 3}", "grid.n = 3: Input should be a valid list"),
        ("runs: []", "must have either a grid or runs"),
        ("runs: no.csv", "runs = 'no.csv': can't be read (No such file"),
        ("grid: {n: [1, 2, 1]}", "n~1: is there twice"),
        ("runs: [{n: 5}, {rate: 0.5}]", "n~5/rate~0.5: is there twice"),
        ("set: {n: 1}\ngrid: {n: [1]}", "n: is both in set and swept"),
        ("grid: {figures_dir: [a]}", "figures_dir: can't be set in a sweep"),
        ("grid: {n: [1]}\nruns: [{n: 1}]", "must have either a grid or runs"),
        ("set: {n: 1}", "must have either a grid or runs"),
        ("gird: {n: [1]}", "gird = {'n': [1]}: Extra inputs are not permitted"),
        (
            "grid: {n: [1]}\nfigure: {where: do_inside}",
            "where = 'do_inside': Input should be a valid dict",
        ),
        ("grid: {n: [1]}\nfigure: [{models: vae}]", "models = 'vae': Input should be a valid list"),
        (
            "grid: {n: [1]}\nfigure: {metrics: mse}",
            "metrics = 'mse': Extra inputs are not permitted",
        ),
        ("set: 3\ngrid: {n: [1]}", "set = 3: Input should be a valid dictionary"),
        ("grid: {n: [1", "can't be read"),
        ("set: {rate: 2}\ngrid: {n: [1]}\nnotebook: toys", "notebook = 'toys': must be one of toy"),
    ],
)
def test_a_mistake_ends_in_one_line(there, text, message):
    with pytest.raises(ValueError) as error:
        there(text)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value, message",
    [
        ("n: [1.5]", "n = 1.5: must be a whole number"),
        ("n: [true]", "n = True: must be a whole number"),
        ("n: [null]", "n = None: must be a whole number"),
        ("quick: [1]", "quick = 1: must be of type bool"),
        ("quick: ['true']", "quick = 'true': must be of type bool"),
        ("name: [5]", "name = 5: must be text"),
        ("rates: [0.1]", "rates = 0.1: must be a list"),
        (f"rate: [1{'0' * 400}]", "must be"),
        ("limit: [low]", "limit = 'low': must be a number"),
    ],
)
def test_a_value_of_another_type_ends_in_one_line(there, tmp_path, value, message):
    with pytest.raises(ValueError) as error:
        plan.check_ranges(there(f"grid: {{{value}}}"), str(tmp_path / "own"))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_more_than_ten_thousand_runs_need_a_yes(there):
    grid = f"grid: {{n: {list(range(1, 102))}, rate: {[i / 100 for i in range(100)]}}}"
    with pytest.raises(ValueError, match="10,100 runs: more than 10,000; say --yes"):
        there(grid)
    assert len(there(grid, yes=True).runs) == 10_100


def test_a_huge_grid_is_refused_before_it_is_made(there):
    big = list(range(1, 300))
    with pytest.raises(ValueError, match="more than 10,000"):
        there(f"grid: {{n: {big}, rate: {big}, limit: {big}}}")


def test_ranges_are_those_of_the_notebook(there, tmp_path, capsys):
    def check(text):
        plan.check_ranges(there(text), str(tmp_path / "own"))

    check("grid: {n: [1, 2], rate: [0.2, 1]}")
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match=r"rate = 1.5: must be from 0 to 1"):
        check("grid: {rate: [0.5, 1.5]}")
    with pytest.raises(ValueError, match=r"rates = "):  # a rule that looks at another parameter
        check("runs: [{rates: [0.4]}, {rates: [0.4], rate: 0.3}]")


def test_a_value_for_which_a_notebook_has_no_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=r"mechanisms = \{'my_module': 'f'\}: must be text"):
        plan.check_ranges(swept({"mechanisms": [{"my_module": "f"}]}), str(tmp_path))


def test_only_folders_that_a_notebook_writes_are_each_runs_own(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert plan.own_folders("02_mechanistic_gene") == ["figures_dir", "data_dir"]
    assert plan.own_folders("03_perturb_and_predict") == [
        "figures_dir"
    ]  # it reads what notebook 02 has left


def test_another_machine_may_have_the_gpu_that_this_one_lacks(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    on_a_gpu = swept({"device": "cuda"})
    plan.check_ranges(on_a_gpu, str(tmp_path), elsewhere=True)
    with pytest.raises(ValueError, match="device = 'cuda'"):
        plan.check_ranges(on_a_gpu, str(tmp_path))


TABLES = {
    "06_cells",
    "06_genes",
    "06_steps",
    "06_vae",
    "07_sweep",
    "07_factors",
    "08_court",
    "08_dials",
}


@pytest.mark.parametrize(
    "name", [p.stem for p in sorted((ROOT / "workflow" / "sweeps").glob("*.yaml"))]
)
def test_the_sweeps_that_ship_are_in_order(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    made = plan.read(f"workflow/sweeps/{name}.yaml")
    plan.check_ranges(made, str(tmp_path))
    assert len(made.runs) >= 6 and made.table in TABLES


def test_files_of_a_notebook_are_those_that_it_imports(monkeypatch):
    monkeypatch.chdir(ROOT)
    own = {"mechanisms": ["linear", "tests.mechanisms_of_ones_own:saturating"], "seed": 1}
    needed = plan.files("02_mechanistic_gene", own)
    assert {
        "notebooks/02_mechanistic_gene.py",
        "lib/laws/zinb.py",
        "lib/predict/neural.py",
        "tests/mechanisms_of_ones_own.py",
    } <= set(needed)
    assert not {"lib/score/board.py", "lib/perturb.py", "lib/tasks/drug.py"} & set(needed)
    assert "lib/score/board.py" in plan.files("05_leaderboard")


def test_a_published_model_and_what_ones_own_model_imports_are_needed(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert not [path for path in plan.files("05_leaderboard") if path.startswith("peers/")]
    assert "peers/scvi.py" in plan.files("05_leaderboard", {"models": ["scvi"]})
    own = plan.files("05_leaderboard", {"model": "tests.models_of_ones_own:MyModel"})
    assert {"tests/models_of_ones_own.py", "lib/laws/zinb.py"} <= set(own)
    by_way = plan.files("05_leaderboard", {"model": "tests.predict.test_guard:Model"})
    assert "tests/agreement.py" in by_way  # which test_guard imports
    assert not [
        path for path in plan.files("06_sweeps") if path.startswith(("lib/neural/", "workflow/"))
    ]


def test_the_needed_files_are_all_that_python_imports(monkeypatch):
    monkeypatch.chdir(ROOT)
    source = Path("notebooks/02_mechanistic_gene.py").read_text()
    imports = "; ".join(line for line in source.splitlines() if re.match("(from|import) ", line))
    ours = "[m.__file__ for name, m in sys.modules.items() if name.startswith('lib.')]"
    told = f"import sys; {imports}; print({ours})"
    loaded = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True
    ).stdout
    needed = {str(Path(p).relative_to(ROOT)) for p in yaml.safe_load(loaded)}
    rules = {"lib/parameters.py"}  # say what is refused, and change no result
    assert needed - rules <= set(plan.files("02_mechanistic_gene")) and rules <= needed
