import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.simulate import calibrate
from lib.simulate.calibrate import Calibration


def made(n_genes=120, n_programs=3, size=0.3, spread=0.3, seed=1):
    """A law of three types of cells, the last of them rare."""
    rng = np.random.default_rng(seed)
    base = rng.lognormal(2, 1, (n_genes, 1)) * rng.lognormal(0, 0.5, (n_genes, 3))
    loadings = rng.normal(0, size, (n_genes, n_programs))
    loadings -= np.average(loadings, axis=0, weights=base[:, 0])  # what is common is capture
    return Calibration(
        genes=np.array([f"g{i}" for i in range(n_genes)]),
        cell_types=np.array(["a", "b", "c"]),
        labels=np.array(["a", "b", "c"]),
        proportions=np.array([0.6, 0.35, 0.05]),
        base=base,
        theta=rng.lognormal(1, 0.7, (n_genes, 1)) * np.ones(3),
        loadings=loadings,
        median=0.2,
        spread=spread,
    )


@pytest.fixture(scope="module", params=["programs", "strong programs", "none"])
def pair(request):
    """A law, and the one fitted to its cells."""
    size = {"programs": 0.2, "strong programs": 0.4, "none": 0.0}[request.param]
    truth = made(size=size)
    cells = truth.sample(2500, seed=3)
    options = {"cell_type_key": "cell_type", "median_capture": 0.2, "n_programs": 4}
    return truth, calibrate.fit(cells, max_states=1, **options)


def in_order(found, truth):
    return [list(found.cell_types).index(name) for name in truth.cell_types]


def test_means_are_recovered(pair):
    truth, found = pair
    ratio = np.log(found.base[:, in_order(found, truth)] / truth.base)
    capture = np.exp(truth.spread**2 / 2) * truth.median
    square = np.exp(truth.spread**2 + np.sum(truth.loadings**2, axis=1))[:, None]
    noise = square * (1 + 1 / truth.theta) - 1 + 1 / (capture * truth.base)
    error = np.sqrt(noise / (2500 * truth.proportions))  # of a sample mean, relative
    assert np.abs(np.median(ratio, axis=0) / np.median(error, axis=0)).max() < 2
    assert np.std(ratio / error, axis=0) == pytest.approx(1, abs=0.25)


def test_theta_is_recovered(pair):
    truth, found = pair
    ratio = np.log(found.theta[:, in_order(found, truth)] / truth.theta)
    assert np.abs(np.median(ratio, axis=0)).max() < 0.15
    assert (np.median(np.abs(ratio), axis=0) < 0.2).all()


def test_the_spread_of_capture_is_recovered(pair):
    truth, found = pair
    assert found.spread == pytest.approx(truth.spread, abs=0.03)
    assert found.median == 0.2


def test_the_covariance_of_programs_is_recovered(pair):
    truth, found = pair
    expected, cov = (law.loadings @ law.loadings.T for law in (truth, found))
    if not expected.any():
        assert np.abs(cov).mean() < 0.003
        return
    pairs = np.triu_indices(len(cov), 1)
    fit = stats.linregress(expected[pairs], cov[pairs])
    assert fit.rvalue > 0.95
    assert fit.slope == pytest.approx(1, abs=0.15)


def test_shares_of_types_are_recovered(pair):
    truth, found = pair
    assert found.proportions[in_order(found, truth)] == pytest.approx(truth.proportions, abs=4e-4)


def test_cells_have_the_moments_of_the_law():
    """E y = p b, and Var y by the laws of total variance over capture, programs and counts."""
    truth = made(n_genes=4, size=0.4)
    cells = truth.sample(60_000, seed=5)
    counts = cells.X.toarray()[(cells.obs["cell_type"] == "a").to_numpy()].astype(float)
    capture = truth.median * np.exp(truth.spread**2 / 2)
    mean = capture * truth.base[:, 0]
    square = np.exp(truth.spread**2 + np.sum(truth.loadings**2, axis=1))
    variance = mean + mean**2 * (square * (1 + 1 / truth.theta[:, 0]) - 1)
    assert (np.abs(counts.mean(axis=0) - mean) < 4 * stats.sem(counts)).all()
    assert counts.var(axis=0) == pytest.approx(variance, rel=0.1)
    covariance = np.exp(truth.spread**2 + truth.loadings[0] @ truth.loadings[1]) - 1
    measured = np.cov(counts[:, :2].T)[0, 1] / (mean[0] * mean[1])
    assert measured == pytest.approx(covariance, abs=0.03)


def test_kinds_of_cells_under_one_label_become_states():
    truth = made(n_genes=200, size=0.1)
    cells = truth.sample(500, seed=6)
    cells.obs["label"] = "blood"
    found = calibrate.fit(cells, cell_type_key="label", n_programs=4, median_capture=0.2)
    assert list(found.cell_types[:2]) == ["blood/1", "blood/2"]
    assert set(found.labels) == {"blood"}
    assert found.proportions.sum() == pytest.approx(1)
    nearest = [np.log(found.base / column[:, None]).std(axis=0).min() for column in truth.base.T]
    assert max(nearest[:2]) < 0.2  # types differ by 0.7


def test_genes_and_types_with_hardly_a_count():
    rng = np.random.default_rng(7)
    counts = rng.poisson(1.0, (60, 8)).astype(np.float32)
    counts[:, 0] = 0
    types = np.array(["many"] * 58 + ["few"] * 2)
    counts[58:, 1] = 0
    counts[5] = 0  # a cell without counts is left out
    cells = ad.AnnData(
        counts, obs=pd.DataFrame({"type": types}, index=[f"c{i}" for i in range(60)])
    )
    found = calibrate.fit(cells, cell_type_key="type", n_programs=2, median_capture=1)
    few = list(found.labels).index("few")
    assert (found.base[0] == 0).all()
    assert 0 < found.base[1, few] < found.base[1, 0] / 2
    assert np.isfinite(found.theta).all() and np.isfinite(found.loadings).all()
    assert (found.sample(50).X[:, 0].toarray() == 0).all()


def test_a_seed_gives_the_same_cells():
    truth = made(n_genes=5)
    first, second, other = (truth.sample(30, seed).X.toarray() for seed in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()
    assert truth.sample(3).X.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"median_capture": 0}, "median_capture = 0: must be above 0, and at most 1"),
        ({"median_capture": 1.5}, "median_capture = 1.5: must be from 0 to 1"),
        ({"n_programs": -1}, "n_programs = -1: must be from 0 to 5"),
        ({"n_programs": 6}, "n_programs = 6: must be from 0 to 5"),
        ({"max_states": 0}, "max_states = 0: must be from 1 to 100"),
        ({"cell_type_key": "kind"}, "cell_type_key = 'kind': must be one of cell_type"),
        ({"layer": "spliced"}, "counts: layer 'spliced' is missing"),
    ],
)
def test_bad_parameters_end_in_one_line(options, message):
    cells = made(n_genes=5).sample(20)
    with pytest.raises(ValueError, match=message) as raised:
        calibrate.fit(cells, **{"n_programs": 2} | options)
    assert "\n" not in str(raised.value)


def test_what_is_no_counts_is_refused():
    cells = made(n_genes=5).sample(20)
    cells.X = cells.X / 2
    with pytest.raises(ValueError, match="counts: X holds fractional values"):
        calibrate.fit(cells, n_programs=2)
    cells.X = cells.X * 0
    with pytest.raises(ValueError, match="counts: has no molecule"):
        calibrate.fit(cells, n_programs=2)
