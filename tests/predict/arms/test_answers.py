import numpy as np
import pytest

from lib.laws import ZINB, Cells, Empirical
from lib.laws.poisson import PoissonMixture
from lib.laws.tabulated import Tabulated
from lib.predict.arms import answers as arm_answers
from lib.predict.arms.answers import ArmCells, Means
from tests.screens import task

QUERY = task().asked[0].query
N = len(QUERY.genes)


class Says:
    def __init__(self, answer, **attributes):
        self.answer = answer
        vars(self).update(attributes)

    def fit(self, train):
        return self

    def predict(self, control, perturbation):
        return self.answer


def answered(answer, **attributes):
    return arm_answers.answer(Says(answer, **attributes), QUERY, "mine")


def test_each_form_is_taken_as_it_is_meant():
    law = ZINB(np.ones(N), np.ones(N), np.zeros(N))
    assert answered(law) is law
    means = answered(np.ones(N), scale=1e4)
    assert isinstance(means, Means) and means.scale == 1e4
    cells = answered(np.ones((5, N)), scale="counts")
    assert isinstance(cells, ArmCells) and cells.values.shape == (5, N)
    assert answered(Means(np.ones(N), "10000")).scale == 1e4
    assert isinstance(answered(Cells(np.ones((3, N)))), ArmCells)
    one = answered(np.ones((1, N)), scale="counts")
    assert isinstance(one, Means) and one.values.shape == (N,)


class OfQuery:
    def predict(self, query):
        return Means(np.full(len(query.genes), query.perturbation.strength))


def test_a_model_may_take_the_query():
    assert arm_answers.answer(OfQuery(), QUERY).values[0] == QUERY.perturbation.strength


@pytest.mark.parametrize(
    ("answer", "attributes", "why"),
    [
        (np.ones(N), {}, "without a scale"),
        (np.ones(N), {"scale": "log"}, "scale of mine = 'log': must be"),
        (np.ones(N), {"scale": 0}, "scale of mine = 0: must be"),
        (np.ones(N + 1), {"scale": "counts"}, rf"shape \({N + 1},\)"),
        (np.ones((4, N - 1)), {"scale": "counts"}, f"must be of {N} genes"),
        (np.full((4, N), -0.5), {"scale": 1e4}, "-0.5 .* below 0"),
        (np.full(N, np.nan), {"scale": 1e4}, "nan .* not finite"),
        (np.full(N, np.inf), {"scale": 1e4}, "inf .* not finite"),
        (np.ones((0, N)), {"scale": 1e4}, "no cells"),
        ("text", {"scale": 1e4}, "a str"),
        (Empirical(np.ones((N, 3))), {}, "draws"),
        (Tabulated([np.ones(50)] * N), {}, "don't sum to 1"),
        (Tabulated([np.array([1.5, -0.5])] * N), {}, "don't sum to 1"),
        (PoissonMixture(np.ones((1, N)), np.full((1, N), 50.0)), {}, "don't sum to 1"),
        (ZINB(np.ones(2), np.ones(2), np.zeros(2)), {}, r"laws of shape \(2,\)"),
    ],
)
def test_what_is_no_answer_is_refused_in_one_line(answer, attributes, why):
    with pytest.raises(ValueError, match=why) as caught:
        answered(answer, **attributes)
    assert "\n" not in str(caught.value) and "mine" in str(caught.value)
