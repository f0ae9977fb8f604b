"""Folds of edges, programs and mechanisms, against plain formulas and the other simulator."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from lib import dataset
from lib.simulate.grn.molecules import Cells
from lib.simulate.grn.regulation import Regulation, by_programs, draw_activities
from lib.simulate.mechanisms import MECHANISMS
from tests.simulate.networks import hill, of_edges, six


def plain(logic, edges, x):
    """The fold of a gene with these edges, (effect, half, power), at x molecules, one an edge."""
    if logic in ("product", "sum"):
        folds = [hill(n, *edge) for n, edge in zip(x, edges)]
        return np.prod(folds) if logic == "product" else np.mean(folds)
    bound = [n**power / (half**power + n**power) for n, (_, half, power) in zip(x, edges)]
    u = [h if effect > 0 else 1 - h for h, (effect, *_) in zip(bound, edges)]
    more = 2 ** np.mean([abs(effect) for effect, *_ in edges]) - 1
    together = np.prod(u) if logic == "and" else 1 - np.prod(1 - np.array(u))
    at_half = 0.5 ** len(edges) if logic == "and" else 1 - 0.5 ** len(edges)
    return (1 + more * together) / (1 + more * at_half)


EDGES = [(2.0, 5.0, 2.0), (-1.5, 8.0, 1.3), (3.0, 0.4, 3.0)]


def target_of(edges, logic, **changes):
    """A network of regulators r0, r1, ... and their one target."""
    names = [f"r{i}" for i in range(len(edges))]
    effect, half, power = zip(*edges)
    ends = [(name, "t", e) for name, e in zip(names, effect)]
    values = {"half": half, "power": power, "logic": ["product"] * len(names) + [logic]}
    return of_edges(ends, dict.fromkeys([*names, "t"], 3.0), **values | changes)


def folds_of(network, x):
    """The fold of the last gene at molecules x, (n_cells, n_regulators)."""
    targets = np.array([len(network.genes) - 1])
    return Regulation(network).folds(0, targets, np.asarray(x).T)[0]


@pytest.mark.parametrize("logic", ["product", "sum", "and", "or"])
@pytest.mark.parametrize("edges", [EDGES[:1], EDGES[1:2], EDGES[:2], EDGES], ids=len)
def test_folds_are_those_of_the_formula(logic, edges):
    x = np.random.default_rng(0).integers(0, 30, (60, len(edges)))
    x[0], x[1] = 0, 1_000_000  # no molecules, and more than are looked up
    expected = [plain(logic, edges, row.tolist()) for row in x]
    np.testing.assert_allclose(folds_of(target_of(edges, logic), x), expected, rtol=1e-12)


@pytest.mark.parametrize("logic", ["product", "sum", "and", "or"])
@pytest.mark.parametrize("effect", [2.0, -2.0])
def test_between_no_and_endless_molecules_a_mean_changes_by_the_fold(logic, effect):
    network = target_of([(effect, 5.0, 2.0)], logic)
    none, half, endless = folds_of(network, [[0], [5], [2**30]])
    np.testing.assert_allclose([endless / none, half], [2.0**effect, 1.0], rtol=1e-9)


def test_folds_do_not_depend_on_what_was_looked_up_before():
    network = target_of(EDGES, "product")
    kept = Regulation(network)
    for highest in (3, 70, 2**16 - 1, 2**16, 10, 2**17):
        x = np.random.default_rng(highest).integers(0, highest + 1, (3, 40))
        x[:, 0] = highest
        once = Regulation(network).folds(0, np.array([3]), x)
        np.testing.assert_allclose(kept.folds(0, np.array([3]), x), once, rtol=1e-12)


def test_edges_act_in_their_cell_types_alone():
    network = six()
    x = np.array([[3, 20], [9, 0], [15, 4], [2, 11], [7, 1]])  # of all but e, which regulates none
    a, b, c, d, f = x.astype(float)
    for place in (0, 1):
        found = Regulation(network).folds(place, np.arange(6), x)
        of_d = [hill_of(2, b)] if place else [hill_of(2, b), hill_of(3, c)]
        expected = [np.ones(2), hill_of(0, a), hill_of(1, a), np.mean(of_d, axis=0)]
        np.testing.assert_allclose(found[:4], expected)
        for cell in (0, 1):
            edges, molecules = [(1.5, 6.0, 1.0)], [d[cell]]
            if place:
                edges, molecules = [*edges, (3.0, 4.0, 2.5)], [*molecules, f[cell]]
            np.testing.assert_allclose(found[4, cell], plain("or", edges, molecules))
        np.testing.assert_array_equal(found[5], 1.0)


def hill_of(edge, x):
    network = six()
    values = (getattr(network, name)[edge] for name in ("effect", "half", "power"))
    return np.vectorize(hill)(x, *values)


OWN = "tests.mechanisms_of_ones_own:saturating"


@pytest.mark.parametrize("mechanism", [*MECHANISMS, OWN])
def test_a_mechanism_as_logic_gives_the_mu_of_the_mechanistic_gene(mechanism):
    base = dataset.base_genes(200, 4, None, mu_range=(5, 10), seed=1)
    parents = ["gene_2", "gene_0", "gene_3"]
    options = {"gene": "m", "parents": parents, "target_zero_prob": None}
    mech = dataset.get_mech_dataset(base, mechanism, **options, seed=1)
    entry = mech.uns["mechanisms"]["000"]["mu"]
    network = of_edges(
        [(parent, "m", 1.0) for parent in parents],
        dict.fromkeys(["gene_0", "gene_1", "gene_2", "gene_3", "m"], 1.0),
        logic=["product"] * 4 + ["mechanism"],
        mechanisms={"m": entry},
    )
    x = mech.X.toarray()[:, [0, 2, 3]].astype(int)  # in the order of network.regulators
    mu = dataset.law(mech, "m").mu[:, 0]
    np.testing.assert_array_equal(folds_of(network, x), mu)
    assert mu.std() > 0


def test_mechanisms_are_multiplied_by_the_base_and_the_programs():
    entry = {"mechanism": OWN}
    logic = ["product", "product", "product", "mechanism", "or", "product"]
    loadings = np.zeros((6, 3))
    loadings[3, 2] = 0.5
    network = six(logic=logic, mechanisms={"d": entry}, loadings=loadings)
    activities = np.array([[0.3, 1.0, -1.0], [0.0, 0.0, 2.0]])
    cells = Cells(Regulation(network), 0, activities)
    cells.molecules[:] = np.array([[1, 1], [4, 9], [3, 0], [2, 2], [5, 5]])
    total = np.array([7.0, 9.0])  # of b+ and c d
    fold = np.exp(0.5 * activities[:, 2] - 0.5**2 / 2)
    expected = 7.0 * fold * (1 + 20 * total / (10 + total))
    np.testing.assert_allclose(cells.means(np.array([3]))[0], expected)


@pytest.mark.parametrize("gene", [0, 1, 4, 5])
def test_folds_by_programs_have_mean_one(gene):
    network = six(loadings=np.array([[0, 0, 1.2], [2.0, -1.5, 0], [0] * 3, [0] * 3, [0.3, 0.9, 0.7],
                                     [30.0, 5.0, 0]]))  # fmt: skip
    phase = 2 * np.pi * (np.arange(20_000) + 0.5) / 20_000
    cycle = np.sqrt(2) * np.column_stack([np.cos(phase), np.sin(phase)])
    a, b, c = network.loadings[gene]

    def fold(normal):
        activities = np.column_stack([cycle, np.full(len(cycle), normal)])
        folds = np.full((1, len(cycle)), 3.0)
        by_programs(network, np.array([gene]), activities, folds)
        return folds.mean() / 3

    mean, _ = scipy.integrate.quad(lambda z: fold(z) * scipy.stats.norm.pdf(z), -9, 9, epsabs=1e-9)
    np.testing.assert_allclose(mean, 1, rtol=1e-6)
    np.testing.assert_allclose(
        network.log_mean_fold[gene],
        np.log(np.i0(np.sqrt(2 * (a**2 + b**2)))) + c**2 / 2,
    )


def test_activities_are_a_phase_and_a_normal():
    def uniform(program):
        return np.random.default_rng(7 + program).random(20_000)

    activities = draw_activities(six(), uniform)
    np.testing.assert_allclose((activities[:, :2] ** 2).sum(axis=1), 2)
    phase = np.arctan2(activities[:, 1], activities[:, 0]) / (2 * np.pi) % 1
    assert scipy.stats.kstest(phase, "uniform").pvalue > 1e-3
    assert scipy.stats.kstest(activities[:, 2], "norm").pvalue > 1e-3
    assert abs(np.corrcoef(phase, activities[:, 2])[0, 1]) < 4 / np.sqrt(20_000)
    assert draw_activities(six(programs=[], loadings=np.zeros((6, 0))), uniform).shape[1] == 0
