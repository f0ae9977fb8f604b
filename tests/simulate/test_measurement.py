"""From molecules to counts: thinning keeps the law, capture is a probability."""

import numpy as np
import pytest
import scipy.sparse
import scipy.stats

from lib.simulate import measurement
from lib.simulate.measurement import Measurement
from tests.agreement import one_line, scipy_pmf

GENES = ["a", "b/", "c", "d"]


def of(**changes):
    fields = {
        "genes": GENES,
        "batches": ["1", "b/2"],
        "median": [0.2, 0.05],
        "spread": [0.3, 0.5],
        "factors": [[1.0, 0.8], [1.5, 1.0], [0.7, 2.0], [1.0, 1.0]],
        "pi": [0.0, 0.1, 0.0, 0.3],
    }
    return Measurement(**fields | changes)


@pytest.mark.parametrize(("mu", "theta", "p"), [(12.0, 2.5, 0.15), (3.0, 0.4, 0.9), (30, 20, 0.4)])
def test_thinned_negative_binomial_is_one_of_the_thinned_mean(mu, theta, p):
    molecules = np.arange(2000)
    of_molecules = scipy.stats.nbinom.pmf(molecules, theta, theta / (theta + mu))
    counts = np.arange(25)
    summed = scipy.stats.binom.pmf(counts[:, None], molecules, p) @ of_molecules
    np.testing.assert_allclose(summed, scipy_pmf(counts, p * mu, theta, 0.0), rtol=1e-9)


def test_captures_have_the_median_and_spread_that_are_asked_for():
    uniforms = np.random.default_rng(0).random(40_000)
    batch = np.arange(40_000) % 2
    captures = of().captures(uniforms, batch)
    for place, (median, spread) in enumerate(((0.2, 0.3), (0.05, 0.5))):
        own = np.log(captures[batch == place])
        assert abs(np.median(own) - np.log(median)) < 5 * 1.25 * spread / np.sqrt(20_000)
        assert abs(own.std() - spread) < 5 * spread / np.sqrt(2 * 20_000)
        assert scipy.stats.kstest(own, "norm", (np.log(median), spread)).pvalue > 1e-3


def test_captures_are_cut_where_a_gene_would_be_counted_twice():
    cut = of(median=[0.6, 0.05], spread=[1.0, 0.5])  # of a largest factor of 1.5
    uniforms = (np.arange(20_000) + 0.5) / 20_000
    logs = np.log(cut.captures(uniforms, np.zeros(20_000, dtype=int)))
    highest = np.log(1 / 1.5)
    law = scipy.stats.truncnorm(-np.inf, highest - np.log(0.6), np.log(0.6), 1.0)
    np.testing.assert_allclose(logs, law.ppf(uniforms), atol=1e-9)


@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.3, 5.0])
def test_a_probability_is_at_most_one_whatever_the_spread(spread):
    rng = np.random.default_rng(1)
    uniforms = np.concatenate([rng.random(2000), 1 - 2.0 ** -np.arange(1, 54), 2.0 ** -np.arange(60)
                               [1:], [0.0]])  # fmt: skip
    for largest in 1 + 4 * rng.random(300):
        factors = np.full((4, 2), 1.0)
        factors[2] = largest
        for median in (1e-6, 0.9 / largest, np.nextafter(1 / largest, 0)):
            both = of(median=[median] * 2, spread=[spread] * 2, factors=factors)
            captures = both.captures(uniforms, np.zeros(len(uniforms), dtype=int))
            assert (captures > 0).all() and (captures * largest).max() <= 1
            rng.binomial(5, captures * largest)  # refuses what is above 1


def test_batches_differ_in_factors_and_one_alone_has_none():
    many = measurement.draw([f"g{i}" for i in range(2000)], 3, batch_spread=0.2, seed=1)
    logs = np.log(many.factors)
    assert list(many.batches) == ["1", "2", "3"] and many.factors.shape == (2000, 3)
    assert (np.abs(logs.mean(axis=0)) < 5 * 0.2 / np.sqrt(2000)).all()
    np.testing.assert_allclose(logs.std(axis=0), 0.2, rtol=0.06)
    assert np.abs(np.corrcoef(logs.T)[np.triu_indices(3, 1)]).max() < 5 / np.sqrt(2000)
    assert logs.max() <= 3 * 0.2 + 1e-12
    assert (measurement.draw(GENES, 1, batch_spread=0.2).factors == 1).all()
    again = measurement.draw([f"g{i}" for i in range(2000)], 3, batch_spread=0.2, seed=1)
    np.testing.assert_array_equal(again.factors, many.factors)
    other = measurement.draw([f"g{i}" for i in range(2000)], 3, batch_spread=0.2, seed=2)
    assert (other.factors != many.factors).all()


def test_fewer_reads_keep_each_count_with_a_probability():
    rng = np.random.default_rng(0)
    drawn = rng.poisson(3.0, (400, 50)).astype(np.float32)
    counts = scipy.sparse.csr_matrix(drawn)
    thin = measurement.thinned(counts, 0.1, np.random.default_rng(1))
    assert thin.dtype == np.float32 and thin.has_canonical_format and (thin.data > 0).all()
    np.testing.assert_array_equal(counts.toarray(), drawn)  # as they were
    full, few = drawn.astype(int), thin.toarray().astype(int)
    assert (few <= full).all()
    for n in (1, 3, 6):
        of_n = np.bincount(few[full == n], minlength=n + 1)
        expected = of_n.sum() * scipy.stats.binom.pmf(np.arange(n + 1), n, 0.1)
        first = np.minimum(np.arange(n + 1), 1 + (n > 1))  # 0, 1, 2 and more
        groups = [np.bincount(first, values) for values in (of_n, expected)]
        assert scipy.stats.chisquare(*groups).pvalue > 1e-3
    assert measurement.thinned(counts, 1.0, rng) is counts


def test_arrays_give_the_measurement_back_and_can_not_be_written_to():
    one = of()
    back = Measurement(**one.as_arrays())
    for name, values in one.as_arrays().items():
        np.testing.assert_array_equal(getattr(back, name), values)
        with pytest.raises(ValueError, match="read-only"):
            getattr(one, name)[...] = 0
    np.testing.assert_array_equal(one.batch_of(np.array(["b/2", "1", "b/2"])), [1, 0, 1])


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"median": [0.0, 0.1]}, ("capture of batch 1 = 0", "from 1e-06 to 1")),
        ({"median": [0.1, 1.1]}, ("capture of batch b/2 = 1.1", "to 1")),
        ({"median": [0.7, 0.1]}, ("capture of batch 1 = 0.7", "largest factor, 1.5", "at most 1")),
        ({"median": [np.nan, 0.1]}, ("capture of batch 1 = nan", "finite")),
        ({"spread": [0.1, -1]}, ("spread of batch b/2 = -1", "from 0 to 5")),
        ({"spread": [0.1, 6]}, ("spread of batch b/2 = 6", "from 0 to 5")),
        ({"factors": np.zeros((4, 2))}, ("smallest factor of batch 1 = 0",)),
        ({"factors": np.full((4, 2), np.nan)}, ("smallest factor of batch 1 = nan", "finite")),
        ({"factors": np.ones((4, 3))}, ("factors: shape (4, 3)", "(4, 2)")),
        ({"pi": [0, 1.5, 0, 0]}, ("largest pi = 1.5", "from 0 to 1")),
        ({"pi": np.full(4, -0.5)}, ("smallest pi = -0.5", "from 0 to 1")),
        ({"pi": [0, np.nan, 0, 0]}, ("pi = nan", "finite")),
        ({"pi": np.zeros(3)}, ("pi: shape (3,)", "(4,)")),
        ({"batches": ["1", "1"]}, ("batches", "'1' twice")),
    ],
)
def test_values_that_can_not_be_are_refused_in_one_line(changes, parts):
    with pytest.raises(ValueError) as error:
        of(**changes)
    one_line(error, *parts)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"batches": 0}, ("batches = 0", "from 1")),
        ({"batches": 1.5}, ("batches = 1.5", "whole number")),
        ({"median": 0}, ("capture of batch 1 = 0",)),
        ({"median": 1.2}, ("capture of batch 1 = 1.2",)),
        ({"batches": 2, "median": [0.1, 0.2, 0.3]}, ("median: 3 values", "must be one, or 2")),
        ({"spread": [[0.1]]}, ("spread: 1 values", "must be one")),
        ({"spread": "wide"}, ("spread = 'wide'", "number")),
        ({"batch_spread": -0.1}, ("batch_spread = -0.1", "from 0")),
        ({"pi": [0.1, 0.2]}, ("pi: 2 values", "must be one, or 4")),
        ({"seed": "1"}, ("seed = '1'",)),
    ],
)
def test_bad_options_are_refused_in_one_line(options, parts):
    with pytest.raises(ValueError) as error:
        measurement.draw(GENES, **options)
    one_line(error, *parts)


def test_no_genes_and_unknown_batches_are_refused_in_one_line():
    for call, *parts in (
        (lambda: measurement.draw([]), "genes"),
        (lambda: of().batch_of(np.array(["3"])), "batch = '3'", "1, b/2"),
        (lambda: measurement.thinned(scipy.sparse.csr_matrix((1, 1)), 0.0, None), "depth = 0"),
        (lambda: measurement.thinned(scipy.sparse.csr_matrix((1, 1)), 1.5, None), "depth = 1.5"),
    ):
        with pytest.raises(ValueError) as error:
            call()
        one_line(error, *parts)
