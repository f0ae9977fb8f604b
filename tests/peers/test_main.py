import dataclasses
import json
import shutil
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pandas as pd
import pytest

from lib.score import board, tables
from lib.tasks import conditional, drug
from lib.tasks import pack as packs
from lib.tasks.screen import VERSIONS
from peers import __main__ as peers
from tests.test_house import ROOT
from workflow.notebooks import used_parameters


def rows(values, **keys):
    return tables.tidy([pd.DataFrame({"value": values, "replicate": range(len(values)), **keys})])


def test_a_pack_of_another_screen_is_refused_and_its_own_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key = packs.key_of(Path("build/peers/packs/tune"))
    key.parent.mkdir(parents=True)
    design = dataclasses.asdict(peers.SCREEN)
    said = {"design": design, "seed": peers.SEEDS["tune"], "version": max(VERSIONS)}
    key.write_text(json.dumps(said))
    assert peers._pack("tune") == Path("build/peers/packs/tune")
    for other in ({"seed": 1}, {"version": 0}, {"design": design | {"n_cells": 51}}):
        key.write_text(json.dumps(said | other))
        with pytest.raises(SystemExit, match="a pack of another screen"):
            peers._pack("tune")


def test_published_models_are_put_into_the_tables_in_place_of_their_older_rows(
    tmp_path, monkeypatch
):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.chdir(tmp_path)
    made, shown = tmp_path / "run" / "figures" / "tables", tmp_path / "figures" / "tables"
    used = {}
    for name in ("04_drug_response", "05_leaderboard"):
        notebook = jupytext.read(ROOT / "notebooks" / f"{name}.py")
        used[name] = used_parameters(name, notebook)
        (tmp_path / "run" / "executed").mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, tmp_path / "run" / "executed" / f"{name}.ipynb")
    skill = {"scenario": board.SCENARIO, "split": "do_inside", "metric": "skill_kl"}
    scored = [rows([0.5, 0.7], model="scvi", **skill), rows([0.9], model="vae", **skill)]
    tables.write(tables.tidy(scored), made / "05_leaderboard.csv")
    seconds = {"scenario": board.SCENARIO, "metric": "seconds"}
    tables.write(rows([3.0], model="scvi", **seconds), made / "05_seconds.csv")
    crps = {"scenario": "subset", "model": "scgen"}
    of_drugs = [
        rows([0.2], split="held_out_type", metric="excess_crps", **crps),
        rows([0.3], split="held_out", metric="excess_crps", **crps),
        rows([0.4], split="held_out_type", metric="kl_nats", **crps),
    ]
    tables.write(tables.tidy(of_drugs), made / "04_drug.csv")
    judged = rows([0.1], scenario="cell_eval", model="oracle", metric="mse")
    tables.write(judged, tmp_path / "run" / "cell_eval.csv")
    real = rows([0.9], scenario="realism", model="scdesigner", metric="forest_auroc")
    tables.write(real, tmp_path / "run" / "realism.csv")
    before = [rows([0.1], model="scvi", **skill), rows([0.8], model="vae", **skill)]
    summary = tables.summary(tables.tidy(before)).assign(questions="")
    tables.write(summary, shown / "summary.csv")

    peers.publish("run")
    table = tables.read(shown / "05_peers.csv")
    assert table["model"].tolist() == ["scvi", "scvi", "scvi", "scgen"]
    assert table["value"].tolist() == [0.5, 0.7, 3, 0.2]
    of_board = conditional.identity(**used["05_leaderboard"])
    assert set(table["questions"][:3]) == {of_board}
    last = table.iloc[3][["scenario", "mechanism", "questions"]].tolist()
    assert last == ["drug", "subset", drug.identity(**used["04_drug_response"])]
    means = tables.read(shown / "summary.csv").set_index(["model", "metric"])["mean"]
    assert means.index.is_unique and len(means) == 4
    assert means["vae", "skill_kl"] == 0.8 and np.isclose(means["scvi", "skill_kl"], 0.6)
    assert tables.read(shown / "05_cell_eval.csv")["value"].tolist() == [0.1]
    assert tables.read(shown / "07_peers.csv")["value"].tolist() == [0.9]
