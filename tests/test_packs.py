"""./run_all.sh screen: a pack written and predictions scored by the command that a user has."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.screens import DESIGN

ROOT = Path(__file__).parents[1]
SIZE = [
    word
    for name in DESIGN.__dataclass_fields__
    for word in ("-p", name, str(getattr(DESIGN, name)))
    if getattr(DESIGN, name) != getattr(type(DESIGN)(), name)
]


def screen(*arguments):
    command = [sys.executable, "workflow/screen.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command") / "pack"
    done = screen("export", folder, *SIZE, "-p", "seed", "3")
    assert done.returncode == 0, done.stderr
    assert "its key is" in done.stdout
    key = json.loads(Path(f"{folder}.key.json").read_text())
    assert key["design"] == dataclasses.asdict(DESIGN)
    return folder


def test_means_in_a_table_are_scored_and_what_is_missing_is_named(folder):
    queries = pd.read_csv(folder / "queries.csv")["query"]
    genes = pd.read_csv(folder / "prior_embedding.csv")["gene"]
    pack = (folder / "README.md").read_text().partition("pack `")[2].partition("`")[0]
    table = pd.DataFrame({"query": queries[1:], "pack": pack, "scale": "counts"})
    table = table.assign(**dict.fromkeys(genes, 50.0))
    path = folder.parent / "mine.csv"
    table.to_csv(path, index=False)
    done = screen("score", folder, path, "-m", "mlp")
    assert done.returncode == 0, done.stderr
    assert f"1, {queries[0]}" in done.stdout and "predictions" in done.stdout
    assert "is its scale right?" in done.stderr and len(done.stderr.splitlines()) == 1
    scores = pd.read_csv(f"{path}.scores.csv")
    assert {"skill_kl", "skill_crps", "mse_log_mean", "beats_mean"} <= set(scores["metric"])
    assert {"predictions", "perturbed_mean", "no_change", "mlp"} <= set(scores["model"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("export", "PACK"), "is there already"),
        (("export", "NEW", "-p", "n_gnes", "3"), "parameter = 'n_gnes'"),
        (("export", "NEW", "-p", "n_genes", "[1]"), "n_genes = [1]: must be a whole number"),
        (("export", "NEW", "-p", "seed", "x"), "seed = 'x'"),
        (("score", "NEW", "none.csv"), "not found; the key of a pack"),
        (("score", "PACK", "none.csv"), "none.csv: not found"),
        (("score", "PACK", "none.csv", "-m", "grm"), "model = 'grm'"),
        (("export", "NEW", "-p", "n_asked_pairs", "2"), "n_asked_pairs = 2: must be 0, or 3"),
    ],
)
def test_what_can_not_be_ends_in_one_line(folder, tmp_path, arguments, why):
    places = {"PACK": folder, "NEW": tmp_path / "new"}
    done = screen(*(places.get(word, word) for word in arguments))
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("run_all.sh screen: ") and why in done.stderr
    assert not (tmp_path / "new").exists()
