import hashlib

import numpy as np
import pandas as pd
import pytest

from lib import dataset, perturb
from lib.counts import dense
from lib.predict import guard
from lib.tasks import conditional

SPLITS = ["held_out", "do_inside", "do_beyond", "pairs"]


def counts_of(adata, gene):
    return dataset.dense(adata[:, [gene]].X)[:, 0].astype(float)


def entry_of(adata, gene):
    return next(e for e in adata.uns["mechanisms"].values() if e["gene"] == gene)


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
        np.testing.assert_array_equal(
            params(question.true), params(dataset.law(question.cells, question.gene))
        )


def test_the_truth_follows_from_the_parents_counts(asked, train, base):
    weights = entry_of(train, "mech_linear")["mu"]["parameters"]["weights"]
    step = entry_of(train, "mech_threshold")["mu"]["parameters"]
    for split in SPLITS:
        question = one(asked, split)
        x = np.column_stack([counts_of(question.cells, g) for g in base])
        np.testing.assert_allclose(question.true.mu[:, 0], np.maximum(0.1, x @ weights), rtol=1e-6)
        question = one(asked, split, "mech_threshold")
        x = np.column_stack([counts_of(question.cells, g) for g in base])
        np.testing.assert_array_equal(
            question.true.mu[:, 0],
            np.where(x @ step["weights"] > step["cut"], step["high"], step["low"]),
        )


@pytest.mark.parametrize("gene", ["mech_linear", "mech_threshold"])
def test_doses_inside_end_at_the_99th_percentile_and_those_beyond_at_twice_the_999th(
    asked, train, reference, base, gene
):
    weights = entry_of(train, gene)["mu"]["parameters"]["weights"]
    parent = base[int(np.argmax(weights))]
    end, reached = np.percentile(counts_of(train, parent), [99, 99.9])
    inside, beyond = one(asked, "do_inside", gene), one(asked, "do_beyond", gene)
    for question in (inside, beyond):
        assert set(question.cells.obs["perturbed"]) == {parent}
        np.testing.assert_array_equal(counts_of(question.cells, parent), question.dose)
        assert (
            question.cells.layers["do"][:, question.cells.var_names.get_loc(parent)].sum()
            == question.cells.n_obs
        )
        assert (
            question.cells.obs["reference"].value_counts() == len(np.unique(question.dose))
        ).all()
        assert question.cells.obs["reference"].nunique() == reference.n_obs
    assert inside.dose.min() == 0 and inside.dose.max() <= end < beyond.dose.min()
    assert beyond.dose.max() == max(11, np.ceil(2 * reached))
    assert len(np.unique(np.concatenate([inside.dose, beyond.dose]))) == 12


def test_pairs_are_of_two_parents_inside(asked, train):
    cells = one(asked, "pairs").cells
    genes = cells.obs["perturbed"].iloc[0].split("+")
    weights = pd.Series(
        entry_of(train, "mech_linear")["mu"]["parameters"]["weights"],
        index=list(train.var_names[:5]),
    )
    assert genes == [weights.idxmax(), weights.idxmin()] and set(cells.obs["perturbed"]) == {
        "+".join(genes)
    }
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
        np.testing.assert_array_equal(
            counts_of(question.cells, question.gene), counts_of(reference, question.gene)[rows]
        )
        np.testing.assert_array_equal(
            np.unique(question.true.mu), train.varm["mu"][train.var_names.get_loc(question.gene)]
        )


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
    assert [q.split for q in asked] == [*SPLITS, "off_target"] and {q.mechanism for q in asked} == {
        kind,
        "",
    }
    assert set(asked[1].cells.obs["perturbed"]) == {"gene_0"} and set(
        asked[3].cells.obs["perturbed"]
    ) == {"gene_0+gene_1"}
    total = sum(counts_of(asked[2].cells, g) for g in ("gene_0", "gene_1", "gene_2"))
    np.testing.assert_allclose(asked[2].true.mu[:, 0], 1 + 20 * total / (10 + total))


def test_pairs_are_inside_where_the_99th_percentile_is_no_whole_number():
    train = conditional.simulate(150, 2, 0.6, ["linear"], seed=0)
    for gene, top in (
        ("gene_0", [20, 21]),
        ("gene_1", [10, 11]),
    ):  # 99th percentiles of 20.51 and 10.51
        counts = np.minimum(counts_of(train, gene), 9)
        counts[:2], counts[2:3] = top[1], top[0]
        train = dataset.with_counts(train, {gene: counts})
    cells = dataset.fresh_cells(train, 4, seed=1)
    asked = conditional.questions(train, cells, cells, n_doses=6, n_off_target=0, seed=2)
    cells = next(q for q in asked if q.split == "pairs").cells
    assert [perturb.dose_of(cells, gene).max() for gene in ("gene_0", "gene_1")] == [20, 10]


def test_a_gene_with_one_parent_has_no_pairs():
    base = dataset.base_genes(200, 3, 0.7, seed=5)
    train = dataset.get_mech_dataset(
        base, parents=["gene_1"], parameters={"weights": np.array([2.0])}, target_zero_prob=None
    )
    asked = conditional.questions(
        train,
        base_cells := dataset.fresh_cells(train, 5, seed=1),
        base_cells,
        n_doses=6,
        n_off_target=0,
        seed=7,
    )
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
    assert (
        conditional.interventional_data(
            few, conditional.questions(few, few, few, n_doses=6, n_off_target=0, seed=2), seed=3
        )
        is None
    )


def test_perturbed_cells_hold_no_arm_of_a_gene_whose_doses_are_asked_about(
    screen, train, asked, base
):
    asked_about = {q.cells.obs["perturbed"].iloc[0] for q in asked if q.split.startswith("do_")}
    assert (
        asked_about and set(screen.obs["perturbed"].astype(str)) == {"control", *base} - asked_about
    )
    assert list(screen.var_names) == list(train.var_names)
    columns = screen.var_names.get_indexer(sorted(asked_about))
    assert screen.layers["do"][:, columns].nnz == 0 and screen.layers["do"].nnz > 0


# what questions are known by

PARAMETERS = {
    "seed": 2026, "n_cells": 10_000, "n_test": 1000, "n_reference": 50, "n_doses": 30, "n_genes": 20, "n_parents": 0,
    "zero_rate": 0.8, "mechanisms": ["linear", "gate"],
}  # fmt: skip


def test_questions_are_known_by_their_parameters_and_by_no_other():
    known = conditional.identity(**PARAMETERS)
    assert known == conditional.identity(
        **dict(reversed(PARAMETERS.items())), replicates=3, beta=0.5, mechanism=""
    )
    assert known == conditional.identity(**PARAMETERS | {"n_cells": 1e4, "n_parents": 0.0})
    assert conditional.identity(**PARAMETERS, mechanism="gate") == conditional.identity(
        **PARAMETERS | {"mechanisms": ["gate"]}
    )
    others = [conditional.identity(**PARAMETERS | {name: value}) for name, value in {
        "seed": 2027, "n_cells": 9999, "n_test": 1, "n_reference": 2, "n_doses": 3, "n_genes": 4, "n_parents": 2, "zero_rate": 0.79,
        "mechanisms": ["gate", "linear"], "mechanism": "my_module:mine",
    }.items()]  # fmt: skip
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
    """Where this fails, the same parameters give other cells or laws: then `VERSIONS` needs a new entry."""
    digest = hashlib.sha256()
    for question in asked:
        digest.update(dense(question.cells.X).astype("<f4").tobytes())
        digest.update(np.round(np.log(params(question.true) + 1), 6).astype("<f8").tobytes())
    assert (max(conditional.VERSIONS), digest.hexdigest()[:16]) == (1, "bad72ab4dd5d045d")
