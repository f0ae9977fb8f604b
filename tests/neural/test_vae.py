import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from lib import model
from lib.laws import ZINB
from tests.neural.small import counts, rng, scipy_log_pmf, vae

torch.set_num_threads(1)


def decoded_log_pmf(module, x, mean, log_var, noise):
    return scipy_log_pmf(x, *module.generative(mean + (log_var / 2).exp() * noise))


def kl_to_prior(mean, log_var):
    return (
        kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)).sum(-1).detach().numpy()
    )


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
        log_joint = scipy_log_pmf(cell, *module.generative(z)).sum(1) + scipy.stats.norm.logpdf(
            z[:, 0].numpy()
        )
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
    weights["encoder.0.weight"] = torch.cat([first, torch.zeros_like(first)], dim=2).flatten(
        1
    )  # the copies tell it nothing
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
    np.testing.assert_allclose(
        module.loss(x, rng(4)).detach(), kl_to_prior(mean, log_var) - log_p.sum(1), rtol=2e-5
    )


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
