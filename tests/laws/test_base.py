import ast
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

import lib
from lib.laws import ZINB, Law
from tests.models_of_ones_own import APoisson

REQUIRED = ["__getitem__", "cdf", "log_prob", "mean", "sample"]
RATE = np.array([0.5, 3.0, 20.0])
LIB = Path(lib.__file__).parent


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_law_that_lacks_a_required_method_is_refused_by_its_name(missing):
    written = {name: vars(APoisson)[name] for name in REQUIRED if name != missing}
    with pytest.raises(TypeError, match=f"abstract.*{missing}"):
        type("Incomplete", (Law,), written)()


def test_a_law_that_writes_what_is_required_inherits_the_rest():
    law, k = APoisson(RATE), np.arange(200)
    pmf = scipy.stats.poisson.pmf(k, RATE[:, None])
    np.testing.assert_allclose(law.pmf(2), pmf[:, 2])
    np.testing.assert_allclose(law.pmf_table(200), pmf)
    np.testing.assert_allclose(law.zero_prob, np.exp(-RATE))
    np.testing.assert_array_equal(law.quantile(0.7), scipy.stats.poisson.ppf(0.7, RATE))
    np.testing.assert_array_equal(law.reach(1e-6), scipy.stats.poisson.ppf(1 - 1e-6, RATE))
    assert law.parameters() is None and law.has_density and law.n_components == 1
    components, weights = law.as_components()
    assert components.shape == (1, 3) and weights is None


@pytest.mark.parametrize("weights", [None, np.array([0.2, 0.5, 0.3])])
def test_blocks_of_mixed_laws_are_the_weighted_sums_of_their_pmfs(weights):
    pmf = scipy.stats.poisson.pmf(np.arange(16), RATE[:, None])
    expected = pmf.mean(0) if weights is None else weights @ pmf
    np.testing.assert_allclose(next(APoisson(RATE).mixed_pmf_blocks(weights)), expected)


def test_cells_of_a_law_have_independent_genes_of_its_mean():
    cells = APoisson(RATE).sample_cells(np.random.default_rng(0), 20_000)
    assert (np.abs(cells.mean(0) - RATE) < 4 * np.sqrt(RATE / 20_000)).all()
    np.testing.assert_allclose(np.corrcoef(cells.T), np.eye(3), atol=0.03)


def test_rows_are_drawn_each_from_its_own_law():
    rows = np.array([[0, 1], [2, 0], [1, 1]])
    law = APoisson(np.array([[0.0, 1e4], [1e6, 1e8], [1e10, 1e12]]))
    drawn = law.sample_rows(np.random.default_rng(0), rows)
    np.testing.assert_allclose(drawn, [[0, 1e8], [1e10, 1e4], [1e6, 1e8]], rtol=0.06)


@pytest.mark.parametrize("tail", [1e-9, 1e-4])
@pytest.mark.parametrize(("mu", "theta"), [(0.5, 0.3), (20.0, 1.0), (300.0, 1e6), (1e4, 5.0)])
def test_reach_of_a_zinb_has_about_its_tail_above(mu, theta, tail):
    reach = float(ZINB(mu, theta, 0.3).reach(tail))
    exact = scipy.stats.nbinom.isf(tail, theta, theta / (theta + mu))
    assert 0.9 * exact <= reach <= 3 * exact + 10


def _asks_for_the_kind_of_a_law(tree):
    kinds = {"ZINB", "Mixture", "Empirical", "Cells", "Stacked"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            named = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(node.args[1])}
            if named & kinds:
                return True
    return False


PATHS = [*sorted((LIB / "laws").glob("*.py")), LIB / "score/distances.py"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_law_and_no_distance_asks_for_the_kind_of_a_law(path):
    assert _asks_for_the_kind_of_a_law(ast.parse("isinstance(law, (laws.ZINB, Mixture))"))
    assert not _asks_for_the_kind_of_a_law(ast.parse(path.read_text()))
