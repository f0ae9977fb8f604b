import numpy as np
import pytest

from lib.predict import bilinear
from lib.predict.arms import baselines
from lib.predict.arms.perceptron import Perceptron
from lib.predict.arms.pseudobulk import Pseudobulk
from lib.predict.arms.regressions import Bilinear, MeanOfLogs, Neighbours
from tests.predict.arms.screens import query, screen

N, MODULES = 40, 2


def modular(rng, *, effect=1.0, n_cells=100, prior=True):
    """Genes in two modules; an arm of a gene raises its module. The prior tells the modules."""
    module = np.arange(N) % MODULES
    control = rng.gamma(4, 5, N)
    arms = {f"g{i}": control * np.exp(effect * (module == module[i])) for i in range(24)}
    cells = screen(arms, control, rng=rng, n_cells=n_cells, n_control=1000)
    if prior:
        cells.varm["prior"] = np.eye(MODULES)[module] + rng.normal(0, 0.05, (N, MODULES))
    return cells, module, control


@pytest.fixture(scope="module")
def cells():
    return modular(np.random.default_rng(1))[0]


@pytest.fixture(scope="module")
def noise():
    return modular(np.random.default_rng(2), effect=0.0, n_cells=20)[0]


@pytest.mark.parametrize("embedding", ["components", "prior"])
def test_bilinear_solves_the_normal_equations_of_its_two_ridges(cells, embedding):
    model = Bilinear(embedding=embedding, n_components=3, penalty=0.5).fit(cells)
    bulk = Pseudobulk.of(cells)
    y = np.column_stack([bulk.control_logs["A"], *bulk.logs])
    change = y - y[:, :1]
    genes = [int(name[1:]) for name in bulk.arms.perturbation]
    for gene in genes:  # its own arm has what it has on average in others
        own = genes.index(gene) + 1
        change[gene, own] = np.delete(change[gene], [0, own]).mean()
    left, values, _ = np.linalg.svd(y - y.mean(axis=0))
    g = left[:, :3] * values[:3]
    rows = cells.varm["prior"] if embedding == "prior" else g
    p = np.vstack([np.zeros(rows.shape[1]), rows[genes]])
    # W by the equations of each of its entries, (G'G + l) W (P'P + l) = G' Y P
    both = np.kron(g.T @ g + 0.5 * np.eye(3), p.T @ p + 0.5 * np.eye(p.shape[1]))
    right = g.T @ (change - change.mean(axis=1, keepdims=True)) @ p
    w = np.linalg.solve(both, right.ravel()).reshape(right.shape)
    expected = g @ w @ (rows[30] + rows[31]) + change.mean(axis=1)
    np.testing.assert_allclose(model.change(["g30", "g31"]), expected, atol=1e-8)
    answer = model.predict(query(cells, "g30+g31"))
    assert answer.scale == 1e4
    np.testing.assert_allclose(answer.values, np.maximum(bulk.control_logs["A"] + expected, 0))


def test_the_mean_of_logs_leaves_a_genes_own_cells_out_or_is_systemas(cells):
    counts = cells.X.toarray().astype(float)
    logs = np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True)))
    arm = cells.obs["perturbation"].to_numpy()
    control = logs[arm == "control"].mean(axis=0)
    means = [logs[(arm != "control") & (arm != f"g{i}")].mean(axis=0)[i] for i in range(N)]
    for own, after in ((False, means), (True, logs[arm != "control"].mean(axis=0))):
        model = MeanOfLogs(own=own).fit(cells)
        for name in ("g30", "g1+g2"):
            answer = model.predict(query(cells, name))
            np.testing.assert_allclose(answer.values, after, atol=1e-6)
        np.testing.assert_allclose(model.mean, after - control, atol=1e-6)


def test_bilinear_weights_are_the_papers_formula():
    rng = np.random.default_rng(3)
    y, g, p = rng.normal(size=(9, 6)), rng.normal(size=(9, 2)), rng.normal(size=(6, 3))
    found, offset = bilinear.weights(y, g, p, 0.1)
    by_inverse = np.linalg.inv(g.T @ g + 0.1 * np.eye(2)) @ g.T
    expected = by_inverse @ (y - y.mean(1)[:, None]) @ p @ np.linalg.inv(p.T @ p + 0.1 * np.eye(3))
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(offset, y.mean(1))


def test_cross_validation_picks_a_huge_penalty_on_noise_and_a_small_one_on_modules(cells, noise):
    for embedding in ("components", "prior"):
        model = Bilinear(embedding=embedding).fit(noise)
        away = model.change(["g30"]) - model.offset
        assert (away**2).mean() < 0.02 * (model.changes - model.offset[:, None]).var()
    found = Bilinear(embedding="prior").fit(cells)
    assert found.penalty <= 100


@pytest.mark.parametrize(
    "make", [lambda: Bilinear(embedding="prior"), Bilinear, Neighbours, Perceptron]
)
def test_what_genes_share_foretells_arms_never_seen(cells, make):
    model = make().fit(cells)
    mean = baselines.PerturbedMean().fit(cells)
    control = np.asarray(cells[(cells.obs["perturbation"] == "control").to_numpy()].X.mean(0))[0]
    if isinstance(model, (Bilinear, Perceptron)):
        control = Pseudobulk.of(cells).control_logs["A"]
    for gene in (30, 31):
        raised = model.predict(query(cells, f"g{gene}")).values / control
        its = np.arange(N) % MODULES == gene % MODULES
        assert raised[its].mean() > 1.02 * raised[~its].mean()
    folds = mean.predict(query(cells, "g30")).values
    assert folds[::2].mean() / folds[1::2].mean() < 2  # of which the perturbed mean knows nothing


def test_neighbours_take_all_arms_where_none_is_alike_and_few_where_modules_differ(cells, noise):
    assert Neighbours().fit(noise).n_neighbours == 23
    assert Neighbours().fit(cells).n_neighbours <= 12


def test_neighbours_by_hand_in_the_prior_and_by_correlation():
    rng = np.random.default_rng(4)
    control = np.array([50.0, 60, 70, 80, 90, 40])
    arms = {f"g{i}": control * fold for i, fold in enumerate((1, 2, 4))}
    arms = {name: np.append(mean[:5], 4e5) for name, mean in arms.items()}
    cells = screen(arms, np.append(control[:5], 4e5), n_cells=200, rng=rng)
    cells.varm["prior"] = np.array([[1, 0], [0, 1], [1, 1], [1, 0.9], [0, 0], [0, 2.0]])
    model = Neighbours(n_neighbours=1).fit(cells)
    before = Pseudobulk.of(cells).control_means["A"]

    def fold(name):
        return (model.predict(query(cells, name)).values / before)[4]

    assert fold("g3") == pytest.approx(4, rel=0.03)  # of gene 2
    assert fold("g5") == pytest.approx(2, rel=0.03)
    assert fold("g4") == pytest.approx(7 / 3, rel=0.03)  # without an edge: of all
    assert fold("g3+g5") == pytest.approx(4 * 2 / (7 / 3), rel=0.05)
    # over controls, gene 3 follows gene 1, and gene 4 gene 0
    del cells.varm["prior"]
    counts = cells.X.toarray()
    is_control = (cells.obs["perturbation"] == "control").to_numpy()
    for gene, like in ((3, 1), (4, 0)):
        counts[is_control, gene] = counts[is_control, like] + 20
    cells.X = type(cells.X)(counts)
    near = Neighbours(n_neighbours=1).fit(cells)
    assert [near.seen[near._nearest(gene)[0]] for gene in (3, 4)] == [1, 0]


def test_the_perceptron_stays_with_the_mean_on_noise_and_repeats_itself(noise):
    first, again = (Perceptron(seed=5).fit(noise) for _ in range(2))
    np.testing.assert_array_equal(first.change(["g30"]), again.change(["g30"]))
    bulk = Pseudobulk.of(noise)
    spread = (bulk.logs - bulk.control_logs["A"]).std(axis=0).mean()
    assert np.abs(first.change(["g30", "g31"]) - first.mean).mean() < 0.2 * spread


def test_what_they_have_no_answer_to(cells):
    without = cells.copy()
    del without.varm["prior"]
    for make in (lambda: Bilinear(embedding="prior"), Perceptron):
        with pytest.raises(NotImplementedError, match="prior"):
            make().fit(without)
    for model in (Bilinear(), Neighbours(), Perceptron()):
        model.fit(cells)
        for name, strength, why in (("g0", 0.4, "strengths"), ("elsewhere", 0.8, "elsewhere")):
            with pytest.raises(NotImplementedError, match=why):
                model.predict(query(cells, name, strength=strength))
    with pytest.raises(ValueError, match="two genes"):
        Bilinear().fit(cells[cells.obs["perturbation"].isin(["control", "g0"])].copy())


def test_bad_options_raise_one_line():
    for make, name in (
        (lambda: Bilinear(embedding="x"), "embedding"),
        (lambda: Bilinear(n_components=0), "n_components"),
        (lambda: Neighbours(n_neighbours=0), "n_neighbours"),
        (lambda: Perceptron(n_hidden=0), "n_hidden"),
    ):
        with pytest.raises(ValueError, match=name) as error:
            make()
        assert "\n" not in str(error.value)
