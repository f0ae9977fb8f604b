import anndata as ad
import numpy as np
import pytest
from scipy import stats

from lib.score import realism


def programmed(n_cells, seed, n_genes=60, size=0.4):
    """Counts of genes that follow two programs, in cells of different size."""
    loadings = np.random.default_rng(0).normal(0, 0.7, (2, n_genes))
    base = np.random.default_rng(1).lognormal(0.5, 1, n_genes)
    rng = np.random.default_rng(seed)
    library = rng.lognormal(0, size, (n_cells, 1))
    return rng.poisson(library * base * np.exp(rng.normal(size=(n_cells, 2)) @ loadings))


def cells(counts):
    return ad.AnnData(np.asarray(counts, dtype=np.float32))


@pytest.fixture(scope="module")
def table():
    fitted, held_out = programmed(150, 2), programmed(150, 3)
    shuffled = np.random.default_rng(4).permuted(fitted, axis=0)
    simulated = {"same law": programmed(200, 5), "shuffled": shuffled, "copy": held_out}
    simulated = {name: cells(counts) for name, counts in simulated.items()}
    found = realism.report(cells(fitted), cells(held_out), simulated, trees=50, seed=1)
    assert list(found.columns) == ["model", "metric", "value"]
    return found.pivot(index="metric", columns="model", values="value")


DISTANCES = "gene_mean mean_variance mean_zeros library_size gene_correlation gene_pairs"
DISTANCES = [*DISTANCES.split(), "cell_correlation", "components"]


def test_cells_of_the_same_law_are_as_near_as_the_real_half(table):
    same = table["same law"]
    assert (same[DISTANCES] < table["real half"][DISTANCES] + 0.1).all()
    assert abs(same["forest_auroc"] - 0.5) < 0.1
    assert abs(same["mmd"]) < 0.01
    assert abs(same["copied"] - 0.5) < 0.1
    assert same["copied_p"] > 0.02


def test_genes_shuffled_alone_keep_their_laws_and_lose_the_rest(table):
    shuffled, real = table["shuffled"], table["real half"]
    for metric in ("gene_mean", "mean_variance", "mean_zeros"):
        assert shuffled[metric] == pytest.approx(real[metric])
    for metric in ("library_size", "gene_correlation", "gene_pairs", "components"):
        assert shuffled[metric] > real[metric] + 0.1
    assert shuffled["forest_auroc"] > 0.75
    assert shuffled["mmd"] > 0.01


def test_a_copy_is_caught(table):
    assert (table["copy"][DISTANCES] == 0).all()
    assert table["copy"]["forest_auroc"] < 0.5
    assert table["copy"]["copied"] == 0  # nearest to the held-out cells, which they are
    assert table["real half"]["copied"] == 1
    assert table["real half"]["copied_p"] < 1e-20


def test_the_same_seed_gives_the_same_numbers():
    fitted, held_out = cells(programmed(40, 2)), cells(programmed(50, 3))
    first, second = (
        realism.report(fitted, held_out, {"a": held_out}, trees=5, seed=3) for _ in range(2)
    )
    assert first.equals(second)


def test_distances_are_those_worked_by_hand():
    truth = np.array([[0, 2, 4], [0, 4, 4]])  # means 0, 3, 4; variances 0, 1, 0
    other = np.array([[2, 2, 8], [0, 4, 8]])  # means 1, 3, 8; variances 1, 1, 0
    found = realism.distributions(truth, other)
    assert found["gene_mean"] == pytest.approx(1 / 3)
    assert found["mean_variance"] == pytest.approx(1 / 3)  # 1/3, 0 against 1, 1/3, 0
    assert found["library_size"] == 1  # 6 and 8 against 12 and 12


def test_rank_correlations_are_those_of_scipy():
    counts = programmed(40, 6, n_genes=5)
    expected = stats.spearmanr(counts).statistic[np.triu_indices(5, 1)]
    assert realism.spearman(counts) == pytest.approx(expected)
    assert (realism.spearman(np.ones((4, 3))) == 0).all()


def test_the_discrepancy_is_the_double_sum():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(5, 3)), rng.normal(1, 1, (4, 3))
    both = np.concatenate([x, y])
    lengths = [np.linalg.norm(a - b) for i, a in enumerate(both) for b in both[:i]]

    def kernel(a, b):
        return np.exp(-np.sum((a - b) ** 2) / (2 * np.median(lengths) ** 2))

    def within(sample):
        pairs = [(a, b) for i, a in enumerate(sample) for j, b in enumerate(sample) if i != j]
        return np.mean([kernel(a, b) for a, b in pairs])

    across = np.mean([kernel(a, b) for a in x for b in y])
    assert realism.unbiased_mmd(x, y) == pytest.approx(within(x) + within(y) - 2 * across)


def test_the_discrepancy_of_one_law_is_zero_on_average():
    rng = np.random.default_rng(8)
    found = [realism.unbiased_mmd(*rng.normal(size=(2, 20, 2))) for _ in range(200)]
    assert abs(np.mean(found)) < 3 * stats.sem(found)


def test_nearest_cells_worked_by_hand():
    fitted, held_out = np.array([[9, 1], [5, 5]]), np.array([[1, 9], [5, 5]])
    query = np.array([[8, 2], [2, 8], [5, 5], [9, 1]])  # fitted, held out, a tie, fitted
    share, p = realism.copied(fitted, held_out, query)
    assert share == 2.5 / 4
    assert p == pytest.approx(stats.binomtest(3, 4).pvalue)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"simulated": {"real half": programmed(30, 1)}}, "no model may be named 'real half'"),
        ({"simulated": {"a": programmed(30, 1)[:, :-1]}}, r"simulated\['a'\]: its genes must be"),
        ({"simulated": {"a": programmed(30, 1) + 0.5}}, r"simulated\['a'\]: X holds fractional"),
        ({"held_out": programmed(19, 1)}, "held_out, its number of cells = 19: must be at least"),
        ({"trees": 0}, "trees = 0: must be at least 1"),
    ],
)
def test_bad_input_ends_in_one_line(change, message):
    given = {"fitted_on": programmed(30, 2), "held_out": programmed(30, 3), "simulated": {}}
    given |= change
    given["simulated"] = {name: cells(counts) for name, counts in given["simulated"].items()}
    given |= {name: cells(given[name]) for name in ("fitted_on", "held_out")}
    with pytest.raises(ValueError, match=message) as raised:
        realism.report(**given)
    assert "\n" not in str(raised.value)
