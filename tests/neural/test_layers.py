import numpy as np
import pytest
import scipy.sparse
import torch

from lib import model
from lib.laws import ZINB
from lib.laws.likelihood import log_likelihood
from lib.predict import regressions
from tests.neural.small import counts, scipy_log_pmf

torch.set_num_threads(1)


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
