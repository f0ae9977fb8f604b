"""Rows of judgements, from means made by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.score import tables
from lib.score.court import charges, judgement

MSE, NIR, DE = "scperteval mse", "scperteval nir", "scperteval de_auroc"
SPLIT = "unseen gene"


def row(scenario, metric, mean, *, at="100 cells", model="models", gene="KL", off=0.0):
    keys = (scenario, at, model, gene, SPLIT, metric)
    return dict(zip(tables.SUMMARY, (*keys, mean, mean - off, mean + off, 3)))


@pytest.fixture(scope="module")
def summary():
    found = [row("agreement", m, t, off=0.1) for m, t in ((MSE, 0.8), (NIR, 0.2), (DE, 0.5))]
    found.append(row("agreement", NIR, 0.6, gene="KL, affected genes"))
    found.append(row("agreement", NIR, -0.1, model="all"))
    for key, mse, nir, risk, off in (
        ("oracle", 1, 1, 0.0, 0),
        ("exact_means", 0.9, 0.8, 0.02, 0.01),
        ("perturbed_mean", 0, 0, 1.0, 0),
        ("effects_200", 0.3, 0.95, 1.4, 0.2),  # worse than exact means, and gains from one
        ("effects_150", 0.7, 0.9, 0.4, 0.5),  # not surely worse
        ("mean_spiked", -2, 0.5, 9.0, 1.0),
        ("random", -9, 0.1, 20.0, 1.0),
    ):
        found += [row("score", m, v, model=key, gene="") for m, v in ((MSE, mse), (NIR, nir))]
        found.append(row("risk", "exact risk", risk, model=key, at="", off=off))
    for n, mse, nir in ((25, 0.9, 0.5), (100, 0.96, 0.97), (400, 1.0, 0.9)):
        at = f"{n} cells"
        found += [
            row("order", m, v, at=at, model="20 to 50 %") for m, v in ((MSE, mse), (NIR, nir))
        ]
    found.append(row("order", MSE, 1.0, at="10 arms", model="20 to 50 %"))
    found.append(row("right side", MSE, 0.75))
    found.append(row("raw", MSE, 0.1, model="oracle", gene=""))
    found.append(row("ceiling", MSE, 0.6, model="halves", gene=""))
    return pd.DataFrame(found)


@pytest.fixture(scope="module")
def table(summary):
    return judgement.judged(summary, SPLIT)


def test_metrics_stand_in_the_order_of_their_agreement(table):
    assert list(table.index) == [MSE, DE, NIR]
    assert table.loc[MSE, ["tau", "tau_low", "tau_high"]].tolist() == pytest.approx([0.8, 0.7, 0.9])
    assert table.loc[NIR, "tau_affected"] == 0.6 and table.loc[NIR, "tau_zoo"] == -0.1
    assert table.loc[MSE, "verdict"] == 0.75 and table.loc[MSE, "halves"] == 0.6
    assert np.isnan(table.loc[DE, "gain"])


def test_a_gain_is_that_of_a_member_that_is_surely_worse(summary, table):
    assert judgement.truly_worse(summary) == ["effects_200", "mean_spiked"]
    assert table.loc[NIR, "gain"] == pytest.approx(0.5) and table.loc[NIR, "trick"] == "mean_spiked"
    assert table.loc[MSE, "gain"] == pytest.approx(-0.6)
    assert table.loc[MSE, "trick"] == "effects_200"


def test_the_best_score_without_skill_is_named(table):
    assert table.loc[NIR, "no_skill"] == 0.5 and table.loc[NIR, "who"] == "mean_spiked"
    assert table.loc[MSE, "who"] == "mean_spiked"  # the best of two bad ones


def test_cells_needed_are_the_fewest_from_which_on_the_order_is_right(table):
    assert table.loc[MSE, "needed"] == 100
    assert table.loc[NIR, "needed"] == np.inf  # right at 100, and not at 400


def test_a_dial_shows_networks_in_which_a_model_is_put_before_the_mean():
    found = []
    for shift in (0.0, 0.4):
        for metric, means in {"exact risk": (1, 0), MSE: (1, 0.5), NIR: (0, 1)}.items():
            at = "" if metric == "exact risk" else "100 cells"
            mean = means[int(shift > 0)]
            found.append(row("verdict", metric, mean, model="grn", at=at) | {"shift": shift})
    biased = row("verdict", MSE, 0, model="grn") | {"shift": 0.4}
    found += [biased | {"control_bias": bias} for bias in (0.1, 0.3)]
    dials = pd.DataFrame(found)
    usual = judgement.usual_of(dials, "shift")
    wide = judgement.dialled(usual, "grn", "shift")
    assert list(wide.index) == ["exact risk", MSE, NIR]
    assert wide.loc[MSE].tolist() == [1, 0.5] and wide.loc[NIR].tolist() == [0, 1]
    assert set(judgement.usual_of(dials, "control_bias")["control_bias"]) == {0.0, 0.1, 0.3}


def test_without_files_nothing_is_known(tmp_path, summary):
    court, dials = judgement.known(tmp_path)
    assert not len(court) and not len(dials)
    tables.write(summary, tmp_path / "08_court.csv")
    court, dials = judgement.known(tmp_path)
    assert len(court) == len(summary) and not len(dials)
    again = judgement.judged(court, SPLIT)
    assert list(again.index) == [MSE, DE, NIR]


def test_readable_parts_are_there(summary):
    assert judgement.questions(summary, SPLIT).loc[NIR, "KL, affected genes"] == 0.6
    assert judgement.ceilings(summary, SPLIT).loc[MSE, ("halves", "100 cells")] == 0.6
    assert judgement.expression(summary).empty
    assert "exact skill" in judgement.suites(summary, SPLIT)
    told = judgement.told(summary, SPLIT)
    assert told.index[0] == "exact skill" and set(told) == {
        "oracle",
        "exact_means",
        "perturbed_mean",
    }
    assert told.loc["exact skill", "exact_means"] == 0.98 and told.loc[MSE, "exact_means"] == 0.9
    assert charges.in_order(["random", "grn", "oracle"]) == ["oracle", "grn", "random"]
