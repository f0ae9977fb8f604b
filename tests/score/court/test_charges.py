"""Charges on verdicts made by hand, where the answer is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from lib.score.court import charges
from lib.score.court.hearing import INFINITE, RISKS, Verdicts
from tests.court import panel

MSE, PDS = "scperteval mse", "cell-eval2 pds_cosine"
MODELS = ["no_change", "perturbed_mean", "bilinear", "mlp", "grn", "grn_true"]
KEYS = ["oracle", "exact_means", *MODELS, "effects_200", "mean_repeated"]
TRUE = dict(zip(KEYS, [0.0, 0.01, 1.55, 1.0, 0.92, 1.15, 0.45, 0.3, 2.0, 5.0]))
# MSE puts bilinear behind the mean, and a trick before it; the other doesn't tell four models apart
SAID = {
    MSE: dict(zip(KEYS, [0.1, 0.2, 1.6, 1.1, 1.2, 1.3, 0.5, 0.4, 2.1, 1.05])),
    PDS: dict(zip(KEYS, [0.9, 0.9, 0.5, 0.5, 0.5, 0.5, 0.7, 0.8, 0.9, 0.5])),
}


@pytest.fixture(scope="module")
def court():
    names = panel().names
    spread = np.linspace(-0.01, 0.01, len(names))
    risks = {
        name: pd.DataFrame({k: TRUE[k] + spread for k in KEYS}, index=names).T for name in RISKS
    }
    risks["KL, affected genes"] = -risks["KL, affected genes"]
    means = pd.DataFrame(SAID)
    arms = {MSE: pd.DataFrame({k: SAID[MSE][k] + 0 * spread for k in KEYS}, index=names).T}
    groups = dict.fromkeys(KEYS, "natural") | {"effects_200": "degraded", "mean_repeated": "trick"}
    failed = pd.DataFrame(
        [("grn", "cell-eval2 vcc2026", 100, "no arm has enough")],
        columns=["member", "metric", "n_cells", "reason"],
    )
    at = {100: means, INFINITE: means[[MSE]]}
    verdicts = Verdicts(at, {100: arms, INFINITE: arms}, failed, risks, groups, ["oracle"])
    return charges.Court(verdicts, panel(), "unseen gene", {"some": [0, 1, 2]})


def value(table, **keys):
    for key, wanted in keys.items():
        table = table[table[key] == wanted]
    assert len(table) == 1, (keys, len(table))
    return table["value"].item()


def test_models_are_those_that_could_be_entered(court):
    assert court.models == MODELS
    assert not charges.is_model("duplicate_100", "natural")
    assert not charges.is_model("oracle", "natural") and charges.is_model("mine", "natural")
    assert not charges.is_model("effects_200", "degraded")


def test_agreement_is_kendalls_tau_of_scores_and_risks(court):
    table = court.agreement()
    at = {"scenario": "agreement", "mechanism": "100 cells", "gene": "KL", "split": "unseen gene"}
    # of 15 pairs of models one is the wrong way round
    assert value(table, model="models", metric=MSE, **at) == pytest.approx(13 / 15)
    true = [-TRUE[key] for key in MODELS]
    by_scipy = kendalltau([SAID[PDS][key] for key in MODELS], true).statistic
    assert value(table, model="models", metric=PDS, **at) == pytest.approx(by_scipy)
    everyone = kendalltau([-SAID[MSE][k] for k in KEYS], [-TRUE[k] for k in KEYS]).statistic
    assert value(table, model="all", metric=MSE, **at) == pytest.approx(everyone)
    at["gene"] = "KL, affected genes"  # the other way round
    assert value(table, model="models", metric=MSE, **at) == pytest.approx(-13 / 15)


def test_agreement_is_there_without_a_family_at_infinity_and_over_some_arms(court):
    table = court.agreement()
    at = {"scenario": "agreement", "gene": "KL", "metric": MSE}
    usual = {"mechanism": "100 cells", "split": "unseen gene"}
    assert value(table, model="models but GRN", **usual, **at) == pytest.approx(2 / 3)
    limit = {"mechanism": "infinite", "split": "unseen gene", "model": "models"}
    assert value(table, **limit, **at) == pytest.approx(13 / 15)
    some = {"mechanism": "100 cells", "split": "some", "model": "models"}
    assert value(table, **some, **at) == pytest.approx(13 / 15)
    assert not ((table["metric"] == PDS) & (table["split"] == "some")).any()  # has no arms


def test_ties_are_the_share_of_pairs_that_are_equal(court):
    table = court.agreement()
    at = {"scenario": "ties", "mechanism": "100 cells"}
    assert value(table, metric=PDS, **at) == 6 / 15 and value(table, metric=MSE, **at) == 0


def test_scores_have_the_mean_at_0_and_the_truth_at_1_whatever_is_better(court):
    table = court.scored()
    at = {"scenario": "score", "mechanism": "100 cells"}
    for metric in (MSE, PDS):
        assert value(table, model="perturbed_mean", metric=metric, **at) == 0
        assert value(table, model="oracle", metric=metric, **at) == 1
    assert value(table, model="mean_repeated", metric=MSE, **at) == pytest.approx(0.05)
    assert value(table, model="no_change", metric=MSE, **at) == pytest.approx(-0.5)
    assert value(table, model="effects_200", metric=PDS, **at) == pytest.approx(1)
    assert value(table, scenario="raw", model="no_change", metric=MSE) == 1.6
    risk = {"scenario": "risk", "gene": "KL", "metric": "exact risk"}
    assert value(table, model="grn", **risk) == pytest.approx(0.45)


def test_another_panel_tells_the_scores_of_tricks_and_models_alone(court):
    other = charges.Court(court.verdicts, court.panel, "pair", {}, is_first=False)
    scores = other.scored().query("scenario == 'score'")
    assert set(scores["model"]) == {"oracle", "exact_means", *MODELS, "mean_repeated"}
    assert "effects_200" in set(court.scored().query("scenario == 'score'")["model"])


def test_a_verdict_is_whether_a_model_is_put_before_the_mean(court):
    table = court.scored()
    at = {"scenario": "verdict", "gene": "KL"}
    for metric, expected in ((MSE, 0), (PDS, 0.5), ("exact risk", 1)):
        assert value(table, model="bilinear", metric=metric, **at) == expected
    assert value(table, model="mlp", metric="exact risk", **at) == 0
    # of five models one is on the wrong side, and of another three nothing is said
    assert value(table, scenario="right side", metric=MSE) == pytest.approx(4 / 5)
    assert value(table, scenario="right side", metric=PDS) == pytest.approx((2 + 3 / 2) / 5)


def test_the_share_of_pairs_in_order_is_by_their_true_difference(court):
    table = court.order()
    at = {"scenario": "order", "mechanism": "100 cells", "metric": MSE}
    for name, share in {"5 to 10 %": 0, "10 to 20 %": 1, "20 to 50 %": 1, "over 50 %": 1}.items():
        assert value(table, model=name, **at) == share
    at["metric"] = PDS  # of nine pairs it doesn't tell two apart
    assert value(table, model="over 50 %", **at) == pytest.approx(8 / 9)


def test_metrics_without_a_score_are_a_row_with_their_share(court):
    table = court.missing()
    assert value(table, scenario="no score", metric="cell-eval2 vcc2026") == 1 / len(KEYS)
