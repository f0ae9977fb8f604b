"""A tiny trial, from a screen to the table of all charges."""

import dataclasses

import numpy as np
import pytest

from lib.score.court import charges, hearing, trial
from lib.score.court.setting import Setting
from lib.tasks import screen
from tests.agreement import one_line
from tests.court import DESIGN, members, panel, task


@pytest.fixture(scope="module")
def tried():
    what = Setting(
        cells=(60, 20), suites=("vcc2025",), panels=("unseen gene",), ceilings=(40,), tests=(40,)
    )
    heard = []
    found = trial.trial(task(), what, models=["bilinear", "additive"], report=heard.append)
    return found, heard


def test_all_charges_are_in_the_table(tried):
    table = tried[0].table
    assert {*charges.SCENARIOS, "ceiling", "expression"} == set(table["scenario"])
    assert table["value"].between(-1, 1)[table["scenario"] == "agreement"].all()
    assert table["value"].between(0, 1)[table["scenario"].isin(["order", "verdict", "ties"])].all()
    at = table.loc[table["scenario"] == "agreement", "mechanism"]
    assert set(at) == {"60 cells", "20 cells", "infinite"}


def test_models_that_answer_are_asked_at_every_number_of_cells_and_others_at_the_first(tried):
    verdicts = tried[0].verdicts["unseen gene"]
    models = {"bilinear", "no_change", "perturbed_mean"}
    assert set(verdicts.means[20].index) == {*models, "oracle"}
    assert {*models, "effects_200", "exact_means"} < set(verdicts.means[60].index)
    assert "additive" not in verdicts.groups  # has no answer about a gene without an arm
    assert set(verdicts.risks) == set(hearing.RISKS)
    assert verdicts.risks["KL"].loc["oracle"].max() < 1e-9


def test_what_has_no_score_is_there_with_a_reason(tried):
    failed = tried[0].verdicts["unseen gene"].failed
    assert set(failed.columns) == {"member", "metric", "n_cells", "reason"}
    assert len(failed) and failed["reason"].str.len().gt(5).all()


def test_the_same_seed_gives_the_same_scores(tried):
    what = Setting(cells=(60,), infinite=False, suites=(), panels=("unseen gene",), with_zoo=False)
    again = trial.trial(task(), what, models=["bilinear"]).verdicts["unseen gene"].means[60]
    first = tried[0].verdicts["unseen gene"].means[60].loc[again.index, again.columns]
    assert np.allclose(first.astype(float), again.astype(float), equal_nan=True)


def test_a_crashing_metric_is_a_row_and_no_crash(monkeypatch):
    import scperteval

    def crash(handle, name, predicted):
        if name == "nir":
            raise RuntimeError("out of luck")
        return asked(handle, name, predicted)

    asked = scperteval.score
    monkeypatch.setattr(scperteval, "score", crash)
    some = [members()[key] for key in ("oracle", "perturbed_mean", "no_change", "exact_means")]
    verdicts = hearing.hear(panel(), some, {20: lambda member: True})
    of_nir = verdicts.failed[verdicts.failed["metric"] == "scperteval nir"]
    assert set(of_nir["member"]) == {member.key for member in some}
    assert of_nir["reason"].eq("RuntimeError: out of luck").all()
    court = charges.Court(verdicts, panel(), "unseen gene", {})
    missing = court.missing().set_index("metric")["value"]
    assert missing["scperteval nir"] == 1 and "scperteval mse" not in missing
    assert "scperteval nir" not in set(court.agreement()["metric"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cells": ()}, "cells = []: must"),
        ({"cells": (100, 100)}, "cells = [100, 100]: must not have 100 twice"),
        ({"cells": (3,)}, "cells = 3: must be from 4"),
        ({"panels": ("pairs",)}, "panels = 'pairs': must be one of unseen gene, pair"),
        ({"suites": ("vcc2024",)}, "suites = 'vcc2024': must"),
        ({"tests": (0.5,)}, "tests = 0.5: must be a whole number"),
    ],
)
def test_a_setting_that_can_not_be_is_refused_in_one_line(values, message):
    with pytest.raises(ValueError) as error:
        Setting(**values)
    one_line(error, message)


def test_a_panel_needs_three_arms():
    few = screen.Task(DESIGN, 5, n_truth=100)
    with pytest.raises(ValueError, match="'pair' has 0 arms here; must be 3 or more"):
        trial.trial(few, Setting(panels=("pair",), suites=()), models=["no_change"])


def test_the_live_case_is_that_of_the_notebook():
    from workflow import plan

    given = plan.defaults("08_metrics")
    design = {field.name: given[field.name] for field in dataclasses.fields(screen.Design)}
    assert screen.Design(**design) == trial.LIVE
