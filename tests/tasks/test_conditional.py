import hashlib

import numpy as np
import pandas as pd
import pytest

from lib import dataset, perturb
from lib.counts import dense
from lib.predict import guard
from lib.tasks import conditional, mechanistic

SPLITS = ["held_out", "do_inside", "do_beyond", "pairs"]


def counts_of(adata, gene):
    return dataset.dense(adata[:, [gene]].X)[:, 0].astype(float)


def entry_of(adata, gene):
    return next(e for e in adata.uns["mechanisms"].values() if e["gene"] == gene)


def weights_of(adata, gene):
    weights = entry_of(adata, gene)["mu"]["parameters"]["weights"]
    base = [g for g in adata.var_names if g.startswith("gene_")]
    return pd.Series(weights, index=base)


def params(law):
    return np.stack([np.broadcast_to(p, law.shape) for p in (law.mu, law.theta, law.pi)])


def one(asked, split, gene="mech_linear"):
    return next(q for q in asked if (q.split, q.gene) == (split, gene))


def test_training_cells_have_independent_genes_and_one_child_of_all_of_them_a_kind(train, base):
    assert list(train.var_names) == [*base, "mech_linear", "mech_threshold"] and train.n_obs == 600
    assert dataset.parents(train) == {"mech_linear": base, "mech_threshold": base}
    zeros = (dataset.dense(train.X) == 0).mean(0)
    assert (np.abs(zeros - 0.7) < 5 * np.sqrt(0.21 / 600)).all()


def test_every_mechanistic_gene_is_asked_about_in_four_ways_and_two_genes_off_target(asked, base):
    assert [(q.mechanism, q.gene, q.split) for q in asked if q.split != "off_target"] == [
        (kind, f"mech_{kind}", split) for kind in ("linear", "threshold") for split in SPLITS
    ]
    off = [q for q in asked if q.split == "off_target"]
    assert len({q.gene for q in off}) == len(off) == 2 and {q.gene for q in off} <= set(base)
    assert {q.mechanism for q in off} == {""}


def test_the_truth_of_a_question_is_the_law_of_its_cells(asked):
    for question in asked:
        assert question.true.shape == question.query.shape == (question.cells.n_obs, 1)
        law = dataset.law(question.cells, question.gene)
        np.testing.assert_array_equal(params(question.true), params(law))


def test_the_truth_follows_from_the_parents_counts(asked, train, base):
    weights = entry_of(train, "mech_linear")["mu"]["parameters"]["weights"]
    step = entry_of(train, "mech_threshold")["mu"]["parameters"]
    for split in SPLITS:
        question = one(asked, split)
        x = np.column_stack([counts_of(question.cells, g) for g in base])
        np.testing.assert_allclose(question.true.mu[:, 0], np.maximum(0.1, x @ weights), rtol=1e-6)
        question = one(asked, split, "mech_threshold")
        x = np.column_stack([counts_of(question.cells, g) for g in base])
        mu = np.where(x @ step["weights"] > step["cut"], step["high"], step["low"])
        np.testing.assert_array_equal(question.true.mu[:, 0], mu)


@pytest.mark.parametrize("gene", ["mech_linear", "mech_threshold"])
def test_doses_inside_end_at_the_99th_percentile_and_those_beyond_at_twice_the_999th(
    asked, train, reference, base, gene
):
    weights = entry_of(train, gene)["mu"]["parameters"]["weights"]
    parent = base[int(np.argmax(weights))]
    end, reached = np.percentile(counts_of(train, parent), [99, 99.9])
    inside, beyond = (one(asked, split, gene) for split in ("do_inside", "do_beyond"))
    for question in (inside, beyond):
        cells = question.cells
        assert set(cells.obs["perturbed"]) == {parent}
        np.testing.assert_array_equal(counts_of(cells, parent), question.dose)
        assert cells.layers["do"][:, cells.var_names.get_loc(parent)].sum() == cells.n_obs
        times = cells.obs["reference"].value_counts()
        assert (times == len(np.unique(question.dose))).all()
        assert cells.obs["reference"].nunique() == reference.n_obs
    assert inside.dose.min() == 0 and inside.dose.max() <= end < beyond.dose.min()
    assert beyond.dose.max() == max(11, np.ceil(2 * reached))
    assert len(np.unique(np.concatenate([inside.dose, beyond.dose]))) == 12


def test_pairs_are_of_two_parents_inside(asked, train):
    cells = one(asked, "pairs").cells
    genes = cells.obs["perturbed"].iloc[0].split("+")
    weights = weights_of(train, "mech_linear")
    assert genes == [weights.idxmax(), weights.idxmin()]
    assert set(cells.obs["perturbed"]) == {"+".join(genes)}
    assert cells.obs["reference"].nunique() == 2 and one(asked, "pairs").dose is None
    for gene in genes:
        doses = perturb.dose_of(cells, gene)
        np.testing.assert_array_equal(counts_of(cells, gene), doses)
        assert 3 <= len(np.unique(doses)) <= 5
        assert doses.max() <= np.percentile(counts_of(train, gene), 99)
    assert cells.n_obs == 2 * np.prod([len(np.unique(perturb.dose_of(cells, g))) for g in genes])


def test_genes_off_target_are_no_descendants_of_what_was_set_and_keep_law_and_counts(
    asked, train, reference
):
    for question in (q for q in asked if q.split == "off_target"):
        parent = question.cells.obs["perturbed"].iloc[0]
        assert question.gene != parent and question.gene not in dataset.descendants(train, [parent])
        assert len(np.unique(perturb.dose_of(question.cells, parent))) > 1
        rows = reference.obs_names.get_indexer(question.cells.obs["reference"].astype(str))
        counts = counts_of(reference, question.gene)[rows]
        np.testing.assert_array_equal(counts_of(question.cells, question.gene), counts)
        mu = train.varm["mu"][train.var_names.get_loc(question.gene)]
        np.testing.assert_array_equal(np.unique(question.true.mu), mu)


def test_questions_repeat_and_leave_the_cells_they_are_made_from_alone(
    asked, train, test, reference
):
    before = [dataset.dense(a.X) for a in (train, test, reference)]
    again = conditional.questions(train, test, reference, n_doses=12, seed=4)
    for first, second in zip(asked, again):
        np.testing.assert_array_equal(dataset.dense(first.cells.X), dataset.dense(second.cells.X))
        np.testing.assert_array_equal(params(first.true), params(second.true))
    for adata, counts in zip((train, test, reference), before):
        np.testing.assert_array_equal(dataset.dense(adata.X), counts)


def test_a_mechanism_of_ones_own_without_weights_is_asked_about_by_its_first_parent():
    kind = "tests.mechanisms_of_ones_own:saturating"
    train = conditional.simulate(200, 3, 0.7, [kind], seed=5)
    cells = dataset.fresh_cells(train, 10, seed=6)
    asked = conditional.questions(train, cells, cells, n_doses=6, n_off_target=1, seed=7)
    assert [q.split for q in asked] == [*SPLITS, "off_target"]
    assert {q.mechanism for q in asked} == {kind, ""}
    assert set(asked[1].cells.obs["perturbed"]) == {"gene_0"}
    assert set(asked[3].cells.obs["perturbed"]) == {"gene_0+gene_1"}
    total = sum(counts_of(asked[2].cells, g) for g in ("gene_0", "gene_1", "gene_2"))
    np.testing.assert_allclose(asked[2].true.mu[:, 0], 1 + 20 * total / (10 + total))


def test_pairs_are_inside_where_the_99th_percentile_is_no_whole_number():
    train = conditional.simulate(150, 2, 0.6, ["linear"], seed=0)
    for gene, top in (("gene_0", 20), ("gene_1", 10)):
        counts = np.minimum(counts_of(train, gene), 9)
        counts[:3] = [top + 1, top + 1, top]  # the 99th percentile is top + 0.51
        train = dataset.with_counts(train, {gene: counts})
    cells = dataset.fresh_cells(train, 4, seed=1)
    asked = conditional.questions(train, cells, cells, n_doses=6, n_off_target=0, seed=2)
    answered = conditional.responses(train, cells, n_doses=6, n_off_target=0, seed=2)
    for questions in (asked, answered[0][1]):
        pairs = next(q for q in questions if q.split == "pairs").cells
        assert [perturb.dose_of(pairs, gene).max() for gene in ("gene_0", "gene_1")] == [20, 10]


def test_a_gene_with_one_parent_has_no_pairs():
    base = dataset.base_genes(200, 3, 0.7, seed=5)
    known = {"parents": ["gene_1"], "parameters": {"weights": np.array([2.0])}}
    train = dataset.get_mech_dataset(base, **known, target_zero_prob=None)
    cells = dataset.fresh_cells(train, 5, seed=1)
    asked = conditional.questions(train, cells, cells, n_doses=6, n_off_target=0, seed=7)
    assert [q.split for q in asked] == ["held_out", "do_inside", "do_beyond"]


@pytest.fixture(scope="module")
def screen(train, asked):
    return conditional.interventional_data(train, asked, seed=8)


def test_without_a_mechanistic_gene_or_laws_there_is_nothing_to_ask(test):
    plain = dataset.base_genes(20, 3, seed=0)
    with pytest.raises(ValueError, match="no mechanistic gene"):
        conditional.questions(plain, plain, plain, seed=0)
    with pytest.raises(ValueError, match="has no laws"):
        dataset.fresh_cells(guard.shown(plain), 5, seed=0)


def test_a_screen_has_as_many_cells_as_the_training_set_and_needs_two_genes(train, screen, asked):
    assert train.n_obs - len(set(screen.obs["perturbed"])) < screen.n_obs <= train.n_obs
    few = conditional.simulate(200, 2, 0.5, ["linear"], seed=1)
    of_few = conditional.questions(few, few, few, n_doses=6, n_off_target=0, seed=2)
    assert conditional.interventional_data(few, of_few, seed=3) is None


def test_perturbed_cells_hold_no_arm_of_a_gene_whose_doses_are_asked_about(
    screen, train, asked, base
):
    asked_about = {q.cells.obs["perturbed"].iloc[0] for q in asked if q.split.startswith("do_")}
    arms = set(screen.obs["perturbed"].astype(str))
    assert asked_about and arms == {"control", *base} - asked_about
    assert list(screen.var_names) == list(train.var_names)
    columns = screen.var_names.get_indexer(sorted(asked_about))
    assert screen.layers["do"][:, columns].nnz == 0 and screen.layers["do"].nnz > 0


# what notebook 03 asks


@pytest.fixture(scope="module")
def varied():
    return mechanistic.simulate(600, 5, 0.7, ["linear", "hill"], dispersion=True, seed=1)


@pytest.fixture(scope="module")
def cells(varied):
    return dataset.fresh_cells(varied, 8, seed=3)


@pytest.fixture(scope="module")
def responses(varied, cells):
    return conditional.responses(varied, cells, n_doses=9, n_pair_doses=3, n_off_target=2, seed=4)


def test_every_gene_but_that_of_a_mechanistic_dispersion_has_a_series_and_pairs(responses):
    assert [series.question.gene for series, _ in responses] == ["mech_linear", "mech_hill"]
    assert [series.question.mechanism for series, _ in responses] == ["linear", "hill"]
    splits = [[question.split for question in others] for _, others in responses]
    assert splits == [["pairs", "off_target", "off_target"], ["pairs"]]


def test_a_series_sets_the_parent_of_largest_weight_in_every_reference_cell(
    responses, varied, cells
):
    for series, _ in responses:
        question = series.question
        assert series.parent == weights_of(varied, question.gene).idxmax()
        assert set(question.cells.obs["perturbed"]) == {series.parent}
        np.testing.assert_array_equal(counts_of(question.cells, series.parent), question.dose)
        top = np.percentile(counts_of(varied, series.parent), 99)
        assert series.end == top and question.dose.max() == max(8, np.ceil(2 * top))
        assert question.cells.n_obs == cells.n_obs * len(np.unique(question.dose))
        law = dataset.law(question.cells, question.gene)
        np.testing.assert_array_equal(params(question.true), params(law))


def test_the_splits_of_a_series_part_its_cells_at_the_99th_percentile(responses):
    for series, _ in responses:
        (inside, inside_rows), (beyond, beyond_rows) = series.splits()
        assert (inside, beyond) == ("do_inside", "do_beyond")
        np.testing.assert_array_equal(inside_rows, ~beyond_rows)
        dose = series.question.dose
        assert dose[inside_rows].max() <= series.end < dose[beyond_rows].min()


def test_pairs_of_a_response_are_its_parent_and_that_of_smallest_weight(responses, varied):
    for series, (pairs, *_) in responses:
        weights = weights_of(varied, series.question.gene).drop(series.parent)
        genes = [series.parent, weights.idxmin()]
        assert set(pairs.cells.obs["perturbed"]) == {"+".join(genes)}
        assert pairs.cells.obs["reference"].nunique() == 2  # every fourth of eight
        for gene in genes:
            tops = np.percentile(counts_of(varied, gene), 99)
            doses = np.unique(perturb.dose_of(pairs.cells, gene))
            assert doses.min() == 0 and abs(doses.max() - tops) <= 0.5 and len(doses) <= 3


def test_off_target_are_base_genes_at_every_fourth_dose_inside(responses, varied):
    series, (_, *off_target) = responses[0]
    base = mechanistic.base_genes(varied)
    assert [q.gene for q in off_target] == [g for g in base if g != series.parent][:2]
    inside = np.unique(series.question.dose[series.question.dose <= series.end])
    for question in off_target:
        doses = np.unique(perturb.dose_of(question.cells, series.parent))
        np.testing.assert_array_equal(doses, inside[::4])
        place = varied.var_names.get_loc(question.gene)
        assert set(question.true.mu.ravel()) == {varied.varm["mu"][place, 0]}


@pytest.mark.parametrize("perturbed", ["smallest", "gene_2"])
def test_another_gene_may_be_perturbed(varied, cells, perturbed):
    asked = conditional.responses(varied, cells, perturbed, n_doses=4, n_pair_doses=1, seed=4)
    for series, _ in asked:
        smallest = weights_of(varied, series.question.gene).idxmin()
        assert series.parent == (smallest if perturbed == "smallest" else perturbed)


def test_responses_repeat(responses, varied, cells):
    again = conditional.responses(varied, cells, n_doses=9, n_pair_doses=3, n_off_target=2, seed=4)
    for (series, others), (same, same_others) in zip(responses, again, strict=True):
        pairs = zip([series.question, *others], [same.question, *same_others], strict=True)
        for first, second in pairs:
            np.testing.assert_array_equal(dense(first.cells.X), dense(second.cells.X))
            np.testing.assert_array_equal(params(first.true), params(second.true))


# a replicate of notebook 05


def test_a_task_holds_what_its_parts_give(train, base):
    sizes = {"n_test": 20, "n_reference": 4, "n_doses": 6}
    task = conditional.task(600, 5, 0.7, ["linear", "threshold"], **sizes, seed=1)
    np.testing.assert_array_equal(dense(task.train.X), dense(train.X))
    assert task.inputs == base and task.reference.n_obs == 4
    test, reference = (dataset.fresh_cells(train, n, seed=(1, i)) for i, n in ((1, 20), (2, 4)))
    asked = conditional.questions(train, test, reference, n_doses=6, seed=1)
    screen = conditional.interventional_data(train, asked, seed=(1, 4))
    np.testing.assert_array_equal(dense(task.reference.X), dense(reference.X))
    np.testing.assert_array_equal(dense(task.screen.X), dense(screen.X))
    for first, second in zip(task.asked, asked, strict=True):
        np.testing.assert_array_equal(dense(first.cells.X), dense(second.cells.X))
    assert [(q.gene, q.split) for q in task.of_base] == [(g, "base_genes") for g in base]
    for question in task.of_base:
        np.testing.assert_array_equal(dense(question.cells.X), dense(test.X))
        place = train.var_names.get_loc(question.gene)
        assert set(question.true.mu.ravel()) == {train.varm["mu"][place, 0]}


# what questions are known by

PARAMETERS = {
    "seed": 2026, "n_cells": 10_000, "n_test": 1000, "n_reference": 50, "n_doses": 30,
    "n_genes": 20, "n_parents": 0, "zero_rate": 0.8, "mechanisms": ["linear", "gate"],
}  # fmt: skip


def test_questions_are_known_by_their_parameters_and_by_no_other():
    known = conditional.identity(**PARAMETERS)
    turned = dict(reversed(PARAMETERS.items()))
    assert known == conditional.identity(**turned, replicates=3, beta=0.5, mechanism="")
    assert known == conditional.identity(**PARAMETERS | {"n_cells": 1e4, "n_parents": 0.0})
    large = [conditional.identity(**PARAMETERS | {"seed": 10**17 + i}) for i in (0, 1)]
    assert large[0] != large[1]  # though they are the same float
    with pytest.raises(KeyError, match="n_genes"):
        conditional.identity(**{k: v for k, v in PARAMETERS.items() if k != "n_genes"})
    gate = conditional.identity(**PARAMETERS | {"mechanisms": ["gate"]})
    assert gate == conditional.identity(**PARAMETERS, mechanism="gate")
    changes = {
        "seed": 2027, "n_cells": 9999, "n_test": 1, "n_reference": 2, "n_doses": 3, "n_genes": 4,
        "n_parents": 2, "zero_rate": 0.79, "mechanisms": ["gate", "linear"],
        "mechanism": "my_module:mine",
    }  # fmt: skip
    others = [conditional.identity(**PARAMETERS | {name: value}) for name, value in changes.items()]
    assert len({known, *others}) == 1 + len(others)
    assert set(conditional.QUESTIONS) == set(PARAMETERS)


def test_another_mechanism_of_the_same_name_has_other_questions(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    known = set()
    for body in ("x", "2 * x"):
        (tmp_path / "mechanism_that_changes.py").write_text(f"def mine(x):\n    return {body}\n")
        known.add(conditional.identity(**PARAMETERS, mechanism="mechanism_that_changes:mine"))
    assert len(known) == 2


def test_another_version_has_other_questions(monkeypatch):
    known = conditional.identity(**PARAMETERS)
    monkeypatch.setitem(conditional.VERSIONS, max(conditional.VERSIONS) + 1, "a change")
    assert conditional.identity(**PARAMETERS) != known


def test_this_version_asks_what_it_asked(asked):
    """Where this fails, the same parameters give other cells or laws: `VERSIONS` needs an entry."""
    digest = hashlib.sha256()
    for question in asked:
        digest.update(dense(question.cells.X).astype("<f4").tobytes())
        digest.update(np.round(np.log(params(question.true) + 1), 6).astype("<f8").tobytes())
    assert (max(conditional.VERSIONS), digest.hexdigest()[:16]) == (1, "bad72ab4dd5d045d")
