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
from tests.predict.cells import GENES, table, with_other_counts

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
        n_steps=30,
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
def fitted(linear):
    return {name: kind().fit(linear) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def fitted_to_two(linear):
    return {name: kind(["gene_0", "gene_1"]).fit(linear) for name, kind in KINDS.items()}


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
    before = table(fitted[kind].law_of(cells, gene))
    after = table(fitted[kind].law_of(with_other_counts(cells, [gene]), gene))
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
    fitted, linear, cells, kind
):
    """And global random states and cells are left alone."""
    copies = linear.copy(), cells.copy()
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    models = fitted[kind], fitted[kind], KINDS[kind]().fit(linear), KINDS[kind](seed=1).fit(linear)
    first, again, same, other = (table(m.law_of(cells, "mech")).tobytes() for m in models)
    assert first == again == same != other
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    for before, now in zip(copies, (linear, cells)):
        np.testing.assert_array_equal(dataset.dense(before.X), dataset.dense(now.X))


@every_kind
def test_what_it_cannot_predict_raises_one_line(fitted, cells, linear, kind):
    with pytest.raises(ValueError) as error:
        fitted[kind].law_of(cells, "nonsense")
    one_line(error, "gene = 'nonsense'")
    for genes in (GENES[::-1], [g for g in GENES if g != "gene_1"]):
        with pytest.raises(ValueError) as error:
            fitted[kind].law_of(cells[:, genes].copy(), "mech")
        must = "its genes must be those that the model was fitted to, in that order"
        one_line(error, f"adata: {must}")
    with pytest.raises(ValueError) as error:
        KINDS[kind](["gene_0", "nonsense"]).fit(linear)
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
            one, other = (table(n.law_of(cells, gene)) for n in (network, loaded))
            np.testing.assert_array_equal(one, other)


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
    scores = distances.scores(true, {"it": predicted, "marginal": marginal})
    return scores.set_index(["model", "metric"])["value"]["it", "skill_kl"]


def test_the_leaky_vae_does_see_it(linear, cells):
    leaky = tiny_vae(leaky=True).fit(linear)
    before = leaky.law_of(cells, "mech").mean
    assert not np.array_equal(before, leaky.law_of(with_other_counts(cells, ["mech"]), "mech").mean)


def test_the_vae_predicts_the_average_of_the_laws_decoded_from_the_posterior(linear, cells):
    vae = tiny_vae(n_samples=4000, vae_options={"beta": 0.05}).fit(linear)
    few, module = cells[:4].copy(), vae.module
    law = vae.law_of(few, "mech")
    visible = torch.ones(4, 5)
    visible[:, 4] = 0
    with torch.no_grad():
        mean, log_var = module.inference(torch.as_tensor(dataset.dense(few.X)), visible)
        noise = torch.randn(4000, 4, 3, generator=torch.Generator().manual_seed(99))
        z = mean + (log_var / 2).exp() * noise
        mu, theta, logit_pi = (p[..., 4].double().numpy()[..., None] for p in module.generative(z))
    k, pi = np.arange(40), 1 / (1 + np.exp(-logit_pi))
    draws = (1 - pi) * scipy.stats.nbinom.pmf(k, theta, theta / (theta + mu)) + pi * (k == 0)
    assert draws.std(0).max() > 1e-3  # the posterior has some width
    # the two averages over 4000 draws differ by sqrt(2) standard errors; 160 entries
    error = np.abs(law.pmf_table(40) - draws.mean(0))
    np.testing.assert_array_less(error, 5 * np.sqrt(2 / 4000) * draws.std(0) + 1e-7)
    means = law.components.mean
    assert (means.min(0) < law.mean).all() and (law.mean < means.max(0)).all()


def test_the_vae_prediction_has_the_mean_of_its_components_pmfs(fitted, cells):
    law = fitted["vae"].law_of(cells, "mech")
    c = law.components
    assert c.shape == (16, cells.n_obs)
    for k in (0, 3, 20):
        nb = scipy.stats.nbinom.pmf(k, c.theta, c.theta / (c.theta + c.mu))
        mean = ((1 - c.pi) * nb + c.pi * (k == 0)).mean(0)
        np.testing.assert_allclose(law.pmf(k), mean, rtol=1e-6)


def test_a_conditional_vae_learns_a_linear_mechanism(linear):
    vae = neural.VAE(
        [g for g in GENES if g != "mech"],
        vae_options={"target": "hidden", "hide": 0.0, "n_hidden": 64},
        training_options={"max_epochs": 15, "batch_size": 128, "learning_rate": 3e-3},
        device="cpu",
    ).fit(linear)
    new = perturb.do(dataset.fresh_cells(linear, 300, seed=6), {"gene_0": 10})
    marginal = references.Marginal().fit(linear).law_of(new, "mech")
    assert skill(dataset.law(new, ["mech"])[:, 0], vae.law_of(new, "mech"), marginal) > 0.5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_samples": 0}, "n_samples = 0"),
        ({"vae_options": {"beta": -1.0}}, "beta"),
        ({"device": "nonsense"}, "device"),
    ],
)
def test_bad_vae_options_raise_one_line(linear, options, named):
    with pytest.raises(ValueError, match=named) as error:
        neural.VAE(**options).fit(linear)
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


def test_generated_cells_have_the_means_and_zero_rates_of_the_training_cells(linear):
    vae = neural.VAE(
        vae_options={"n_latent": 2, "n_hidden": 32},
        training_options={"max_epochs": 8, "batch_size": 128, "learning_rate": 5e-3},
        device="cpu",
    ).fit(linear)
    counts, real = vae.generate(5000, seed=1), dataset.dense(linear.X)
    assert counts.shape == (5000, 5) and (counts >= 0).all()
    np.testing.assert_allclose(counts.mean(0), real.mean(0), rtol=0.15)
    np.testing.assert_allclose((counts == 0).mean(0), (real == 0).mean(0), atol=0.06)
    np.testing.assert_array_equal(counts, vae.generate(5000, seed=1))
    assert not np.array_equal(counts, vae.generate(5000, seed=2))


def test_the_perceptron_learns_a_linear_mechanism(linear):
    base = [g for g in GENES if g != "mech"]
    mlp = neural.MLP(
        base,
        module_options={"n_hidden": 32},
        training_options={"max_epochs": 12, "batch_size": 128, "learning_rate": 1e-2},
        device="cpu",
    ).fit(linear)
    marginal, fresh = references.Marginal().fit(linear), dataset.fresh_cells(linear, 300, seed=6)
    for new in (fresh, perturb.do(fresh, {"gene_0": 10})):
        truth = dataset.law(new, ["mech"])[:, 0]
        assert skill(truth, mlp.law_of(new, "mech"), marginal.law_of(new, "mech")) > 0.5
    other = with_other_counts(fresh, ["mech"])
    np.testing.assert_array_equal(mlp.law_of(fresh, "mech").mean, mlp.law_of(other, "mech").mean)


BASE = [f"gene_{i}" for i in range(6)]


@pytest.fixture(scope="module")
def product():
    """A gene that depends on two of six others and on their product."""
    weights = {"weights": np.array([1.0, 0.5])}
    product = {"first": [0], "second": [1], "products": np.array([0.3])}
    base = dataset.base_genes(2000, 6, 0.4, mu_range=(4, 10), seed=3)
    return dataset.get_mech_dataset(
        base,
        "interaction",
        gene="mech",
        parents=["gene_1", "gene_4"],
        parameters=weights | product,
        target_zero_prob=0.4,
        seed=3,
    )


@pytest.fixture(scope="module")
def of_base(product):
    options = {"training_options": {"batch_size": 512}, "device": "cpu"}
    return neural.DependencyNetworks(BASE, n_steps=400, **options).fit(product)


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
    one, two = (perturb.do(fresh, doses) for doses in ({"gene_1": 12}, {"gene_1": 3, "gene_4": 15}))
    for new in (fresh, one, two):
        truth, constant = dataset.law(new, "mech")[:, 0], marginal.law_of(new, "mech")
        of_network, of_vae = (skill(truth, m.law_of(new, "mech"), constant) for m in (of_base, vae))
        assert of_network > 0.85 and of_network > of_vae


def test_it_depends_on_the_true_parents_and_on_no_other_gene(product, of_base):
    module = of_base.module
    pairs = module.inputs[module.pairs].T
    inputs = [{BASE[i]} for i in module.inputs] + [{BASE[i], BASE[j]} for i, j in pairs]
    depends_on = {}
    for column, gene in enumerate(of_base.genes):
        used = [of for of, weight in zip(inputs, module.weight[:, column]) if weight != 0]
        depends_on[gene] = set().union(*used)
    parents = set(dataset.parents(product)["mech"])
    assert depends_on == dict.fromkeys(BASE, set()) | {"mech": parents}


def test_genes_that_depend_on_nothing_are_predicted_by_their_marginal_law(product, of_base):
    marginal = references.Marginal().fit(product)
    few = product[:5].copy()
    for gene in BASE:
        law, expected = (table(m.law_of(few, gene)) for m in (of_base, marginal))
        np.testing.assert_allclose(law, expected, rtol=1e-4, atol=1e-9)


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
def test_bad_dependency_network_options_raise_one_line(linear, options, named):
    with pytest.raises(ValueError) as error:
        neural.DependencyNetworks(**{"device": "cpu"} | options).fit(linear)
    one_line(error, named)


def test_n_steps_are_taken_whatever_the_number_of_cells(linear):
    options = {"training_options": {"batch_size": 50}, "device": "cpu"}
    network = neural.DependencyNetworks(n_steps=12, **options)
    for n_cells, n_epochs in ((200, 3), (48, 12), (100, 6)):  # fitted again to other cells too
        history = network.fit(linear[:n_cells].copy()).history
        assert dict(history.groupby("network").size()) == {
            "first": n_epochs,
            "weighed": round(0.4 * n_epochs),
            "second": n_epochs,
        }


def test_an_ensemble_gives_its_members_seeds_of_their_own(linear):
    asked = []
    neural.Ensemble(asked.append, 3, 5)
    neural.Ensemble(asked.append, 2, (5, 7))
    assert asked == [(5, 0), (5, 1), (5, 2), (5, 7, 0), (5, 7, 1)]
    with pytest.raises(ValueError) as error:
        neural.Ensemble(tiny_mlp, 0)
    one_line(error, "n_members = 0")


@pytest.mark.parametrize("make", [tiny_mlp, tiny_dependency_network], ids=["laws", "mixtures"])
def test_an_ensemble_is_the_equal_mixture_of_its_members_and_no_worse_than_they_are_on_average(
    linear, cells, make
):
    ensemble = neural.Ensemble(lambda seed: make(seed=seed), 3, seed=4)
    assert ensemble.fit(linear) is ensemble
    law = ensemble.law_of(cells, "mech")
    members = [m.law_of(cells, "mech") for m in ensemble.members]
    pmfs = []
    k = np.arange(40)
    for member in members:
        c = member.components if isinstance(member, Mixture) else member[None]
        mu, theta, pi = (np.broadcast_to(p, c.shape)[..., None] for p in (c.mu, c.theta, c.pi))
        nb = scipy.stats.nbinom.pmf(k, theta, theta / (theta + mu))
        pmfs.append(((1 - pi) * nb + pi * (k == 0)).mean(0))
    assert np.abs(pmfs[0] - pmfs[1]).max() > 1e-3 and np.abs(pmfs[1] - pmfs[2]).max() > 1e-3
    np.testing.assert_allclose(law.pmf_table(40), np.mean(pmfs, axis=0), rtol=1e-5, atol=1e-12)
    truth = dataset.law(cells, ["mech"])[:, 0]
    kl = distances.between(truth, law)["kl_nats"]
    each = np.array([distances.between(truth, m)["kl_nats"] for m in members])
    assert (kl <= each.mean(0) + 1e-9).all()  # the KL is convex in the prediction
    assert (kl < each.mean(0) - 1e-6).any() and (kl > each.min(0)).any()


def test_each_gene_keeps_the_network_that_the_criterion_prefers(linear):
    network = neural.DependencyNetworks(n_steps=20, device="cpu", seed=3)
    counts = network.fit(linear).counts_of(linear)
    options = network.training_options | {"max_epochs": 20}
    first, _ = network.trained(counts, (3, 0), options | {"warmup": 6})
    weighed = copy.deepcopy(first)
    dependency_terms.weigh(weighed, counts)
    dependency_terms.search(weighed, counts)
    shorter = options | {"max_epochs": 8, "learning_rate": 1e-2}
    training.fit(weighed, counts, seed=(3, 1), **shorter)
    second, _ = network.trained(counts, (3, 2), options)
    a, b, c = (dependency_terms.criterion(module, counts) for module in (first, weighed, second))
    gain = torch.minimum(a, b) - c
    network.MARGIN = float(gain.median()) - 1e-3  # so that some genes take the second
    network.fit(linear)
    kept = torch.where(gain > network.MARGIN, 2, torch.where(b < a, 1, 0)).tolist()
    assert len(set(kept)) > 1
    parts = [dict(module.named_parameters()) for module in (first, weighed, second)]
    for name, parameter in network.module.named_parameters():
        if name in ("slope", "log_sharp", "place"):  # settling doesn't touch these
            for gene, which in enumerate(kept):
                assert torch.equal(parameter[gene], parts[which][name][gene])
