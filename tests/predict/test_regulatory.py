"""A mechanistic model of a screen, against networks whose edges and folds are known."""

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from lib import dataset, perturb
from lib.counts import CONTROL
from lib.predict.arms.answers import Means
from lib.predict.base import Perturbation, Query
from lib.predict.regulatory import cells as regulatory_cells
from lib.predict.regulatory import edges as regulatory_edges
from lib.predict.regulatory import moments as regulatory_moments
from lib.predict.regulatory import network as regulatory_network
from lib.predict.regulatory import order as regulatory_order
from lib.predict.regulatory.network import RegulatoryNetwork

STRONG = {"fold_range": (4.0, 8.0), "mean": 40.0, "regulator_mean": 60.0}


@pytest.fixture(scope="module")
def network():
    return dataset.grn.draw(60, 8, seed=3, **STRONG)


@pytest.fixture(scope="module")
def screen(network):
    regulators = [str(gene) for gene in network.genes[network.regulators]]
    others = [str(g) for g in network.genes if str(g) not in regulators][:4]
    arms = [*regulators, *others, f"{regulators[0]}+{regulators[1]}"]
    return perturb.screen(network, arms, n_cells=60, n_control=1500, seed=4)


@pytest.fixture(scope="module")
def train(screen):
    """Cells of all arms but those of the regulator with most targets, and of the pair."""
    shown = dataset.shown(screen)
    asked = [busiest(screen), "+".join(list_of_regulators(screen)[:2])]
    return shown[~shown.obs["perturbation"].isin(asked).to_numpy()].copy()


def list_of_regulators(screen):
    return list(screen.var_names[screen.var["regulator"]])


def busiest(screen):
    """The regulator with most targets."""
    network = dataset.grn.GRN.from_arrays(screen.uns["grn"])
    return str(network.genes[np.bincount(network.regulator).argmax()])


def with_graph(train, network):
    cells = train.copy()
    ends = network.genes[network.regulator], network.genes[network.target]
    cells.uns["prior_graph"] = pd.DataFrame(dict(zip(("regulator", "target"), ends)))
    return cells


def asked(train, name, strength=0.8, kind="knockdown"):
    controls = train[(train.obs["perturbation"] == CONTROL).to_numpy()].copy()
    return Query(controls, list(train.var_names), Perturbation(name, strength, kind))


@pytest.fixture(scope="module")
def fitted(train, network):
    return RegulatoryNetwork("trusted").fit(with_graph(train, network))


@pytest.fixture(scope="module")
def learned(train):
    return RegulatoryNetwork("none").fit(train)


def error(screen, logs, name):
    """Mean squared error of logs of folds over genes that a regulator reaches, and of none."""
    truth = dataset.Truth(screen, n_cells=1000).arm(name, sense="as_labelled").genes
    others = truth["reached"].to_numpy() & (truth.index != name)
    true = truth["log_fold_change"].to_numpy()[others]
    return np.mean((logs[others] - true) ** 2), np.mean(true**2)


def test_a_response_is_the_average_of_hill_curves():
    rng = np.random.default_rng(0)
    powers, halves = rng.uniform(1, 3, 200_000), np.exp(rng.normal(0, 0.3, 200_000))
    for x in (0.1, 0.7, 1.0, 3.0):
        bound = x**powers / (halves**powers + x**powers)
        assert regulatory_cells.response(np.log(x)) == pytest.approx(
            (2 * bound - 1).mean(), abs=5e-3
        )


def test_an_unseen_regulators_knockdown_is_foretold_with_the_graph_and_without(
    screen, train, fitted, learned
):
    name = busiest(screen)
    for model, share in ((fitted, 0.2), (learned, 0.5)):
        own, of_no_change = error(screen, np.log(model.folds(asked(train, name))), name)
        assert own < share * of_no_change


def test_edges_of_a_trusted_graph_are_the_only_ones_and_have_its_effects(fitted, network):
    rows = {int(gene): row for row, gene in enumerate(fitted.regulators)}
    true = np.zeros(fitted.effects.shape)
    for regulator, target, effect in zip(network.regulator, network.target, network.effect):
        true[rows[int(regulator)], target] = np.tanh(effect * np.log(2) / 2)  # (F - 1) / (F + 1)
    assert not fitted.effects[true == 0].any()
    alone = (true != 0) & ((true != 0).sum(axis=0) == 1)
    assert stats.pearsonr(fitted.effects[alone], true[alone]).statistic > 0.9


def test_strengths_kinds_and_pairs_act_in_proportion(fitted, train, screen):
    name = busiest(screen)
    row = int(np.flatnonzero(np.array(fitted.genes)[fitted.regulators] == name)[0])
    target = int(np.argmax(fitted.effects[row]))

    def fold(label, strength, kind="knockdown"):
        return fitted.folds(asked(train, label, strength, kind))[target]

    assert fold(name, 0.8) < fold(name, 0.4) < 1 < fold(name, 4.0, "activation")
    nothing = fitted.folds(asked(train, name, 0.0)) / fitted.shared
    np.testing.assert_allclose(nothing, 1)
    own = fitted.genes.index(name)
    touched = 1 - fitted.untouched
    lost = fitted.folds(asked(train, name, 1.0, "knockout"))[own] / fitted.shared[own]
    assert lost == pytest.approx(1 - touched + touched * 0.02)
    first, second = list_of_regulators(screen)[:2]
    both = fitted.folds(asked(train, f"{first}+{second}"))
    np.testing.assert_allclose(both, fitted.folds(asked(train, f"{second}+{first}")))


def test_an_arm_of_no_regulator_changes_its_own_gene_alone(fitted, train):
    name = next(g for g in train.var_names if not train.var.loc[g, "regulator"])
    fitted_own, fitted.own = fitted.own, {}
    folds = fitted.folds(asked(train, name)) / fitted.shared
    fitted.own = fitted_own
    changed = np.flatnonzero(np.abs(folds - 1) > 1e-12)
    assert [fitted.genes[place] for place in changed] == [name]


def test_means_are_those_of_the_controls_times_folds(fitted, train):
    query = asked(train, train.var_names[5])._replace(genes=list(train.var_names[::-1]))
    answer = fitted.predict(query)
    assert isinstance(answer, Means) and answer.scale == "counts"
    controls = query.cells.X.toarray().mean(axis=0) + 0.5 / query.cells.n_obs
    np.testing.assert_allclose(answer.values[::-1], controls * fitted.folds(query), rtol=1e-6)


def test_exposures_follow_the_capture_and_not_a_hub(screen):
    arm, arms = regulatory_cells.labelled(screen)
    cells = regulatory_cells.measured(screen, np.zeros(len(arm), int), arm, arms)
    capture = screen.obsm["capture"][:, 0]
    controls = arm < 0
    gained = np.corrcoef(np.log(cells.exposure[controls]), np.log(capture[controls]))[0, 1]
    total = np.corrcoef(np.log(screen.obs["total_counts"][controls]), np.log(capture[controls]))
    assert gained > total[0, 1]


def test_covariances_of_responses_are_those_of_the_molecules(screen):
    arm, arms = regulatory_cells.labelled(screen)
    cells = regulatory_cells.measured(screen, np.zeros(len(arm), int), arm, arms)
    regulators = np.flatnonzero(screen.var["regulator"])
    found = regulatory_moments.moments(cells, regulators, 0.15)
    molecules = screen.obsm["molecules"][arm < 0]
    responses = regulatory_cells.response(
        np.log(np.maximum(molecules, 0.1) / molecules.mean(axis=0))
    )
    true = np.cov(responses.T)
    np.testing.assert_allclose(np.diag(found.responses), np.diag(true), rtol=0.35)
    assert np.abs(found.responses - true).max() < 0.06


def test_spike_and_slab_is_the_sum_over_all_sets_of_regulators():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(40, 3))
    precision, scores = root.T @ root, rng.normal(0, 8, (1, 3))
    prior = regulatory_edges.Prior(np.full((1, 3), -1.0))
    evidence = regulatory_edges.Evidence([precision], [np.ones(1)], scores)
    found = regulatory_edges.select(evidence, prior, rng, 6000, 100)
    weights, means = [], []
    for code in range(8):
        on = np.flatnonzero([code >> i & 1 for i in range(3)])
        below = precision[np.ix_(on, on)] + np.eye(len(on)) / regulatory_edges.SLAB**2
        middle = np.linalg.solve(below, scores[0, on]) if len(on) else np.zeros(0)
        log_det = np.linalg.slogdet(below * regulatory_edges.SLAB**2)[1] if len(on) else 0.0
        weights.append((middle @ scores[0, on] - log_det) / 2 - len(on))
        means.append(np.bincount(on, middle, 3) if len(on) else np.zeros(3))
    exact = special.softmax(weights) @ np.array(means)
    np.testing.assert_allclose(found.mean[0], exact, atol=0.01)


def test_parents_come_before_in_an_order():
    score = np.array([0.0, 1.0, 2.0])
    member = np.array([[False], [True], [True]])
    found = regulatory_order.Parents(np.array([1]), member, score, np.zeros((3, 1)))
    assert np.isinf(found.allowed(np.array([0.0, 1.0]), 0.0)[1:]).all()
    np.testing.assert_array_equal(found.allowed(np.array([1.0, 0.0]), 1.0), score)


def test_a_regulators_own_arm_tells_a_cause_from_a_follower():
    """Two regulators vary with all genes alike; the arm of one moves them, that of the other no."""
    n = 40
    moments = regulatory_moments.Moments(
        regulators=np.array([0, 1]),
        observed=np.eye(2),
        reliability=np.ones(2),
        responses=np.eye(2) * 0.2,
        effects=np.full((2, n), 0.1),
        genes=np.zeros((n, n)),
        noise=np.ones(n),
        weight=1000.0,
        curves=np.zeros((2, len(regulatory_cells.FOLDS))),
        changes=-0.8 * np.eye(2),
        arm_weights=np.full(2, 100.0),
        arm_effects=np.array([np.full(n, -0.4), np.zeros(n)]),
        is_target=np.eye(2, n, dtype=bool),
    )
    shares = regulatory_edges.causal_shares(moments, np.arange(2, n))
    np.testing.assert_allclose(shares, [1, 0], atol=1e-12)


def test_cells_of_several_types_and_no_regulators_named(screen):
    network = dataset.grn.draw(40, 5, n_cell_types=2, seed=5, **STRONG)
    names = [str(gene) for gene in network.genes[:6]]
    cells = perturb.screen(network, names, n_cells={"A": 30, "B": 0}, n_control=300, seed=6)
    shown = dataset.shown(cells)
    del shown.var["regulator"]
    model = RegulatoryNetwork("none", candidates=10).fit(shown)
    assert len(model.regulators) == 10
    of_type = shown[((shown.obs["cell_type"] == "B") & (shown.obs["perturbation"] == CONTROL))]
    query = Query(of_type.copy(), model.genes, Perturbation(names[0], 0.8, "knockdown"))
    usual = of_type.X.toarray().mean(axis=0) + 0.5 / of_type.n_obs
    np.testing.assert_allclose(model.predict(query).values, usual * model.folds(query), rtol=1e-6)


def test_controls_alone_are_enough(train):
    model = RegulatoryNetwork("none", arms=False).fit(train)
    controls = train[(train.obs["perturbation"] == CONTROL).to_numpy()].copy()
    again = RegulatoryNetwork("none").fit(controls)
    np.testing.assert_array_equal(model.effects, again.effects)
    np.testing.assert_array_equal(model.shared, 1)


def test_the_same_seed_gives_the_same_network(train, learned):
    np.testing.assert_array_equal(RegulatoryNetwork("none").fit(train).effects, learned.effects)


def test_bad_input_is_told_in_one_line(train, learned):
    with pytest.raises(ValueError, match="graph = 'no'"):
        RegulatoryNetwork("no")
    with pytest.raises(ValueError, match="must name regulators"):
        RegulatoryNetwork("trusted").fit(train)
    perturbed = train[(train.obs["perturbation"] != CONTROL).to_numpy()].copy()
    with pytest.raises(ValueError, match="has no control cells"):
        RegulatoryNetwork("none").fit(perturbed)
    with pytest.raises(ValueError, match="'nobody'"):
        learned.folds(asked(train, "nobody"))
    with pytest.raises(NotImplementedError, match="answers for an arm"):
        learned.predict(Query(train, list(train.var_names)))


def test_a_covariance_of_hardly_any_rank_has_its_leading_directions():
    matrix = np.zeros((300, 300))
    matrix[:2, :2] = [[2.0, 1.0], [1.0, 2.0]]
    for rank, expected in ((0, [0, 0]), (2, [3, 1])):
        values, vectors = regulatory_edges._leading(matrix * (rank > 0), 8)
        np.testing.assert_allclose(values[:2], expected, atol=1e-9)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(8), atol=1e-9)


def planted(fitted, train, changes):
    """What `_scales` and `_own` are given, where arms show `changes` of what is carried.

    changes: function of the logs that are carried, (n_arms, n_genes), and of the arms

    Returns a model without either, the evidence, logs, and the arms.
    """
    _, arms = regulatory_cells.labelled(train)
    model = copy.copy(fitted)
    model.scales, model.own = np.ones(2), {}
    carried = np.log([model._unshared(arm) for arm in arms])
    places = [[model.genes.index(gene) for gene in arm[0].split("+")] for arm in arms]
    is_target = np.array([np.isin(np.arange(len(model.genes)), place) for place in places])
    noise, weights = np.full(len(model.genes), 1.0), np.full(len(arms), 1e6)
    found = SimpleNamespace(noise=noise, arm_weights=weights, is_target=is_target)
    return model, found, changes(carried, arms), arms


def test_factors_of_what_is_carried_are_those_that_arms_show(fitted, train):
    def changes(carried, arms):
        rng = np.random.default_rng(0)
        return np.where(carried < 0, 0.6, 1.3) * carried + rng.normal(0, 0.01, carried.shape)

    model, found, logs, arms = planted(fitted, train, changes)
    logs[found.is_target] = 100  # of no weight
    np.testing.assert_allclose(model._scales(found, logs, arms), [0.95 * 0.6, 0.95 * 1.3], rtol=0.1)
    assert (model._scales(found, 0 * logs, arms) < 0.4).all()
    np.testing.assert_array_equal(model._scales(found, logs[:0], []), 1)


def test_what_an_arm_shows_of_genes_that_it_changes_is_kept_and_nothing_else(fitted, train):
    name = next(g for g in list_of_regulators(train) if g in set(train.obs["perturbation"]))

    def changes(carried, arms):
        row = [arm[0] for arm in arms].index(name)
        changed = np.flatnonzero(np.abs(carried[row]) > 0.15)
        changed = changed[changed != fitted.genes.index(name)]
        where.extend([row, changed[0], int(np.argmin(np.abs(carried[row])))])
        logs = carried + np.random.default_rng(0).normal(0, 1e-3, carried.shape)
        logs[row, where[1:]] += 1.0
        return logs

    where = []
    model, found, logs, arms = planted(fitted, train, changes)
    row, changed, unchanged = where
    logs[found.is_target] += 3.0
    size, own = model._own(found, logs, arms)[name, "knockdown"]
    assert size == pytest.approx(-np.log(0.2))
    assert own[changed] == pytest.approx(1.0, abs=0.05) and own[unchanged] == 0
    assert np.abs(np.delete(own, changed)).max() < 0.01
    assert model._own(found, logs[:4], arms[:4]) == {}  # too few arms to tell


def test_too_many_cells_leave_some_of_every_arm(train, monkeypatch):
    arm = np.repeat([-1, 0, 1, 2], [700, 200, 95, 5])
    cells = np.arange(1000) * 3
    kept = regulatory_network._some(cells, arm, 100, 0)
    assert (np.diff(kept) > 0).all() and (kept % 3 == 0).all()
    np.testing.assert_array_equal(np.bincount(arm[kept // 3] + 1), [70, 20, 10, 1])
    monkeypatch.setattr(regulatory_network, "_MOST_CELLS", 400)
    model = RegulatoryNetwork("none").fit(train)
    for name in train.obs["perturbation"].unique():
        assert np.isfinite(model.folds(asked(train, name))).all()
