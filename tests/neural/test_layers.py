import numpy as np
import pytest
import scipy.sparse
import torch

from lib import model
from lib.laws import ZINB
from lib.laws.likelihood import log_likelihood
from lib.predict import regressions
from tests.neural.small import counts, rng, scipy_log_pmf, vae

torch.set_num_threads(1)


def test_theta_is_inverse_dispersion_as_in_the_simulator():
    theta, mu, n_cells = 5.0, 20.0, 20_000
    k = ZINB(mu, theta, 0.0).sample(np.random.default_rng(0), n_cells).astype(float)
    assert k.var() == pytest.approx(mu + mu**2 / theta, rel=0.05)  # of the simulator
    x = torch.as_tensor(k)
    p = regressions.maximise(
        lambda p: log_likelihood(
            x, p[0].exp(), p[1].exp(), torch.tensor(-30.0, dtype=torch.float64)
        ).mean(),
        torch.zeros(2, dtype=torch.float64),
    )
    assert p[0].exp().item() == pytest.approx(mu, rel=0.02)
    assert p[1].exp().item() == pytest.approx(theta, rel=0.05)


def test_to_law_has_the_pmf_of_the_loss():
    mu, theta, logit_pi = (
        torch.tensor([0.5, 30.0]),
        torch.tensor([0.7, 9.0]),
        torch.tensor([-2.0, 1.0]),
    )
    law = model.to_law(mu, theta, logit_pi)
    for k in (0.0, 1.0, 25.0):
        np.testing.assert_allclose(
            law.log_prob(k), scipy_log_pmf(torch.full((2,), k), mu, theta, logit_pi), rtol=1e-6
        )


def test_to_tensor_takes_sparse_and_dense_counts():
    dense = counts().numpy()
    for given_counts in (dense, dense.astype(np.int64), scipy.sparse.csr_matrix(dense)):
        tensor = model.to_tensor(given_counts)
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor, dense)


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


def test_generative_of_some_genes_is_that_of_all_at_their_columns():
    module, z = vae(), torch.randn(3, 5, 2, generator=rng())
    module.start_at(counts())  # genes of different scales
    for some, every in zip(module.generative(z, [3, 1]), module.generative(z)):
        assert some.shape == (3, 5, 2)
        torch.testing.assert_close(some, every[..., [3, 1]])
