import numpy as np
import pytest
import scipy.stats

from lib import dataset, perturb
from lib.laws import maximum_likelihood
from lib.predict import screen as models
from lib.tasks import conditional
from tests.predict.cells import counts_of

GENES = [f"gene_{i}" for i in range(6)]


@pytest.fixture(scope="module")
def base():
    adata = dataset.base_genes(2000, 6, 0.4, mu_range=(4, 10), seed=1)
    for gene, parent in (("child_a", "gene_0"), ("child_b", "gene_1")):
        adata = dataset.get_mech_dataset(
            adata,
            "linear",
            gene=gene,
            parents=[parent],
            parameters={"weights": np.array([2.0])},
            target_zero_prob=None,
            seed=1,
        )
    return adata


@pytest.fixture(scope="module")
def screen(base):
    return conditional.arms(base, GENES[:5], n_cells=300, seed=2)


def arm(screen, name):
    return screen[(screen.obs["perturbed"] == name).to_numpy()]


def with_labels(adata, labels):
    adata = adata.copy()
    adata.obs["perturbed"] = labels
    return adata


def test_arms_have_their_gene_set_to_a_dose_inside_its_range_and_nothing_else_set(base, screen):
    sizes = screen.obs["perturbed"].value_counts(sort=False).to_dict()
    assert sizes == dict.fromkeys(["control", *GENES[:5]], 300)
    for gene in GENES[:5]:
        cells, trained = arm(screen, gene), counts_of(base, gene)
        dose = cells.obs["dose_set"].unique()
        assert (counts_of(cells, gene) == dose).all()
        assert np.median(trained[trained > 0]) < dose < trained.max()
        assert (trained[trained > 0] <= dose).mean() == pytest.approx(0.9, abs=0.05)
        was_set = dataset.dense(cells.layers["do"]).sum(0)
        assert was_set.tolist() == [300 * (g == gene) for g in screen.var_names]
    assert not dataset.dense(arm(screen, "control").layers["do"]).any()


def test_arms_carry_their_truth_and_their_children_follow_it(screen):
    cells = arm(screen, "gene_0")
    truth = dataset.law(cells, "child_a")[:, 0]
    np.testing.assert_allclose(truth.mu, 2 * cells.obs["dose_set"])
    error = np.sqrt(truth.mu[0] + truth.mu[0] ** 2 / 1000) / np.sqrt(300)
    assert abs(counts_of(cells, "child_a").mean() - truth.mu[0]) < 4.5 * error


def test_no_two_arms_share_cells_and_a_seed_repeats_them(base, screen):
    again = conditional.arms(base, GENES[:5], n_cells=300, seed=2)
    np.testing.assert_array_equal(dataset.dense(again.X), dataset.dense(screen.X))
    a, b = (counts_of(arm(screen, g), "gene_5") for g in ("gene_0", "gene_1"))
    assert abs(scipy.stats.pearsonr(a, b)[0]) < 4.5 / np.sqrt(300)


def test_bad_arms_raise_one_line(base):
    with pytest.raises(ValueError, match="'nonsense'") as error:
        conditional.arms(base, ["nonsense"], n_cells=5, seed=0)
    assert "\n" not in str(error.value)


def test_mean_of_perturbed_is_the_law_of_the_drawn_counts_of_all_perturbed_cells(screen):
    mean = models.MeanOfPerturbed().fit(screen)
    cells = arm(screen, "control")
    for gene in ("child_a", "gene_1"):
        rows = ~screen.obs["perturbed"].isin(["control", gene]).to_numpy()
        expected = maximum_likelihood.fit(counts_of(screen, gene)[rows][:, None])
        law = mean.law_of(cells, gene)
        assert law.shape == (cells.n_obs,)
        for name in ("mu", "theta", "pi"):
            np.testing.assert_allclose(getattr(law, name), getattr(expected, name)[0], rtol=1e-6)
    set_to = counts_of(arm(screen, "gene_1"), "gene_1").mean()
    assert mean.law_of(cells, "gene_1").mean[0] < set_to / 2


def test_mean_of_perturbed_needs_perturbed_cells(base):
    with pytest.raises(ValueError, match="no perturbed cells") as error:
        models.MeanOfPerturbed().fit(base)
    assert "\n" not in str(error.value)


def pseudobulk(screen, names):
    counts = [dataset.dense(arm(screen, name).X).astype(float) for name in names]
    return np.column_stack([np.log1p(c).mean(0) for c in counts])


def test_bilinear_weights_are_the_stationary_point_of_the_two_ridges(screen):
    names, penalty = ["control", *GENES[:5]], 0.1
    model = models.Bilinear(n_components=3, penalty=penalty).fit(screen)
    y = pseudobulk(screen, names)
    change = y - y[:, :1]
    g = model.embedding
    p = np.vstack([np.zeros(3), g[[list(screen.var_names).index(n) for n in names[1:]]]])
    # of |Y - GWP'|^2 + l |WP'|^2 + l |GW|^2 + l^2 |W|^2, which a ridge on each side minimises
    residual = change - change.mean(1, keepdims=True) - g @ model.weights @ p.T
    w = model.weights
    gradient = -g.T @ residual @ p + penalty * (w @ p.T @ p + g.T @ g @ w) + penalty**2 * w
    np.testing.assert_allclose(gradient, 0, atol=1e-8)
    assert np.abs(g.T @ residual @ p).max() > 1e-4  # so that the penalty counts


def test_bilinear_embedding_has_the_principal_components_of_the_pseudobulk(screen):
    from sklearn.decomposition import PCA

    y = pseudobulk(screen, ["control", *GENES[:5]])
    expected = PCA(3).fit_transform(y)
    found = models.Bilinear(3).fit(screen).embedding
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-3, atol=1e-5)


def test_bilinear_without_penalty_is_the_projection_onto_both_embeddings(screen):
    # what the arms' embeddings can express of the changes, by pseudo-inverses
    model = models.Bilinear(5, penalty=1e-12).fit(screen)
    y = pseudobulk(screen, ["control", *GENES[:5]])
    g, offset = model.embedding, (y - y[:, :1]).mean(1)
    design = np.vstack([np.zeros(5), g[:5]])
    change = y - y[:, :1] - offset[:, None]
    projected = g @ np.linalg.pinv(g) @ change @ np.linalg.pinv(design.T) @ design.T
    for column, name in enumerate(GENES[:5], start=1):
        np.testing.assert_allclose(model.effect(name), projected[:, column] + offset, atol=1e-6)


def test_bilinear_predicts_means_adds_singles_and_leaves_controls_alone(screen, base):
    model, cells = models.Bilinear().fit(screen), dataset.fresh_cells(base, 4, seed=9)
    logs = np.log1p(counts_of(arm(screen, "control"), "child_a").astype(float)).mean()
    labelled = with_labels(cells, ["control", "gene_0", "gene_5", "gene_0+gene_5"])
    mean = model.means(labelled, "child_a")
    assert mean.shape == (4,)
    change = np.log1p(mean) - logs
    assert change[0] == pytest.approx(0, abs=1e-12)
    assert change[3] == pytest.approx(change[1] + change[2])
    np.testing.assert_allclose(model.means(cells, "child_a"), np.expm1(logs), rtol=1e-12)


def test_bilinear_with_smearing_is_right_about_means_where_the_spread_is_the_same_in_every_arm(
    base,
):
    screen = conditional.arms(base, GENES[:5], n_cells=2000, seed=3)
    control = arm(screen, "control").copy()
    factor = {}
    counts = counts_of(control, "gene_5")  # which is in no arm, and nobody's child
    for smearing in (True, False):
        model = models.Bilinear(smearing=smearing).fit(screen)
        factor[smearing] = model.means(control, "gene_5")[0] / counts.mean()
        logs = model.log1p_means(control, "gene_5")[0]
        np.testing.assert_allclose(logs, np.log1p(counts).mean(), rtol=1e-5)
    assert factor[True] == pytest.approx(1, abs=0.06) and factor[False] < 0.8


def test_bilinear_knows_no_dose(screen, base):
    model = models.Bilinear().fit(screen)
    series = perturb.dose_series(base, {"gene_0": [0, 5, 50]}, cells=[0, 1])
    assert len(np.unique(model.means(series, "child_a"))) == 1


def test_bilinear_finds_a_direction_shared_by_arms_it_has_not_seen():
    """Genes are in two modules, and an arm raises its own: which foretells an arm left out."""
    rng, n = np.random.default_rng(0), 12
    module = np.arange(n) % 2
    labels = np.repeat(["control", *(f"gene_{i:02d}" for i in range(n - 1))], 200)
    mean = np.full((len(labels), n), 5.0)
    for i in range(n - 1):
        mean[labels == f"gene_{i:02d}"] = 5 + 10 * (module == module[i])
    adata = dataset.base_genes(len(labels), n, None, seed=1)
    adata.X = type(adata.X)(rng.poisson(mean).astype(np.float32))
    model = models.Bilinear(2).fit(with_labels(adata, labels))
    left_out = with_labels(adata[:1], [f"gene_{n - 1}"])
    predicted = [model.means(left_out, gene)[0] for gene in adata.var_names]
    np.testing.assert_allclose(predicted, 5 + 10 * (module == module[-1]), rtol=0.15)


def test_bilinear_needs_controls_and_two_arms_and_known_genes(screen):
    labels = screen.obs["perturbed"].astype(str)
    for wrong, named in (
        (arm(screen, "control").copy(), "two arms"),
        (screen[(labels != "control").to_numpy()].copy(), "control cells"),
        (with_labels(screen, labels.replace("gene_0", "nonsense").to_numpy()), "'nonsense'"),
    ):
        with pytest.raises(ValueError, match=named) as error:
            models.Bilinear().fit(wrong)
        assert "\n" not in str(error.value)
