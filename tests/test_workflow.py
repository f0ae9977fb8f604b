"""run_all.sh as a user runs it, at tiny size."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.predict import registry
from lib.score import board, tables
from lib.tasks import conditional, drug
from workflow import finish, plan

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "tiny"
TABLES = [
    "01_parameter_recovery",
    "02_mechanism",
    "03_perturbation",
    "04_drug",
    "05_leaderboard",
    "07_network",
    "07_screen",
    "08_metrics",
]
FIGURES = [
    "fig1_parameter_recovery",
    "fig2_mechanism",
    "fig3_dose_response",
    "fig4_drug_response",
    "fig5_leaderboard",
    "fig6_cells_and_zeros",
    "fig7_vae",
    "fig8_genes_and_parents",
    "fig10_network",
    "fig11_screen",
    "fig12_metrics",
    "fig13_cases",
]


def run(*command, cwd=ROOT):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    here = os.environ | {"PATH": path}  # this environment, also for a copy of the repository
    return subprocess.run(command, cwd=cwd, env=here, capture_output=True, text=True, timeout=600)


def tracked_outputs():
    """Hashes of what only the full run may rewrite."""
    folders = [ROOT / "figures", ROOT / "notebooks"]
    files = [
        p
        for folder in folders
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "__pycache__" not in p.parts
    ]
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in [*files, ROOT / "README.md"]}


@pytest.fixture(scope="module")
def tiny():
    before = tracked_outputs()
    shutil.rmtree(BUILD, ignore_errors=True)
    done = run("./run_all.sh", "tiny")
    assert done.returncode == 0, done.stderr
    assert tracked_outputs() == before, "a run that isn't the full one has touched tracked files"
    return done


def table(name):
    return pd.read_csv(BUILD / "figures" / "tables" / f"{name}.csv", keep_default_na=False)


def test_progress_and_summary_are_printed(tiny):
    for line in (
        "02_mechanistic_gene | starts",
        "03_perturb_and_predict | replicate 2/2",
        "04_drug_response | done",
    ):
        assert line in tiny.stdout + tiny.stderr
    assert "summary.csv" in tiny.stdout and "GRN, learned" in tiny.stdout


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_tidy(tiny, name):
    rows = table(name)
    assert list(rows.columns) == [*tables.KEYS, "value"]
    assert not rows.duplicated(tables.KEYS).any()
    assert len(rows) > 20


def test_oracle_and_marginal_are_the_ends_of_the_scale(tiny):
    for name in ("02_mechanism", "03_perturbation", "05_leaderboard"):
        skills = (
            table(name)
            .query("metric == 'skill_kl'")
            .assign(value=lambda t: t["value"].astype(float))
        )
        assert np.allclose(skills.query("model == 'oracle'")["value"], 1)
        assert np.allclose(skills.query("model == 'marginal'")["value"], 0)
    kl = table("04_drug").query("metric == 'kl_nats' and model == 'oracle'")["value"].astype(float)
    assert np.allclose(kl, 0)


def test_every_mechanism_and_split_is_there(tiny):
    rows = table("03_perturbation")
    assert {"do_inside", "do_beyond", "pairs", "off_target"} == set(rows["split"])
    assert {"linear", "polynomial", "interaction", "hill", "threshold"} <= set(rows["mechanism"])
    assert {"held_out", "held_out_type"} == set(table("04_drug")["split"])


def test_summary_is_the_mean_of_the_tables(tiny):
    rows = table("02_mechanism").assign(value=lambda t: t["value"].astype(float))
    mean = rows.query("metric == 'kl_nats' and model == 'ridge' and mechanism == 'hill'")[
        "value"
    ].mean()
    summary = pd.read_csv(BUILD / "figures/tables/summary.csv", keep_default_na=False)
    of_ridge = "metric == 'kl_nats' and model == 'ridge' and mechanism == 'hill'"
    found = summary.query(f"{of_ridge} and split == 'held_out' and scenario == 'mechanistic_gene'")
    assert found["mean"].astype(float).item() == pytest.approx(mean, rel=1e-3)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_there_with_editable_text(tiny, name):
    assert (BUILD / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    pdf = (BUILD / "figures" / f"{name}.pdf").read_bytes()
    assert b"/Type3" not in pdf and b"/FontFile2" in pdf
    assert b"<svg" in (BUILD / "figures" / f"{name}.svg").read_bytes()


def test_figure_11_of_a_run_at_other_parameters_is_its_own(tiny):
    svg = (BUILD / "figures" / "fig11_screen.svg").read_text()
    assert "<!-- shift 0.4 -->" in svg and "<!-- shift 0 -->" not in svg  # as in the sweep


def test_run_json_says_what_a_run_was_made_with(tiny):
    about = json.loads((BUILD / "figures/tables/run.json").read_text())
    assert about["versions"]["torch"].startswith("2.13.0")
    assert len(about["notebooks"]) == 9
    assert about["notebooks"]["02_mechanistic_gene"]["parameters"]["replicates"] == 2
    assert about["notebooks"]["03_perturb_and_predict"]["parameters"]["n_doses"] == 8


def test_a_second_run_has_nothing_left_to_do(tiny):
    executed = sorted((BUILD / "executed").glob("0?_*.ipynb"))
    before = [path.stat().st_mtime for path in executed]
    done = run("./run_all.sh", "tiny")
    assert done.returncode == 0 and len(executed) == 9
    assert [path.stat().st_mtime for path in executed] == before


def test_the_full_run_keeps_the_readme_on_the_networks_of_the_sweep(tiny, tmp_path, monkeypatch):
    for place in ("figures/tables", "notebooks"):
        shutil.copytree(ROOT / place, tmp_path / place)
    shutil.copytree(BUILD, tmp_path / "build" / "full", ignore=shutil.ignore_patterns("data"))
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "README.md").write_text(readme.replace("| conditional VAE", "| of an older run"))
    monkeypatch.chdir(tmp_path)
    finish.finish("full")
    assert Path("README.md").read_text() == readme
    name = "figures/tables/07_screen.csv"
    assert Path(name).read_bytes() == (BUILD / name).read_bytes()
    assert Path(name).read_bytes() != (ROOT / name).read_bytes()


def test_the_same_seed_gives_the_same_bytes(tiny, tmp_path):
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile"]
    command += ["--config", "mode=tiny", f"out={tmp_path}", "--cores", "1", "--nolock", "--quiet"]
    done = run(*command, "all", "--", f"{tmp_path}/figures/tables/02_mechanism.csv")
    assert done.returncode == 0, done.stderr
    for file in (
        "tables/02_mechanism.csv",
        "fig2_mechanism.pdf",
        "fig2_mechanism.svg",
        "fig2_mechanism.png",
    ):
        assert (tmp_path / "figures" / file).read_bytes() == (BUILD / "figures" / file).read_bytes()


def house_of(tmp_path, notebook):
    """A copy of the repository in which all notebooks are this one."""
    for part in ("lib", "workflow"):
        shutil.copytree(ROOT / part, tmp_path / part)
    for part in ("run_all.sh", "requirements.txt"):
        shutil.copy(ROOT / part, tmp_path)
    (tmp_path / "notebooks").mkdir()
    for source in (ROOT / "notebooks").glob("*.py"):
        (tmp_path / "notebooks" / source.name).write_text(notebook)
    return tmp_path


PARAMETERS_CELL = '# %% tags=["parameters"]\nfigures_dir: str = ""\ndata_dir: str = ""\n'


def test_a_failing_notebook_stops_the_run_with_one_line(tmp_path):
    house_of(tmp_path, f'{PARAMETERS_CELL}\n# %%\nraise RuntimeError("no luck")\n')
    done = run("./run_all.sh", "tiny", cwd=tmp_path)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "cell" in last and "RuntimeError: no luck" in last
    path = tmp_path / last.rpartition("run so far: ")[2].partition(")")[0]
    assert path.is_file() and path.name.removesuffix(".part.ipynb") in last


@pytest.mark.parametrize(
    "notebook, message",
    [
        (f"{PARAMETERS_CELL}n_cells: int = 10 +\n", "SyntaxError"),
        (f"{PARAMETERS_CELL}\n# %%\n1\n", "MissingOutputException"),
    ],
)
def test_what_stops_snakemake_itself_is_said(tmp_path, notebook, message):
    done = run("./run_all.sh", "tiny", cwd=house_of(tmp_path, notebook))
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and any(message in line for line in lines[-4:-1])
    assert lines[-1] == "run_all.sh: stopped, messages: build/tiny/snakemake.txt"
    assert message in (tmp_path / "build/tiny/snakemake.txt").read_text()


def test_a_run_that_is_interrupted_says_that_it_goes_on(tmp_path):
    house = house_of(tmp_path, f"{PARAMETERS_CELL}\n# %%\nimport time\n\ntime.sleep(60)\n")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    how = {"cwd": house, "env": environment, "start_new_session": True}
    running = subprocess.Popen(["./run_all.sh", "tiny"], **how, **pipes)
    while not list((house / "build").rglob("*.part.ipynb")):
        assert running.poll() is None
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    said = running.communicate(timeout=30)[1].splitlines()
    assert running.returncode == 130
    assert said[-1].startswith("run_all.sh: stopped; the same command goes on")
    assert not [p for p in house.glob("build/*/executed/*.ipynb") if ".part" not in p.name]


@pytest.mark.parametrize(
    "words, message",
    [
        (["everything"], "'everything': must be"),
        (["quick", "test"], "'quick test': one at a time"),
        (["test", "--force"], "--force: test has nothing to force"),
    ],
)
def test_an_unknown_command_is_refused(words, message):
    done = run("./run_all.sh", *words)
    assert done.returncode == 2 and done.stderr.startswith(f"run_all.sh: {message}")


def test_help_names_the_commands():
    text = run("./run_all.sh", "--help").stdout
    assert all(
        f"./run_all.sh {command}" in text
        for command in ("quick", "test", "peers", "sweep", "report", "--help")
    )


def test_environment_yml_installs_the_same_pins():
    text = (ROOT / "environment.yml").read_text()
    assert "-r requirements.txt" in text and "python=3.11" in text and "==" not in text


def test_every_requirement_is_pinned():
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(line.count("==") == 1 and "+" not in line for line in lines)
    assert "torch==2.13.0" in lines


def test_the_published_models_are_pinned_and_in_the_committed_table():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]["peers"]
    assert all(line.count("==") == 1 for line in extra)
    summary = pd.read_csv(ROOT / "figures" / "tables" / "summary.csv", keep_default_na=False)
    assert {"scvi", "scgen"} <= set(summary["model"])


def test_committed_means_are_of_the_questions_that_the_notebook_asks(monkeypatch):
    """Else a model of one's own would stand alone in its figure."""
    monkeypatch.chdir(ROOT)
    defaults = {
        name: {p: default for p, (_, default) in plan.parameters(name).items()}
        for name in ("04_drug_response", "05_leaderboard")
    }
    of_drugs, of_board = (
        drug.identity(**defaults["04_drug_response"]),
        conditional.identity(**defaults["05_leaderboard"]),
    )
    summary = tables.read(ROOT / "figures" / "tables" / "summary.csv")
    assert set(summary.loc[summary["scenario"] == "leaderboard", "questions"]) == {of_board}
    assert set(
        summary.loc[summary["scenario"].isin(["drug", "additive", "subset"]), "questions"]
    ) == {of_drugs}
    assert set(tables.read(ROOT / "figures" / "tables" / "05_peers.csv")["questions"]) == {
        of_board,
        of_drugs,
    }
    everyone = set(board.known(ROOT / "figures" / "tables" / "summary.csv", of_board)["model"])
    assert everyone == {*registry.keys("leaderboard"), "scvi"}
    assert "scgen" in set(
        board.known(ROOT / "figures" / "tables" / "summary.csv", of_drugs)["model"]
    )


def test_satisfied_tells_a_missing_pin(tmp_path):
    pins = tmp_path / "pins.txt"
    for text, code in (
        ("pytest==" + pytest.__version__, 0),
        ("pytest==0.0.1", 1),
        ("no-such-package==1", 1),
    ):
        pins.write_text(text + "\n")
        assert run(sys.executable, "workflow/satisfied.py", str(pins)).returncode == code


def test_committed_figures_are_complete():
    for name in FIGURES:
        assert all((ROOT / "figures" / f"{name}.{kind}").is_file() for kind in ("png", "pdf"))
    for name in [*TABLES, "summary"]:
        if name != "05_leaderboard":  # 3 MB of rows, whose means are in summary.csv
            assert (ROOT / "figures" / "tables" / f"{name}.csv").is_file()


def test_a_full_run_adds_little_to_the_history():
    """Each file compressed by itself; git's deltas take a quarter off."""
    command = ["git", "ls-files", "figures", "notebooks"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not files:
        pytest.skip("needs git")
    written = [path for path in files if not path.endswith(".py")]
    assert all((ROOT / path).stat().st_size < 1e6 for path in written)
    assert sum(len(zlib.compress((ROOT / path).read_bytes())) for path in written) < 2.4e6
