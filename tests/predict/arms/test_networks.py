import anndata as ad
import numpy as np
import pytest

from lib.laws import ZINB
from lib.predict.arms import networks as models
from lib.predict.arms.answers import answer
from tests.predict.arms.screens import query, screen

N = 12
SMALL = {"n_hidden": 32, "n_latent": 3}
FAST = {"max_epochs": 12, "batch_size": 128}


def made(kind):
    return kind(vae_options=SMALL, training_options=FAST, device="cpu", seed=1)


@pytest.fixture(scope="module")
def cells():
    """Arms of one gene raise three genes each; a program moves half of all genes in all cells."""
    rng = np.random.default_rng(1)
    control = rng.uniform(4, 12, N)
    folds = np.ones((4, N))
    for arm in range(4):
        folds[arm, 2 * arm + 4 : 2 * arm + 6] = 3.0
        folds[arm, arm] = 0.2
    parts = []
    for cell_type, of_type in (("A", control), ("B", control[::-1])):
        arms = {f"g{i}": of_type * folds[i] for i in range(4) if cell_type == "A" or i < 2}
        parts.append(
            screen(arms, of_type, rng=rng, n_cells=200, n_control=500, cell_type=cell_type)
        )
    both = ad.concat(parts, index_unique="-")
    both.varm["prior"] = np.eye(N)
    return both


@pytest.fixture(scope="module")
def fitted(cells):
    kinds = models.LatentArithmetic, models.ConditionalVAE
    return {kind: made(kind).fit(cells) for kind in kinds}


def fold(model, cells, name, cell_type="A", **how):
    asked = query(cells, name, cell_type=cell_type, **how)
    found = answer(model, asked)
    assert found.scale == "counts" and found.values.shape == asked.cells.shape
    return found.values.mean(axis=0) / np.asarray(asked.cells.X.mean(axis=0)).ravel()


@pytest.mark.parametrize("kind", [models.LatentArithmetic, models.ConditionalVAE])
def test_an_arm_is_learned_carried_to_another_cell_type_and_added_in_pairs(fitted, cells, kind):
    model = fitted[kind]
    seen = fold(model, cells, "g0")
    assert seen[4:6].min() > 2 and np.abs(np.log(seen[6:])).max() < 0.4
    assert seen[0] < 0.5
    other = fold(model, cells, "g3", cell_type="B")  # there no arm of g3 was seen
    assert other[10:12].min() > 1.3
    pair = fold(model, cells, "g0+g1")
    assert pair[4:8].min() > 1.4


@pytest.mark.parametrize("kind", [models.LatentArithmetic, models.ConditionalVAE])
def test_a_model_answers_the_same_again(fitted, cells, kind):
    first, again = (fitted[kind].predict(query(cells, "g1")).values for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_strength_is_told_to_the_conditional_vae_alone(fitted, cells):
    weaker = fold(fitted[models.ConditionalVAE], cells, "g0", strength=0.4)
    assert 1.1 < weaker[4:6].mean() < fold(fitted[models.ConditionalVAE], cells, "g0")[4:6].mean()
    with pytest.raises(NotImplementedError, match="strengths"):
        fitted[models.LatentArithmetic].predict(query(cells, "g0", strength=0.4))


def test_what_they_have_no_answer_to(fitted, cells):
    with pytest.raises(NotImplementedError, match="g5"):
        fitted[models.LatentArithmetic].predict(query(cells, "g5"))
    with pytest.raises(NotImplementedError, match="elsewhere"):
        fitted[models.ConditionalVAE].predict(query(cells, "elsewhere"))
    assert np.isfinite(fold(fitted[models.ConditionalVAE], cells, "g5")).all()
    without = cells.copy()
    del without.varm["prior"]
    with pytest.raises(NotImplementedError, match="prior"):
        made(models.ConditionalVAE).fit(without)


def test_cells_drawn_have_the_expected_sums_and_their_law(cells):
    asked = query(cells, "g0")
    rng, n = np.random.default_rng(2), 4000
    law = ZINB(rng.uniform(0.01, 8, (n, N)), np.full((n, N), 2.0), np.full((n, N), 0.2))
    counts = models.drawn(law, asked, rng).values
    np.testing.assert_array_equal(counts.sum(axis=0), np.round(law.mean.sum(axis=0)))
    assert counts.min() == 0 and (counts == np.floor(counts)).all()
    exact = law.mean * (1 + law.mu * (1 / 2.0 + 0.2))  # (1 - pi) mu (1 + mu / theta + pi mu)
    spread = exact.mean(axis=0) + law.mean.var(axis=0)
    np.testing.assert_allclose(counts.var(axis=0), spread, rtol=0.12)
