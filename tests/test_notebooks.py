"""The notebooks as a reader and papermill find them."""

import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pandas as pd
import pytest

from workflow import notebooks

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
NAMES = [path.stem for path in SOURCES]
LONGEST, LONGEST_SET_UP = 25, 8  # lines of a code cell, empty ones left out


def cells(notebook):
    return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in notebook.cells]


def papermill(name, folder, *options):
    """Run a notebook as a user would; returns (exit code, last line of what it says)."""
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        f"notebooks/{name}.ipynb",
        str(folder / "out.ipynb"),
        *options,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stderr.strip().splitlines()[-1]


def test_there_are_the_nine_notebooks():
    assert NAMES == [
        "01_generative_modelling",
        "02_mechanistic_gene",
        "03_perturb_and_predict",
        "04_drug_response",
        "05_leaderboard",
        "06_sweeps",
        "07_network",
        "07_screen",
        "08_metrics",
    ]


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_script_and_notebook_are_in_step(source):
    assert cells(jupytext.read(source)) == cells(
        nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    )


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_committed_notebook_ran_through_and_holds_no_trace_of_the_run(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert any(c.outputs for c in code)
    assert not [
        o for c in code for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"
    ]
    assert not [o for c in code for o in c.outputs if "image/png" in o.get("data", {})]
    text = source.with_suffix(".ipynb").read_text()
    assert '"papermill"' not in text and "iopub.execute_input" not in text and str(ROOT) not in text


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_code_cells_are_short(source):
    cells = [c for c in jupytext.read(source).cells if c.cell_type == "code"]
    code = [c.source for c in cells if "parameters" not in c.metadata.get("tags", [])]
    lengths = {text: sum(bool(line.strip()) for line in text.splitlines()) for text in code}
    assert max(lengths.values()) <= LONGEST, max(lengths, key=lengths.get)
    (set_up,) = [text for text in code if "parameters.check(" in text]
    assert lengths[set_up] <= LONGEST_SET_UP, set_up


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_a_reader_sees_every_figure_before_it_is_drawn(source):
    text = source.read_text()
    drawn = re.findall(r'style\.save\(.*"(fig\w+)"\)', text)
    shown = re.findall(r"!\[Figure \d+\]\(\.\./figures/(fig\w+)\.png\)\n#\n# \*\*Figure", text)
    assert drawn == shown and drawn
    for name in drawn:
        assert (ROOT / "figures" / f"{name}.png").is_file()
        assert text.index(f"{name}.png") < text.index(f'"{name}"')


def test_committed_notebooks_are_small():
    assert sum(s.with_suffix(".ipynb").stat().st_size for s in SOURCES) < 1e6


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_parameters_are_typed_explained_and_run_as_they_stand(source):
    tagged = [c for c in jupytext.read(source).cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0].source.splitlines():
        assert re.fullmatch(r"\w+: (int|float|str|list|bool) = .+  # .+", line), line
    namespace = {}
    exec(tagged[0].source, namespace)
    for name, kind in namespace["__annotations__"].items():
        assert type(namespace[name]) is kind, name


@pytest.mark.parametrize(
    "name, options, message",
    [
        (
            "01_generative_modelling",
            ["-p", "n_cels", "500"],
            "ValueError: n_cels = 500: no such parameter",
        ),
        ("01_generative_modelling", ["-p", "mu_range", "[10, 1]"], "ValueError: mu_range = "),
        (
            "02_mechanistic_gene",
            ["-p", "zero_rate", "1.2"],
            "ValueError: zero_rate = 1.2: must be from 0 to 0.99",
        ),
        ("03_perturb_and_predict", ["-p", "data_dir", "{tmp}"], "run notebook 02 first"),
        (
            "04_drug_response",
            ["-p", "dose", "-1"],
            "ValueError: dose = -1: must be from 0 to 1,000,000",
        ),
        ("06_sweeps", ["-p", "tables_dir", "{tmp}"], "must hold 06_cells"),
        (
            "05_leaderboard",
            ["-p", "model", "no_such_module:Model"],
            "ValueError: model = 'no_such_module:Model': can't be imported",
        ),
    ],
)
def test_a_bad_parameter_ends_in_one_line_and_writes_nothing(name, options, message, tmp_path):
    figures = tmp_path / "figures"
    options = [o.format(tmp=tmp_path) for o in options]
    code, last = papermill(name, tmp_path, "-p", "figures_dir", str(figures), *options)
    assert code != 0
    assert message in last
    assert not list(figures.rglob("*.*"))


def with_an_own(option, value, folder):
    """Notebook 05 at small size with a model or a mechanism of one's own."""
    sizes = {
        "replicates": 1,
        "n_cells": 500,
        "n_test": 40,
        "n_reference": 4,
        "n_doses": 6,
        "n_genes": 5,
        "max_epochs": 1,
        "n_steps": 10,
        "n_members": 1,
    }
    options = [w for name, number in sizes.items() for w in ("-p", name, str(number))]
    code, last = papermill(
        "05_leaderboard",
        folder,
        *options,
        "-p",
        option,
        value,
        "-p",
        "figures_dir",
        str(folder / "figures"),
    )
    table = folder / "figures" / "tables" / "05_leaderboard.csv"
    return code, last, pd.read_csv(table, keep_default_na=False) if table.exists() else None


def test_a_model_of_ones_own_gets_a_row(tmp_path):
    code, last, table = with_an_own("model", "tests.models_of_ones_own:MyModel", tmp_path)
    assert code == 0, last
    own = table.query("model == 'MyModel'")
    assert {"skill_crps", "slope_ratio"} <= set(own["metric"]) and "skill_kl" not in set(
        own["metric"]
    )
    assert set(own["split"]) == {"held_out", "do_inside", "do_beyond", "pairs", "off_target"}
    means = pd.read_csv(tmp_path / "figures" / "tables" / "summary.csv", keep_default_na=False)
    assert {"marginal", "MyModel"} <= set(
        means["model"]
    )  # of other questions than the committed ones, so that no other is there
    assert means.loc[
        means["scenario"] == "leaderboard", "questions"
    ].nunique() == 1 and "ridge" not in set(means["model"])


def test_a_leaking_model_is_refused_in_one_line(tmp_path):
    code, last, table = with_an_own("model", "tests.models_of_ones_own:Leaky", tmp_path)
    assert code != 0 and table is None
    assert "Leaky: leakage: what it predicts of mech_linear changes" in last


def test_a_truth_of_ones_own_is_asked_about(tmp_path):
    code, last, table = with_an_own(
        "mechanism", "tests.mechanisms_of_ones_own:saturating", tmp_path
    )
    assert code == 0, last
    table = table.query("mechanism == 'tests.mechanisms_of_ones_own:saturating'")
    rows = table.query("metric == 'skill_kl' and split == 'do_inside'")
    assert {"ridge", "vae", "dependency_network"} <= set(rows["model"]) and "true_form" not in set(
        rows["model"]
    )


def test_publishing_drops_injected_parameters_and_is_idempotent(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("n: int = 1  # cells", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(
                "n = 2", metadata={"tags": ["injected-parameters"], "papermill": {"duration": 3}}
            ),
            nbformat.v4.new_code_cell(
                "print(n)",
                outputs=[
                    nbformat.v4.new_output("stream", text="2"),
                    nbformat.v4.new_output("stream", text="\n"),
                ],
            ),
        ],
        metadata={"papermill": {"duration": 3}},
    )
    nbformat.write(notebook, tmp_path / "run.ipynb")
    notebooks.publish(str(tmp_path / "run.ipynb"), str(tmp_path / "once.ipynb"))
    notebooks.publish(str(tmp_path / "once.ipynb"), str(tmp_path / "twice.ipynb"))
    once = (tmp_path / "once.ipynb").read_bytes()
    assert once == (tmp_path / "twice.ipynb").read_bytes()
    assert b"papermill" not in once and b"injected" not in once
    assert [o.text for o in nbformat.reads(once.decode(), 4).cells[-1].outputs] == ["2\n"]
