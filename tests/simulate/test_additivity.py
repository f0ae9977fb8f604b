import numpy as np
import pytest

from lib.simulate import additivity


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ((0.05, -0.05, 0.09), "none"),
        ((0.5, 0.5, 1.05), "additive"),
        ((0.5, 0.5, 1.2), "synergistic"),
        ((-0.5, -0.5, -1.2), "synergistic"),
        ((0.5, 0.5, 0.8), "buffering"),
        ((-0.5, -0.5, -0.8), "buffering"),
        ((0.5, 0.5, -0.2), "reversed"),
        ((-0.5, -0.5, 0.2), "reversed"),
        ((0.0, 0.0, 0.3), "synergistic"),
        ((0.5, -0.5, 0.3), "synergistic"),
        ((0.05, -0.01, -0.3), "synergistic"),
        ((-np.inf, 0.0, -np.inf), "additive"),
    ],
)
def test_classes_stand_on_either_side_of_their_thresholds(effects, expected):
    found = additivity.classes(*(np.array([value]) for value in effects), 0.1)
    assert list(found) == [expected]


def test_two_infinities_differ_by_nothing():
    found = additivity.less(np.array([-np.inf, -np.inf, 2.0]), np.array([-np.inf, 1.0, 0.5]))
    np.testing.assert_array_equal(found, [0.0, -np.inf, 1.5])
