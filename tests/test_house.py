"""Who imports whom, and how long anything is."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIB = sorted(p for p in (ROOT / "lib").rglob("*.py"))
DOORS = {"dataset", "perturb", "model", "training"}
ROOTS = {"seeds", "checks", "counts", "store"}  # below or beside all rooms
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
    "tasks": {"laws", "dataset", "perturb", "predict.base"},
    "score": {"laws", "predict", "tasks"},
    "show": {"score", "predict.registry"},
    "seeds": set(),
    "checks": set(),
    "counts": set(),
    "store": set(),
}


def room_of(path):
    return path.relative_to(ROOT / "lib").parts[0].removesuffix(".py")


def imported(path):
    """What a file imports of lib: names such as "laws.zinb", lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.partition(".")[0] == "lib"
        ):
            base = node.module.removeprefix("lib").lstrip(".")
            found |= {f"{base}.{a.name}".lstrip(".") for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("lib.") for a in node.names if a.name.startswith("lib.")}
    return found


def test_every_file_has_a_room():
    assert {room_of(path) for path in LIB} - {"__init__"} == set(ARROWS) | ROOTS


@pytest.mark.parametrize(
    "path", [p for p in LIB if room_of(p) in ARROWS], ids=lambda p: str(p.relative_to(ROOT / "lib"))
)
def test_arrows_run_one_way(path):
    room = room_of(path)
    allowed = ARROWS[room] | {room, *ROOTS}
    for name in imported(path):
        fits = any(name == a or name.startswith(f"{a}.") for a in allowed)
        told = path.relative_to(ROOT / "lib") == Path("predict/references.py") and name.startswith(
            "simulate."
        )
        assert fits or told, f"{path.name} imports lib.{name}"


def test_of_all_models_only_the_references_import_the_truth():
    truth = {"simulate", "dataset", "perturb", "tasks"}
    told = {
        p.stem
        for p in LIB
        if room_of(p) == "predict" and {n.partition(".")[0] for n in imported(p)} & truth
    }
    assert told == {"references"}
    peers = [
        p
        for p in (ROOT / "peers").glob("*.py")
        if {n.partition(".")[0] for n in imported(p)} & truth
    ]
    assert not peers


def test_an_import_that_goes_the_wrong_way_would_be_seen(tmp_path):
    (tmp_path / "leak.py").write_text(
        "def fit(self):\n    from lib import dataset\n    import lib.simulate.truth\n"
    )
    assert imported(tmp_path / "leak.py") == {"dataset", "simulate.truth"}


@pytest.mark.parametrize("path", LIB, ids=lambda p: str(p.relative_to(ROOT / "lib")))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
