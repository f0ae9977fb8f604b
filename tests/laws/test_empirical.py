import numpy as np
import pytest

from lib.laws import Cells, Empirical, Mixture
from tests.agreement import one_line

DRAWS = np.random.default_rng(0).poisson([[2.0], [8.0], [0.3]], (3, 40))


def test_empirical_counts_its_draws():
    law = Empirical(DRAWS)
    for cell in range(3):
        for k in (0, 1, 5, 100):
            share = np.mean([d == k for d in DRAWS[cell]])
            np.testing.assert_allclose([law.pmf(k)[cell], law[cell].pmf(k)], share)
            np.testing.assert_allclose(law.cdf(k)[cell], np.mean([d <= k for d in DRAWS[cell]]))
        assert law.mean[cell] == pytest.approx(sum(DRAWS[cell]) / 40)
        assert law.quantile(0.5)[cell] == sorted(DRAWS[cell])[19]


def test_empirical_indexes_like_an_array():
    law = Empirical(DRAWS)
    assert law[:, None].shape == law[..., None].shape == (3, 1)
    np.testing.assert_array_equal(law[np.array([2, 0])].pmf(1), law.pmf(1)[[2, 0]])
    np.testing.assert_array_equal(law[np.array([True, False, True])].pmf(1), law.pmf(1)[[0, 2]])


def test_empirical_pmf_table_is_a_histogram():
    table = Empirical(DRAWS).pmf_table(30)
    np.testing.assert_allclose(table, [np.bincount(d, minlength=30) / 40 for d in DRAWS])


def test_empirical_pmf_table_counts_draws_beyond_a_block_and_no_fractions():
    draws = [[0, 15, 16, 1000], [3.5, 16, 16, 2]]
    table = Empirical(draws).pmf_table(40)
    np.testing.assert_array_equal(
        table, [[(np.array(d) == k).mean() for k in range(40)] for d in draws]
    )
    np.testing.assert_array_equal(Mixture(Empirical(draws)).pmf_table(40), table.mean(0))


def test_empirical_samples_only_its_draws():
    law = Empirical(np.repeat([[1, 1, 1, 6]], 20_000, axis=0))
    draws = law.sample(np.random.default_rng(0))
    assert set(draws) == {1, 6}
    assert abs((draws == 6).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 20_000)


@pytest.mark.parametrize("draws", [np.empty((3, 0)), [[-1.0]], [[np.nan]]])
def test_empirical_refuses_what_are_no_draws(draws):
    with pytest.raises(ValueError, match="draws") as error:
        Empirical(draws)
    one_line(error)


def test_empirical_draws_of_any_size_come_from_each_entrys_own_draws():
    law = Empirical(np.array([[1, 1, 1, 6], [0, 2, 2, 2]]))
    counts = law.sample(np.random.default_rng(0), (20_000, 2))
    assert counts.shape == (20_000, 2)
    for entry, (rare, often) in enumerate([(6, 1), (0, 2)]):
        assert set(counts[:, entry]) == {rare, often}
        assert abs((counts[:, entry] == rare).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 20_000)
    assert abs(np.corrcoef(counts.T)[0, 1]) < 0.03


def test_empirical_has_neither_density_nor_parameters():
    law = Empirical(DRAWS)
    assert not law.has_density and law.parameters() is None
    np.testing.assert_array_equal(law.reach(0.1), law.quantile(0.9))


def test_cells_are_drawn_whole_and_each_gene_has_the_law_of_its_counts():
    counts = np.array([[0, 10, 5], [1, 11, 5], [2, 12, 5], [2, 12, 5]])
    law = Cells(counts)
    assert law.shape == (3,)
    np.testing.assert_array_equal(law.pmf(2), [0.5, 0, 0])
    np.testing.assert_array_equal(law.mean, counts.mean(0))
    drawn = law.sample_cells(np.random.default_rng(0), 8000)
    np.testing.assert_array_equal(drawn, law.sample(np.random.default_rng(0), (8000, 3)))
    assert (drawn[:, 1] == drawn[:, 0] + 10).all() and (drawn[:, 2] == 5).all()
    np.testing.assert_allclose(np.bincount(drawn[:, 0]) / 8000, [0.25, 0.25, 0.5], atol=0.03)
    assert law.sample(np.random.default_rng(0)).shape == (3,)
