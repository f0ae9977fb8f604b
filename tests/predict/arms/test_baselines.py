import anndata as ad
import numpy as np
import pytest

from lib.predict.arms import baselines as models
from lib.predict.arms.pseudobulk import Pseudobulk
from tests.predict.arms.screens import query, screen

CONTROL = np.array([100, 200, 50, 400, 100, 50, 50, 50])  # of 1,000 molecules
OTHER = np.array([200, 100, 50, 400, 100, 50, 50, 50])


def folded(control, **folds):
    """Means with some genes' folds, at the controls' total: gene 3 makes up for it."""
    mean = control.astype(float)
    for gene, fold in folds.items():
        mean[int(gene[1:])] *= fold
    mean[3] += control.sum() - mean.sum()
    return mean


def values(model, *asked, **how):
    return model.predict(query(*asked, **how)).values


@pytest.fixture(scope="module")
def exact():
    """Arms without noise: counts are the means."""
    arms = {"g0": folded(CONTROL, g0=0.2, g4=2), "g1": folded(CONTROL, g1=0.2, g4=3, g5=0.5)}
    return screen(arms, CONTROL, n_cells=10_000, n_control=100)


def test_no_change_is_the_mean_count_of_the_controls_in_the_query(exact):
    np.testing.assert_allclose(values(models.NoChange().fit(exact), exact, "g7"), CONTROL)


def test_perturbed_mean_by_hand_leaves_out_what_was_perturbed_itself_and_weighs_cells():
    first = screen({"g0": folded(CONTROL, g0=0.2, g4=2)}, CONTROL, n_cells=30)
    pair = screen({"g0+g1": folded(CONTROL, g1=0.2, g4=5)}, CONTROL, n_cells=10)
    pair = pair[(pair.obs["perturbation"] != "control").to_numpy()]
    second = screen({"g1": folded(OTHER, g0=3, g4=1)}, OTHER, cell_type="B", n_cells=5)
    both = ad.concat([first, pair, second], index_unique="-")
    model = models.PerturbedMean().fit(both)
    fold = values(model, both, "g6") / CONTROL
    # gene 4 has 100 counts in controls of both types; gene 0 was perturbed in all cells of A
    assert fold[4] == pytest.approx((30 * 2 + 10 * 5 + 5 * 1) / 45, rel=1e-6)
    assert fold[0] == pytest.approx(3, rel=1e-6)
    assert fold[1] == pytest.approx(1, rel=1e-6)  # 1 in the 30 cells of A, perturbed in the others
    np.testing.assert_allclose(values(model, both, "g6", cell_type="B") / OTHER, fold)


def test_perturbed_mean_needs_perturbed_cells():
    with pytest.raises(ValueError, match="perturbed cells"):
        models.PerturbedMean().fit(screen({}, CONTROL))


def test_additive_is_exact_without_noise_in_another_cell_type_and_at_other_strengths(exact):
    other = screen({}, OTHER, cell_type="B")
    both = ad.concat([exact, other], index_unique="-")
    model = models.Additive().fit(both)
    fold = np.array([0.2, 0.2, 1, np.nan, 6, 0.5, 1, 1])  # gene 3 only makes up for the total
    for cell_type, control in (("A", CONTROL), ("B", OTHER)):
        found = values(model, both, "g0+g1", cell_type=cell_type) / control
        np.testing.assert_allclose(found[[0, 1, 2, 4, 5, 6, 7]], fold[[0, 1, 2, 4, 5, 6, 7]], 3e-3)
    weaker = values(model, both, "g1", strength=0.4) / CONTROL
    assert weaker[4] == pytest.approx(3 ** (np.log(0.6) / np.log(0.2)), rel=2e-3)
    assert weaker[1] == pytest.approx(0.6, rel=2e-3)
    activated = values(model, both, "g1", kind="activation", strength=5) / CONTROL
    np.testing.assert_allclose(activated[[1, 4, 5]], [5, 1 / 3, 2], rtol=5e-3)


def test_additive_has_no_answer_about_a_gene_without_an_arm_of_its_own(exact):
    for name in ("g2", "g0+g2", "g2+g5"):
        with pytest.raises(NotImplementedError, match="g2"):
            models.Additive().fit(exact).predict(query(exact, name))


def test_arms_of_the_same_type_and_strength_come_before_others():
    weak, strong = folded(CONTROL, g4=1.5), folded(CONTROL, g4=4)
    cells = screen({("g0", "knockdown", 0.4): weak, "g0": strong}, CONTROL, n_cells=10_000)
    model = models.Additive().fit(cells)
    for strength, fold in ((0.4, 1.5), (0.8, 4)):
        found = values(model, cells, "g0", strength=strength)[4] / CONTROL[4]
        assert found == pytest.approx(fold, rel=3e-3)
    between = values(model, cells, "g0", strength=0.6)[4] / CONTROL[4]
    scale = np.log(0.4) / np.log([0.6, 0.2])
    assert between == pytest.approx(np.exp((scale * np.log([1.5, 4])).mean()), rel=5e-3)


def test_an_arm_at_strength_0_tells_of_others_at_strength_0_alone():
    cells = screen({("g0", "knockdown", 0.0): CONTROL}, CONTROL)
    model = models.Additive().fit(cells)
    np.testing.assert_allclose(values(model, cells, "g0", strength=0.0), CONTROL)
    with pytest.raises(NotImplementedError, match="an arm of g0 at strength 0"):
        model.predict(query(cells, "g0", strength=0.8))


def test_deviations_from_the_mean_are_of_means_at_one_total():
    """Arms that are alike but for how deep their cells are read have no deviation."""
    control = np.full(8, 100.0)
    arms = {f"g{i}": control * depth for i, depth in enumerate((0.5, 1, 2))}
    model = models.ShrunkenAdditive().fit(screen(arms, control, n_cells=1000))
    deviations = model._deviation(query(screen(arms, control), "g0+g2").perturbation, "A")
    np.testing.assert_allclose(deviations[3:], 0, atol=0.01)


def test_shrinkage_leaves_nothing_of_noise_and_all_of_what_has_none():
    rng = np.random.default_rng(1)
    variance = np.full((60, 400), 0.04)
    noise = rng.normal(0, 0.2, variance.shape)
    assert (models.shrinkage(noise, variance) ** 2 * noise**2).mean() < 0.02 * 0.04
    effects = rng.normal(0, 1, variance.shape)
    assert models.shrinkage(effects, 1e-9 * variance).min() > 0.999
    # half of each: what is best is a half, and it is known from many arms and genes
    mixed = rng.normal(0, 0.2, variance.shape) + noise
    assert np.median(models.shrinkage(mixed, variance)) == pytest.approx(0.5, abs=0.03)


def test_noise_variance_is_that_of_many_repeated_arms():
    rng = np.random.default_rng(2)
    mean, theta, n_arms = np.array([0.5, 2.0, 20.0]), 5.0, 2000
    mean = np.append(mean, 1000.0)  # so that totals hardly differ
    shape = (n_arms * 20, 4)
    counts = rng.poisson(rng.gamma([theta, theta, theta, 1e6], size=shape) * mean / [5, 5, 5, 1e6])
    cells = screen({f"g{i}": mean for i in range(n_arms)}, mean, n_cells=20, n_control=20_000)
    control = rng.poisson(rng.gamma([5, 5, 5, 1e6], size=(20_000, 4)) * mean / [5, 5, 5, 1e6])
    cells.X = type(cells.X)(np.vstack([control, counts]).astype(np.float32))
    bulk = Pseudobulk.of(cells)
    phi = models.control_dispersions(cells)
    np.testing.assert_allclose(phi[:3], 0.2, atol=0.06)
    said = models.noise_variance(bulk, phi)
    # the controls' own error is shared by all arms
    np.testing.assert_allclose(bulk.folds().var(axis=0)[1:3], said.mean(axis=0)[1:3], rtol=0.15)


def test_shrunken_additive_comes_to_the_mean_in_noise_and_to_the_sum_without(exact):
    rng = np.random.default_rng(3)
    control = np.full(40, 5.0)
    arms = {f"g{i}": control for i in range(25)}
    noisy = screen(arms, control, rng=rng, n_cells=30)
    errors = {}
    for kind in (models.Additive, models.ShrunkenAdditive):
        found = values(kind().fit(noisy), noisy, "g0+g1")[2:] / 5
        errors[kind] = (np.log(found) ** 2).mean()
    assert errors[models.ShrunkenAdditive] < 0.1 * errors[models.Additive]
    arms = {f"g{i}": folded(CONTROL, g4=fold) for i, fold in ((0, 2), (1, 3), (2, 0.5))}
    many = screen(arms, CONTROL, n_cells=20_000, n_control=1000)
    model = models.ShrunkenAdditive().fit(many)
    mean = np.log(np.mean([2, 3, 0.5]))
    # what all share counts once in a pair; a gene without an arm adds nothing
    assert np.log(values(model, many, "g0")[4] / 100) == pytest.approx(np.log(2), abs=0.01)
    both = np.log(values(model, many, "g0+g1")[4] / 100)
    assert both == pytest.approx(np.log(2) + np.log(3) - mean, abs=0.02)
    one = np.log(values(model, many, "g0+g5")[4] / 100)
    assert one == pytest.approx(np.log(2), abs=0.02)
    assert np.log(values(model, many, "g5+g6")[4] / 100) == pytest.approx(mean, abs=0.01)
    with pytest.raises(NotImplementedError, match="g5"):
        model.predict(query(many, "g5"))


def test_the_factor_of_pairs_is_what_comes_again_of_single_effects():
    control = np.where(np.arange(8) == 3, 10**5, CONTROL)  # so that totals hardly differ
    arms = {f"g{i}": folded(control, g4=2.0 ** (i - 1)) for i in range(3)}
    mean = np.mean([0.5, 1, 2])
    for again in (0.0, 0.5, 1.0):
        trained = dict(arms)
        for _ in range(3):  # the pair moves the mean, which moves the pair
            pair = mean * np.exp(again * (np.log(2 * 1) - 2 * np.log(mean)))
            pair = np.round(pair, 2)  # of 100 molecules
            trained["g1+g2"] = folded(control, g4=pair)
            mean = np.mean([0.5, 1, 2, pair])
        cells = screen(trained, control, n_cells=20_000)
        model = models.ShrunkenAdditive().fit(cells)
        assert model.repeated == pytest.approx(again, abs=0.1)
        found = values(model, cells, "g1+g2")[4] / 100
        assert found == pytest.approx(pair, rel=0.03)
