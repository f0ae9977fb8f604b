import numpy as np
import pytest
import torch

from lib import model, training
from lib.laws.likelihood import log_likelihood
from lib.neural.conditional import ConditionalZINBVAE

N_GENES, N_CONDITIONS = 6, 3


@pytest.fixture
def module():
    made = ConditionalZINBVAE(N_GENES, N_CONDITIONS, n_latent=2, n_hidden=8)
    with torch.no_grad():
        made.to_centre.normal_(generator=torch.Generator().manual_seed(1))
    return made


def cells(n=50, seed=0):
    rng = np.random.default_rng(seed)
    counts, conditions = rng.poisson(3, (n, N_GENES)), rng.normal(size=(n, N_CONDITIONS))
    return torch.as_tensor(np.hstack([counts, conditions]), dtype=torch.float32)


def test_the_loss_is_the_elbo_with_the_divergence_from_a_prior_that_moves(module):
    x, generator = cells(), torch.Generator().manual_seed(2)
    counts, conditions = x[:, :N_GENES], x[:, N_GENES:]
    (noise,) = module.noise(x, generator)
    with torch.no_grad():
        loss = module.loss_given(x, noise)
        mean, log_var = module.inference(counts)
        deviation = torch.exp(0.5 * log_var)
        q = torch.distributions.Normal(mean, deviation)
        prior = torch.distributions.Normal(conditions @ module.to_centre.T, 1.0)
        kl = torch.distributions.kl_divergence(q, prior).sum(1)
        law = module.generative(mean + deviation * noise, conditions)
        expected = kl - log_likelihood(counts, *law).sum(1)
    torch.testing.assert_close(loss, expected)


def test_training_learns_what_a_condition_does_and_a_file_keeps_it(tmp_path):
    rng = np.random.default_rng(3)
    told = rng.integers(0, 2, (2000, 1))
    counts = rng.poisson(np.where(told, [2.0, 20, 5, 5], [10.0, 5, 5, 5]))
    x = torch.as_tensor(np.hstack([counts, told]), dtype=torch.float32)
    vae = ConditionalZINBVAE(4, 1, n_latent=2, n_hidden=16)
    vae.start_at(x[:, :4])
    options = {"max_epochs": 20, "schedule": "one_cycle", "validation_fraction": 0.0}
    training.fit(vae, x, **options)
    training.save(vae, tmp_path / "vae.pt")
    again = training.load(ConditionalZINBVAE, tmp_path / "vae.pt", "cpu")
    one = torch.ones(2000, 1)
    with torch.no_grad():
        z = torch.randn(2000, 2, generator=torch.Generator().manual_seed(4))
        for condition, mean in ((0.0, [10, 5, 5, 5]), (1.0, [2, 20, 5, 5])):
            given = condition * one
            mu, theta, logit_pi = again.generative(z + again.centre(given), given)
            law = model.to_law(mu, theta.expand_as(mu), logit_pi)
            np.testing.assert_allclose(law.mean.mean(0), mean, rtol=0.12)
