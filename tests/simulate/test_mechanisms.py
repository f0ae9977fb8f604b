import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.simulate import mechanisms
from tests.agreement import one_line
from tests.mechanisms_of_ones_own import saturating

X = np.array([[0.0, 0, 0], [1, 2, 3], [10, 0, 4], [0, 7, 1]])
W = np.array([0.5, -1.0, 2.0])
OWN = "tests.mechanisms_of_ones_own:"


def activation(cell):
    return 0.5 * cell[0] - cell[1] + 2 * cell[2]


@pytest.mark.parametrize(
    ("name", "parameters", "by_hand"),
    [
        ("linear", {"weights": W}, lambda c: max(0.1, activation(c))),
        ("linear", {"weights": W, "floor": 2.0}, lambda c: max(2.0, activation(c))),
        (
            "polynomial",
            {"weights": W, "squares": np.array([0.1, 0.2, -0.3])},
            lambda c: max(0.1, activation(c) + 0.1 * c[0] ** 2 + 0.2 * c[1] ** 2 - 0.3 * c[2] ** 2),
        ),
        (
            "interaction",
            {
                "weights": W,
                "first": np.array([0, 1]),
                "second": np.array([2, 0]),
                "products": np.array([0.3, -0.7]),
            },
            lambda c: max(0.1, activation(c) + 0.3 * c[0] * c[2] - 0.7 * c[1] * c[0]),
        ),
        (
            "hill",
            {"weights": W, "top": 12.0, "half": 3.0, "power": 2.5},
            lambda c: 0.1 + 12 / (1 + (3 / activation(c)) ** 2.5) if activation(c) > 0 else 0.1,
        ),
        (
            "gate",
            {"weights": W, "top": 30.0, "half_on": 4.0, "half_off": 2.0},
            lambda c: 0.1 + 30 * (a := 0.5 * c[0] + 2 * c[2]) / (4 + a) * 2 / (2 + c[1]),
        ),
        (
            "threshold",
            {"weights": W, "cut": 5.0, "low": 2.0, "high": 9.0},
            lambda c: 9.0 if activation(c) > 5 else 2.0,
        ),
    ],
)
def test_mechanism_is_its_formula_cell_by_cell(name, parameters, by_hand):
    np.testing.assert_allclose(
        mechanisms.evaluate(name, X, parameters), [by_hand(cell) for cell in X]
    )


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.sampled_from(list(mechanisms.MECHANISMS)), st.integers(2, 12), st.integers(0, 1000))
def test_drawn_parameters_give_a_mean_for_any_counts(name, n_parents, seed):
    rng = np.random.default_rng(seed)
    x = rng.poisson(5, (40, n_parents)).astype(float)
    parameters = mechanisms.MECHANISMS[name][1](rng, x)
    assert len(parameters["weights"]) == n_parents and (np.abs(parameters["weights"]) <= 2).all()
    value = mechanisms.evaluate(name, x, parameters)
    assert np.isfinite(value).all() and (value >= 0.1).all()


def test_drawn_threshold_splits_the_cells_in_half():
    rng = np.random.default_rng(0)
    x = rng.poisson(5, (1001, 10)).astype(float)
    value = mechanisms.evaluate("threshold", x, mechanisms.draw_threshold(rng, x))
    assert abs((value == value.max()).mean() - 0.5) < 0.02


def test_interaction_draws_pairs_of_different_parents():
    parameters = mechanisms.draw_interaction(np.random.default_rng(0), X)
    assert not set(parameters["first"]) & set(parameters["second"])
    with pytest.raises(ValueError, match="parents: .* at least two") as error:
        mechanisms.draw_interaction(np.random.default_rng(0), X[:, :1])
    one_line(error)


def test_ones_own_mechanism_is_found_by_its_import_string():
    assert mechanisms.resolve(OWN + "saturating") is saturating
    np.testing.assert_allclose(
        mechanisms.evaluate(OWN + "saturating", X, {}),
        [1, 1 + 120 / 16, 1 + 280 / 24, 1 + 160 / 18],
    )


NOT_OWN = [OWN + "missing", OWN + "NOT_A_FUNCTION", OWN + "np.mean"]


@pytest.mark.parametrize("name", ["quadratic", "", ":", "tests:", "no.such.module:f", *NOT_OWN])
def test_mechanism_that_cannot_be_found_is_named_with_what_is_allowed(name):
    with pytest.raises(ValueError) as error:
        mechanisms.resolve(name)
    allowed = "linear, polynomial, interaction, hill, threshold, gate or an import string"
    one_line(error, f"mechanism = {name!r}", allowed)


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        ("returns_nan", ("nan for 4 of 4 cells", "finite and at least 0")),
        ("returns_negative", ("-1 for 4 of 4 cells", "finite and at least 0")),
        ("returns_wrong_shape", ("shape (4, 3)", "(4,)")),
    ],
)
def test_mechanism_that_returns_no_means_is_refused(function, parts):
    with pytest.raises(ValueError) as error:
        mechanisms.evaluate(OWN + function, X, {})
    one_line(error, f"mechanism = {OWN + function!r}", *parts)
