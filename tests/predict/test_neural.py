import copy

import numpy as np
import pytest
import scipy.stats
import torch

from lib import dataset, perturb, training
from lib.laws import Mixture
from lib.neural import dependency_terms
from lib.predict import neural, references
from lib.score import distances
from tests.agreement import one_line
from tests.predict.test_regressions import GENES, PARENTS, table, with_other_counts

torch.set_num_threads(1)


def tiny_vae(inputs=None, **options):
    training_options = {"max_epochs": 2, "batch_size": 256}
    vae_options = {"n_latent": 3, "n_hidden": 16} | options.pop("vae_options", {})
    return neural.VAE(
        inputs, vae_options=vae_options, training_options=training_options, device="cpu", **options
    )


def tiny_mlp(inputs=None, **options):
    return neural.MLP(
        inputs,
        module_options={"n_hidden": 16},
        training_options={"max_epochs": 3, "batch_size": 256},
        device="cpu",
        **options,
    )


def tiny_dependency_network(inputs=None, **options):
    return neural.DependencyNetworks(
        inputs,
        n_steps=100,
        training_options={"batch_size": 500, "learning_rate": 0.05},
        device="cpu",
        **options,
    )


def tiny_ensemble(inputs=None, seed=0):
    return neural.Ensemble(lambda s: tiny_mlp(inputs, seed=s), 2, seed)


KINDS = {
    "vae": tiny_vae,
    "mlp": tiny_mlp,
    "dependency_network": tiny_dependency_network,
    "ensemble": tiny_ensemble,
}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_network = pytest.mark.parametrize("kind", [k for k in KINDS if k != "ensemble"])


@pytest.fixture(scope="module")
def train():
    base = dataset.base_genes(1000, 4, 0.4, mu_range=(4, 10), seed=1)
    weights = {"weights": np.array([1.5, 0.5, 1.0])}
    return dataset.get_mech_dataset(
        base,
        "linear",
        gene="mech",
        parents=PARENTS,
        parameters=weights,
        target_zero_prob=0.3,
        seed=1,
    )


@pytest.fixture(scope="module")
def cells(train):
    return dataset.fresh_cells(train, 150, seed=2)


@pytest.fixture(scope="module")
def fitted(train):
    return {name: kind().fit(train) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def fitted_to_two(train):
    return {name: kind(["gene_0", "gene_1"]).fit(train) for name, kind in KINDS.items()}


@every_kind
@pytest.mark.parametrize("gene", ["mech", "gene_3"])
def test_a_prediction_is_one_proper_law_a_cell(fitted, cells, kind, gene):
    law = fitted[kind].law_of(cells[:40].copy(), gene)
    assert law.shape == law.mean.shape == (40,)
    pmf = law[:, None].pmf(np.arange(5000))
    assert (pmf >= 0).all()
    np.testing.assert_allclose(pmf.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(pmf @ np.arange(5000), law.mean, rtol=1e-3)


@every_kind
@pytest.mark.parametrize("gene", ["mech", "gene_0"])
def test_no_prediction_sees_the_count_that_it_predicts(fitted, cells, kind, gene):
    before, after = (
        table(fitted[kind].law_of(c, gene)) for c in (cells, with_other_counts(cells, [gene]))
    )
    np.testing.assert_array_equal(before, after)


@every_kind
def test_a_prediction_follows_the_inputs_and_no_other_gene(fitted_to_two, cells, kind):
    before, other, seen = (
        table(fitted_to_two[kind].law_of(with_other_counts(cells, genes), "mech"))
        for genes in ([], ["gene_2", "gene_3", "mech"], ["gene_0"])
    )
    np.testing.assert_array_equal(before, other)
    assert not np.array_equal(before, seen)


@every_kind
def test_one_seed_gives_one_prediction_to_the_byte_and_another_seed_another(
    fitted, train, cells, kind
):
    first, again, same, other = (
        table(m.law_of(cells, "mech")).tobytes()
        for m in (
            fitted[kind],
            fitted[kind],
            KINDS[kind]().fit(train),
            KINDS[kind](seed=1).fit(train),
        )
    )
    assert first == again == same != other


@every_kind
def test_fitting_and_prediction_leave_global_random_states_and_cells_alone(train, cells, kind):
    copies, torch_state, numpy_state = (
        (train.copy(), cells.copy()),
        torch.get_rng_state(),
        np.random.get_state()[1].copy(),
    )
    KINDS[kind]().fit(train).law_of(cells, "mech")
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    for before, now in zip(copies, (train, cells)):
        np.testing.assert_array_equal(dataset.dense(before.X), dataset.dense(now.X))


@every_kind
def test_what_it_cannot_predict_raises_one_line(fitted, cells, train, kind):
    with pytest.raises(ValueError) as error:
        fitted[kind].law_of(cells, "nonsense")
    one_line(error, "gene = 'nonsense'")
    for wrong in (
        cells[:, GENES[::-1]].copy(),
        cells[:, [g for g in GENES if g != "gene_1"]].copy(),
    ):
        with pytest.raises(ValueError) as error:
            fitted[kind].law_of(wrong, "mech")
        one_line(
            error, "adata: its genes must be those that the model was fitted to, in that order"
        )
    with pytest.raises(ValueError) as error:
        KINDS[kind](["gene_0", "nonsense"]).fit(train)
    one_line(error, "inputs = 'nonsense'")


@every_network
def test_a_loaded_network_predicts_what_the_saved_one_did(
    fitted, fitted_to_two, cells, tmp_path, kind
):
    for name, network in (("all", fitted[kind]), ("two", fitted_to_two[kind])):
        network.save(tmp_path / f"{name}.pt")
        loaded = KINDS[kind]().load(tmp_path / f"{name}.pt", GENES)
        assert loaded.module.config == network.module.config
        for gene in ("mech", "gene_3"):
            np.testing.assert_array_equal(
                *(table(n.law_of(cells, gene)) for n in (network, loaded))
            )


@every_network
def test_loading_a_network_of_other_genes_or_another_kind_raises_one_line(fitted, tmp_path, kind):
    fitted[kind].save(tmp_path / "network.pt")
    with pytest.raises(ValueError) as error:
        KINDS[kind]().load(tmp_path / "network.pt", GENES[:4])
    one_line(error, "a model of 5 genes, not of 4")
    other = KINDS["mlp" if kind == "vae" else "vae"]()
    with pytest.raises(ValueError) as error:
        other.load(tmp_path / "network.pt", GENES)
    one_line(error, "network.pt", "no readable checkpoint")


def skill(true, predicted, marginal):
    return (
        distances.scores(true, {"it": predicted, "marginal": marginal})
        .query("model == 'it' and metric == 'skill_kl'")["value"]
        .item()
    )


def test_the_leaky_vae_does_see_it(train, cells):
    leaky = tiny_vae(leaky=True).fit(train)
    before = leaky.law_of(cells, "mech").mean
    assert not np.array_equal(before, leaky.law_of(with_other_counts(cells, ["mech"]), "mech").mean)


def test_the_vae_predicts_the_average_of_the_laws_decoded_from_the_posterior(train, cells):
    vae = tiny_vae(n_samples=4000, vae_options={"beta": 0.05}).fit(train)
    few, module = cells[:4].copy(), vae.module
    law = vae.law_of(few, "mech")
    visible = torch.ones(4, 5)
    visible[:, 4] = 0
    with torch.no_grad():
        mean, log_var = module.inference(torch.as_tensor(dataset.dense(few.X)), visible)
        z = mean + (log_var / 2).exp() * torch.randn(
            4000, 4, 3, generator=torch.Generator().manual_seed(99)
        )
        mu, theta, logit_pi = (p[..., 4].double().numpy()[..., None] for p in module.generative(z))
    k, pi = np.arange(40), 1 / (1 + np.exp(-logit_pi))
    draws = (1 - pi) * scipy.stats.nbinom.pmf(k, theta, theta / (theta + mu)) + pi * (k == 0)
    assert draws.std(0).max() > 1e-3  # the posterior has some width
    # the two averages over 4000 draws differ by sqrt(2) standard errors; 160 entries
    np.testing.assert_array_less(
        np.abs(law.pmf_table(40) - draws.mean(0)), 5 * np.sqrt(2 / 4000) * draws.std(0) + 1e-7
    )
    assert (law.components.mean.min(0) < law.mean).all() and (
        law.mean < law.components.mean.max(0)
    ).all()


def test_the_vae_prediction_has_the_mean_of_its_components_pmfs(fitted, cells):
    law = fitted["vae"].law_of(cells, "mech")
    c = law.components
    assert c.shape == (16, cells.n_obs)
    for k in (0, 3, 20):
        nb = scipy.stats.nbinom.pmf(k, c.theta, c.theta / (c.theta + c.mu))
        np.testing.assert_allclose(
            law.pmf(k), ((1 - c.pi) * nb + c.pi * (k == 0)).mean(0), rtol=1e-6
        )


def test_a_conditional_vae_learns_a_linear_mechanism(train):
    inputs = [g for g in GENES if g != "mech"]
    more = dataset.fresh_cells(train, 2000, seed=5)
    vae = neural.VAE(
        inputs, vae_options={"target": "hidden", "hide": 0.0, "n_hidden": 64}, training_options={"max_epochs": 40, "batch_size": 128}, device="cpu"
    ).fit(more)  # fmt: skip
    cells = perturb.do(dataset.fresh_cells(train, 300, seed=6), {"gene_0": 10})
    truth = dataset.law(cells, ["mech"])[:, 0]
    kl = {
        name: distances.between(truth, predictor.law_of(cells, "mech"))["kl_nats"].mean()
        for name, predictor in (("vae", vae), ("marginal", references.Marginal().fit(more)))
    }
    assert kl["vae"] < 0.6 * kl["marginal"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_samples": 0}, "n_samples = 0"),
        ({"vae_options": {"beta": -1.0}}, "beta"),
        ({"device": "nonsense"}, "device"),
    ],
)
def test_bad_vae_options_raise_one_line(train, options, named):
    with pytest.raises(ValueError, match=named) as error:
        neural.VAE(**options).fit(train)
    assert "\n" not in str(error.value)


def test_reconstruct_decodes_the_posterior_mean_of_cells_seen_whole(fitted, cells):
    vae = fitted["vae"]
    law, x = vae.reconstruct(cells), torch.as_tensor(dataset.dense(cells.X))
    with torch.no_grad():
        mu, theta, logit_pi = vae.module.generative(vae.module.inference(x, torch.ones_like(x))[0])
    np.testing.assert_allclose(law.mu, mu, rtol=1e-5)
    np.testing.assert_allclose(law.theta, theta, rtol=1e-5)
    np.testing.assert_allclose(law.pi, 1 / (1 + np.exp(-logit_pi.numpy())), rtol=1e-5)


def test_reconstruct_refuses_cells_with_their_genes_in_another_order(fitted, cells):
    with pytest.raises(ValueError, match="genes") as error:
        fitted["vae"].reconstruct(cells[:, GENES[::-1]].copy())
    assert "\n" not in str(error.value)


def test_generated_cells_have_the_means_and_zero_rates_of_the_training_cells(train):
    vae = neural.VAE(
        vae_options={"n_latent": 2, "n_hidden": 32},
        training_options={"max_epochs": 20, "batch_size": 128},
        device="cpu",
    ).fit(train)
    counts, real = vae.generate(5000, seed=1), dataset.dense(train.X)
    assert counts.shape == (5000, 5) and (counts >= 0).all()
    np.testing.assert_allclose(counts.mean(0), real.mean(0), rtol=0.15)
    np.testing.assert_allclose((counts == 0).mean(0), (real == 0).mean(0), atol=0.06)
    np.testing.assert_array_equal(counts, vae.generate(5000, seed=1))
    assert not np.array_equal(counts, vae.generate(5000, seed=2))


def test_the_perceptron_learns_a_linear_mechanism(train):
    base = [g for g in GENES if g != "mech"]
    mlp = neural.MLP(
        base,
        module_options={"n_hidden": 32},
        training_options={"max_epochs": 25, "batch_size": 64},
        device="cpu",
    ).fit(train)
    marginal, fresh = references.Marginal().fit(train), dataset.fresh_cells(train, 300, seed=6)
    for new in (fresh, perturb.do(fresh, {"gene_0": 10})):
        truth = dataset.law(new, ["mech"])[:, 0]
        assert skill(truth, mlp.law_of(new, "mech"), marginal.law_of(new, "mech")) > 0.5
    before, after = (
        mlp.law_of(c, "mech").mean for c in (fresh, with_other_counts(fresh, ["mech"]))
    )
    np.testing.assert_array_equal(before, after)


BASE = [f"gene_{i}" for i in range(6)]


@pytest.fixture(scope="module")
def product():
    """A gene that depends on two of six others and on their product."""
    parameters = {
        "weights": np.array([1.0, 0.5]),
        "first": [0],
        "second": [1],
        "products": np.array([0.3]),
    }
    base = dataset.base_genes(2000, 6, 0.4, mu_range=(4, 10), seed=3)
    return dataset.get_mech_dataset(
        base, "interaction", gene="mech", parents=["gene_1", "gene_4"], parameters=parameters, target_zero_prob=0.4, seed=3
    )  # fmt: skip


@pytest.fixture(scope="module")
def of_base(product):
    return neural.DependencyNetworks(
        BASE, n_steps=700, training_options={"batch_size": 512}, device="cpu"
    ).fit(product)


def test_a_dependency_network_is_far_closer_to_the_truth_than_the_marginal_and_a_vae(
    product, of_base
):
    fresh, marginal = dataset.fresh_cells(product, 400, seed=4), references.Marginal().fit(product)
    vae = neural.VAE(
        BASE,
        vae_options={"n_hidden": 32, "target": "hidden"},
        training_options={"max_epochs": 15, "batch_size": 256},
        device="cpu",
    )
    vae.fit(product)
    for new in (
        fresh,
        perturb.do(fresh, {"gene_1": 12}),
        perturb.do(fresh, {"gene_1": 3, "gene_4": 15}),
    ):
        truth, constant = dataset.law(new, "mech")[:, 0], marginal.law_of(new, "mech")
        skills = {
            name: skill(truth, m.law_of(new, "mech"), constant)
            for name, m in (("network", of_base), ("vae", vae))
        }
        assert skills["network"] > 0.85 and skills["network"] > skills["vae"]


def test_it_depends_on_the_true_parents_and_on_no_other_gene(product, of_base):
    module = of_base.module
    inputs = [{BASE[i]} for i in module.inputs] + [
        {BASE[i], BASE[j]} for i, j in module.inputs[module.pairs].T
    ]
    depends_on = {
        g: set().union(*(of for of, w in zip(inputs, module.weight[:, c]) if w != 0))
        for c, g in enumerate(of_base.genes)
    }
    assert depends_on == dict.fromkeys(BASE, set()) | {
        "mech": set(dataset.parents(product)["mech"])
    }


def test_genes_that_depend_on_nothing_are_predicted_by_their_marginal_law(product, of_base):
    marginal = references.Marginal().fit(product)
    for gene in BASE:
        np.testing.assert_allclose(
            *(table(m.law_of(product[:5].copy(), gene)) for m in (of_base, marginal)),
            rtol=1e-4,
            atol=1e-9,
        )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_steps": 0}, "n_steps = 0"),
        ({"network_options": {"sparsity": -1.0}}, "sparsity = -1.0"),
        ({"training_options": {"batch_size": 0}}, "batch_size = 0"),
        ({"training_options": {"schedule": "none"}}, "schedule = 'none'"),
        ({"device": "nonsense"}, "device = 'nonsense'"),
    ],
    ids=str,
)
def test_bad_dependency_network_options_raise_one_line(train, options, named):
    with pytest.raises(ValueError) as error:
        neural.DependencyNetworks(**{"device": "cpu"} | options).fit(train)
    one_line(error, named)


def test_n_steps_are_taken_whatever_the_number_of_cells(train):
    network = neural.DependencyNetworks(
        n_steps=24, training_options={"batch_size": 250}, device="cpu"
    )
    for n_cells, n_epochs in ((1000, 6), (240, 24), (500, 12)):  # fitted again to other cells too
        history = network.fit(train[:n_cells].copy()).history
        assert dict(history.groupby("network").size()) == {
            "first": n_epochs,
            "weighed": round(0.4 * n_epochs),
            "second": n_epochs,
        }


def test_an_ensemble_gives_its_members_seeds_of_their_own(train):
    asked = []
    neural.Ensemble(lambda seed: asked.append(seed), 3, 5)
    neural.Ensemble(lambda seed: asked.append(seed), 2, (5, 7))
    assert asked == [(5, 0), (5, 1), (5, 2), (5, 7, 0), (5, 7, 1)]
    with pytest.raises(ValueError) as error:
        neural.Ensemble(tiny_mlp, 0)
    one_line(error, "n_members = 0")


@pytest.mark.parametrize("make", [tiny_mlp, tiny_dependency_network], ids=["laws", "mixtures"])
def test_an_ensemble_is_the_equal_mixture_of_its_members_and_no_worse_than_they_are_on_average(
    train, cells, make
):
    ensemble = neural.Ensemble(lambda seed: make(seed=seed), 3, seed=4)
    assert ensemble.fit(train) is ensemble
    law, members = (
        ensemble.law_of(cells, "mech"),
        [m.law_of(cells, "mech") for m in ensemble.members],
    )
    pmfs = []
    for member in members:
        c, k = member.components if isinstance(member, Mixture) else member[None], np.arange(40)
        mu, theta, pi = (np.broadcast_to(p, c.shape)[..., None] for p in (c.mu, c.theta, c.pi))
        pmfs.append(
            (
                (1 - pi) * scipy.stats.nbinom.pmf(k, theta, theta / (theta + mu)) + pi * (k == 0)
            ).mean(0)
        )
    assert np.abs(pmfs[0] - pmfs[1]).max() > 1e-3 and np.abs(pmfs[1] - pmfs[2]).max() > 1e-3
    np.testing.assert_allclose(law.pmf_table(40), np.mean(pmfs, axis=0), rtol=1e-5, atol=1e-12)
    truth = dataset.law(cells, ["mech"])[:, 0]
    kl, each = (
        distances.between(truth, law)["kl_nats"],
        np.array([distances.between(truth, m)["kl_nats"] for m in members]),
    )
    assert (kl <= each.mean(0) + 1e-9).all()  # the KL is convex in the prediction
    assert (kl < each.mean(0) - 1e-6).any() and (kl > each.min(0)).any()


def test_each_gene_keeps_the_network_that_the_criterion_prefers(train):
    network = neural.DependencyNetworks(n_steps=60, device="cpu", seed=3)
    counts = network.fit(train).counts_of(train)
    options = network.training_options | {"max_epochs": 60}
    first, _ = network.trained(counts, (3, 0), options | {"warmup": 20})
    weighed = copy.deepcopy(first)
    dependency_terms.weigh(weighed, counts)
    dependency_terms.search(weighed, counts)
    training.fit(
        weighed, counts, seed=(3, 1), **(options | {"max_epochs": 24, "learning_rate": 1e-2})
    )
    second, _ = network.trained(counts, (3, 2), options)
    a, b, c = (dependency_terms.criterion(module, counts) for module in (first, weighed, second))
    network.MARGIN = (
        float((torch.minimum(a, b) - c).median()) - 1e-3
    )  # so that some genes take the second
    network.fit(train)
    kept = torch.where(
        torch.minimum(a, b) - c > network.MARGIN, 2, torch.where(b < a, 1, 0)
    ).tolist()
    assert len(set(kept)) > 1
    for name, parameter in network.module.named_parameters():
        if name in ("slope", "log_sharp", "place"):  # those that settling doesn't touch
            for gene, which in enumerate(kept):
                assert torch.equal(
                    parameter[gene],
                    dict((first, weighed, second)[which].named_parameters())[name][gene],
                )
