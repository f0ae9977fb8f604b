"""Networks drawn at random."""

import dataclasses

import networkx as nx
import numpy as np
import pytest

from lib import dataset
from lib.simulate.grn import GRN, balanced, draw, drawn
from tests.agreement import one_line
from tests.simulate.networks import six


def bytes_of(network):
    fields = dataclasses.fields(GRN)[:-1]
    values = [getattr(network, field.name) for field in fields]
    return [v.tolist() if v.dtype == object else v.tobytes() for v in values]


@pytest.fixture(scope="module", params=[(200, 20), (1000, 100), (5000, 200)], ids=str)
def network(request):
    return draw(*request.param, seed=1)


def test_every_regulator_has_targets_and_every_target_one_to_four_regulators(network):
    n_genes = len(network.genes)
    assert len(network.regulators) == {200: 20, 1000: 100, 5000: 200}[n_genes]
    n_own = np.bincount(network.target, minlength=n_genes)
    first = network.generations[0]
    assert (n_own[first] == 0).all() and np.isin(first, network.regulators).all()
    assert set(np.delete(n_own, first)) == {1, 2, 3, 4}
    # of genes that aren't regulators, 0.4, 0.3, 0.2 and 0.1 have so many
    others = np.delete(n_own, network.regulators)
    shares = np.bincount(others, minlength=5)[1:] / len(others)
    errors = np.sqrt(0.25 / len(others))
    assert (np.abs(shares - [0.4, 0.3, 0.2, 0.1]) < 4 * errors).all()


def test_cascades_are_at_least_three_deep_and_out_degrees_have_a_heavy_tail(network):
    graph = network.digraph()
    assert nx.dag_longest_path_length(graph) >= 3
    # of the reachable genes of regulators of the first generation, some are three steps away
    of_first = [str(network.genes[g]) for g in network.generations[0]]
    far = [max(nx.single_source_shortest_path_length(graph, g).values()) for g in of_first]
    assert max(far) >= 3
    degree = np.sort(np.bincount(network.regulator)[network.regulators])
    assert degree[-1] > 4 * np.median(degree)
    poisson = np.random.default_rng(0).poisson(degree.mean(), (1000, len(degree))).max(axis=1)
    assert degree[-1] > np.quantile(poisson, 0.999)


def test_a_regulator_of_the_own_module_is_likelier_than_another():
    network = draw(1000, 100, seed=1)
    same = network.module[network.regulator] == network.module[network.target]
    by_chance = np.mean([(network.module[network.regulators] == m).mean() for m in range(20)])
    assert same.mean() > 3 * by_chance


@pytest.mark.parametrize("divergence", [0.0, 0.3, 1.0])
def test_the_asked_share_of_edges_has_another_regulator_in_other_types(divergence):
    network = draw(400, 60, n_cell_types=3, divergence=divergence, seed=2)
    ends = np.stack([network.regulator, network.target], axis=1)
    first = ends[network.acts[:, 0]]
    for other in (1, 2):
        acts = network.acts[:, other]
        kept = (acts & network.acts[:, 0]).sum()
        assert abs(1 - kept / len(first) - divergence) <= 0.05  # where a gene has no other left
        assert kept >= round((1 - divergence) * len(first))
        n_own, n_first = (np.bincount(e[:, 1], minlength=400) for e in (ends[acts], first))
        np.testing.assert_array_equal(n_own, n_first)
        assert nx.is_directed_acyclic_graph(network.digraph("ABC"[other]))


def test_same_seed_same_bytes_and_another_seed_another_network():
    one = draw(60, 10, n_cell_types=2, seed=(3, 1))
    assert bytes_of(one) == bytes_of(draw(60, 10, n_cell_types=2, seed=(3, 1)))
    other = draw(60, 10, n_cell_types=2, seed=(3, 2))
    for name in ("base", "theta", "loadings", "logic"):
        assert (getattr(one, name) != getattr(other, name)).any()
    assert set(zip(one.regulator, one.target)) != set(zip(other.regulator, other.target))


def test_effects_are_what_is_asked():
    options = {"fold_range": (2.0, 4.0), "activating": 0.25, "dispersion_range": (0.1, 0.2)}
    network = draw(600, 60, logic={"sum": 3, "or": 1}, programs=False, **options, seed=1)
    size = np.abs(network.effect)
    assert size.min() >= 1 and size.max() <= 2 and abs(size.mean() - 1.5) < 0.05
    assert abs((network.effect > 0).mean() - 0.25) < 4 * np.sqrt(0.19 / len(size))
    assert abs((network.logic == "sum").mean() - 0.75) < 4 * np.sqrt(0.19 / 600)
    assert set(network.logic) == {"sum", "or"} and network.loadings.shape == (600, 0)
    assert network.theta.min() >= 5 and network.theta.max() <= 10


MEANS = np.array([[20, 5, 9, 6, 3, 0.5], [8, 5, 2, 30, 3, 7]]).T


def check_means(network, expected, n_cells):
    """Mean molecules of simulated cells are the expected ones, (n_genes, n_types)."""
    everything = dataset.measurement.draw(network.genes, median=1.0, spread=0.0)
    cells = dataset.grn_cells(network, n_cells, measurement=everything, seed=5)
    counts = cells.X.toarray()
    for place, name in enumerate(network.cell_types):
        own = counts[(cells.obs["cell_type"] == name).to_numpy()]
        # 4,000 pilot cells and as many here have each an error of the mean
        errors = own.std(axis=0) * np.sqrt(1 / drawn.PILOT + 1 / n_cells)
        assert (np.abs(own.mean(axis=0) - expected[:, place]) < 5 * errors).all()


@pytest.mark.parametrize("logic", ["product", "sum", "and", "or"])
def test_balanced_baselines_give_the_means_that_are_asked_for(logic):
    network = balanced(six(logic=[logic] * 6), MEANS, seed=2)
    np.testing.assert_array_equal(network.theta, six().theta)
    check_means(network, MEANS, 4000)


def test_a_drawn_network_has_the_asked_medians_of_means():
    options = {"mean": 3.0, "regulator_mean": 30.0, "mean_spread": 0.5, "marker_fraction": 0.3}
    network = draw(400, 60, n_cell_types=2, **options, seed=1)
    everything = dataset.measurement.draw(network.genes, median=1.0, spread=0.0)
    cells = dataset.grn_cells(network, 2000, measurement=everything, seed=1)
    counts = cells.X.toarray()
    means = np.stack([counts[(cells.obs["cell_type"] == t).to_numpy()].mean(axis=0) for t in "AB"])
    is_regulator = cells.var["regulator"].to_numpy()
    for part, median in ((~is_regulator, 3.0), (is_regulator, 30.0)):
        logs = np.log(means[0, part] / median)
        assert abs(np.median(logs)) < 5 * 1.25 * 0.5 / np.sqrt(part.sum())
        assert abs(logs.std() - 0.5) < 0.12
    is_marker = np.abs(np.log(means[1] / means[0])) > 0.15
    # of 0.3 markers, whose log differs with sd 1, 12 % differ by less
    assert abs(is_marker.mean() - 0.3 * 0.88) < 0.08


def test_dispersion_that_is_kept_leaves_the_whole_variance():
    wide = six(theta=np.full(6, 2.0), loadings=np.zeros((6, 3)))
    own = balanced(wide, MEANS, keep_dispersion=True, seed=1)
    everything = dataset.measurement.draw(own.genes, median=1.0, spread=0.0)
    counts = dataset.grn_cells(own, 40_000, measurement=everything, seed=1).X.toarray()
    for own_type in np.split(counts, 2):
        mean, variance = own_type.mean(axis=0), own_type.var(axis=0)
        np.testing.assert_allclose((variance - mean) / mean**2, 0.5, atol=0.07)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"n_genes": 1}, ("n_genes = 1", "at least 2")),
        ({"n_genes": 5.5}, ("n_genes = 5.5", "whole number")),
        ({"n_regulators": 21}, ("n_regulators = 21", "from 1 to 20")),
        ({"n_regulators": 41}, ("n_regulators = 41", "from 1 to 20")),
        ({"n_regulators": 0}, ("n_regulators = 0", "from 1 to 20")),
        ({"n_cell_types": 27}, ("n_cell_types = 27", "from 1 to 26")),
        ({"n_cell_types": 0}, ("n_cell_types = 0", "from 1 to 26")),
        ({"divergence": 1.1}, ("divergence = 1.1", "from 0 to 1")),
        ({"divergence": np.nan}, ("divergence = nan", "finite")),
        ({"hubs": 3}, ("hubs", "no such option", "fold_range")),
        ({"n_modules": 0}, ("n_modules = 0", "at least 1")),
        ({"n_modules": 2.5}, ("n_modules = 2.5", "whole number")),
        ({"marker_fraction": 2}, ("marker_fraction = 2", "from 0 to 1")),
        ({"fold_range": (8.0, 1.5)}, ("fold_range = (8, 1.5)", "smaller one first")),
        ({"fold_range": (0.5, 2.0)}, ("fold_range = 0.5", "from 1")),
        ({"fold_range": 3.0}, ("fold_range = 3.0", "two numbers")),
        ({"activating": -0.1}, ("activating = -0.1", "from 0 to 1")),
        ({"logic": {"nor": 1.0}}, ("logic = 'nor'", "product, sum, and, or")),
        ({"logic": {"sum": -1.0}}, ("shares of logic = -1", "at least 0")),
        ({"logic": {"sum": 0.0}}, ("sum of the shares of logic = 0",)),
        ({"logic": {}}, ("logic = []", "at least one")),
        ({"logic": "sum"}, ("logic = 'sum'", "shares")),
        ({"logic": 3}, ("logic = 3", "shares")),
        ({"mean": 0}, ("mean = 0", "from 0.001")),
        ({"regulator_mean": np.inf}, ("regulator_mean = inf",)),
        ({"mean_spread": -1}, ("mean_spread = -1", "from 0")),
        ({"dispersion_range": (0.0, 1.0)}, ("dispersion_range = 0", "from 1e-06")),
        ({"programs": "none"}, ("programs = 'none'", "True or False")),
        ({"programs": 2}, ("programs = 2", "True or False")),
        ({"seed": -1}, ("seed = -1", "at least 0")),
    ],
)
def test_bad_options_are_refused_in_one_line(options, parts):
    with pytest.raises(ValueError) as error:
        draw(**{"n_genes": 40, "n_regulators": 5} | options)
    one_line(error, *parts)


def test_means_of_another_shape_are_refused_in_one_line():
    with pytest.raises(ValueError) as error:
        balanced(six(), np.ones((5, 2)))
    one_line(error, "means: shape (5, 2)", "(6, 2)")


@pytest.mark.parametrize("n_regulators", [1, 2, 3, 5, 20])
def test_few_and_many_regulators_make_a_network_too(n_regulators):
    for seed in range(3):
        network = draw(40, n_regulators, n_cell_types=2, divergence=0.5, seed=seed)
        assert len(network.regulators) == n_regulators
        assert len(network.generations) == 1 + min(4, n_regulators)
