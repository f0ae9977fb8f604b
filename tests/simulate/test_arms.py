"""Arms and guides, apart from any cells."""

import numpy as np
import pandas as pd
import pytest

from lib.simulate import arms
from lib.simulate.arms import IS_CONTROL, NOTHING, Acting, Screen
from tests.agreement import one_line
from tests.simulate.networks import six

PLAIN = {"n_guides": 3, "guide_spread": 0.3, "escapers": 0.0, "wrong_guides": 0.0}
PLAIN |= {"shift": 0.0, "bias": 0.0, "seed": 1}


def listed(some, pairs=0, kind="knockdown", strengths=None, seed=1):
    return arms.listed(six(), some, pairs, kind, strengths, seed)


def plan(some, kind="knockdown", strengths=None, **options):
    fields = arms.drawn(six(), listed(some, 0, kind, strengths), **PLAIN | options)
    return Screen(**fields, captures=[0.2], batches=[0])


def test_guides_of_a_knockdown_differ_about_the_efficiency():
    one = plan(["e", "d"], strengths=[0.8], n_guides=100, guide_spread=0.5)
    logit = np.log((1 - one.folds[:, 0]) / one.folds[:, 0])
    assert abs(logit.mean() - np.log(4)) < 5 * 0.5 / np.sqrt(200)
    assert abs(logit.std() - 0.5) < 5 * 0.5 / np.sqrt(400)
    assert (one.works == 1).all() and len(set(one.guide)) == 200
    assert [list(one.guides(arm)) for arm in (0, 1)] == [[*range(100)], [*range(100, 200)]]
    # each gene of a pair has a strength of its own
    pair = plan(["e+d"], n_guides=100)
    assert abs(np.corrcoef(pair.folds.T)[0, 1]) < 0.5
    exact = plan(["e+d"], strengths=[0.7], guide_spread=0.0)
    np.testing.assert_allclose(exact.folds, 0.3)


def test_activation_and_knockout():
    up = plan(["e", "d"], "activation", strengths=[4.0], n_guides=100)
    deviation = np.log(np.log(up.folds[:, 0]) / np.log(4))
    assert abs(deviation.mean()) < 5 * 0.3 / np.sqrt(200) and abs(deviation.std() - 0.3) < 0.08
    out = plan(["e", "d"], "knockout", strengths=[0.9], n_guides=100)
    assert (out.folds == 0).all() and (out.works < 1).all()
    assert abs(np.log(out.works / (1 - out.works)).mean() - np.log(9)) < 5 * 0.3 / np.sqrt(200)
    assert (plan(["e"], "knockout", strengths=[1.0]).works == 1).all()
    assert (plan(["e"], "knockout", strengths=[0.0]).works == 0).all()
    assert (plan(["e"], strengths=[1.0]).folds == 0).all()
    assert (plan(["e"], strengths=[0.0]).folds == 1).all()
    assert (plan(["e"], "activation", strengths=[1.0]).folds == 1).all()


def test_strongest_activation_by_the_most_varied_guides_is_a_number():
    wild = plan(["e"], "activation", strengths=[1e6], n_guides=100, guide_spread=5.0)
    assert np.isfinite(wild.folds).all() and (wild.folds >= 1).all()


def test_a_number_of_arms_is_of_regulators_and_others_by_halves():
    genes = np.array(six().genes)
    regulators = set(genes[six().regulators])
    for n, n_regulators in ((1, 1), (2, 1), (4, 3), (5, 4)):  # "b+" can't be told from a pair
        table = listed(n)
        assert len(set(table["perturbation"])) == n
        assert len(set(table["perturbation"]) & regulators) == n_regulators
        assert (table["strength"] == 0.8).all() and (
            table["perturbation_type"] == "knockdown"
        ).all()
    pairs = listed(4, pairs=6)["perturbation"]
    single = set(pairs[:4])
    ends = [set(pair.split("+")) for pair in pairs[4:]]
    assert len(ends) == 6 and all(len(e) == 2 and e <= single for e in ends)
    assert len({frozenset(e) for e in ends}) == 6
    assert list(listed(4, seed=2)["perturbation"]) != list(listed(4)["perturbation"])


def test_every_arm_is_there_at_each_strength_and_is_found_by_it():
    own = plan(["e", "d"], strengths=[0.5, 0.9])
    assert list(own.labels["strength"]) == [0.5, 0.9, 0.5, 0.9]
    assert own.find("d", strength=0.9) == 3 and own.find("e", "knockdown", 0.5) == 0
    assert len(set(own.guide)) == 12
    table = pd.DataFrame(
        {"perturbation": ["e", "e"], "perturbation_type": ["knockout", "activation"]}
    )
    both = plan(table)
    assert list(both.strength) == [0.9, 4.0] and both.find("e", "activation") == 1
    for call, *parts in (
        (lambda: own.find("e"), "perturbation = 'e'", "knockdown 0.5, knockdown 0.9"),
        (lambda: own.find("c d"), "perturbation = 'c d'", "no such arm", "e ... d", "control"),
        (lambda: own.find("e", strength=0.7), "strength = 0.7", "0.5, 0.9"),
        (lambda: own.find("e", "knockout"), "perturbation_type = 'knockout'", "knockdown"),
    ):
        with pytest.raises(ValueError) as error:
            call()
        one_line(error, *parts)


def test_shares_of_cells_that_escape_and_that_have_a_wrong_guide():
    own = plan(["e", "d", "c d"], escapers=0.2, wrong_guides=0.3)
    labelled = np.concatenate([np.full(500, IS_CONTROL), np.repeat(np.arange(9), 4000)])
    acting = arms.in_truth(own, labelled, seed=1)
    assert (acting[:500] == IS_CONTROL).all()
    acting, labelled = acting[500:], labelled[500:]
    escaped = acting == NOTHING
    wrong = ~escaped & (own.arm[acting] != own.arm[labelled])
    n = len(acting)
    assert abs(escaped.mean() - 0.2) < 4.5 * np.sqrt(0.16 / n)
    assert abs(wrong.mean() - 0.3 * 0.8) < 4.5 * np.sqrt(0.24 * 0.76 / n)
    assert (acting[~escaped & ~wrong] == labelled[~escaped & ~wrong]).all()
    for guide in range(9):  # a wrong guide is any of the six of other arms
        found = np.bincount(acting[wrong & (labelled == guide)], minlength=9)
        of_others = own.arm != own.arm[guide]
        assert (found[~of_others] == 0).all()
        assert np.abs(found[of_others] / found.sum() - 1 / 6).max() < 5 * np.sqrt(
            0.14 / found.sum()
        )


def test_a_guide_of_a_knockout_fails_in_the_share_that_it_should():
    own = plan(["e", "d"], "knockout", strengths=[0.7], guide_spread=0.0, escapers=0.1)
    acting = arms.in_truth(own, np.repeat(np.arange(6), 5000), seed=1)
    assert abs((acting == NOTHING).mean() - (1 - 0.9 * 0.7)) < 4.5 * np.sqrt(0.24 / 30_000)


def test_what_acts_multiplies_the_means_of_its_genes_alone():
    own = plan(["e", "d+é"], bias=0.5)
    codes = np.array([IS_CONTROL, NOTHING, 0, 2, 3, 5, 0, IS_CONTROL])
    mu = np.ones((6, 8))
    change = Acting(six(), own, codes)
    change(np.arange(6), mu)
    bias = np.exp(own.control_bias)
    expected = np.ones((6, 8))
    expected[:, [0, 7]] = bias[:, None]
    for cell, code in enumerate(codes):
        if code in (0, 2):
            expected[4, cell] = own.folds[code, 0]
        if code in (3, 5):
            expected[[3, 5], cell] = own.folds[code]
    np.testing.assert_array_equal(mu, expected)
    some = np.ones((2, 3))  # of other genes, of part of the cells
    change.part(slice(3, 6))(np.array([5, 3]), some)
    np.testing.assert_array_equal(some, expected[[5, 3], 3:6])


def test_arrays_give_the_screen_back_and_can_not_be_written_to():
    own = plan(["e", "d+é"], bias=0.5, shift=1.0, escapers=0.1)
    back = Screen(**own.as_arrays())
    for name, values in own.as_arrays().items():
        np.testing.assert_array_equal(getattr(back, name), values)
        if isinstance(values, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                values[...] = 0
    assert own.genes == [["e"], ["d", "é"]] and own.program == 2
    assert (own.shift > 0).all() and own.control_bias.std() > 0.1


BOTH = {"perturbation": ["e", "d"]}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"some": 0}, ("arms = 0", "from 1 to 5")),
        ({"some": 6}, ("arms = 6", "from 1 to 5")),
        ({"some": 2.5}, ("arms = 2.5", "list")),
        ({"some": True}, ("arms = True",)),
        ({"some": "e"}, ("arms = 'e'", "list")),
        ({"some": []}, ("arms = []", "at least one")),
        ({"some": ["e", "e"]}, ("arms", "'e' twice")),
        ({"some": ["z"]}, ("arms: 'z' in 'z' is no gene", "HLA-A/B ... é")),
        ({"some": ["e+z"]}, ("arms: 'z' in 'e+z' is no gene",)),
        ({"some": ["e+e"]}, ("'e+e'", "pair of a gene with itself")),
        ({"some": ["e+d+é"]}, ("'e+d+é' has 3 genes", "one or two")),
        ({"some": ["b+"]}, ("'b+'", "must not hold '+'")),
        ({"some": ["b++e"]}, ("'b++e' has 3 genes",)),
        ({"some": ["e+d", "d+e"]}, ("'d+e' is there twice",)),
        ({"some": ["control"]}, ("'control' is no perturbation",)),
        ({"some": [""]}, ("'' is no perturbation",)),
        ({"some": [3]}, ("'3' is no gene",)),
        ({"some": ["e", "d"], "pairs": 2}, ("pairs = 2", "from 0 to 1")),
        ({"some": ["e", "d"], "pairs": -1}, ("pairs = -1", "from 0 to 1")),
        ({"some": ["e"], "kind": "overexpression"}, ("kind = 'overexpression'", "knockdown")),
        ({"some": ["e"], "strengths": [1.2]}, ("strength (efficiency) of e = 1.2", "from 0 to 1")),
        ({"some": ["e"], "strengths": [-0.1]}, ("strength (efficiency) of e = -0.1",)),
        ({"some": ["e"], "strengths": []}, ("strengths = []", "at least one")),
        ({"some": ["e"], "strengths": 0.5}, ("strengths = 0.5", "list")),
        ({"some": ["e"], "strengths": [0.5, 0.5]}, ("'e' is there twice at the same strength",)),
        (
            {"some": ["e"], "kind": "activation", "strengths": [0.5]},
            ("strength (fold) of e = 0.5", "from 1"),
        ),
        ({"some": pd.DataFrame({"gene": ["e"]})}, ("arms: has no column 'perturbation'",)),
        ({"some": pd.DataFrame(BOTH).iloc[:0]}, ("arms: has none",)),
        ({"some": pd.DataFrame(BOTH | {"strength": [0.5, np.nan]})}, ("of d = nan", "finite")),
        ({"some": pd.DataFrame(BOTH | {"strength": [0.5, "a"]})}, ("of d = 'a'", "number")),
        ({"some": pd.DataFrame(BOTH | {"perturbation_type": "up"})}, ("of e = 'up'", "knockdown")),
        ({"some": pd.DataFrame({"perturbation": ["e", "e"]})}, ("'e' is there twice",)),
        ({"some": pd.DataFrame(BOTH), "pairs": 1}, ("pairs = 1", "table")),
        ({"some": pd.DataFrame(BOTH), "strengths": [0.5]}, ("strengths = [0.5]", "table")),
    ],
)
def test_arms_that_can_not_be_are_refused_in_one_line(options, parts):
    with pytest.raises(ValueError) as error:
        listed(**options)
    one_line(error, *parts)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"n_guides": 0}, ("n_guides = 0", "from 1")),
        ({"n_guides": 1.5}, ("n_guides = 1.5", "whole number")),
        ({"guide_spread": -1}, ("guide_spread = -1", "from 0")),
        ({"escapers": 1.2}, ("escapers = 1.2", "from 0 to 1")),
        ({"wrong_guides": -0.1}, ("wrong_guides = -0.1", "from 0 to 1")),
        ({"some": ["e"], "wrong_guides": 0.1}, ("wrong_guides = 0.1", "second arm")),
        ({"shift": -1}, ("shift = -1", "from 0")),
        ({"bias": np.nan}, ("control_bias = nan", "finite")),
    ],
)
def test_options_that_can_not_be_are_refused_in_one_line(options, parts):
    with pytest.raises(ValueError) as error:
        plan(**{"some": ["e", "d"]} | options)
    one_line(error, *parts)


@pytest.mark.parametrize("programs", [[], ["cell_cycle", "cell_cycle"]])
def test_a_shift_without_a_program_is_refused_in_one_line(programs):
    network = six(programs=programs, loadings=np.zeros((6, len(programs))))
    with pytest.raises(ValueError) as error:
        arms.drawn(network, listed(["e"]), **PLAIN | {"shift": 0.5})
    one_line(error, "shift = 0.5", "no program", "must be 0")
