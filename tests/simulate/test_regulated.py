"""Cells of a gene regulatory network follow their law, and what is hidden of them stays so."""

import warnings

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.stats

from lib import dataset, perturb
from lib.seeds import stream
from lib.simulate import ondisk, regulated
from lib.simulate.arms import NOTHING
from lib.simulate.measurement import Measurement
from lib.simulate.regulated import World, drawn
from lib.tasks import conditional
from tests.agreement import one_line, pit_p_value
from tests.simulate.networks import GENES, TYPES, of_edges, six
from tests.test_dataset import bytes_of

pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2")
REGULATORS = ["HLA-A/B", "b+", "c d", "d", "é"]
MEASURED = Measurement(
    genes=GENES,
    batches=["1", "b/2 é"],
    median=[0.4, 0.25],
    spread=[0.3, 0.2],
    factors=[[1.0, 1.3], [1.2, 0.8], [0.9, 1.0], [1.0, 0.7], [1.1, 1.0], [1.0, 1.0]],
    pi=[0.0, 0.0, 0.2, 0.0, 0.1, 0.0],
)


@pytest.fixture(scope="module")
def cells():
    return dataset.grn_cells(six(), 3000, measurement=MEASURED, seed=1)


def assert_same_law(law, other):
    one, two = law.parameters(), other.parameters()
    for name in ("mu", "theta", "pi"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def counts_of(adata):
    return dataset.dense(adata.X).astype(int)


def assert_follow(cells):
    """Each gene's counts in cells of each type follow their law."""
    law, counts = dataset.law(cells), counts_of(cells)
    assert law.shape == cells.shape
    for name in np.unique(cells.obs["cell_type"]):
        rows = (cells.obs["cell_type"] == name).to_numpy()
        for gene in range(cells.n_vars):
            own = law[rows, gene]
            assert pit_p_value(counts[rows, gene], own.mu, own.theta, own.pi) > 1e-4
            off = (counts[rows, gene] - own.mean).sum() / np.sqrt(own.variance.sum())
            assert abs(off) < 4.5


def test_counts_follow_their_law(cells):
    assert_follow(cells)


def test_the_law_is_computed_by_hand_in_one_cell(cells):
    law = dataset.law(cells)
    for cell in (0, 1, 3001):
        kind, batch = int(cell >= 3000), cell % 2
        x = cells.obsm["molecules"][cell].astype(float)
        network, at = six(), cells.obsm["programs"][cell]
        edges = [e for e in range(6) if network.target[e] == 3 and network.acts[e, kind]]
        folds = []
        for edge in edges:  # of d, whose logic is the mean
            n = x[REGULATORS.index(GENES[network.regulator[edge]])]
            fold = 2 ** network.effect[edge]
            h = n ** network.power[edge]
            h /= network.half[edge] ** network.power[edge] + h
            folds.append((1 + (fold - 1) * h) / (1 + (fold - 1) / 2))
        p = cells.obsm["capture"][cell, 0] * MEASURED.factors[:, batch]
        np.testing.assert_allclose(law.mu[cell, 3], 7 * np.mean(folds) * p[3])
        by_stress = np.exp(0.3 * at[2] - 0.3**2 / 2)
        np.testing.assert_allclose(law.mu[cell, 0], [10, 12][kind] * by_stress * p[0])
        np.testing.assert_array_equal(law[cell].theta, network.theta[:, kind])
        np.testing.assert_array_equal(law[cell].pi, MEASURED.pi)


def test_a_regulators_counts_thin_its_very_molecules(cells):
    molecules, counts = cells.obsm["molecules"], counts_of(cells)
    batch = cells.obs["batch"].cat.codes.to_numpy()
    for row, gene in enumerate(REGULATORS):
        place = GENES.index(gene)
        x, y = molecules[:, row], counts[:, place]
        assert (y <= x).all()
        if MEASURED.pi[place]:
            continue
        p = cells.obsm["capture"][:, 0] * MEASURED.factors[place, batch]
        low, high = scipy.stats.binom.cdf([y - 1, y], x, p)
        uniform = low + (high - low) * np.random.default_rng(row).random(len(y))
        assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-4


def test_a_regulator_and_its_target_vary_together_as_molecules_say():
    chain = of_edges([("r", "t", 3.0)], {"r": 10.0, "t": 8.0})
    measured = dataset.measurement.draw(chain.genes, median=0.3, spread=0.0)
    counts = counts_of(dataset.grn_cells(chain, 60_000, measurement=measured, seed=2))
    x = np.arange(400)
    pmf = scipy.stats.nbinom.pmf(x, 5.0, 5.0 / 15.0)
    h = x**2 / (10.0**2 + x**2)
    mu = 8.0 * (1 + 7 * h) / (1 + 7 / 2)
    expected = 0.3 * 0.3 * (pmf @ (x * mu) - (pmf @ x) * (pmf @ mu))
    products = (counts[:, 0] - 3.0) * (counts[:, 1] - 0.3 * pmf @ mu)
    error = products.std() / np.sqrt(60_000)
    assert expected > 20 * error  # and a fresh draw of the regulator would have a covariance of 0
    assert abs(products.mean() - expected) < 4 * error
    # the target's whole law over cells, by enumeration
    k = np.arange(60)
    of_target = pmf @ scipy.stats.nbinom.pmf(k, 5.0, 5 / (5 + 0.3 * mu[:, None]))
    observed, large = np.bincount(counts[:, 1], minlength=60)[:60], 60_000 * of_target > 5
    groups = [np.append(a[large], 60_000 - a[large].sum()) for a in (observed, 60_000 * of_target)]
    assert scipy.stats.chisquare(*groups).pvalue > 1e-3


def test_obs_and_var_are_what_is_known(cells):
    assert list(cells.obs.columns) == ["cell_type", "batch", "total_counts"]
    assert list(cells.obs["cell_type"]) == [t for t in TYPES for _ in range(3000)]
    assert list(cells.obs["batch"][:4]) == ["1", "b/2 é"] * 2
    np.testing.assert_array_equal(cells.obs["total_counts"], counts_of(cells).sum(axis=1))
    assert list(cells.var_names) == GENES
    np.testing.assert_array_equal(cells.var["regulator"], [g in REGULATORS for g in GENES])
    assert cells.X.dtype == np.float32 and cells.X.has_canonical_format
    assert cells.obs_names.is_unique


def test_streams_are_never_shared(cells):
    one, other = cells[:3000], cells[3000:]
    hidden = [
        np.column_stack([a.obsm["molecules"][:, [0, 4]], a.obsm["programs"], a.obsm["capture"]])
        for a in (one, other)
    ]
    # of the first regulator, which takes part in stress, that of the programs is taken away
    for values, part in zip(hidden, (one, other)):
        values[:, 0] /= np.exp(0.3 * part.obsm["programs"][:, 2])
        values[:, 5] /= np.where(part.obs["batch"] == "1", 0.4, 0.25)
    both = np.corrcoef(np.column_stack(hidden).T)
    off = both[np.triu_indices(len(both), 1)]
    assert np.abs(off).max() < 4.5 / np.sqrt(3000)
    # noise of measurement: counts less their law, of targets and of regulators
    law, counts = dataset.law(cells), counts_of(cells)
    z = (counts - law.mean) / np.sqrt(law.variance)
    between = np.corrcoef(z[:3000].T, z[3000:].T)[:6, 6:]
    assert np.abs(between).max() < 4.5 / np.sqrt(3000)
    within = np.corrcoef(z[:3000].T)[np.triu_indices(6, 1)]
    assert np.abs(within).max() < 4.5 / np.sqrt(3000)


def test_no_stream_is_asked_for_twice(monkeypatch):
    asked = []

    def recorded(seed, purpose):
        asked.append((seed, purpose))
        return stream(seed, purpose)

    monkeypatch.setattr(regulated, "stream", recorded)
    dataset.grn_cells(six(), 5, measurement=MEASURED, depth=0.5, seed=1)
    # two programs, capture, depth; and of either type, five regulators and counts
    assert len(set(asked)) == len(asked) == 4 + 2 * 6


def test_same_seed_same_bytes_and_another_seed_other_cells():
    one, again = (dataset.grn_cells(six(), 50, measurement=MEASURED, seed=(4, 2)) for _ in "ab")
    assert bytes_of(one) == bytes_of(again)
    for name in one.obsm:
        np.testing.assert_array_equal(one.obsm[name], again.obsm[name])
    other = dataset.grn_cells(six(), 50, measurement=MEASURED, seed=(4, 3))
    assert bytes_of(one) != bytes_of(other)
    assert (one.obsm["molecules"] != other.obsm["molecules"]).any(axis=0).all()
    assert (one.obsm["capture"] != other.obsm["capture"]).all()


def test_the_same_cells_at_a_tenth_of_the_reads():
    full, few = (
        dataset.grn_cells(six(), 4000, measurement=MEASURED, depth=depth, seed=1)
        for depth in (1.0, 0.1)
    )
    assert (counts_of(few) <= counts_of(full)).all()
    for name in ("molecules", "programs"):
        np.testing.assert_array_equal(few.obsm[name], full.obsm[name])
    np.testing.assert_allclose(dataset.law(few).mu, 0.1 * dataset.law(full).mu)
    assert_follow(few)
    assert abs(counts_of(few).sum() / counts_of(full).sum() - 0.1) < 0.005


def test_cells_may_be_of_types_in_any_order_and_drawn_in_blocks(monkeypatch):
    types = np.random.default_rng(0).integers(0, 2, 3000)
    world = World(six(), MEASURED)
    args = world, types, np.full(3000, NOTHING)
    whole = drawn(*args, seed=3)
    assert list(whole.obs["cell_type"].cat.codes) == types.tolist()
    assert_follow(whole)
    monkeypatch.setattr(regulated, "_CELLS", 100)
    blocks = drawn(*args, seed=3)
    np.testing.assert_array_equal(blocks.obsm["molecules"], whole.obsm["molecules"])
    assert_follow(blocks)


def test_hidden_things_are_taken_away_and_what_a_user_added_stays(cells):
    own = cells[:20].copy()
    own.layers["mine"], own.obsm["pca"], own.uns["note"] = own.X.copy(), np.ones((20, 2)), "a"
    own.var["mine"], own.obs["mine"], own.varm["mine"] = 1, 2, np.ones((6, 3))
    shown = dataset.shown(own)
    assert set(shown.obsm) == {"pca"} and set(shown.uns) == {"note"}
    assert set(shown.layers) == {"mine"} and set(shown.varm) == {"mine"} and not shown.varp
    assert set(shown.obs) == {*cells.obs, "mine"} and set(shown.var) == {"regulator", "mine"}
    np.testing.assert_array_equal(counts_of(shown), counts_of(own))
    assert set(own.obsm) == {"molecules", "capture", "programs", "pca"} and "grn" in own.uns
    with pytest.raises(ValueError) as error:
        dataset.law(shown)
    one_line(error, "adata: has no laws")
    with pytest.raises(ValueError) as error:
        dataset.arm(shown, "control")
    one_line(error, "adata: has no uns['grn']", "shown cells")
    assert dataset.shown(shown).shape == shown.shape
    with pytest.raises(ValueError) as error:
        dataset.shown(dataset.base_genes(5, 3, None, seed=1))
    one_line(error, "adata: mechanistic cells")


def test_some_cells_and_genes_in_another_order_have_the_same_law(cells):
    law = dataset.law(cells)
    rows = np.random.default_rng(0).permutation(6000)[:500]
    for columns in ([4], [5, 2, 0], [3, 4, 1, 0]):
        part = cells[rows][:, columns].copy()
        assert_same_law(dataset.law(part), law[rows][:, columns])
    assert_same_law(dataset.law(cells, ["e", "b+"]), law[:, [4, 1]])
    one_type = cells[cells.obs["cell_type"] == TYPES[1]].copy()
    assert_same_law(dataset.law(one_type[::7]), law[3000::7])


def through_ondisk(cells, path):
    ondisk.write(path, [cells[:150].copy(), cells[150:].copy()])
    return ondisk.read(path)


FILES = {
    "h5ad": lambda a, path: (a.write_h5ad(path / "a.h5ad"), ad.read_h5ad(path / "a.h5ad"))[1],
    "zarr": lambda a, path: (a.write_zarr(path / "a.zarr"), ad.read_zarr(path / "a.zarr"))[1],
    "chunks": lambda a, path: through_ondisk(a, path / "b.h5ad"),
    "chunks in zarr": lambda a, path: through_ondisk(a, path / "b.zarr"),
}


@pytest.mark.parametrize("through", FILES.values(), ids=FILES)
def test_the_law_survives_files_whatever_the_names(tmp_path, cells, through):
    entry = {"mechanism": "linear", "parameters": {"weights": np.array([0.5, 0.2])}}
    logic = ["product", "product", "product", "mechanism", "or", "product"]
    own = six(logic=logic, mechanisms={"d": entry}, acts=np.ones((6, 2), bool))
    before = dataset.grn_cells(own, 100, measurement=MEASURED, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Writing zarr v2")
        after = through(before.copy(), tmp_path)
    assert list(after.var_names) == GENES and set(after.obs["batch"]) == {"1", "b/2 é"}
    assert_same_law(dataset.law(after), dataset.law(before))
    # and the cells can be joined with those before, and more be drawn
    assert_same_law(dataset.law(dataset.concat([after, before]))[200:], dataset.law(before))
    fresh = [dataset.fresh_cells(a, 10, seed=1) for a in (after, before)]
    assert bytes_of(fresh[0]) == bytes_of(fresh[1])


@pytest.mark.parametrize("through", FILES.values(), ids=FILES)
@pytest.mark.parametrize("edges", [[], [("a", "b", 1.0)]], ids=["no edges", "no programs"])
def test_networks_that_lack_something_survive_files_too(tmp_path, through, edges):
    plain = of_edges(edges, {"a": 3.0, "b": 4.0, "c": 5.0})
    before = dataset.grn_cells(plain, 200, seed=1)
    after = through(before.copy(), tmp_path)
    assert_same_law(dataset.law(after), dataset.law(before))


def test_counts_that_are_gone_are_missed_unless_they_are_kept(cells):
    some = cells[:60].copy()
    kept = some.copy()
    kept.layers["counts"] = kept.X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in (sc.pp.normalize_total, sc.pp.log1p):
            for adata in (some, kept):
                step(adata)
            with pytest.raises(ValueError) as error:
                dataset.law(some)
            one_line(error, "adata: X holds fractional", 'layers["counts"]')
            assert_same_law(dataset.law(kept), dataset.law(cells)[:60])


def without(part, name):
    def change(adata):
        del getattr(adata, part)[name]

    return change


def setting(part, name, value):
    def change(adata):
        getattr(adata, part)[name] = value(adata) if callable(value) else value

    return change


def of_regulators(adata):
    return counts_of(adata[:, REGULATORS])


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (without("obsm", "molecules"), ("has no obsm['molecules']",)),
        (without("obsm", "capture"), ("has no obsm['capture']",)),
        (without("obsm", "programs"), ("has no obsm['programs']",)),
        (without("uns", "measurement"), ("has no uns['measurement']", "lib.dataset.concat")),
        (without("uns", "regulators"), ("uns['regulators'] must name",)),
        (setting("uns", "regulators", REGULATORS[::-1]), ("uns['regulators'] must name",)),
        (setting("obsm", "molecules", of_regulators), ("obsm['molecules']", "not counts")),
        (setting("obsm", "molecules", lambda a: of_regulators(a) // 2), ("more counts than",)),
        (setting("obsm", "molecules", lambda a: a.obsm["molecules"][:, 1:]), ("4; must have 5",)),
        (setting("obsm", "molecules", lambda a: a.obsm["molecules"] + 0.5), ("whole numbers",)),
        (setting("obsm", "molecules", lambda a: a.obsm["molecules"] * np.nan), ("nan", "whole")),
        (setting("obs", "batch", "3"), ("batch = '3'", "1, b/2 é")),
        (setting("obs", "cell_type", "B"), ("cell_type = 'B'", "CD4+")),
        (without("obs", "batch"), ("has no obs['batch']",)),
        (without("obs", "cell_type"), ("has no obs['cell_type']",)),
        (lambda a: setattr(a, "var_names", [*GENES[:5], "z"]), ("gene = 'z'", "isn't in uns")),
    ],
)  # fmt: skip
def test_what_the_law_lacks_is_refused_in_one_line(cells, change, parts):
    wrong = cells[:40].copy()
    change(wrong)
    with pytest.raises(ValueError) as error:
        dataset.law(wrong)
    one_line(error, *parts)


@pytest.mark.parametrize(
    "use",
    [
        lambda a: perturb.do(a, {"d": 3}),
        lambda a: perturb.dose_series(a, {"d": [0, 3]}),
        lambda a: perturb.exogenous_noise(a),
        lambda a: perturb.additive(a),
        lambda a: dataset.treated_law(a, {}, "x"),
        lambda a: dataset.get_mech_dataset(a, parents=["d"]),
        lambda a: dataset.descendants(a, ["d"]),
        lambda a: dataset.weights(a, "d"),
        lambda a: conditional.questions(a, a, a, seed=1),
    ],
)
def test_conditional_questions_and_do_are_refused_in_one_line(cells, use):
    with pytest.raises(ValueError) as error:
        use(cells[:40].copy())
    one_line(error, "adata: cells of a gene regulatory network", "must be mechanistic cells")


def test_its_cell_types_are_those_of_the_network(cells):
    assert dataset.cell_types(cells[:5].copy()) == TYPES


def test_new_cells_are_of_the_types_that_there_are_and_none_of_the_old(cells):
    fresh = dataset.fresh_cells(cells, 300, seed=1)
    assert list(fresh.obs["cell_type"]) == [t for t in TYPES for _ in range(300)]
    assert_follow(fresh)
    for seed in (1, (1, 0)):  # of cells that were drawn by the same numbers
        old = dataset.grn_cells(six(), 300, measurement=MEASURED, seed=seed)
        assert (old.obsm["capture"] != fresh.obsm["capture"]).mean() > 0.9
        assert (old.obsm["programs"] != fresh.obsm["programs"]).mean() > 0.9
    second = cells[cells.obs["cell_type"] == TYPES[1]].copy()
    own = dataset.fresh_cells(second, 30, seed=1)
    assert set(own.obs["cell_type"]) == {TYPES[1]} and own.n_obs == 30
    chunks = list(ondisk.simulated(second, 25, seed=1, chunk=10))
    assert [chunk.n_obs for chunk in chunks] == [10, 10, 5]


def test_cells_of_one_network_are_joined_and_of_two_refused(cells):
    parts = [cells[:30].copy(), dataset.fresh_cells(cells, 10, seed=1)[:, [1, 4, 0]].copy()]
    parts[0].uns["note"] = "first"
    joined = dataset.concat(parts)
    assert joined.shape == (50, 3) and joined.obs_names.is_unique
    assert_same_law(
        dataset.law(joined)[:30], dataset.law(cells[:30].copy(), list(joined.var_names))
    )
    fresh = dataset.law(parts[1], list(joined.var_names))
    assert_same_law(dataset.law(joined)[30:], fresh)
    other = six(module=[0, 0, 1, 1, 0, 2])
    for wrong, name in (
        (dataset.grn_cells(other, 10, measurement=MEASURED), "grn"),
        (dataset.grn_cells(six(), 10), "measurement"),
        (dataset.base_genes(10, 6), "grn"),
    ):
        with pytest.raises(ValueError) as error:
            dataset.concat([cells[:30].copy(), wrong])
        one_line(error, f"adatas: uns['{name}'] differs")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"n_cells": 0}, ("n_cells = 0", "at least 1")),
        ({"n_cells": 2.5}, ("n_cells = 2.5", "whole number")),
        ({"depth": 0}, ("depth = 0", "from 1e-09 to 1")),
        ({"depth": 1.5}, ("depth = 1.5", "to 1")),
        ({"seed": -1}, ("seed = -1", "at least 0")),
        ({"measurement": dataset.measurement.draw(GENES[::-1])}, ("measurement", "in that order")),
        ({"network": six(base=np.full((6, 2), 1e11))}, ("molecules of HLA-A/B", "2,147,483,647")),
    ],
)
def test_bad_options_are_refused_in_one_line(options, parts):
    with pytest.raises(ValueError) as error:
        dataset.grn_cells(**{"network": six(), "n_cells": 5} | options)
    one_line(error, *parts)


def test_extreme_captures_are_drawn_all_the_same():
    factors = np.ones((6, 1))
    factors[2] = 1.7
    wide = {"batches": ["1"], "median": [0.5], "spread": [5.0], "factors": factors}
    measured = Measurement(genes=GENES, pi=np.zeros(6), **wide)
    cells = dataset.grn_cells(six(), 2000, measurement=measured, seed=1)
    capture = cells.obsm["capture"]
    assert capture.max() > 0.58 and 1.7 * capture.max() <= 1 and capture.min() < 1e-5
    assert_follow(cells)
