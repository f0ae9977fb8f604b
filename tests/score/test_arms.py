import numpy as np
import pytest

from lib.predict import guard, registry
from lib.predict.arms.answers import Means
from lib.score import arms, screen
from tests.screens import scores, task


def entrant(model, name="mine"):
    return arms.Entrant(guard.Guarded(model, name))


class Mine:
    """The controls' means; it can't do pairs."""

    scale = "counts"

    def fit(self, train):
        assert not set(train.obsm) and "grn" not in train.uns
        self.seen = set(train.obs.columns), "regulator" in train.var
        return self

    def predict(self, control, perturbation):
        if "+" in perturbation.name:
            raise NotImplementedError("no pairs")
        return np.asarray(control.X.mean(axis=0)).ravel()


def test_a_model_of_ones_own_is_fitted_asked_and_scored():
    model = Mine()
    entered = arms.enter("mine", entrant(model), task(), scores())
    columns, named = model.seen
    assert {"perturbation", "strength", "guide", "batch", "total_counts"} <= columns and named
    pairs = {q.name for q in task().asked if q.kind == "pair"}
    assert set(entered.cannot) == pairs and set(entered.cannot.values()) == {"no pairs"}
    assert set(entered.scores["question"]) == {q.name for q in task().asked} - pairs
    why = arms.reasons({"mine": entered}, task())
    assert set(why["split"]) == {"pair, seen 2", "pair, seen 1", "pair, seen 0"}
    assert entered.took[0] > 0


class Peeks(Mine):
    def predict(self, control, perturbation):
        mean = super().predict(control, perturbation)
        capture = control.obsm.get("capture", np.zeros((control.n_obs, 1)))
        return mean + capture[:10].sum()


class PeeksAtNames(Mine):
    def predict(self, control, perturbation):
        mean = super().predict(control, perturbation)
        return mean + len(control.obs_names[0])


def test_what_is_hidden_is_not_there_and_a_model_that_uses_it_is_refused():
    first = task().asked[0].query
    guarded = guard.Guarded(Peeks(), "peeks").fit(task().train())
    blind = Mine().predict(first.cells, first.perturbation)
    assert first.cells.obsm["capture"][:10].sum() > 0
    np.testing.assert_allclose(guarded.arm(first).values, blind)
    for peeking in (Peeks(), PeeksAtNames()):
        with pytest.raises(ValueError, match="leakage"):
            guard.check_leaks(peeking, first, "peeks")
    guard.check_leaks(Mine(), first, "mine")


class Nothing(Mine):
    def predict(self, control, perturbation):
        raise NotImplementedError


def test_a_model_without_any_answer_is_refused():
    with pytest.raises(ValueError, match="mine: answers no question"):
        arms.enter("mine", entrant(Nothing()), task(), scores())
    # a row of the registry has empty cells instead
    entered = arms.enter("additive", entrant(Nothing()), task(), scores())
    assert len(entered.cannot) == len(task().asked) and not len(entered.scores)
    usual = arms.enter("no_change", *told("no_change")).scores
    table = screen.summarised({screen.MEAN: usual, "additive": entered.scores})
    assert set(table["model"]) == {screen.MEAN}


class Changes(Mine):
    def predict(self, control, perturbation):
        mean = super().predict(control, perturbation)
        control.X = control.X * 2
        return mean


def test_a_model_that_changes_its_input_changes_nothing_for_others():
    before = task().controls["A"].X.copy()
    arms.enter("mine", entrant(Changes()), task(), scores(), check=False)
    assert (task().controls["A"].X != before).nnz == 0


@pytest.mark.parametrize("key", registry.keys("screen"))
def test_every_row_answers_and_none_leaks(key):
    rows = [registry.BY_KEY[key]]
    (made,) = arms.entrants(
        rows, task(), seed=1, device="cpu", training_options={"max_epochs": 5}
    ).values()
    entered = arms.enter(key, made, task(), scores())
    answered = {question.name for question in task().asked} - set(entered.cannot)
    over_all = entered.scores.query("gene == 'all' and metric == 'kl_nats'").set_index("question")
    assert set(over_all.index) == answered and answered
    ours, exact = over_all["value"], arms.enter("exact_means", *told("exact_means")).scores
    exact = exact.query("gene == 'all' and metric == 'kl_nats'").set_index("question")["value"]
    bounds = {"oracle": (0, 1e-9), "exact_means": (0.999, 1.001)}
    low, high = bounds.get(key, (1 if key != "expected" else 0, 1000))
    ratio = ours.sum() / (1 if key == "oracle" else exact[ours.index].sum())
    assert low <= ratio <= high, ratio


def told(key):
    """A reference, the task and scores, to enter."""
    (made,) = arms.entrants([registry.BY_KEY[key]], task()).values()
    return made, task(), scores()


def test_references_are_told_and_models_that_are_told_a_prior_get_it():
    made = arms.entrants(registry.rows("screen"), task(), seed=1)
    for key, one in made.items():
        assert one.model.told == ("reference" in registry.BY_KEY[key].sets and key != "grn_true")
    assert isinstance(made["exact_means"].model.arm(task().asked[0].query), Means)
    assert made["grn_true"].prior == "true" and made["grn"].prior == "none"
