"""What `./run_all.sh peers NAME` leaves, put together."""

import json

import pandas as pd
import pytest

from lib.score import board, tables
from lib.show.figures import screen as figure
from peers import __main__ as peers


def scores(model, replicate, value):
    row = {"scenario": "published, shift 0.4", "mechanism": "regulator", "model": model}
    row |= {"gene": "all", "split": "unseen gene", "metric": "skill_kl", "replicate": replicate}
    return pd.DataFrame([row | {"value": value}])


@pytest.fixture
def build(tmp_path):
    for name, values in (("gears", (-0.4, -0.2)), ("biolord", (-0.3, -0.1))):
        (tmp_path / name).mkdir()
        both = [scores(name, replicate, value) for replicate, value in enumerate(values)]
        tables.write(tables.tidy(both), tmp_path / name / "scores.csv")
        for screen in ("first", "second", "tune_0"):
            errors = [f"validation_mse_{name}" for name in peers.ERRORS.values()]
            said = dict.fromkeys([*peers.SAID, *errors], 1) | {"converged": True}
            said |= {"options": {"learning_rate": 0.1, "epochs": 3}, "cannot": {}}
            (tmp_path / name / f"{screen}.json").write_text(json.dumps(said))
    ours = [scores("grn", replicate, 0.5) for replicate in range(2)]
    tables.write(tables.tidy(ours), tmp_path / "ours.csv")
    return tmp_path


def test_scores_and_trainings_of_all_models_are_put_together(build, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "TABLES", tmp_path / "tables")
    (tmp_path / "tables").mkdir()
    peers.screens(str(build))
    shown = figure.skills(board.published(tmp_path / "tables" / "07_published.csv"), {})
    assert shown["shift 0.4", "regulator"].to_dict() == pytest.approx(
        {"gears": -0.3, "biolord": -0.2, "grn": 0.5}
    )
    runs = pd.read_csv(tmp_path / "tables" / "07_published_runs.csv")
    assert len(runs) == 6 and runs["converged"].all()
    assert set(runs["screen"]) == {"first", "second", "tune_0"}
    assert (runs["options"] == "learning_rate=0.1 epochs=3").all()
