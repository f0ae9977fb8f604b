import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sparse
import scipy.stats
import torch

from lib import dataset, perturb
from lib.laws import ZINB, Mixture, maximum_likelihood
from lib.predict import drug, guard, references
from lib.predict.base import Perturbation, Query
from lib.score import distances
from tests.agreement import one_line

torch.set_num_threads(1)

# mean counts of three genes in (cell type, drug); C is never seen treated, D never as control
MEANS = {
    ("A", "control"): (4, 9, 2),
    ("A", "x"): (12, 9, 1),
    ("B", "control"): (6, 3, 5),
    ("B", "x"): (9, 12, 6),
    ("C", "control"): (80, 60, 70),
    ("D", "x"): (500, 400, 300),
}
SIZES = {
    ("A", "control"): 10,
    ("A", "x"): 200,
    ("B", "control"): 150,
    ("B", "x"): 5,
    ("C", "control"): 100,
    ("D", "x"): 30,
}


def cells(groups, seed=0):
    """Poisson counts of the (cell type, drug)s named in `groups`, their cells in a random order."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation([i for i, g in enumerate(groups) for _ in range(SIZES[g])])
    counts = rng.poisson(np.array([MEANS[g] for g in groups])[rows]).astype(np.float32)
    obs = pd.DataFrame([groups[i] for i in rows], columns=["cell_type", "drug"], dtype="category")
    obs.index = [f"cell_{i}" for i in range(len(rows))]
    var = pd.DataFrame(index=["g0", "g1", "g2"])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


def counts_of(adata, cell_type, drug):
    rows = (adata.obs["cell_type"] == cell_type) & (adata.obs["drug"] == drug)
    return adata.X.toarray()[rows.to_numpy()]


@pytest.fixture(scope="module")
def unbalanced():
    return cells(list(MEANS))


DRUG = Perturbation("x")


def asked(control, perturbation=DRUG):
    return Query(control, list(control.var_names), perturbation)


def law_of(model, control, perturbation=DRUG):
    """What a model says of every gene."""
    return model.predict(asked(control, perturbation))


def tiny(max_epochs=2, **options):
    training_options = {"max_epochs": max_epochs, "batch_size": 64} | options
    return drug.LatentArithmetic(
        vae_options={"n_latent": 3, "n_hidden": 16},
        training_options=training_options,
        device="cpu",
        seed=1,
    )


@pytest.fixture(scope="module")
def latent(unbalanced):
    return tiny().fit(unbalanced)


def trial(kind, effect, n_cells=10_000, n_genes=5, **options):
    """Training cells, with type C never treated; control cells of C; true laws of C, treated."""
    control = dataset.base_genes(n_cells, n_genes, n_cell_types=3, **options)
    seen = dataset.fresh_cells(control[control.obs["cell_type"] != "C"], n_cells, seed=2)
    test = dataset.fresh_cells(control[control.obs["cell_type"] == "C"], 500, seed=3)
    true = dataset.law(test)[0]
    true.mu = true.mu + effect if kind == "additive" else true.mu * effect
    return dataset.concat([control, perturb.treat(seen, kind, effect, seed=4)]), test, true


@pytest.mark.parametrize(
    ("right", "wrong", "kind", "effect", "options"),
    [
        (drug.MeanShift, drug.FoldChange, "additive", 5.0, {"target_zero_prob": None}),
        (
            drug.MeanShift,
            drug.NoChange,
            "additive",
            5.0,
            {"target_zero_prob": 0.6, "marker_fraction": 0.0},
        ),  # pi > 0, the same in all
        (drug.FoldChange, drug.MeanShift, "fold_change", 3.0, {"target_zero_prob": None}),
        (drug.FoldChange, drug.MeanShift, "fold_change", 0.3, {"target_zero_prob": 0.8}),
    ],
)
def test_arithmetic_on_means_is_exact_for_the_drug_of_its_own_form(
    right, wrong, kind, effect, options
):
    train, test, true = trial(kind, effect, seed=1, **options)
    kl, of_wrong = (
        distances.between(true, law_of(model().fit(train), test))["kl_nats"]
        for model in (right, wrong)
    )
    assert (kl < 2e-3).all()
    assert of_wrong.max() > 0.1  # in some gene, and so the drug and the threshold mean something


def test_oracle_is_the_true_law():
    train, test, true = trial("additive", 5.0, n_cells=50, seed=1)
    oracle = references.Oracle().fit(train)
    law = law_of(oracle, test, Perturbation("additive"))
    assert (distances.between(true, law) == 0).all(axis=None)
    some = oracle.predict(Query(test, ["gene_3", "gene_1"], Perturbation("additive")))
    np.testing.assert_array_equal(some.mu, true.mu[[3, 1]])
    stronger = law_of(oracle, test, Perturbation("additive", 2.0))
    np.testing.assert_allclose(stronger.mu, true.mu + 5.0)


@pytest.mark.parametrize("cell_type", ["A", "C"])
def test_no_change_is_the_fit_to_the_controls_of_that_type_alone(unbalanced, cell_type):
    given = cells([(cell_type, "control")], seed=1)
    law = law_of(drug.NoChange().fit(unbalanced), given)
    expected = maximum_likelihood.fit(
        np.concatenate([counts_of(unbalanced, cell_type, "control"), given.X.toarray()])
    )
    for p in ("mu", "theta", "pi"):
        np.testing.assert_allclose(getattr(law, p), getattr(expected, p), rtol=1e-6, atol=1e-9)


def test_no_change_in_a_type_without_training_controls_has_the_given_cells(unbalanced):
    train = unbalanced[unbalanced.obs["cell_type"] != "C"]
    given = cells([("C", "control")], seed=1)
    np.testing.assert_allclose(
        law_of(drug.NoChange().fit(train), given).mean, given.X.toarray().mean(0), rtol=1e-3
    )


def test_effects_weigh_the_types_seen_both_ways_equally(unbalanced):
    before, after = (
        np.array([counts_of(unbalanced, t, drug).mean(0) for t in "AB"], dtype=float)
        for drug in ("control", "x")
    )
    np.testing.assert_allclose(
        drug.MeanShift().fit(unbalanced).shift, (after - before).sum(0) / 2, rtol=1e-5
    )
    fold = np.sqrt((after / before).prod(0))  # geometric mean
    np.testing.assert_allclose(drug.FoldChange().fit(unbalanced).fold, fold, rtol=1e-5)


def test_effects_are_applied_to_the_mean_of_the_type_asked_for(unbalanced):
    given = cells([("C", "control")], seed=1)
    before = law_of(drug.NoChange().fit(unbalanced), given)
    shifted, scaled = (kind().fit(unbalanced) for kind in (drug.MeanShift, drug.FoldChange))
    np.testing.assert_allclose(law_of(shifted, given).mean, before.mean + shifted.shift)
    np.testing.assert_allclose(law_of(scaled, given).mean, before.mean * scaled.fold)
    for model in (shifted, scaled):
        np.testing.assert_array_equal(law_of(model, given).theta, before.theta)


def test_a_shift_below_0_ends_in_a_law_near_0(unbalanced):
    model = drug.MeanShift().fit(unbalanced)
    model.shift = np.array([-1000.0, 0.0, 0.0])
    mean = law_of(model, cells([("C", "control")])).mean
    assert 0 < mean[0] <= 1e-3 and (mean[1:] > 50).all()


def latents_by_hand(vae, adata):
    x = torch.log1p(torch.as_tensor(adata.X.toarray()))
    with torch.no_grad():
        both = vae.module.encoder(torch.cat([x, torch.ones_like(x)], dim=1))
    return both[:, : vae.module.n_latent].double().numpy()


def test_latent_effect_is_the_difference_of_mean_latents_types_weighed_equally(unbalanced, latent):
    z = latents_by_hand(latent.vae, unbalanced)
    keys = [unbalanced.obs[column].to_numpy() for column in ("cell_type", "drug")]
    mean = pd.DataFrame(z).groupby(keys).mean()
    of_a, of_b = (mean.loc[(t, "x")] - mean.loc[(t, "control")] for t in "AB")
    by_hand = (of_a + of_b) / 2
    np.testing.assert_allclose(latent.effect, by_hand, rtol=1e-4, atol=1e-6)
    assert np.abs(latent.effect).max() > 0.01


def test_latent_prediction_is_the_mixture_over_the_cells_moved_by_the_effect(latent):
    given = cells([("C", "control")], seed=1)
    z = torch.as_tensor(latents_by_hand(latent.vae, given) + latent.effect, dtype=torch.float32)
    with torch.no_grad():
        mu, theta, logit = (p.double().numpy() for p in latent.vae.module.generative(z))
    law, pi, k = law_of(latent, given), 1 / (1 + np.exp(-logit)), np.arange(200)[:, None, None]
    nb = scipy.stats.nbinom.pmf(k, theta, theta / (theta + mu))
    pmf = np.mean((1 - pi) * nb + pi * (k == 0), axis=1)
    assert law.shape == (3,) and law.components.shape == (100, 3)
    np.testing.assert_allclose(law.pmf_table(200).T, pmf, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(law.mean, ((1 - pi) * mu).mean(0), rtol=1e-5)


def test_latent_arithmetic_learns_a_drug_that_acts_on_all_genes():
    train, test, true = trial(
        "additive", 10.0, n_cells=400, n_genes=20, seed=1, target_zero_prob=None
    )
    model = tiny(max_epochs=8, warmup=4).fit(train)
    no_change = law_of(drug.NoChange().fit(train), test)
    moved, unmoved = law_of(model, test), Mixture(model.vae.reconstruct(test))
    kl, kl_unmoved, kl_no_change = (
        distances.between(true, law)["kl_nats"].mean() for law in (moved, unmoved, no_change)
    )
    assert kl < kl_no_change / 10 and kl < kl_unmoved / 5  # it is the effect that does it


@pytest.mark.parametrize("model", [drug.MeanShift(), drug.FoldChange(), tiny()])
def test_without_a_type_seen_both_ways_the_error_says_so(model):
    with pytest.raises(ValueError) as error:
        model.fit(cells([("A", "control"), ("D", "x")]))
    one_line(error, "adata", "cell type", "control and treated")


def test_cells_in_another_gene_order_are_refused():
    control = dataset.base_genes(60, 4, None, seed=1)
    train = dataset.concat([control, perturb.additive(control, 5.0, seed=2)])
    for model in (
        drug.NoChange(),
        drug.MeanShift(),
        drug.LatentArithmetic(training_options={"max_epochs": 2}),
    ):
        with pytest.raises(ValueError, match="in that order"):
            law_of(model.fit(train), control[:, ::-1].copy())


def test_dense_counts_give_the_same_control_law():
    control = dataset.base_genes(60, 4, None, seed=1)
    dense = control.copy()
    dense.X = control.X.toarray()
    np.testing.assert_array_equal(
        law_of(drug.NoChange().fit(dense), dense).mu,
        law_of(drug.NoChange().fit(control), control).mu,
    )


def test_the_oracle_refuses_cells_of_two_types():
    control = dataset.base_genes(10, 4, n_cell_types=2, seed=1)
    with pytest.raises(ValueError, match="one type"):
        law_of(references.Oracle().fit(control), control)


class Says:
    def __init__(self, prediction):
        self.prediction = prediction

    def predict(self, control):
        return self.prediction


@pytest.mark.parametrize(
    ("prediction", "part"),
    [
        (np.ones(3), "shape (3,)"),
        (np.ones((5, 4)), "shape (5, 4)"),
        (np.full((5, 3), -1), "negative values for x in control cells, the first -1"),
        (np.full((5, 3), np.nan), "NaN or infinite values for x in control cells"),
        (np.full((5, 3), 0.5), "fractional draws for x in control cells, the first 0.5"),
        ("much", "a str"),
        (ZINB(np.ones(4), 1.0, 0.1), "laws of shape (4,)"),
    ],
)
def test_what_is_no_answer_about_a_drug_is_refused_in_one_line(unbalanced, prediction, part):
    with pytest.raises(ValueError) as error:
        guard.answer(Says(prediction), asked(unbalanced), "mine")
    one_line(error, "mine: predicts", part, "must be")


def test_cells_and_laws_are_answers_about_a_drug(unbalanced):
    made = guard.load("model", "tests.models_of_ones_own:DrugCells")
    mine = guard.own(made, [], 3).fit(unbalanced)
    answer = mine.predict(asked(unbalanced))
    np.testing.assert_array_equal(answer.counts, mine.model.predict(unbalanced))
    np.testing.assert_allclose(answer.mean, mine.model.predict(unbalanced).mean(0))
    one_type = unbalanced[unbalanced.obs["cell_type"] == "A"].copy()
    model = drug.NoChange().fit(unbalanced)
    found, expected = guard.answer(model, asked(one_type)), law_of(model, one_type)
    np.testing.assert_array_equal(found.mu, expected.mu)


def test_a_simple_model_may_ask_what_was_done(unbalanced):
    class Told(Says):
        def predict(self, control, perturbation):
            return np.full((5, 3), perturbation.strength)

    assert (guard.answer(Told(None), asked(unbalanced, Perturbation("x", 4.0))).mean == 4).all()
