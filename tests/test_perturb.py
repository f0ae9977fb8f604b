import hashlib
import itertools

import numpy as np
import pytest
import scipy.stats

from lib import dataset, perturb
from tests.agreement import one_line, pit_p_value
from tests.laws.test_zinb import scipy_pmf

WEIGHTS = np.array([2.0, 1.0, 0.5, 0.0, -0.5])


def counts_of(adata, genes=None):
    return dataset.dense((adata if genes is None else adata[:, genes]).X).astype(float)


def linear_mu(x):
    return np.maximum(0.1, x[:, :5] @ WEIGHTS)


@pytest.fixture(scope="module")
def cells():
    """3000 cells of 2 types: 5 base genes, a linear child of all and a Hill grandchild."""
    base = dataset.base_genes(1500, 5, 0.6, n_cell_types=2, seed=1)
    adata = dataset.get_mech_dataset(
        base, gene="child", parameters={"weights": WEIGHTS}, theta=40, target_zero_prob=0.4, seed=1
    )
    hill = {"weights": np.array([1.0, 1.0]), "top": 15.0, "half": 10.0, "power": 2.0}
    return dataset.get_mech_dataset(
        adata,
        "hill",
        gene="grandchild",
        parents=["child", "gene_0"],
        parameters=hill,
        theta=5,
        target_zero_prob=0.6,
        seed=1,
    )


@pytest.fixture(scope="module")
def noise(cells):
    return perturb.exogenous_noise(cells, seed=3)


def assert_descendants_follow_their_parents(adata, child_shift=0.0):
    x = counts_of(adata)
    mu_child = linear_mu(x) + child_shift
    activation = (x[:, 5] + x[:, 0]) ** 2
    mu_grandchild = 0.1 + 15 * activation / (100 + activation)
    law = dataset.law(adata, ["child", "grandchild"])
    np.testing.assert_allclose(law.mu, np.stack([mu_child, mu_grandchild], axis=1))
    assert pit_p_value(x[:, 5], mu_child, 40.0, law.pi[:, 0]) > 1e-3
    assert pit_p_value(x[:, 6], mu_grandchild, 5.0, law.pi[:, 1]) > 1e-3


def test_do_sets_the_gene_redraws_its_descendants_and_touches_nothing_else(cells):
    after = perturb.do(cells, {"gene_1": 25}, seed=4)
    assert (counts_of(after, ["gene_1"]) == 25).all()
    others = ["gene_0", "gene_2", "gene_3", "gene_4"]
    np.testing.assert_array_equal(counts_of(after, others), counts_of(cells, others))
    assert_descendants_follow_their_parents(after)


def test_interventions_of_earlier_versions_come_back():
    adata = dataset.get_mech_dataset(dataset.base_genes(150, 20, n_cell_types=2, seed=5), seed=5)
    parents = ["mech_linear", "gene_03"]
    adata = dataset.get_mech_dataset(
        adata, "hill", gene="late", parents=parents, target_zero_prob=None, seed=6
    )
    after = perturb.do(adata, {"gene_12": np.arange(300) % 4, "gene_03": 0}, seed=7)
    paired = perturb.do(after, {"mech_linear": 5}, exogenous=perturb.exogenous_noise(after, seed=2))
    drugged = perturb.additive(adata, 3.0, genes=["gene_03", "late"], dose=2, seed=8)
    series = perturb.dose_series(
        adata, {"gene_03": [0, 1, 5], "mech_linear": [2, 0]}, cells=[3, 250], seed=1
    )
    arms = {
        "55ec7e4883da9bec2bd46919155c88c540c53539c4ffe7ae3b81b11110cfddef": after,
        "331c442d3910672c0b22b3eea7f574a18f29f7e890c492ac909825a414ed2995": drugged,
        "5fe8eb23aab3ba248b838218b123ae6537fa542e2159a3944c132f4a3ce6d37c": perturb.fold_change(
            after, 3.0, seed=9
        ),
        "c899f3e1f5650e45241f601ebd52f7046e23fc917939fe11f7c85a986415d16c": paired,
        "774aeab6f2b3cb3b4e9237f9c2e0e25994a0cdab98140ea40de74b2f9e46430e": series,
    }
    for digest, arm in arms.items():
        parts = [
            getattr(m, part)
            for m in (arm.X, arm.layers["do"])
            for part in ("data", "indices", "indptr")
        ]
        assert hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest() == digest


def test_do_leaves_the_cells_it_is_given_alone(cells):
    before, law = counts_of(cells), dataset.law(cells)
    perturb.do(cells, {"gene_0": 7})
    perturb.additive(cells)
    np.testing.assert_array_equal(counts_of(cells), before)
    np.testing.assert_array_equal(dataset.law(cells).mu, law.mu)
    assert cells.layers["do"].nnz == 0


def test_do_takes_one_value_a_cell_and_several_genes(cells):
    values = np.arange(3000) % 50
    after = perturb.do(cells, {"gene_0": values, "gene_2": 3}, seed=5)
    np.testing.assert_array_equal(counts_of(after, ["gene_0"])[:, 0], values)
    assert_descendants_follow_their_parents(after)


def test_do_on_a_descendant_cuts_it_from_its_parents(cells):
    after = perturb.do(perturb.do(cells, {"child": 8}, seed=6), {"gene_0": 30}, seed=7)
    assert (counts_of(after, ["child"]) == 8).all()
    law = dataset.law(after, ["child", "grandchild"])
    assert np.isnan(law.mu[:, 0]).all()
    np.testing.assert_allclose(law.mu[:, 1], 0.1 + 15 * 38**2 / (100 + 38**2))


def test_law_of_a_gene_that_was_set_is_nan_and_of_no_other(cells):
    law = dataset.law(perturb.do(cells, {"gene_0": 1}))
    for parameter in (law.mu, law.theta, law.pi):
        assert np.isnan(parameter[:, 0]).all() and np.isfinite(parameter[:, 1:]).all()


def test_law_after_do_is_that_of_many_draws(cells):
    n = 20_000
    after = perturb.dose_series(cells, {"gene_0": [12] * n}, cells=[4], seed=8)
    inputs = counts_of(cells)[[4]].copy()
    inputs[0, 0] = 12
    pi = cells[:, "child"].varm["pi"][0, 0]
    pmf = scipy_pmf(np.arange(400), linear_mu(inputs), 40.0, pi)
    observed = np.bincount(counts_of(after, ["child"])[:, 0].astype(int), minlength=400)
    kept = n * pmf >= 5
    groups = [np.append(a[kept], n - a[kept].sum()) for a in (observed, n * pmf)]
    assert scipy.stats.chisquare(*groups).pvalue > 1e-3
    law = dataset.law(after, "child")
    drawn = counts_of(after, ["child"])
    assert abs(drawn.mean() - law.mean[0, 0]) < 4 * np.sqrt(law.variance[0, 0] / n)
    assert abs(drawn.var() / law.variance[0, 0] - 1) < 0.05


def test_descendants_are_drawn_anew_even_with_the_seed_of_the_cells(cells):
    # gene_3 has weight 0: the child's law stays as it was
    after = perturb.do(cells, {"gene_3": 5}, seed=1)
    dropped = [counts_of(a, ["child"])[:, 0] == 0 for a in (cells, after)]
    surprise = [d - dataset.law(cells, "child").zero_prob[:, 0] for d in dropped]
    assert abs(np.corrcoef(surprise)[0, 1]) < 5 / np.sqrt(3000)


def test_same_seed_same_draws_and_different_seed_different(cells):
    arms = [perturb.do(cells, {"gene_0": 9}, seed=seed) for seed in (5, 5, 6)]
    first, again, other = (counts_of(arm, ["child"]) for arm in arms)
    assert (first == again).all() and (first != other).mean() > 0.3


def test_factual_value_under_the_cells_own_noise_gives_back_the_cells(cells, noise):
    observed = counts_of(cells)
    for gene, column in zip(cells.var_names, observed.T):
        after = perturb.do(cells, {gene: column}, exogenous=noise)
        np.testing.assert_array_equal(counts_of(after), observed)


def test_counterfactual_leaves_unaffected_genes_as_they_were_and_follows_the_new_law(cells, noise):
    after = perturb.do(cells, {"gene_0": 20}, exogenous=noise)
    np.testing.assert_array_equal(counts_of(after)[:, 1:5], counts_of(cells)[:, 1:5])
    assert_descendants_follow_their_parents(after)
    assert (counts_of(after, ["child"]) != counts_of(cells, ["child"])).mean() > 0.3


def test_exogenous_noise_is_uniform_and_independent(cells, noise):
    assert noise.shape == cells.shape and noise.min() >= 0 and noise.max() < 1
    for column in noise.T:
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T)[np.triu_indices(7, 1)]).max() < 5 / np.sqrt(3000)


def test_counterfactuals_rise_with_the_dose_of_a_positive_cause(cells, noise):
    doses = [0, 2, 5, 9, 20, 60]
    after = perturb.dose_series(cells, {"gene_0": doses}, cells=range(200), exogenous=noise)
    child = counts_of(after, ["child", "grandchild"]).reshape(200, len(doses), 2)
    assert (np.diff(child, axis=1) >= 0).all()
    assert (child[:, -1] > child[:, 0]).mean() > 0.3


def test_noise_of_a_count_that_was_set_is_nan(cells):
    noise = perturb.exogenous_noise(perturb.do(cells, {"child": 3}))
    assert np.isnan(noise).sum(axis=0).tolist() == [0, 0, 0, 0, 0, 3000, 0]


@pytest.mark.parametrize("broken", ["above", "below", "nan", "shape"])
def test_noise_that_is_none_is_refused_in_one_line(cells, noise, broken):
    wrong = noise[:, :6] if broken == "shape" else noise.copy()
    wrong[7, 5] = {"above": 1.5, "below": -0.1, "nan": np.nan, "shape": 0.5}[broken]
    with pytest.raises(ValueError) as error:
        perturb.do(cells, {"gene_0": 1}, exogenous=wrong)
    one_line(error, "exogenous")


def test_dose_series_is_every_combination_in_every_reference_cell(cells):
    doses = {"gene_4": [0, 3], "gene_0": [1, 5, 9]}
    after = perturb.dose_series(cells, doses, cells=[10, 2])
    expected = [(f"cell_{c}", *d) for c in (10, 2) for d in itertools.product(*doses.values())]
    doses_of = [perturb.dose_of(after, gene) for gene in ("gene_4", "gene_0")]
    assert all(dose.dtype == np.float64 for dose in doses_of)
    assert list(zip(after.obs["reference"], *doses_of)) == expected
    were_set = [list(map(float, doses)) for _, *doses in expected]
    assert counts_of(after, ["gene_4", "gene_0"]).tolist() == were_set
    before = counts_of(cells)[np.repeat([10, 2], 6)]
    np.testing.assert_array_equal(counts_of(after)[:, 1:4], before[:, 1:4])
    assert (after.obs["perturbed"] == "gene_4+gene_0").all() and after.obs_names.is_unique


def test_dose_series_keeps_the_cell_type_of_each_reference(cells):
    after = perturb.produce_perturbed_observations_1gene(
        cells, "gene_1", doses=[0, 1], cells=[0, 2999]
    )
    assert list(after.obs["cell_type"]) == ["A", "A", "B", "B"]
    mu = cells[:, "gene_2"].varm["mu"][0]
    np.testing.assert_array_equal(dataset.law(after, "gene_2").mu[:, 0], mu[[0, 0, 1, 1]])


def test_gene_at_index_0_can_be_perturbed():
    adata = dataset.get_mech_dataset(dataset.base_genes(50, 12, seed=1), seed=1)
    after = perturb.produce_perturbed_observations_1gene(adata, "gene_00", doses=[0, 4, 8])
    assert after.n_obs == 3 and (after.obs["perturbed"] == "gene_00").all()
    assert counts_of(after, ["gene_00"])[:, 0].tolist() == [0, 4, 8]
    assert perturb.dose_of(after, "gene_00").tolist() == [0, 4, 8]


@pytest.mark.parametrize(
    ("weights", "which", "gene"),
    [
        ([2, 1, -1], "largest", "gene_0"),
        ([-2, 1, 0], "smallest", "gene_0"),
        ([0, 1, 2], "largest", "gene_2"),
        ([0, -9, 2], "smallest", "gene_1"),
    ],
)
def test_parent_with_the_extreme_weight_is_picked_at_any_index(weights, which, gene):
    base, parameters = dataset.base_genes(20, 3), {"weights": np.array(weights)}
    adata = dataset.get_mech_dataset(base, parameters=parameters, target_zero_prob=None)
    after = perturb.produce_perturbed_observations_1gene(adata, which, doses=[1])
    assert set(after.obs["perturbed"]) == {gene}


def hand_treated(cells, kind, effect, genes, strength):
    """mu, theta and pi of the base genes under the drug, from the parameters in varm alone."""
    types = cells.obs["cell_type"].astype(str).to_numpy()
    columns = ["AB".index(t) for t in types]
    mu, theta, pi = (cells.varm[p][:5, columns].T.copy() for p in ("mu", "theta", "pi"))
    s = np.array([strength[t] for t in types])
    for gene in genes:
        before = mu[:, gene]
        mu[:, gene] = before + effect * s if kind == "additive" else before * effect**s
    return mu, theta, pi


@pytest.mark.parametrize(
    ("kind", "effect"), [("additive", 6.0), ("fold_change", 3.0), ("fold_change", 0.2)]
)
def test_drug_shifts_the_law_of_its_targets_exactly_and_counts_follow(cells, kind, effect):
    options = {"genes": ["gene_0", "gene_2"], "dose": 1.5, "cell_type_factors": {"B": 0.5}}
    after = perturb.treat(cells, kind, effect, **options, seed=11)
    mu, theta, pi = hand_treated(cells, kind, effect, [0, 2], {"A": 1.5, "B": 0.75})
    base, x = dataset.law(after, list(cells.var_names[:5])), counts_of(after)
    np.testing.assert_allclose(base.mu, mu, rtol=1e-12)
    np.testing.assert_array_equal(base.mu[:, [1, 3, 4]], dataset.law(cells).mu[:, [1, 3, 4]])
    for i in range(5):
        assert pit_p_value(x[:, i], mu[:, i], theta[:, i], pi[:, i]) > 1e-3
    assert_descendants_follow_their_parents(after)


def test_drug_acts_on_a_targeted_mechanistic_gene_on_top_of_its_parents(cells):
    after = perturb.additive(cells, 4.0, genes=["child"], dose=2, seed=12)
    np.testing.assert_array_equal(dataset.law(after).mu[:, :5], dataset.law(cells).mu[:, :5])
    assert_descendants_follow_their_parents(after, child_shift=8.0)


def test_truth_of_treated_cells_is_not_the_stale_one(cells):
    after = perturb.fold_change(cells, 4.0, genes=["gene_1"], seed=13)
    stale = dataset.law(cells, "gene_1")
    fresh = dataset.law(after, "gene_1")
    drawn = counts_of(after, ["gene_1"])
    assert pit_p_value(drawn, stale.mu, stale.theta, stale.pi) < 1e-9
    assert pit_p_value(drawn, fresh.mu, fresh.theta, fresh.pi) > 1e-3


def test_truth_of_perturbed_cells_is_not_the_stale_one(cells):
    after = perturb.do(cells, {"gene_0": 30}, seed=14)
    stale = dataset.law(cells, "child")
    fresh = dataset.law(after, "child")
    drawn = counts_of(after, ["child"])
    assert pit_p_value(drawn, stale.mu, stale.theta, stale.pi) < 1e-9
    assert pit_p_value(drawn, fresh.mu, fresh.theta, fresh.pi) > 1e-3


def test_treated_cells_are_new_cells(cells):
    after = perturb.additive(cells, 0.0, seed=15)
    correlations = np.corrcoef(counts_of(cells).T, counts_of(after).T)[:5, 7:12]
    assert np.abs(correlations).max() < 5 / np.sqrt(3000)


def test_drug_at_dose_0_leaves_the_law_of_base_genes(cells):
    after = perturb.fold_change(cells, 5.0, dose=0)
    np.testing.assert_array_equal(dataset.law(after).mu[:, :5], dataset.law(cells).mu[:, :5])


def test_drug_leaves_counts_that_were_set_and_do_keeps_the_drug(cells):
    targets = ["gene_0", "gene_1"]
    treated_after_do = perturb.additive(perturb.do(cells, {"gene_0": 6}), 5.0, genes=targets)
    do_after_treated = perturb.do(perturb.additive(cells, 5.0, genes=targets), {"gene_0": 6})
    untreated = dataset.law(cells, "gene_1")
    for adata in (treated_after_do, do_after_treated):
        assert (counts_of(adata, ["gene_0"]) == 6).all()
        np.testing.assert_allclose(dataset.law(adata, "gene_1").mu, untreated.mu + 5)
        assert_descendants_follow_their_parents(adata)


@pytest.mark.parametrize(
    ("interventions", "parts"),
    [
        ({}, ("interventions = []", "at least one gene")),
        ({"nope": 1}, ("interventions = 'nope'", "gene_0 ... grandchild")),
        ({"gene_0": -1}, ("'gene_0'] = -1", "whole number of at least 0")),
        ({"gene_0": 1.5}, ("'gene_0'] = 1.5", "whole number of at least 0")),
        ({"gene_0": np.nan}, ("'gene_0'] = nan", "whole number of at least 0")),
        ({"gene_0": np.inf}, ("'gene_0'] = inf", "whole number of at least 0")),
        ({"gene_0": [1, 2]}, ("'gene_0']", "shape (2,)", "(3000,)")),
    ],
)
def test_bad_intervention_is_refused_in_one_line(cells, interventions, parts):
    with pytest.raises(ValueError) as error:
        perturb.do(cells, interventions)
    one_line(error, *parts)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"gene": "nope"}, ("gene = 'nope'", "gene_0 ... grandchild")),
        ({"gene": "gene_0", "doses": [1, -1]}, ("gene_0 = -1", "at least 0")),
        ({"gene": "gene_0", "doses": [1, 1.5]}, ("gene_0", "1.5", "whole number")),
        ({"gene": "gene_0", "doses": []}, ("gene_0", "at least one")),
        ({"gene": "gene_0", "doses": 5}, ("gene_0", "at least one")),
        ({"gene": "gene_0", "cells": [3000]}, ("cells = [3000]", "0 to 2999")),
        ({"gene": "gene_0", "cells": [-1]}, ("cells = [-1]", "0 to 2999")),
        ({"gene": "gene_0", "cells": []}, ("cells = []", "at least one")),
        ({"mech_gene": "gene_0"}, ("gene = 'gene_0'", "mechanistic gene: child, grandchild")),
    ],
)
def test_bad_dose_series_is_refused_in_one_line(cells, options, parts):
    with pytest.raises(ValueError) as error:
        perturb.produce_perturbed_observations_1gene(cells, **options)
    one_line(error, *parts)


def test_dose_series_of_no_gene_is_refused_in_one_line(cells):
    with pytest.raises(ValueError) as error:
        perturb.dose_series(cells, {})
    one_line(error, "gene = []", "at least one gene")


def test_extreme_weight_without_weights_is_refused_in_one_line():
    base, saturating = dataset.base_genes(20, 3), "tests.mechanisms_of_ones_own:saturating"
    own = dataset.get_mech_dataset(base, saturating, gene="own", target_zero_prob=None)
    for adata, part in ((base, "no mechanistic gene"), (own, "no weights")):
        with pytest.raises(ValueError) as error:
            perturb.produce_perturbed_observations_1gene(adata)
        one_line(error, "gene = ", part)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"dose": -1}, ("dose = -1", "at least 0")),
        ({"dose": np.nan}, ("dose = nan", "finite")),
        ({"genes": ["nope"]}, ("genes = 'nope'", "gene_0 ... grandchild")),
        ({"genes": []}, ("genes = []", "at least one")),
        ({"cell_type_factors": {"Z": 1.0}}, ("cell_type_factors = 'Z'", "A, B")),
        ({"cell_type_factors": {"A": "x"}}, ("cell_type_factors['A'] = 'x'", "a number")),
        ({"kind": "multiply"}, ("kind = 'multiply'", "additive, fold_change")),
        ({"effect": np.inf}, ("effect = inf", "finite")),
        ({"effect": -50.0}, ("effect = -50", "below 0")),
        ({"kind": "fold_change", "effect": -2.0, "dose": 0.5}, ("effect = -2",)),
        ({"name": "control"}, ("name = 'control'", "other than")),
    ],
)
def test_bad_drug_is_refused_in_one_line(cells, options, parts):
    with pytest.raises(ValueError) as error:
        perturb.treat(cells, **({"kind": "additive", "effect": 1.0} | options))
    one_line(error, *parts)


@pytest.mark.parametrize("fold", [0, -1.0, np.nan])
def test_fold_that_is_not_positive_is_refused_in_one_line(cells, fold):
    with pytest.raises(ValueError) as error:
        perturb.fold_change(cells, fold)
    one_line(error, f"fold = {fold}")


def test_second_drug_is_refused_in_one_line(cells):
    with pytest.raises(ValueError) as error:
        perturb.fold_change(perturb.additive(cells))
    one_line(error, "adata", "control cells")


@pytest.mark.parametrize("mean", [2.0, 60.0])
def test_doses_beyond_lie_outside_the_training_range(mean):
    train = dataset.base_genes(2000, 3, None, (mean, mean), (0.1, 0.1), seed=5)
    values, end = perturb.doses_to_beyond(train, "gene_0", 30)
    counts = np.sort(counts_of(train, ["gene_0"]).ravel())
    assert counts[int(0.985 * 2000)] <= end <= counts[int(0.995 * 2000)]
    assert values[0] == 0 and values.max() >= 2 * end
    assert (values > end).sum() >= 3 and (values <= end).sum() >= 3
    assert (values == np.round(values)).all() and len(np.unique(values)) == len(values) == 30


@pytest.mark.parametrize("mean", [2.0, 60.0])
def test_doses_beyond_can_reach_further_while_inside_stays(mean):
    train = dataset.base_genes(2000, 3, None, (mean, mean), (0.1, 0.1), seed=5)
    counts = counts_of(train, ["gene_0"]).ravel()
    values, end = perturb.doses_to_beyond(train, "gene_0", 20, percentile=99.9)
    nearer, same = perturb.doses_to_beyond(train, "gene_0", 20)
    assert end == same == np.percentile(counts, 99)
    assert values.max() == max(19, np.ceil(2 * np.percentile(counts, 99.9)))
    assert nearer.max() == max(19, np.ceil(2 * end)) <= values.max()
    assert values[0] == 0 and (values == np.round(values)).all()
    assert len(values) == 20 and (np.diff(values) > 0).all()


@pytest.mark.parametrize("percentile", [-1, 101, np.nan, "99"])
def test_percentile_that_is_none_is_refused_in_one_line(percentile):
    with pytest.raises(ValueError) as error:
        perturb.doses_to_beyond(dataset.base_genes(20, 2), "gene_0", percentile=percentile)
    one_line(error, "percentile = ")


def test_the_second_parent_is_another_one():
    base = dataset.base_genes(200, 4, seed=3)
    parameters = {"weights": np.array([3.0, -1.0, 2.0, -2.0])}
    adata = dataset.get_mech_dataset(base, parameters=parameters, target_zero_prob=None)
    assert perturb.second_parent(adata, "gene_0", "mech_linear") == "gene_3"
    assert perturb.second_parent(adata, "gene_3", "mech_linear") == "gene_1"


def test_a_drug_given_to_no_cells_has_no_cells():
    cells = dataset.base_genes(5, 4, seed=1)
    assert perturb.additive(cells[:0].copy(), 3.0).shape == (0, 4)


def test_dose_is_read_where_it_was_set_and_nowhere_else(cells):
    after = perturb.do(cells[:5].copy(), {"gene_1": [4, 0, 2, 7, 1]})
    dose = perturb.dose_of(after, np.str_("gene_1"))
    assert dose.dtype == np.float64 and dose.tolist() == [4, 0, 2, 7, 1]
    assert not [column for column in after.obs if column.startswith("dose_")]
    both = dataset.concat([after, cells[:3].copy()])
    wrong = {"gene_1": "3 of 8 cells", "gene_0": "8 of 8 cells", "nope": "no such gene"}
    for gene, part in wrong.items():
        with pytest.raises(ValueError) as error:
            perturb.dose_of(both, gene)
        one_line(error, f"gene = {gene!r}", part)


def test_cells_of_one_name_are_refused_where_they_are_references_and_nowhere_else():
    cells = dataset.get_mech_dataset(dataset.base_genes(20, 3, seed=1), seed=1)
    same = cells.copy()
    same.obs_names = ["cell"] * 20
    with pytest.raises(ValueError) as error:
        perturb.dose_series(same, {"gene_0": [1, 2]})
    one_line(error, "'cell' is there twice", "obs_names_make_unique()")
    for use in (
        lambda a: perturb.do(a, {"gene_0": 3}, seed=2),
        lambda a: perturb.additive(a, seed=2),
        lambda a: dataset.concat([a, a]),
        lambda a: dataset.get_mech_dataset(a, gene="more", seed=2),
    ):
        np.testing.assert_array_equal(counts_of(use(same)), counts_of(use(cells)))


def test_a_drug_may_have_any_name_and_takes_the_place_of_one_of_its_name(cells):
    treated = perturb.additive(cells, 2.0, name="TGF-b/IL-2")
    assert set(treated.obs["drug"]) == {"TGF-b/IL-2"}
    assert treated.uns["drugs"]["000"]["name"] == "TGF-b/IL-2"
    control = cells.copy()
    control.uns["drugs"] = treated.uns["drugs"]
    again = perturb.additive(perturb.do(control, {"gene_4": 1}), 5.0, name="TGF-b/IL-2")
    assert list(again.uns["drugs"]) == ["000"]
    untreated = dataset.law(cells, "gene_0")
    np.testing.assert_array_equal(dataset.law(again, "gene_0").mu, untreated.mu + 5)
