import numpy as np
import pytest

from lib import dataset
from lib.counts import dense
from lib.tasks import mechanistic
from tests.tasks.test_conditional import counts_of, entry_of, params

KINDS = ["linear", "hill"]


@pytest.fixture(scope="module")
def varied():
    return mechanistic.simulate(400, 6, 0.6, KINDS, dispersion=True, seed=3)


def test_the_dispersion_of_one_more_gene_is_mechanistic_and_no_other_gene_changes(varied):
    plain = mechanistic.simulate(400, 6, 0.6, KINDS, seed=3)
    assert list(varied.var_names) == [*plain.var_names, mechanistic.DISPERSION]
    np.testing.assert_array_equal(dense(varied.X)[:, :-1], dense(plain.X))
    assert (dataset.law(varied, "mech_linear").theta == 1000).all()
    assert len(np.unique(dataset.law(varied, mechanistic.DISPERSION).theta)) > 100


def test_its_law_is_that_of_a_linear_mean_and_a_hill_function(varied):
    entry = entry_of(varied, mechanistic.DISPERSION)
    x = np.column_stack([counts_of(varied, g) for g in mechanistic.base_genes(varied)])
    law = dataset.law(varied, mechanistic.DISPERSION)
    mu = np.maximum(0.1, x @ entry["mu"]["parameters"]["weights"])
    np.testing.assert_allclose(law.mu[:, 0], mu, rtol=1e-6)
    hill = entry["theta"]["parameters"]
    a = (x @ hill["weights"]) ** hill["power"]
    theta = 0.1 + hill["top"] * a / (hill["half"] ** hill["power"] + a)
    np.testing.assert_allclose(law.theta[:, 0], theta, rtol=1e-6)


def test_base_genes_are_those_without_a_mechanism(varied):
    assert mechanistic.base_genes(varied) == [f"gene_{i}" for i in range(6)]


def test_parents_are_as_many_as_asked_for_and_drawn_for_each_kind_and_seed():
    drawn = [
        dataset.parents(mechanistic.simulate(200, 12, 0.6, KINDS, 4, seed=seed)) for seed in (1, 2)
    ]
    sets = [tuple(parents) for of in drawn for parents in of.values()]
    assert [len({*parents}) for parents in sets] == [4] * 4
    assert len({*sets}) == 4 and all(list(s) == sorted(s) for s in sets)
    with pytest.raises(ValueError, match="n_parents = 13: must be"):
        mechanistic.simulate(200, 12, 0.6, KINDS, 13, seed=1)


def test_every_mechanistic_gene_is_asked_about_in_held_out_cells(varied):
    test = dataset.fresh_cells(varied, 30, seed=4)
    asked = mechanistic.held_out(test)
    assert [(q.gene, q.mechanism) for q in asked] == [
        ("mech_linear", "linear"),
        ("mech_hill", "hill"),
        (mechanistic.DISPERSION, "linear"),
    ]
    for question in asked:
        assert question.split == "held_out" and question.dose is None and question.cells is test
        np.testing.assert_array_equal(
            params(question.true), params(dataset.law(test, question.gene))
        )
