"""Who imports whom, how long anything is, and how it is written."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from lib.predict import registry

ROOT = Path(__file__).parents[1]
LIB = sorted((ROOT / "lib").rglob("*.py"))
DOORS = {"dataset", "perturb", "model", "training"}
ROOTS = {"seeds", "checks", "counts", "store", "files"}  # below or beside all rooms
# room or door -> what of lib it may import, beside itself and seeds, checks, counts and store
ARROWS = {
    "laws": set(),
    "simulate": {"laws"},
    "dataset": {"simulate"},
    "perturb": {"simulate", "laws"},
    "neural": {"laws"},
    "model": {"neural"},
    "training": {"neural"},
    "predict": {"laws", "neural", "model", "training"},
    "tasks": {
        "laws",
        "dataset",
        "perturb",
        "predict.base",
        "simulate.calibrate",
        "simulate.effects",
    },
    "score": {"laws", "predict", "tasks"},
    "show": {"score", "predict.registry"},
    # above all rooms: no room imports it
    "parameters": {"laws", "simulate", "neural", "predict", "tasks", "score.court"},
    "seeds": set(),
    "checks": set(),
    "counts": set(),
    "store": set(),
    "files": set(),
}


def named(path):
    return str(path.relative_to(ROOT / "lib"))


def room_of(path):
    return path.relative_to(ROOT / "lib").parts[0].removesuffix(".py")


def imported(path):
    """What a file imports of lib: names such as "laws.zinb", lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("lib.") for name in found if name.startswith("lib.")}


def test_every_file_has_a_room():
    assert {room_of(path) for path in LIB} - {"__init__"} == set(ARROWS) | ROOTS


@pytest.mark.parametrize("path", [p for p in LIB if room_of(p) in ARROWS], ids=named)
def test_arrows_run_one_way(path):
    room = room_of(path)
    allowed = ARROWS[room] | {room, *ROOTS}
    for name in imported(path):
        fits = any(name == a or name.startswith(f"{a}.") for a in allowed)
        told = named(path) == "predict/references.py" and name.startswith("simulate.")
        assert fits or told, f"{path.name} imports lib.{name}"


def test_of_all_models_only_the_references_import_the_truth():
    def told(folder):
        truth = {"simulate", "dataset", "perturb", "tasks"}
        rooms = {p: {name.partition(".")[0] for name in imported(p)} for p in folder.rglob("*.py")}
        return {str(p.relative_to(folder))[:-3] for p, names in rooms.items() if names & truth}

    assert told(ROOT / "lib" / "predict") == {"references"}
    asking = told(ROOT / "peers")  # these ask and score; neither is a model, nor used by one
    assert asking == {"celleval", "scdesigner", "__main__"}
    for how in (how for row in registry.rows("peers") for how in row.made.values()):
        path = ROOT / (how.string.partition(":")[0].replace(".", "/") + ".py")
        assert path.stem not in asking and "celleval" not in path.read_text()


def test_an_import_that_goes_the_wrong_way_would_be_seen(tmp_path):
    (tmp_path / "leak.py").write_text(
        "def fit(self):\n    from lib import dataset\n    import lib.simulate.truth\n"
    )
    assert imported(tmp_path / "leak.py") == {"dataset", "simulate.truth"}


@pytest.mark.parametrize("path", LIB, ids=named)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize("words", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_finds_nothing(words):
    command = [sys.executable, "-m", "ruff", *words, "--no-cache", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
