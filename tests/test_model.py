import numpy as np
import pytest
import scipy.integrate
import scipy.sparse
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from lib import model, training
from lib.laws import ZINB, maximum_likelihood
from lib.laws.likelihood import log_likelihood
from lib.predict import regressions
from tests.agreement import one_line

torch.set_num_threads(1)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def vae(n_genes=4, *, seed=0, n_latent=2, n_hidden=16, **options):
    return model.ZINBVAE(n_genes, n_latent, n_hidden, generator=rng(seed), **options)


def counts(n_cells=30, n_genes=4, seed=0):
    draws = np.random.default_rng(seed)
    return torch.as_tensor(draws.negative_binomial(2, 0.3, (n_cells, n_genes)) * draws.integers(0, 2, (n_cells, n_genes)), dtype=torch.float32)


def scipy_log_pmf(x, mu, theta, logit_pi):
    x, mu, theta, logit_pi = (t.detach().double().numpy() for t in (x, mu, theta, logit_pi))
    pi = 1 / (1 + np.exp(-logit_pi))
    nb = scipy.stats.nbinom.pmf(x, theta, theta / (theta + mu))
    return np.log((1 - pi) * nb + pi * (x == 0))


def decoded_log_pmf(module, x, mean, log_var, noise):
    return scipy_log_pmf(x, *module.generative(mean + (log_var / 2).exp() * noise))


def kl_to_prior(mean, log_var):
    return kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)).sum(-1).detach().numpy()


@pytest.mark.parametrize("beta", [0.0, 0.02, 1.0, 3.0])
def test_loss_is_beta_kl_less_the_log_likelihood_summed_over_genes(beta):
    module, x = vae(beta=beta), counts()
    mean, log_var = module.inference(x, torch.ones_like(x))
    log_p = decoded_log_pmf(module, x, mean, log_var, torch.randn(mean.shape, generator=rng(5)))
    expected = beta * kl_to_prior(mean, log_var) - log_p.sum(1)
    assert module.loss(x, rng(5)).shape == (30,)
    np.testing.assert_allclose(module.loss(x, rng(5)).detach(), expected, rtol=2e-5)


def test_elbo_is_the_log_evidence_less_the_kl_to_the_true_posterior():
    module, cell = vae(n_latent=1), counts(1)
    with torch.no_grad():
        for p in module.decoder.parameters():  # so that z matters and the bound is not tight
            p.mul_(3)
        z = torch.linspace(-8, 8, 4001)[:, None]
        log_joint = scipy_log_pmf(cell, *module.generative(z)).sum(1) + scipy.stats.norm.logpdf(z[:, 0].numpy())
        mean, log_var = (t.item() for t in module.inference(cell, torch.ones_like(cell)))
        losses = module.loss(cell.repeat(20_000, 1), rng(1)).double().numpy()

    def integral(f):
        return scipy.integrate.simpson(f, x=z[:, 0].double().numpy())

    log_evidence = np.log(integral(np.exp(log_joint)))
    log_q = scipy.stats.norm.logpdf(z[:, 0].numpy(), mean, np.exp(log_var / 2))
    gap = integral(np.exp(log_q) * (log_q - (log_joint - log_evidence)))
    standard_error = losses.std() / np.sqrt(len(losses))
    assert gap > 10 * standard_error  # a bound, and one that this test can tell from equality
    assert -losses.mean() == pytest.approx(log_evidence - gap, abs=4 * standard_error)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_twice_the_genes_doubles_the_reconstruction_and_leaves_the_kl(beta):
    one, two, x = vae(3, beta=beta), vae(6, beta=beta), counts(n_genes=3)
    weights = {k: v for k, v in one.state_dict().items() if k not in ("is_input", "scale")}
    first = weights["encoder.0.weight"].unflatten(1, (2, 3))
    weights["encoder.0.weight"] = torch.cat([first, torch.zeros_like(first)], dim=2).flatten(1)  # the copies tell it nothing
    weights["heads.weight"] = one.heads.weight.unflatten(0, (3, 3)).repeat(1, 2, 1).flatten(0, 1)
    weights["heads.bias"] = one.heads.bias.unflatten(0, (3, 3)).repeat(1, 2).flatten()
    two.load_state_dict(weights, strict=False)
    kl = kl_to_prior(*one.inference(x, torch.ones_like(x)))
    difference = 2 * one.loss(x, rng(2)) - two.loss(x.repeat(1, 2), rng(2))
    np.testing.assert_allclose(difference.detach(), beta * kl, atol=2e-5)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(size=st.floats(0, 1e4), seed=st.integers(0, 100))
def test_decoded_parameters_are_in_range_however_far_out_z_is(size, seed):
    module = vae()
    with torch.no_grad():
        mu, theta, logit_pi = module.generative(size * torch.randn(50, 2, generator=rng(seed)))
    assert (mu > 0).all() and (theta > 0).all()
    for parameter in (mu, theta, logit_pi):
        assert torch.isfinite(parameter).all()
    ZINB(mu.double().numpy(), theta.double().numpy(), torch.sigmoid(logit_pi).double().numpy())


@pytest.mark.parametrize("raw_mu", [-15.0, -5.0, 0.0])
def test_gradients_reach_every_head_even_where_mu_is_tiny(raw_mu):
    module, x = vae(), counts()
    with torch.no_grad():
        module.heads.bias[:4] = raw_mu
        assert raw_mu > -15 or module.generative(torch.zeros(1, 2))[0].max() < 1e-5
    module.loss(x, rng()).mean().backward()
    assert (module.heads.bias.grad.abs() > 0).all()
    assert torch.isfinite(module.heads.bias.grad).all()


def test_start_at_explains_zeros_by_pi_and_sets_mu_to_the_mean_of_the_non_zeros():
    module = vae(3)
    module.start_at(torch.tensor([[0.0, 2, 1], [0, 0, 1], [4, 0, 1], [8, 0, 2]]))
    mu, theta, logit_pi = (p[0].detach().numpy() for p in module.generative(torch.zeros(1, 2)))
    np.testing.assert_allclose(mu, [6, 2, 1.25], rtol=1e-4)
    np.testing.assert_allclose(theta, 7, rtol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit_pi)), [0.5, 0.75, 0], atol=2e-3)


def test_start_at_gives_finite_losses_for_a_gene_without_a_single_count():
    module, x = vae(), counts()
    x[:, 1] = 0
    module.start_at(x)
    assert torch.isfinite(module.loss(x, rng())).all()


def test_encoder_ignores_genes_that_are_no_input_and_sees_those_that_are():
    module, x = vae(inputs=[0, 2]), counts()
    before = torch.cat(module.inference(x, module.visible(x)))
    for gene, is_seen in enumerate([True, False, True, False]):
        other = x.clone()
        other[:, gene] += 7
        after = torch.cat(module.inference(other, module.visible(other)))
        assert torch.equal(before, after) is not is_seen


def test_encoder_ignores_a_gene_hidden_in_some_cells_in_those_cells_only():
    module, x = vae(), counts()
    visible = torch.ones_like(x)
    visible[:10, 3] = 0
    other = x.clone()
    other[:, 3] += 7
    before, after = (module.inference(y, visible)[0] for y in (x, other))
    assert torch.equal(before[:10], after[:10])
    assert (before[10:] != after[10:]).any(dim=1).all()


def test_a_hidden_count_is_told_from_a_zero():
    module, x = vae(), counts()
    x[:, 3] = 0
    visible = torch.ones_like(x)
    hidden = visible.clone()
    hidden[:, 3] = 0
    assert not torch.equal(module.inference(x, visible)[0], module.inference(x, hidden)[0])


def test_masking_at_random_hides_inputs_at_rates_uniform_up_to_hide():
    module = vae(50, hide=0.6, inputs=list(range(40)))
    hidden = 1 - module.visible(torch.zeros(4000, 50), rng())
    assert (hidden[:, 40:] == 1).all()
    rate = hidden[:, :40].mean(1).numpy()
    # a rate r ~ U(0, 0.6), then 40 Bernoulli draws: mean 0.3, variance Var(r) + E[r(1 - r)] / 40
    variance = 0.03 + (0.3 - 0.12) / 40
    assert rate.mean() == pytest.approx(0.3, abs=4 * np.sqrt(variance / 4000))
    assert rate.var() == pytest.approx(variance, rel=0.1)
    assert (module.visible(torch.zeros(5, 50))[:, :40] == 1).all()


def test_target_hidden_counts_the_likelihood_of_hidden_genes_only_and_no_kl():
    module, x = vae(hide=0.8, inputs=[0, 1, 2], target="hidden", beta=5.0), counts()
    generator = rng(3)
    visible = module.visible(x, generator)
    mean, log_var = module.inference(x, visible)
    log_p = decoded_log_pmf(module, x, mean, log_var, torch.randn(mean.shape, generator=generator))
    assert 0 < visible.sum() < visible.numel()
    expected = [-row[~is_visible].sum() for row, is_visible in zip(log_p, visible.bool().numpy())]
    np.testing.assert_allclose(module.loss(x, rng(3)).detach(), expected, rtol=2e-5)


def test_target_all_counts_the_hidden_genes_too():
    module, x = vae(inputs=[0]), counts()
    mean, log_var = module.inference(x, torch.tensor([1.0, 0, 0, 0]).expand_as(x))
    log_p = decoded_log_pmf(module, x, mean, log_var, torch.randn(mean.shape, generator=rng(4)))
    np.testing.assert_allclose(module.loss(x, rng(4)).detach(), kl_to_prior(mean, log_var) - log_p.sum(1), rtol=2e-5)


def test_generative_of_some_genes_is_that_of_all_at_their_columns():
    module, z = vae(), torch.randn(3, 5, 2, generator=rng())
    module.start_at(counts())  # genes of different scales
    for some, every in zip(module.generative(z, [3, 1]), module.generative(z)):
        assert some.shape == (3, 5, 2)
        torch.testing.assert_close(some, every[..., [3, 1]])


def weights_bytes(module):
    return b"".join(t.numpy().tobytes() for t in module.state_dict().values())


def test_one_seed_gives_one_set_of_weights_whatever_the_global_state():
    torch.manual_seed(1)
    first = weights_bytes(vae(seed=7))
    torch.manual_seed(2)
    assert weights_bytes(vae(seed=7)) == first
    assert weights_bytes(vae(seed=8)) != first


def test_construction_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    vae()
    assert torch.equal(torch.get_rng_state(), before)


def test_loss_leaves_the_global_random_state_alone_and_repeats_with_its_generator():
    module, x = vae(hide=0.5), counts()
    before = torch.get_rng_state()
    first, again, other = (module.loss(x, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_theta_is_inverse_dispersion_as_in_the_simulator():
    theta, mu, n_cells = 5.0, 20.0, 20_000
    k = ZINB(mu, theta, 0.0).sample(np.random.default_rng(0), n_cells).astype(float)
    assert k.var() == pytest.approx(mu + mu**2 / theta, rel=0.05)  # of the simulator
    x = torch.as_tensor(k)
    p = regressions.maximise(
        lambda p: log_likelihood(x, p[0].exp(), p[1].exp(), torch.tensor(-30.0, dtype=torch.float64)).mean(), torch.zeros(2, dtype=torch.float64)
    )
    assert p[0].exp().item() == pytest.approx(mu, rel=0.02)
    assert p[1].exp().item() == pytest.approx(theta, rel=0.05)


def test_to_law_has_the_pmf_of_the_loss():
    mu, theta, logit_pi = torch.tensor([0.5, 30.0]), torch.tensor([0.7, 9.0]), torch.tensor([-2.0, 1.0])
    law = model.to_law(mu, theta, logit_pi)
    for k in (0.0, 1.0, 25.0):
        np.testing.assert_allclose(law.log_prob(k), scipy_log_pmf(torch.full((2,), k), mu, theta, logit_pi), rtol=1e-6)


def test_to_tensor_takes_sparse_and_dense_counts():
    dense = counts().numpy()
    for given_counts in (dense, dense.astype(np.int64), scipy.sparse.csr_matrix(dense)):
        tensor = model.to_tensor(given_counts)
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor, dense)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(n_genes=0), "n_genes = 0"),
        (dict(n_latent=0), "n_latent = 0"),
        (dict(n_hidden=2.5), "n_hidden = 2.5"),
        (dict(beta=-1.0), "beta = -1.0"),
        (dict(beta=float("nan")), "beta = nan"),
        (dict(hide=1.5), "hide = 1.5"),
        (dict(target="some"), "target = 'some'"),
        (dict(inputs=[]), r"inputs = \[\]"),
        (dict(inputs=[4]), "inputs = 4"),
        (dict(target="hidden"), "inputs = "),
    ],
)
def test_bad_settings_raise_one_line_that_names_them(options, named):
    with pytest.raises(ValueError, match=named) as error:
        model.ZINBVAE(**({"n_genes": 4} | options))
    assert "\n" not in str(error.value)


def network(n_genes=5, *, seed=0, **options):
    """A dependency network with weights at random, those that a gene may not have among them."""
    module = model.DependencyNetwork(n_genes, generator=rng(seed), **options)
    with torch.no_grad():
        module.weight.copy_(0.1 * torch.randn(module.weight.shape, generator=rng(seed + 1)))
        module.bias.copy_(torch.randn(n_genes, generator=rng(seed + 2)))
    return module


def terms_by_hand(module, cell):
    """(genes in a term, its value in a cell) for each term, by a loop."""
    inputs = module.inputs.tolist()
    alone = [({g}, cell[g]) for g in inputs]
    return alone + [({inputs[a], inputs[b]}, cell[inputs[a]] * cell[inputs[b]]) for a, b in module.pairs.T.tolist()]


@pytest.mark.parametrize("options", [{}, {"inputs": [0, 2, 3]}, {"max_pairs": 7}, {"max_pairs": 0}], ids=str)
def test_no_gene_is_in_its_own_index_and_every_input_is_in_the_others(options):
    module, x = network(**options), counts(n_genes=5)
    module.start_at(x)
    before = module.index(x)
    for gene in range(5):
        other = x.clone()
        other[:, gene] += 7
        after = module.index(other)
        assert torch.equal(before[:, gene], after[:, gene])
        others = [g for g in range(5) if g != gene]
        assert (before != after)[:, others].all() == (gene in module.inputs.tolist())


@pytest.mark.parametrize("options", [{}, {"inputs": [4, 1, 2]}, {"max_pairs": 6}], ids=str)
def test_index_is_a_sum_over_terms_in_units_of_their_spread(options):
    module, x = network(**options), counts(40, 5)
    module.start_at(x)
    values = np.array([[v.item() for _, v in terms_by_hand(module, cell)] for cell in x])
    spread, members = values.std(0, ddof=1), [m for m, _ in terms_by_hand(module, x[0])]
    expected = np.empty((40, 5))
    for gene in range(5):
        kept = [t for t, m in enumerate(members) if gene not in m]
        expected[:, gene] = module.bias[gene].item() + sum(module.weight[t, gene].item() * values[:, t] / spread[t] for t in kept)
    np.testing.assert_allclose(module.index(x).detach(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("max_pairs", "n_squares", "n_products"), [(400, 4, 6), (10, 4, 6), (6, 4, 2), (4, 4, 0), (3, 0, 0)])
def test_terms_are_inputs_squares_and_no_more_products_than_asked_for(max_pairs, n_squares, n_products):
    module = network(6, inputs=[5, 0, 3, 2], max_pairs=max_pairs)
    module.start_at(counts(n_genes=6))
    pairs = [tuple(sorted(p)) for p in module.pairs.T.tolist()]
    assert len(set(pairs)) == len(pairs) == n_squares + n_products
    assert sum(a == b for a, b in pairs) == n_squares
    assert len(module.weight) == 4 + n_squares + n_products


def test_start_at_chooses_the_products_that_the_counts_of_other_genes_follow():
    draws = np.random.default_rng(3)
    x = draws.poisson(3, (1500, 10))
    x[:, 8], x[:, 9] = draws.poisson(x[:, 1] * x[:, 6]), draws.poisson(x[:, 2] * x[:, 3])
    module = model.DependencyNetwork(10, inputs=list(range(8)), max_pairs=10)
    module.start_at(torch.as_tensor(x, dtype=torch.float32))
    products = {tuple(p) for p in module.pairs.T.tolist() if p[0] != p[1]}
    assert products == {(1, 6), (2, 3)}


def test_a_network_starts_where_zeros_are_explained_by_pi_and_mu_is_about_the_mean_of_the_rest():
    module = model.DependencyNetwork(3, generator=rng())
    x = torch.tensor([[0.0, 2, 1], [0, 0, 1], [4, 0, 1], [8, 0, 2]])
    module.start_at(x)
    mu, theta, logit_pi = (p.detach().numpy() for p in module.link(module.index(x)))
    np.testing.assert_allclose(mu, np.tile([6, 2, 1.25], (4, 1)), rtol=0.1)
    np.testing.assert_allclose(theta, 7, rtol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit_pi)), [0.5, 0.75, 0], atol=2e-3)


def link_by_hand(module, index, gene):
    """mu of one gene from its index, in double precision."""
    p = {k: v[gene].detach().double().numpy() for k, v in module.named_parameters() if k not in ("weight", "bias")}
    steps = 1 / (1 + np.exp(-np.exp(p["log_steep"]) * (index[:, None] - p["place"])))
    level, sharp = p["slope"] * index + steps @ p["height"], np.exp(p["log_sharp"])
    return module.scale[gene].item() * (np.logaddexp(0, level * sharp) / sharp + np.exp(p["log_floor"])) + 1e-6


def test_link_is_its_formula_for_some_genes_and_for_all():
    module, index = network(), torch.linspace(-3, 3, 50)
    module.start_at(counts(n_genes=5))
    with torch.no_grad():
        module.height.copy_(torch.randn(5, 4, generator=rng(8)))
    mu = module.link(index[:, None].expand(-1, 5))[0].detach()
    some = module.link(index[:, None].expand(-1, 2), [3, 1])
    torch.testing.assert_close(some[0], mu[:, [3, 1]])
    for gene in range(5):
        np.testing.assert_allclose(mu[:, gene], link_by_hand(module, index.double().numpy(), gene), rtol=1e-4)


def test_link_can_be_a_step():
    module = network(2, n_units=2)
    with torch.no_grad():
        module.slope.zero_()
        module.height.copy_(torch.tensor([[3.0, 0.0]]))
        module.place.fill_(0.5)
        module.log_steep.fill_(np.log(1e4))
    index = torch.tensor([[-1e4], [0.0], [0.499], [0.501], [1.0], [1e4]]).expand(-1, 2).clone().requires_grad_()
    mu = module.link(index)[0]
    np.testing.assert_allclose(mu[:3].detach(), np.log(2) / 10 + 0.05, rtol=1e-3)
    np.testing.assert_allclose(mu[3:].detach(), 3.05, rtol=1e-3)
    mu.sum().backward()
    assert index.grad.isfinite().all()


@pytest.mark.parametrize("sparsity", [0.0, 1.0, 2.5])
def test_loss_is_the_minimax_concave_penalty_less_the_log_likelihood(sparsity):
    module, x = network(sparsity=sparsity), counts(40, 5)
    module.start_at(x)
    with torch.no_grad():
        module.weight.mul_(torch.linspace(0, 2.5, len(module.weight))[:, None])  # some of them beyond where they are free
    penalty, members = 0.0, [m for m, _ in terms_by_hand(module, x[0])]
    unit = sparsity * np.sqrt(2 * np.log(len(members)) / 40)
    for term, genes in enumerate(members):
        strength = unit * (0.35 if term < 5 else 0.6 if len(genes) == 1 else 0.85)
        for gene in set(range(5)) - genes:
            w = abs(module.weight[term, gene].item())
            if strength > 0:
                gamma = 0.1 / strength  # Zhang (2010), equation 2.1: free beyond gamma times the strength
                penalty += strength * w - w**2 / (2 * gamma) if w <= gamma * strength else gamma * strength**2 / 2
    with torch.no_grad():
        module.slope.copy_(torch.tensor([1.0, -0.8, 0.0, 0.05, -0.2]))
    for size in (0.3, 0.3, 0.0, 0.05, 0.2):  # of the slope, free beyond 0.3
        penalty += unit * 0.85 * (size - size**2 / 0.6)
    log_p = scipy_log_pmf(x, *module.link(module.index(x))).sum(1)
    free = (module.weight.abs() > 0.1).float().mean()
    assert 0.2 < free < 0.8
    np.testing.assert_allclose(module.loss(x, rng()).detach(), penalty - log_p, rtol=1e-4)


def test_while_training_warms_up_the_index_is_of_first_order():
    module, x = network(), counts(30, 5)
    module.start_at(x)
    module.warmed = 0.5
    warming = module.loss(x, rng()).detach()
    with torch.no_grad():
        module.weight[5:] = 0
    module.warmed = 1.0
    np.testing.assert_allclose(warming, module.loss(x, rng()).detach(), rtol=1e-5)


def test_criterion_is_the_extended_bic_of_the_weights_that_are_kept():
    module, x = network(4), counts(50, 4)
    module.start_at(x)
    members = [m for m, _ in terms_by_hand(module, x[0])]
    with torch.no_grad():
        module.weight.mul_((torch.rand(module.weight.shape, generator=rng(9)) < 0.5).float())
        module.weight[0, 1] = 0.005  # too small to be kept
        kept = module.weight.clone()
        kept[0, 1] = 0
    expected = []
    for gene in range(4):
        terms = [m for term, m in enumerate(members) if kept[term, gene] != 0 and gene not in m]
        n_products = 4 * 3 // 2  # of four inputs, however many were kept
        choices = [np.log(n_products if len(m) == 2 else 4) for m in terms]
        expected.append(len(terms) * 0.5 * np.log(50) + sum(choices))
    criterion = module.criterion(x)
    with torch.no_grad():
        module.weight.copy_(kept)
    log_p = scipy_log_pmf(x, *module.link(module.index(x))).sum(0)
    np.testing.assert_allclose(criterion, np.array(expected) - log_p, rtol=1e-4)


def test_weighing_sets_the_penalty_by_the_standard_error_of_each_score():
    module, x = network(4, sparsity=0.7), counts(60, 4)
    module.start_at(x)
    step = 1e-3
    with torch.no_grad():
        index = module.index(x).double()
        up, down = (scipy_log_pmf(x, *module.link(index.float() + s)) for s in (step, -step))
    score = (up - down) / (2 * step)
    terms = module.terms(x).numpy()
    error = np.sqrt((terms[:, :, None] ** 2 * score[:, None, :] ** 2).mean(0) / 60)
    members = [m for m, _ in terms_by_hand(module, x[0])]
    order = np.array([0.5 if term < 4 else 1.0 for term in range(len(members))])[:, None]
    module.weigh(x)
    np.testing.assert_allclose(module.penalty_of, 0.7 * order * error * np.sqrt(2 * np.log(len(members))), rtol=2e-2, atol=1e-4)


def test_the_search_finds_a_term_that_silences_a_gene_where_the_gradient_finds_none():
    """Counts of gene 3 follow gene 0 but for cells with both 1 and 2, which are silent; dropout hides that from the gradient."""
    draws = np.random.default_rng(7)
    x = draws.poisson(4, (4000, 4)) * (draws.random((4000, 4)) < 0.4)
    silent = (x[:, 1] > 0) & (x[:, 2] > 0)
    x[:, 3] = draws.poisson(np.where(silent, 0.05, 8 + 2 * x[:, 0])) * (draws.random(4000) < 0.2)
    x = torch.as_tensor(x, dtype=torch.float32)
    module = model.DependencyNetwork(4, inputs=[0, 1, 2], generator=rng())
    module.start_at(x)
    product = 6 + int(torch.where((module.pairs[:, 3:] == torch.tensor([[1], [2]])).all(0))[0])
    options = dict(max_epochs=60, batch_size=1000, learning_rate=2e-2, schedule="one_cycle", validation_fraction=0.0)
    with torch.no_grad():
        module.weight[0, 3] = 0.3
    before = -log_likelihood(x, *module.link(module.index(x)))[:, 3].sum().item()
    weights = module.weight.detach().clone()
    assert module.search(x) > 0
    changed = (module.weight != weights).nonzero().tolist()
    assert [product, 3] in changed and {gene for _, gene in changed} == {3} and module.weight[product, 3] < 0
    after = -log_likelihood(x, *module.link(module.index(x)))[:, 3].sum().item()
    assert before - after > 0.5 * np.log(4000) * len(changed)
    training.fit(module, x, **options)
    with torch.no_grad():
        mu = module.link(module.index(x))[0][:, 3]
    assert mu[torch.as_tensor(silent)].mean() < 2 < 6 < mu[torch.as_tensor(~silent)].mean()
    assert module.search(x, n_steps=0) == 0


def test_adopting_takes_the_parameters_of_those_genes_alone():
    one, other = network(3, seed=1), network(3, seed=5)
    before = {name: p.clone() for name, p in one.named_parameters()}
    one.adopt(other, torch.tensor([False, True, False]))
    for name, parameter in one.named_parameters():
        source = dict(other.named_parameters())[name]
        for gene in range(3):
            column = (slice(None), gene) if name == "weight" else gene
            assert torch.equal(parameter[column], (source if gene == 1 else before[name])[column])


def straight(slopes, n_cells, seed, n_draws=2):
    """Counts of an input and of genes whose mu is 8 + slope * input, and the network that is their law, set by hand."""
    draws = np.random.default_rng(seed)
    first = draws.poisson(4, n_cells)
    mu = np.maximum(8 + np.outer(first, slopes), 0.1)
    x = np.column_stack([first, draws.poisson(draws.gamma(20, mu / 20)) * (draws.random(mu.shape) > 0.2)])
    x = torch.as_tensor(x, dtype=torch.float32)
    module = model.DependencyNetwork(x.shape[1], inputs=[0], n_draws=n_draws, n_units=1)
    module.start_at(x)
    with torch.no_grad():
        for parameter, value in ((module.height, 0), (module.log_floor, -20), (module.log_sharp, 5), (module.log_theta, np.log(20))):
            parameter.fill_(value)
        module.logit_pi.fill_(np.log(0.2 / 0.8))
        module.bias[1:] = 8 / module.scale[1:]
        module.weight[0, 1:] = torch.as_tensor(slopes) * module.spread[0] / module.scale[1:]
    return module, x


def test_settle_keeps_the_genes_whose_index_is_worth_its_parameters_by_bic():
    slopes = np.array([0.0, 0.06, 0.14, 0.2, 0.26, 0.32, 0.4, 0.8])
    module, x = straight(slopes, 1500, seed=2)
    fitted = maximum_likelihood.fit(x.numpy())
    constant = [np.log((1 - p) * scipy.stats.nbinom.pmf(k, t, t / (t + m)) + p * (k == 0)).sum() for k, m, t, p in
                zip(x.numpy().T, fitted.mu, fitted.theta, fitted.pi)]  # fmt: skip
    gain = scipy_log_pmf(x, *module.link(module.index(x))).sum(0) - constant
    n_weights = (module.weight.abs() > 0.01).sum(0).numpy()
    worth = gain > 0.5 * np.log(1500) * (n_weights + 1 + 3)
    assert worth[-1] and not worth[1] and 1 < worth.sum() < 7  # of 8 that could depend on the input
    module.settle(x, rng())
    np.testing.assert_array_equal((module.weight != 0).any(0), worth)


def test_settle_gives_genes_that_depend_on_nothing_the_maximum_likelihood_law():
    module, x = straight(np.array([0.0, 0.0, 3.0]), 800, seed=2)
    with torch.no_grad():
        module.height[:3] = 0.3  # so that the law isn't the right one before
        module.log_theta[:3] = 1.0
    module.settle(x, rng())
    fitted = maximum_likelihood.fit(x.numpy())
    mu, theta, logit_pi = (p.detach().double().numpy() for p in module.link(module.index(x)))
    np.testing.assert_allclose(mu[:, :3], np.tile(fitted.mu[:3], (800, 1)), rtol=1e-5)
    np.testing.assert_allclose(np.log(theta[:3]), np.log(fitted.theta[:3]), atol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit_pi[:3])), fitted.pi[:3], rtol=1e-4, atol=1e-10)
    assert (module.weight != 0).any(0).tolist() == [False, False, False, True]
    for gene in range(3):  # under every draw
        np.testing.assert_allclose(module.drawn(x, gene)[0].detach(), fitted.mu[gene], rtol=1e-5)


def test_draws_scatter_around_the_estimate_as_the_information_in_the_cells_says():
    module, x = straight(np.array([1.5]), 500, seed=3, n_draws=8000)
    module.settle(x, rng())
    assert (module.weight[:, 1] != 0).tolist() == [True, False]  # the input, not its square
    estimate = np.array([module.weight[0, 1].item(), module.bias[1].item()])
    draws = module.draws[:, [0, 2], 1].double().numpy()
    np.testing.assert_allclose(draws[:4000] + draws[4000:], np.tile(2 * estimate, (4000, 1)), atol=1e-5)
    assert (module.draws[:, 1] == 0).all() and (module.draws[:, :2, 0] == 0).all()
    first, own = x.double().numpy().T

    def log_p(w):
        mu = link_by_hand(module, w[0] * first / first.std(ddof=1) + w[1], 1)
        return np.log(0.8 * scipy.stats.nbinom.pmf(own, 20, 20 / (20 + mu)) + 0.2 * (own == 0))

    scores = np.array([(log_p(estimate + h) - log_p(estimate - h)) / 2e-5 for h in 1e-5 * np.eye(2)])
    expected = np.linalg.inv(scores @ scores.T + np.eye(2))  # with a prior of spread 1
    standard_error = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / 4000)
    np.testing.assert_array_less(np.abs(np.cov(draws[:4000].T) - expected), 5 * standard_error)


def test_a_law_drawn_is_the_link_of_the_index_under_the_drawn_weights():
    module, x = straight(np.array([1.5, -0.8]), 300, seed=4, n_draws=6)
    module.settle(x, rng())
    mu, theta, logit_pi = (p.detach() for p in module.drawn(x, 2))
    assert mu.shape == theta.shape == logit_pi.shape == (6, 300)
    for draw in range(6):
        weight, square, bias = module.draws[draw, :, 2].double().numpy()
        assert square == 0
        first = x[:, 0].double().numpy()
        np.testing.assert_allclose(mu[draw], link_by_hand(module, weight * first / first.std(ddof=1) + bias, 2), rtol=1e-4)


def test_a_trained_network_follows_the_input_that_matters_and_hardly_any_other():
    draws = np.random.default_rng(5)
    x = draws.poisson(4, (1000, 4))
    x[:, 3] = draws.poisson(1 + 2 * x[:, 1])
    x = torch.as_tensor(x, dtype=torch.float32)
    module = model.DependencyNetwork(4, inputs=[0, 1, 2], generator=rng())
    module.start_at(x)
    training.fit(module, x, max_epochs=300, batch_size=1000, learning_rate=2e-2, schedule="one_cycle", validation_fraction=0.0)
    module.settle(x, rng())
    assert (module.weight[:, :3] == 0).all()
    alone, true = module.weight[:3, 3].abs(), module.weight[1, 3].item()
    assert true > 0 and alone[[0, 2]].max() < 0.1 * true
    at = torch.tensor([[4.0, 0, 4, 0], [4, 4, 4, 0], [0, 4, 8, 0], [4, 8, 4, 0]])
    np.testing.assert_allclose(module.link(module.index(at))[0][:, 3].detach(), [1, 9, 9, 17], rtol=0.1, atol=0.5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(n_genes=0), "n_genes = 0"),
        (dict(n_genes=1), "inputs = [0]"),
        (dict(inputs=[]), "inputs = []"),
        (dict(inputs=[4]), "inputs = 4"),
        (dict(inputs=[-1]), "inputs = -1"),
        (dict(n_units=0), "n_units = 0"),
        (dict(sparsity=-0.5), "sparsity = -0.5"),
        (dict(sparsity=float("nan")), "sparsity = nan"),
        (dict(max_pairs=-1), "max_pairs = -1"),
        (dict(max_pairs=2.5), "max_pairs = 2.5"),
        (dict(n_draws=1), "n_draws = 1"),
    ],
)
def test_bad_settings_of_a_dependency_network_raise_one_line_that_names_them(options, named):
    with pytest.raises(ValueError) as error:
        model.DependencyNetwork(**({"n_genes": 4} | options))
    one_line(error, named)


@pytest.mark.parametrize(
    ("options", "named"), [(dict(n_hidden=0), "n_hidden = 0"), (dict(hide=2.0), "hide = 2.0"), (dict(inputs=[]), "inputs = []"), (dict(hide=0.0), "inputs = ")]
)
def test_bad_settings_of_a_perceptron_raise_one_line_that_names_them(options, named):
    with pytest.raises(ValueError) as error:
        model.ZINBMLP(**({"n_genes": 4} | options))
    one_line(error, named)


def test_loss_of_a_perceptron_is_that_of_the_genes_that_it_does_not_see():
    module, x = model.ZINBMLP(4, 16, inputs=[0, 1], hide=0.5, generator=rng()), counts()
    visible = module.visible(x, rng(3))
    log_p = scipy_log_pmf(x, *module(x, visible))
    expected = [-row[~seen].sum() for row, seen in zip(log_p, visible.bool().numpy())]
    assert (visible[:, 2:] == 0).all() and 0 < visible[:, :2].mean() < 1
    np.testing.assert_allclose(module.loss(x, rng(3)).detach(), expected, rtol=2e-5)
