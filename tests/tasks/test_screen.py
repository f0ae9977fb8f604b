import numpy as np
import pytest

from lib.counts import CONTROL
from lib.tasks import screen, splits
from tests.screens import DESIGN, task


def arms_of(cells):
    obs = cells.obs[cells.obs["perturbation"] != CONTROL]
    return set(zip(obs["perturbation"].astype(str), obs["strength"], obs["cell_type"].astype(str)))


def test_what_is_asked_is_no_part_of_what_is_trained_on():
    trained = arms_of(task().train())
    for q in task().asked:
        what = q.query.perturbation
        assert (what.name, what.strength, q.cell_type) not in trained


def test_the_splits_are_what_they_say():
    seen = {name for name, _, _ in arms_of(task().train()) if "+" not in name}
    is_regulator = task().train().var["regulator"]
    assert len(seen) == DESIGN.n_arms
    found = {}
    for q in task().asked:
        genes = q.query.perturbation.name.split("+")
        n_seen = sum(gene in seen for gene in genes)
        if len(genes) == 2:
            assert q.split == splits.PAIRS[n_seen] and q.kind == "pair"
        elif q.split == splits.GENE:
            assert n_seen == 0 and (q.kind == "regulator") == is_regulator[genes[0]]
        else:
            assert q.split == splits.STRENGTH and n_seen == 1 and is_regulator[genes[0]]
            assert q.query.perturbation.perturbation_type == q.kind
        found[q.split, q.kind] = found.get((q.split, q.kind), 0) + 1
    assert found == {
        ("unseen gene", "regulator"): 3, ("unseen gene", "other gene"): 3,
        ("pair, seen 2", "pair"): 2, ("pair, seen 1", "pair"): 2, ("pair, seen 0", "pair"): 2,
        ("unseen strength", "knockdown"): 2, ("unseen strength", "activation"): 2,
    }  # fmt: skip
    assert len({q.name for q in task().asked}) == len(task().asked)


def test_cell_types_none_seen_and_a_few():
    typed = task(n_cell_types=3, n_few=3, n_asked_types=4)
    trained = arms_of(typed.train())
    assert {t for _, _, t in trained} == {"A", "C"}
    assert len({name for name, _, t in trained if t == "C"}) == 3
    for name, split in (("B", splits.TYPE), ("C", splits.TYPE_FEW)):
        asked = [q for q in typed.asked if q.cell_type == name]
        assert len(asked) == 4 and {q.split for q in asked} == {split}
        for q in asked:
            what = q.query.perturbation
            assert (what.name, what.strength, "A") in trained
            assert (what.name, what.strength, name) not in trained
            assert set(q.query.cells.obs["cell_type"]) == {name}
    one = next(q for q in typed.asked if q.split == splits.TYPE)
    other = next(q for q in typed.asked if q.split == splits.TYPE_FEW)
    assert typed.arm(one.query).cell_type == "B" and typed.arm(other.query).cell_type == "C"


def test_models_see_nothing_hidden_and_the_prior_that_they_are_told():
    for prior in screen.PRIORS:
        cells = task().train(prior)
        assert not {"grn", "screen", "measurement", "regulators"} & set(cells.uns)
        assert not {"molecules", "capture", "acting", "programs"} & set(cells.obsm)
        assert ("prior_graph" in cells.uns) == (prior not in ("none", "unnamed"))
        assert ("regulator" in cells.var) == (prior != "unnamed")
        assert ("prior" in cells.varm) == (prior == "graph")
    true = task().train("true").uns["prior_graph"]
    assert len(true) == len(task().network.regulator)


def test_the_truth_is_that_of_the_arm_as_labelled():
    query = task().asked[0].query
    name, strength, kind = query.perturbation
    arm = (
        task().truth("A").arm(name, perturbation_type=kind, strength=strength, sense="as_labelled")
    )
    assert arm.genes.equals(task().arm(query).genes)


def test_what_could_be_known_at_best_is_the_mean_over_guides_and_shifts():
    query = next(q.query for q in task().asked if q.kind == "regulator")
    target = query.perturbation.name
    plan = task()._any_guides.uns["screen"]
    guides = plan["folds"][plan["arm"] == list(plan["perturbation"]).index(target), 0]
    assert len(guides) == 20 and abs(np.median(guides) - 0.2) < 0.1
    expected, actual = task().expected(query).genes, task().arm(query).genes
    escapers = 0.1 + 0.9 * 0.02
    fold = escapers + (1 - escapers) * guides.mean()
    assert abs(np.exp(expected["log_fold_change"][target]) / fold - 1) < 0.1
    assert not np.allclose(expected["mean"], actual["mean"])
    assert np.ptp(plan["shift"]) == 0


def test_new_cells_of_arms_have_the_exact_means():
    some = [q.query for q in task().asked[:2]]
    for query, cells in zip(some, task().cells(some, 3000, seed=5)):
        assert set(cells.obs["perturbation"]) == {query.perturbation.name}
        counts = cells.X.toarray()
        error = counts.mean(axis=0) - task().arm(query).genes["mean"].to_numpy()
        z = error / (counts.std(axis=0) / np.sqrt(len(counts)) + 1e-3)
        assert abs(z).max() < 5 and abs(z.mean()) < 1


def test_the_same_seed_is_the_same_task_and_another_is_not():
    again = screen.Task(DESIGN, 7).train()
    assert (again.X != task().train().X).nnz == 0
    assert (screen.Task(DESIGN, 8).train().X != again.X).nnz > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_unseen", 1000), ("n_arms", 1), ("shift", -1.0), ("fidelity", 2.0), ("n_cell_types", 2),
     ("n_pairs", 10**6), ("n_regulators", 30), ("strength", 0.4), ("depth", 0.0)],
)  # fmt: skip
def test_a_design_that_cannot_be_is_refused_in_one_line(field, value):
    with pytest.raises(ValueError, match=rf"^({field}|pairs) = [^\n]*$"):
        fields = {name: getattr(DESIGN, name) for name in DESIGN.__dataclass_fields__}
        screen.Task(screen.Design(**fields | {field: value}), 7)


def test_a_design_asks_something_and_at_a_strength_of_its_own():
    fields = {name: getattr(DESIGN, name) for name in DESIGN.__dataclass_fields__}
    nothing = fields | {"n_unseen": 0, "n_asked_pairs": 0, "n_strengths": 0}
    with pytest.raises(ValueError, match="^n_unseen = 0: must be more"):
        screen.Design(**nothing)
    only_types = screen.Design(**nothing | {"n_cell_types": 3, "n_asked_types": 1, "n_few": 2})
    assert {q.split for q in screen.Task(only_types, 7).asked} == {
        "unseen type",
        "unseen type, few",
    }
    weaker = screen.Design(**fields | {"strength": 0.4, "n_strengths": 0})
    assert {q.query.perturbation.strength for q in screen.Task(weaker, 7).asked} == {0.4}


def test_regulators_act_as_the_design_says():
    usual, gates, switches = (task(regulation=name).network for name in screen.REGULATION)
    assert set(gates.logic[np.bincount(gates.target, minlength=40) > 1]) == {"and", "or"}
    assert usual.power.max() <= 3 and switches.power.min() >= 4
    for name, spread in (("usual", 0.3), ("switches", 1.0)):
        network = task(regulation=name).network
        molecules = task(regulation=name).controls["A"].obsm["molecules"].mean(axis=0)
        row = {gene: place for place, gene in enumerate(network.regulators.tolist())}
        usual_number = molecules[[row[gene] for gene in network.regulator.tolist()]]
        logs = np.log(network.half / usual_number)
        assert logs.std() == pytest.approx(spread, rel=0.35)
    np.testing.assert_array_equal(usual.target, switches.target)


def test_the_questions_are_known_by_their_design():
    fields = {name: getattr(DESIGN, name) for name in DESIGN.__dataclass_fields__}
    one = screen.identity(seed=1, n_truth=100, replicates=3, **fields)
    assert one == screen.identity(seed=1, n_truth=100, **fields)
    assert one != screen.identity(seed=1, n_truth=100, **fields | {"shift": 0.0})


def test_new_control_cells_have_the_exact_laws_of_controls():
    n = 20_000
    counts = task().control_counts("A", n).toarray()
    table = task().control_laws("A")
    # the law is that of N_TRUTH cells' states, the mean over two computations
    rare = np.array([row[0] for row in table.rows])
    zeros = (counts == 0).mean(axis=0)
    assert np.abs(zeros - rare).max() < 0.05
    assert np.abs(np.log(counts.mean(axis=0) / table.mean)).max() < 0.2
    more = screen.Task(DESIGN, 7, n_truth=4000).control_laws("A")
    assert np.abs(np.log(counts.mean(axis=0) / more.mean)).max() < 0.08
    assert np.abs(zeros - [row[0] for row in more.rows]).max() < 0.02
