import numpy as np
import pytest

from lib.laws import ZINB, Empirical, Mixture, Stacked
from tests.agreement import one_line
from tests.models_of_ones_own import APoisson

N = 4  # cells
MU = np.array([0.5, 3.0, 20.0, 90.0])
LAWS = [
    ZINB(MU, 2.0, 0.3),
    Mixture(ZINB(np.stack([MU, MU[::-1], MU * 2]), 5.0, 0.1), [0.2, 0.3, 0.5]),
    Empirical(np.random.default_rng(0).poisson(MU[:, None], (N, 30))),
    APoisson(MU),
]
STACK = Stacked(LAWS)
ROWS = np.array([2, 0, 2])


def same(law, expected):
    """Assert that two laws are the same to the last bit."""
    assert law.shape == expected.shape
    for count in (0, 3, 50):
        np.testing.assert_array_equal(law.pmf(count), expected.pmf(count))
        np.testing.assert_array_equal(law.cdf(count), expected.cdf(count))


def test_columns_of_a_stack_are_its_laws():
    assert STACK.shape == (N, len(LAWS))
    for i, law in enumerate(LAWS):
        assert type(STACK[:, i]) is type(law)
        same(STACK[:, i], law)
        same(STACK[ROWS, i], law[ROWS])
        same(STACK[ROWS][:, i], law[ROWS])
        same(STACK[1, i], law[1])
        same(STACK[None, :, i], law[None])
        same(STACK[:, i - len(LAWS)], law)


@pytest.mark.parametrize(
    ("index", "cells", "genes"),
    [
        (slice(1, 3), slice(1, 3), slice(None)),
        ((slice(None), slice(1, None)), slice(None), slice(1, None)),
        ((slice(None), [3, 1]), slice(None), [3, 1]),
        ((slice(None), MU > 1), slice(None), MU > 1),
        (MU > 1, MU > 1, slice(None)),
        (2, 2, slice(None)),
    ],
)
def test_a_stack_indexes_like_an_array(index, cells, genes):
    for count in (0, 5):
        whole = np.stack([law.pmf(count) for law in LAWS], axis=-1)
        np.testing.assert_array_equal(STACK[index].pmf(count), whole[cells][..., genes])


def test_probabilities_and_moments_of_a_stack_are_those_of_its_laws():
    counts = np.random.default_rng(1).integers(0, 30, (N, len(LAWS)))
    for name in ("pmf", "log_prob", "cdf"):
        each = [getattr(law, name)(counts[:, i]) for i, law in enumerate(LAWS)]
        np.testing.assert_array_equal(getattr(STACK, name)(counts), np.stack(each, axis=-1))
    np.testing.assert_array_equal(STACK.mean, np.stack([law.mean for law in LAWS], axis=-1))
    for u in (0.2, 0.99):
        each = [law.quantile(u) for law in LAWS]
        np.testing.assert_array_equal(STACK.quantile(u), np.stack(each, axis=-1))
        np.testing.assert_array_equal(STACK.reach(1 - u)[:, 2:], np.stack(each, axis=-1)[:, 2:])


def test_tables_of_a_stack_are_those_of_its_laws():
    table, k = STACK.pmf_table(40), np.arange(40)
    for i, law in enumerate(LAWS):
        np.testing.assert_array_equal(table[:, i], law.pmf_table(40))
        np.testing.assert_array_equal(STACK[:, None].pmf(k[:, None])[..., i], law[:, None].pmf(k))


def test_draws_of_a_stack_follow_its_laws():
    shape = (5000, N, len(LAWS))
    of_any_size = STACK.sample(np.random.default_rng(0), shape)
    of_its_own = STACK[np.arange(5000 * N) % N].sample(np.random.default_rng(0)).reshape(shape)
    for draws in (of_any_size, of_its_own):
        mean, error = np.mean(draws, axis=0), np.std(draws, axis=0) / np.sqrt(5000)
        assert mean.shape == STACK.shape and (np.abs(mean - STACK.mean) < 4.5 * error).all()


def test_a_mixture_of_a_stack_is_the_mixture_of_each_gene():
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    population = Mixture(STACK, weights)
    assert population.shape == (len(LAWS),)
    table = np.stack([weights @ law.pmf_table(60) for law in LAWS])
    np.testing.assert_allclose(population.pmf_table(60), table, atol=1e-15)
    counts = population.sample(np.random.default_rng(0), (5000, len(LAWS)))
    cells = population.sample_cells(np.random.default_rng(0), 5000)
    for drawn in (counts, cells):
        assert (np.abs(drawn.mean(0) - population.mean) < 4.5 * drawn.std(0) / np.sqrt(5000)).all()
    assert np.corrcoef(cells.T)[0, 3] > 0.3 > abs(np.corrcoef(counts.T)[0, 3]) + 0.2


def test_a_stack_has_parameters_and_density_if_all_its_laws_have():
    both = Stacked(LAWS[:2])
    for i, law in enumerate(LAWS[:2]):
        np.testing.assert_array_equal(both.parameters()[:, i].theta, law.parameters().theta)
    assert both.has_density and both.n_components == 3
    assert STACK.parameters() is None and not STACK.has_density


@pytest.mark.parametrize("laws", [[], [ZINB(MU, 1.0, 0.1), ZINB(MU[:2], 1.0, 0.1)]])
def test_laws_that_cannot_be_stacked_are_refused_in_one_line(laws):
    with pytest.raises(ValueError) as error:
        Stacked(laws)
    one_line(error, "laws: of shapes", "one or more of one shape")


def test_arrays_for_cells_and_genes_at_once_are_refused():
    with pytest.raises(IndexError, match="cells and genes"):
        STACK[ROWS, ROWS]


@pytest.mark.parametrize("index", [(..., 1), (..., None), (slice(None), slice(None), None)])
def test_an_ellipsis_or_a_new_last_axis_is_refused(index):
    with pytest.raises(IndexError, match="ellipsis or a new last axis"):
        STACK[index]
