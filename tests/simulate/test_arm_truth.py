"""The exact law of an arm, against enumeration, simulated cells and networks without the gene."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from lib import dataset, perturb
from lib.laws import Law
from lib.simulate import grn, measurement
from lib.simulate.arm_truth import Truth
from lib.simulate.measurement import Measurement
from lib.simulate.regulated import World, drawn
from tests.agreement import one_line
from tests.simulate.networks import GENES, TYPES, hill, of_edges, six
from tests.simulate.test_regulated import FILES, MEASURED, counts_of


def divergence(f, g):
    some = f > 1e-100
    return float(np.sum(f[some] * np.log(f[some] / g[some])))


def p_value(counts, pmf):
    """Of counts that should come in the shares of a pmf."""
    expected = len(counts) * pmf
    observed, large = np.bincount(counts, minlength=len(pmf))[: len(pmf)], expected >= 5
    groups = [np.append(a[large], len(counts) - a[large].sum()) for a in (observed, expected)]
    if groups[1][-1] < 5:  # too few in the tail
        groups = [np.append(a[:-2], a[-2:].sum()) for a in groups]
    return scipy.stats.chisquare(*groups).pvalue if len(groups[0]) > 1 else float(groups[0] == 0)


# ---- a chain of two genes, by enumeration over the regulator's molecules


CHAIN = {"r": 10.0, "t": 8.0, "free": 6.0}
EXACTLY = dataset.measurement.draw(list(CHAIN), median=0.3, spread=0.0)
NO_ERRORS = {"escapers": 0.0, "wrong_guides": 0.0}


def chain_screen(**options):
    network = of_edges([("r", "t", 3.0)], CHAIN)
    common = {"n_cells": 4, "n_control": 20, "measurement": EXACTLY}
    return perturb.screen(network, ["r", "t"], **common | NO_ERRORS | options, seed=1)


def nb(k, mu, theta=5.0):
    return scipy.stats.nbinom.pmf(k, theta, theta / (theta + mu))


def enumerated(folds, capture=0.3, n_counts=120):
    """Laws of r and t where each of `folds` multiplies the mean of r in as many cells."""
    x, k = np.arange(600), np.arange(n_counts)
    mu_t = np.array([8.0 * hill(n, 3.0, 10.0, 2.0) for n in x])
    of_r = np.mean([nb(k, capture * 10.0 * fold) for fold in folds], axis=0)
    molecules = np.mean([nb(x, 10.0 * fold) for fold in folds], axis=0)
    return of_r, molecules @ nb(k, capture * mu_t[:, None])


@pytest.fixture(scope="module")
def chain():
    screen = chain_screen(strengths=[0.7])
    return screen, Truth(screen, n_cells=100_000)


def test_the_arm_of_a_chain_is_that_of_enumeration(chain):
    screen, truth = chain
    folds = World.of(screen).screen.folds[:3, 0]
    assert len(set(folds)) == 3
    before, after = enumerated([1.0]), enumerated(folds)
    arm, k = truth.arm("r"), np.arange(120)
    for gene, (f, g) in enumerate(zip(after, before)):
        row = arm.genes.iloc[gene]
        assert divergence(f, arm.law.pmf_table(120)[gene]) < 1e-6
        assert divergence(g, truth.arm("control").law.pmf_table(120)[gene]) < 1e-6
        np.testing.assert_allclose(row["mean"], f @ k, rtol=1e-3)
        np.testing.assert_allclose(row["log_fold_change"], np.log(f @ k / (g @ k)), atol=1e-3)
        np.testing.assert_allclose(row["kl_nats"], divergence(f, g), rtol=5e-3)
        np.testing.assert_allclose(row["mean_log1p"], f @ np.log1p(k), rtol=1e-3)
        assert row["reached"] and row["affected"]


@pytest.mark.parametrize("capture", [0.1, 0.8])
def test_the_law_at_a_stated_capture(chain, capture):
    truth = Truth(chain[0], capture=capture, fixed_capture=0.5, n_cells=20_000)
    folds = World.of(chain[0]).screen.folds[:3, 0]
    arm, k = truth.arm("r"), np.arange(250)
    at_fixed = enumerated(folds, 0.5, 250)
    for gene, f in enumerate(enumerated(folds, capture, 250)):
        assert divergence(f, arm.law.pmf_table(250)[gene]) < 1e-5
        expected = at_fixed[gene] @ np.log1p(k)
        np.testing.assert_allclose(arm.genes["mean_log1p"].iloc[gene], expected, rtol=2e-3)
    assert arm.fixed_capture == 0.5


def test_affected_is_more_than_five_thousandths_of_a_nat():
    found = {}
    for strength in (0.05, 0.1, 0.13, 0.2):
        screen = chain_screen(strengths=[strength], guide_spread=0.0)
        exact = enumerated([1 - strength])[0], enumerated([1.0])[0]
        found[strength] = divergence(*exact)
        genes = dataset.arm(screen, "r", n_cells=5000).genes
        np.testing.assert_allclose(genes["kl_nats"].iloc[0], found[strength], rtol=0.02, atol=1e-5)
        assert genes["affected"].iloc[0] == (found[strength] > 0.005)
    assert min(found.values()) < 0.004 and max(found.values()) > 0.006


# ---- six genes in two cell types, with all that there is


pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2")
ARMS = ["HLA-A/B", "c d", "é", "d+é"]
ALL = {"escapers": 0.2, "wrong_guides": 0.1, "shift": 0.6, "control_bias": 0.2}


@pytest.fixture(scope="module")
def screen():
    options = {"n_cells": 30, "n_control": 400, "measurement": MEASURED, "strengths": [0.75]}
    return perturb.screen(six(), ARMS, **options, **ALL, seed=1)


@pytest.fixture(scope="module")
def truths(screen):
    return {name: Truth(screen, name, n_cells=40_000) for name in TYPES}


N = 150_000


def simulated(screen, cell_type, acting, seed):
    """Counts of cells in which these guides act, with captures of the controls."""
    world, rng = World.of(screen), np.random.default_rng(seed)
    like = rng.integers(0, len(world.screen.captures), len(acting))
    own = {"captures": world.screen.captures[like], "batch": world.screen.batches[like]}
    types = np.full(len(acting), TYPES.index(cell_type))
    return counts_of(drawn(world, types, acting, seed=(9, seed), **own))


def check(counts, law):
    table = law.pmf_table(counts.max() + 60)
    for gene in range(counts.shape[1]):
        assert p_value(counts[:, gene], table[gene]) > 1e-4, GENES[gene]
        values = counts[:, gene]
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - law.mean[gene]) < 5 * error + 1e-12


@pytest.mark.parametrize(("arm", "cell_type"), [(0, TYPES[0]), (3, TYPES[1]), (-1, TYPES[1])])
def test_intended_laws_are_those_of_simulated_cells(screen, truths, arm, cell_type):
    guides = World.of(screen).screen.guides(arm) if arm >= 0 else np.array([-1])
    acting = np.random.default_rng(arm + 5).choice(guides, N)
    name = ARMS[arm] if arm >= 0 else "control"
    check(simulated(screen, cell_type, acting, arm + 5), truths[cell_type].arm(name).law)


def test_labelled_laws_are_those_of_screens():
    exact = Measurement(**MEASURED.as_arrays() | {"spread": [0.0, 0.0]})
    options = {"n_cells": 60_000, "n_control": 60_000, "measurement": exact, "seed": 3}
    table = pd.DataFrame({
        "perturbation": ["HLA-A/B", "d+é", "é"],
        "perturbation_type": ["knockout", "knockdown", "activation"],
    })  # fmt: skip
    cells = perturb.screen(six(), table, **options, **ALL, n_guides=2)
    for cell_type in TYPES:
        truth = Truth(cells, cell_type, n_cells=40_000)
        of_type = (cells.obs["cell_type"] == cell_type).to_numpy()
        for name in ["control", "HLA-A/B", "d+é", "é"]:
            rows = of_type & (cells.obs["perturbation"] == name).to_numpy()
            check(counts_of(cells[rows]), truth.arm(name, sense="as_labelled").law)


def test_genes_that_are_not_reached_keep_the_controls_law_to_the_last_bit():
    screen = perturb.screen(six(), ["c d", "é"], measurement=MEASURED, n_cells=2, n_control=50)
    for cell_type, arm, expected in (
        (TYPES[0], "c d", ["c d", "d", "e"]),
        (TYPES[1], "c d", ["c d"]),
        (TYPES[0], "é", ["é"]),
        (TYPES[1], "é", ["e", "é"]),
    ):
        truth = Truth(screen, cell_type, n_cells=500)
        control, after = truth.arm("control"), truth.arm(arm)
        assert list(after.genes.index[after.genes["reached"]]) == expected
        others = ~after.genes["reached"].to_numpy()
        assert (after.genes["kl_nats"][~others] > 1e-6).all()
        same = ["mean", "mean_log1p", "error_nats"]
        pd.testing.assert_frame_equal(
            after.genes.loc[others, same], control.genes.loc[others, same], check_exact=True
        )
        assert (after.genes.loc[others, ["kl_nats", "log_fold_change"]] == 0).all(axis=None)
        tables = [arm.law.pmf_table(80)[others] for arm in (control, after)]
        np.testing.assert_array_equal(*tables)


def test_a_shift_changes_what_takes_part_in_its_program_and_what_follows(screen, truths):
    genes = truths[TYPES[0]].arm("é").genes
    assert (~genes.loc[["HLA-A/B", "b+", "c d", "d", "e"], "reached"]).all()
    assert (genes.loc[["HLA-A/B", "b+", "c d", "d", "e"], "kl_nats"] > 1e-5).all()
    world = World.of(screen)
    fold = np.exp(0.3 * world.screen.shift[2])  # of the only regulator that has none itself
    np.testing.assert_allclose(genes.loc["HLA-A/B", "log_fold_change"], np.log(fold), atol=2e-3)


def test_a_bias_of_controls_is_in_labelled_laws_alone(screen, truths):
    truth, bias = truths[TYPES[0]], World.of(screen).screen.control_bias
    control = truth.arm("control", sense="as_labelled").genes["mean"]
    plain = truth.arm("control").genes["mean"]
    for gene in ("HLA-A/B", "é"):  # which follow no other
        ratio = control[gene] / plain[gene]
        np.testing.assert_allclose(ratio, np.exp(bias[GENES.index(gene)]), rtol=1e-3)
    labelled = truth.arm("é", sense="as_labelled").genes
    expected = np.log(labelled["mean"] / control)
    np.testing.assert_allclose(labelled["log_fold_change"], expected)


def test_columns_are_those_of_the_law(screen, truths):
    truth = truths[TYPES[1]]
    for sense in Truth.senses:
        arm, control = (truth.arm(name, sense=sense) for name in ("d+é", "control"))
        assert list(arm.genes.columns) == ["mean", "log_fold_change", "kl_nats", "mean_log1p",
                                           "reached", "affected", "error_nats"]  # fmt: skip
        assert isinstance(arm.law, Law) and arm.law.shape == (6,)
        assert (arm.perturbation, arm.cell_type, arm.sense) == ("d+é", TYPES[1], sense)
        f, g = arm.law.pmf_table(400), control.law.pmf_table(400)
        for gene in range(6):
            expected = divergence(f[gene], g[gene])
            np.testing.assert_allclose(arm.genes["kl_nats"].iloc[gene], expected, atol=1e-8)
            np.testing.assert_allclose(arm.law[[gene]].pmf_table(400)[0], f[gene], atol=1e-12)
        np.testing.assert_allclose(arm.genes["mean"], arm.law.mean, rtol=1e-9)
        np.testing.assert_allclose(arm.law.mean, f @ np.arange(400), rtol=1e-7)
        np.testing.assert_allclose(arm.error_nats, arm.genes["error_nats"].mean())


# ---- a knockout


def without(network, gene):
    """The network in which a gene has no molecules, and its targets have their base at none."""
    place, base = network.places[gene], network.base.copy()
    base[place] = 0
    out = network.regulator == place
    for edge in np.flatnonzero(out):
        values = (getattr(network, name)[edge] for name in ("effect", "half", "power"))
        base[network.target[edge]] *= hill(0, *values)
    edges = {
        name: getattr(network, name)[~out]
        for name in ("regulator", "target", "effect", "half", "power", "acts")
    }
    return network.replace(base=base, **edges)


def test_a_knockout_is_the_network_without_the_gene():
    edges = [("a", "b", 2.0), ("b", "c", 2.0), ("a", "d", -2.0), ("d", "c", 1.5), ("e", "d", 2.0)]
    network = of_edges(edges, {"a": 9.0, "b": 6.0, "c": 5.0, "d": 7.0, "e": 4.0})
    options = {"kind": "knockout", "strengths": [1.0], "n_cells": 3, "n_control": 60}
    screen = perturb.screen(network, ["a", "d"], **options, **NO_ERRORS)
    for gene in ("a", "d"):
        arm = dataset.arm(screen, gene, n_cells=20_000)
        other = perturb.screen(without(network, gene), ["b"], n_cells=3, n_control=60,
                               **NO_ERRORS | {"escapers": 1.0})  # fmt: skip
        control = dataset.arm(other, "control", n_cells=20_000)
        tables = [a.law.pmf_table(100) for a in (control, arm)]
        for place in range(5):
            assert divergence(tables[0][place], tables[1][place]) < 3e-5
        own = network.places[gene]
        np.testing.assert_allclose(tables[1][own], np.eye(1, 100)[0], atol=1e-14)
        assert arm.genes["mean"].iloc[own] == 0
        assert arm.genes["log_fold_change"].iloc[own] == -np.inf
        zero = dataset.arm(screen, "control", n_cells=20_000).law.zero_prob[own]
        np.testing.assert_allclose(arm.genes["kl_nats"].iloc[own], -np.log(zero), rtol=1e-3)


def test_a_knockout_as_labelled_has_the_share_in_which_nothing_is_lost():
    network = of_edges([("a", "b", 2.0)], {"a": 9.0, "b": 6.0, "c": 3.0})
    common = {"kind": "knockout", "n_cells": 3, "n_control": 60, "wrong_guides": 0.0}
    screen = perturb.screen(network, ["a", "c"], strengths=[0.6], escapers=0.25, **common)
    plan = World.of(screen).screen
    acts = 0.75 * plan.works[:3].mean()
    truth = Truth(screen, n_cells=2000)
    means = {
        (name, sense): truth.arm(name, sense=sense).law.pmf_table(60)
        for name in ("a", "control")
        for sense in Truth.senses
    }
    expected = acts * means["a", "as_intended"] + (1 - acts) * means["control", "as_intended"]
    np.testing.assert_allclose(means["a", "as_labelled"], expected, atol=1e-9)


# ---- numerical errors


def test_the_error_that_is_told_is_about_the_true_one():
    network = dataset.grn.draw(60, 12, seed=2)
    screen = perturb.screen(network, 4, n_cells=2, n_control=300, seed=1)
    name = str(screen.obs["perturbation"].iloc[-1])
    best = dataset.arm(screen, name, n_cells=60_000, seed=7)
    ratios = []
    for seed in (0, 1, 2):
        arm = dataset.arm(screen, name, seed=seed)
        assert arm.error_nats <= 2e-5
        n_counts = int(best.law.reach(1e-12).max()) + 2
        f, g = best.law.pmf_table(n_counts), arm.law.pmf_table(n_counts)
        true = [divergence(f[gene], g[gene]) for gene in range(60)]
        ratios.append(np.mean(true) / arm.error_nats)
    assert 0.5 < np.mean(ratios) < 2


def test_twice_as_many_cells_have_half_of_the_error():
    screen = chain_screen()
    few, many = (
        np.mean([dataset.arm(screen, "r", n_cells=n, seed=s).genes["error_nats"].iloc[1]
                 for s in range(30)]) for n in (500, 4000)
    )  # fmt: skip
    assert 4 < few / many < 16


# ---- additivity


def pair_screen(logic, kind="knockdown", strengths=None):
    genes = {"a": 10.0, "b": 10.0, "t": 30.0, "of a": 8.0, "free": 6.0}
    edges = [("a", "t", 2.0), ("b", "t", 2.5), ("a", "of a", 2.0)]
    network = of_edges(edges, genes, logic=["product"] * 2 + [logic] + ["product"] * 2)
    options = {"n_cells": 2, "n_control": 30, "kind": kind, "strengths": strengths}
    return perturb.screen(network, ["a", "b", "a+b"], **options, shift=0.0)


def means_of(screen, folds):
    """Mean counts of t by enumeration, where these folds multiply a and b."""
    network = World.of(screen).network
    x = np.arange(300)
    values = []
    for fold in zip(*folds):
        pmf = [nb(x, 10.0 * f) if f else np.eye(1, 300)[0] for f in fold]
        each = [[hill(n, e, 10.0, 2.0) for n in x] for e in (2.0, 2.5)]
        if network.logic[2] == "product":
            values.append(30.0 * np.prod([p @ f for p, f in zip(pmf, each)]))
        else:
            values.append(30.0 * np.mean([p @ f for p, f in zip(pmf, each)]))
    return 0.15 * np.mean(values)


@pytest.mark.parametrize(("logic", "scale"), [("product", "log"), ("sum", "count")])
def test_a_pair_is_additive_on_the_scale_of_its_logic(logic, scale):
    screen = pair_screen(logic)
    screen.uns["screen"] = screen.uns["screen"] | {"folds": np.full((9, 2), 0.3)}
    captures = np.full(30, 0.15)
    screen.uns["screen"]["captures"] = captures
    table = Truth(screen, n_cells=20_000).additivity("a+b", scale=scale)
    one, three = [1.0], [0.3]
    exact = [means_of(screen, f) for f in ((three, one), (one, three), (three, three), (one, one))]
    if scale == "log":
        exact = np.log(exact)
    row = table.loc["t"]
    expected = np.array(exact[:3]) - exact[3]
    np.testing.assert_allclose(row[["first", "second", "both"]].astype(float), expected, atol=0.01)
    assert abs(expected[2] - expected[0] - expected[1]) < 1e-9
    assert abs(row["deviation"]) < 0.01 and row["class"] == "additive"
    assert list(table["class"]) == ["target", "target", "additive", "additive", "none"]
    assert table["deviation"].isna().tolist() == [True, True, False, False, False]
    assert (table.loc["free", ["first", "second", "both", "deviation"]] == 0).all()
    assert table.loc["of a", "second"] == 0


def test_on_another_scale_the_pair_is_not_additive():
    table = Truth(pair_screen("product"), n_cells=4000).additivity("a+b", scale="count")
    row = table.loc["t"]
    assert row["deviation"] > 0.1 and row["class"] == "buffering"  # two losses of one mean
    large = Truth(pair_screen("product"), n_cells=4000).additivity(
        "a+b", scale="count", threshold=row["deviation"] + 0.01
    )
    assert large.loc["t", "class"] == "additive"
    log1p = Truth(pair_screen("product"), n_cells=4000).additivity("a+b", scale="log1p")
    assert set(log1p["class"]) <= {"target", "additive", "buffering", "synergistic", "none"}


def test_two_knockouts_have_an_additivity_too():
    table = Truth(pair_screen("product", "knockout", [1.0]), n_cells=2000).additivity("a+b")
    assert table.loc["a", "first"] == -np.inf and table.loc["a", "class"] == "target"
    assert table.loc["t", "class"] == "additive"


def test_a_gene_without_a_molecule_has_no_effect_on_any_scale():
    genes = {"a": 10.0, "b": 10.0, "t": 30.0, "silent": 0.0}
    edges = [("a", "t", 2.0), ("b", "t", 2.5), ("a", "silent", 2.0)]
    network = of_edges(edges, genes)
    truth = Truth(perturb.screen(network, ["a", "a+b"], n_cells=2, n_control=30), n_cells=500)
    for scale in ("log", "count", "log1p"):
        row = truth.additivity("a+b", scale=scale).loc["silent"]
        assert (row[["first", "second", "both", "deviation"]] == 0).all() and row["class"] == "none"
    genes = truth.arm("a").genes.loc["silent"]
    assert genes["mean"] == genes["log_fold_change"] == genes["kl_nats"] == 0 and genes["reached"]


# ---- what needs whole cells


@pytest.mark.parametrize("sense", Truth.senses)
def test_log_normalised_means_are_those_of_a_screen(sense):
    hidden = ALL if sense == "as_labelled" else {"control_bias": 0.0, "shift": 0.5} | NO_ERRORS
    exact = Measurement(**MEASURED.as_arrays() | {"median": [0.8, 0.7], "spread": [0.1, 0.1]})
    options = {"n_cells": 20_000, "n_control": 20_000, "measurement": exact, "n_guides": 2}
    cells = perturb.screen(six(), ["HLA-A/B", "é"], **options, **hidden, seed=2)
    truth = Truth(cells, TYPES[1], n_cells=200)
    for name in ("control", "HLA-A/B"):
        found = truth.log_normalised(name, sense=sense, target_sum=1e3, n_cells=20_000)
        rows = (cells.obs["perturbation"] == name) & (cells.obs["cell_type"] == TYPES[1])
        counts = counts_of(cells[rows.to_numpy()])
        logs = np.log1p(1e3 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
        errors = logs.std(axis=0) / np.sqrt(len(logs))
        np.testing.assert_allclose(found["error"], errors, rtol=0.12)
        # its own error, that of this screen, and that its captures are those of 20,000 controls
        both = np.hypot(errors, found["error"])
        assert (np.abs(logs.mean(axis=0) - found["mean"]) < 4.5 * both).all()


# ---- parts of a screen, files, bad input


def test_some_cells_and_genes_have_the_same_truth(screen):
    options = {"cell_type": TYPES[0], "n_cells": 300}
    whole = dataset.arm(screen, "d+é", **options).genes
    part = screen[::7, [4, 0, 3]].copy()
    found = dataset.arm(part, "d+é", **options)
    pd.testing.assert_frame_equal(found.genes, whole.iloc[[4, 0, 3]], rtol=1e-12)
    assert found.law.shape == (3,)
    one_arm = screen[screen.obs["perturbation"] == "é"].copy()
    pd.testing.assert_frame_equal(dataset.arm(one_arm, "d+é", **options).genes, whole)


@pytest.mark.parametrize("through", FILES.values(), ids=FILES)
def test_the_truth_survives_files(tmp_path, screen, through):
    after = through(screen.copy(), tmp_path)
    for sense in Truth.senses:
        options = {"cell_type": TYPES[1], "n_cells": 200, "sense": sense}
        pd.testing.assert_frame_equal(
            dataset.arm(after, "HLA-A/B", **options).genes,
            dataset.arm(screen, "HLA-A/B", **options).genes,
            check_exact=True,
        )


def test_the_same_seed_gives_the_same_truth_and_others_another(screen):
    options = {"cell_type": TYPES[0], "n_cells": 300}
    one, again, other = (dataset.arm(screen, "é", seed=s, **options).genes for s in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again, check_exact=True)
    assert (one["mean"] != other["mean"]).any()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"cell_type": None}, ("cell_type = None", "CD4+/CD45RA+ T")),
        ({"cell_type": "B"}, ("cell_type = 'B'", "A, CD4+")),
        ({"perturbation": "d"}, ("perturbation = 'd'", "no such arm", "HLA-A/B ... d+é")),
        ({"perturbation_type": "knockout"}, ("perturbation_type = 'knockout'", "knockdown")),
        ({"strength": 0.5}, ("strength = 0.5", "0.75")),
        ({"sense": "truly"}, ("sense = 'truly'", "as_intended, as_labelled")),
        ({"capture": 0.0}, ("capture = 0", "from 1e-06 to 0.")),
        ({"capture": 1.5}, ("capture = 1.5", "from 1e-06 to 0.")),
        ({"fixed_capture": 2}, ("fixed_capture = 2", "from 1e-06 to 0.")),
        ({"n_cells": 10}, ("n_cells = 10", "at least 100")),
        ({"seed": -1}, ("seed = -1", "at least 0")),
    ],
)
def test_bad_options_are_refused_in_one_line(screen, options, parts):
    common = {"perturbation": "é", "cell_type": TYPES[0], "n_cells": 100}
    with pytest.raises(ValueError) as error:
        dataset.arm(screen, **common | options)
    one_line(error, *parts)


def test_other_bad_input_is_refused_in_one_line(screen):
    truth = Truth(screen, TYPES[0], n_cells=100)
    renamed = screen.copy()
    renamed.var_names = [*GENES[:5], "z"]
    for call, *parts in (
        (lambda: truth.additivity("é"), "pair = 'é'", "GENE1+GENE2"),
        (lambda: truth.additivity("d+é", scale="ln"), "scale = 'ln'", "log, count, log1p"),
        (lambda: truth.additivity("d+é", threshold=-1), "threshold = -1", "at least 0"),
        (lambda: truth.log_normalised("z"), "perturbation = 'z'", "no such arm"),
        (lambda: truth.log_normalised("é", n_cells=1), "n_cells = 1", "at least 2"),
        (lambda: truth.log_normalised("é", target_sum=0), "target_sum = 0"),
        (lambda: truth.log_normalised("é", sense="truly"), "sense = 'truly'"),
        (lambda: dataset.arm(renamed, "é", TYPES[0]), "genes of screen = 'z'"),
        (lambda: dataset.arm(dataset.grn_cells(six(), 3), "é"), "has no uns['screen']"),
        (lambda: dataset.arm(dataset.base_genes(5, 3), "é"), "has no uns['grn']"),
    ):
        with pytest.raises(ValueError) as error:
            call()
        one_line(error, *parts)


@pytest.mark.parametrize("fold", [1, 100, 1000])
def test_a_gene_that_nothing_varies_has_its_own_law_to_the_stated_error(fold):
    # nothing but the grid of rates is left to err
    edges = pd.DataFrame({"regulator": ["a"], "target": ["b"], "effect": [0.0]})
    genes = pd.DataFrame({"base": [4.0, 4.0], "theta": [1e4, 1e4]}, index=["a", "b"])
    network = grn.from_table(edges, genes)
    certain = {"guide_spread": 0.0, "n_cells": 1, "n_control": 20, "kind": "activation"}
    measured = measurement.draw(network.genes, spread=0.0)
    cells = perturb.screen(network, ["b"], strengths=[fold], measurement=measured, **certain)
    arm = dataset.arm(cells, "b", n_cells=100)
    k = np.arange(1200)
    mu = 0.15 * 4 * fold
    exact = scipy.stats.nbinom.pmf(k, 1e4, 1e4 / (1e4 + mu))
    told = arm.law[1].pmf_table(len(k))
    some = exact > 1e-300
    divergence = (exact[some] * np.log(exact[some] / told[some])).sum()
    assert divergence <= arm.genes["error_nats"]["b"] < 1e-6
