import numpy as np
import pytest
import torch

from lib.likelihood import log_likelihood
from tests.agreement import exact_log_prob, scipy_pmf


def test_value_is_that_of_scipy():
    rng = np.random.default_rng(0)
    k, mu, theta = rng.poisson(5, 500), rng.uniform(0.1, 50, 500), np.exp(rng.uniform(-2, 6, 500))
    logit = rng.uniform(-4, 4, 500)
    expected = np.log(scipy_pmf(k, mu, theta, 1 / (1 + np.exp(-logit))))
    for dtype, rtol in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        value = log_likelihood(*(torch.tensor(a, dtype=dtype) for a in (k, mu, theta, logit)))
        np.testing.assert_allclose(value, expected, rtol=rtol)


EXTREMES = [
    a.ravel()
    for a in np.meshgrid([0, 1, 3, 50, 1e4, 1e6], [1e-6, 1e-2, 1, 50, 1e4, 1e6], [1e-4, 0.1, 1, 8, 1e3, 1e5, 1e8], [-30, 0, 30])
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_likelihood_and_gradients_are_finite_at_the_extremes(dtype):
    counts, *parameters = (torch.tensor(a, dtype=dtype) for a in EXTREMES)
    parameters = [p.requires_grad_() for p in parameters]
    value = log_likelihood(counts, *parameters)
    assert value.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(value.sum(), parameters))


@pytest.mark.parametrize(("dtype", "largest", "tolerance"), [(torch.float64, 1e6, 1e-9), (torch.float32, 1e4, 1e-3)])
def test_log_likelihood_keeps_its_digits_at_the_extremes(dtype, largest, tolerance):
    k, mu, theta, logit = EXTREMES
    kept = (logit == -30) & (k <= largest)
    k, mu, theta = k[kept], mu[kept], theta[kept]
    expected = np.array([exact_log_prob(*p) for p in zip(k, mu, theta)])
    expected = np.where(k == 0, np.logaddexp(-30, expected), expected)
    value = log_likelihood(*(torch.tensor(a, dtype=dtype) for a in (k, mu, theta, np.full(len(k), -30.0))))
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=10 * tolerance)


def test_gradients_are_central_differences():
    rng = np.random.default_rng(1)
    counts = torch.tensor([0, 0, 0, 0, 1, 2, 7, 40, 300, 3000], dtype=torch.float64)
    parameters = [np.exp(rng.uniform(-1, 5, 10)), np.exp(rng.uniform(-2, 5, 10)), rng.uniform(-5, 5, 10)]
    tensors = [torch.tensor(p, requires_grad=True) for p in parameters]
    gradients = torch.autograd.grad(log_likelihood(counts, *tensors).sum(), tensors)
    for i, gradient in enumerate(gradients):
        step = 1e-5 * np.abs(parameters[i])
        ends = [[torch.tensor(p + s * step * (j == i)) for j, p in enumerate(parameters)] for s in (1, -1)]
        high, low = (log_likelihood(counts, *e).numpy() for e in ends)
        np.testing.assert_allclose(gradient, (high - low) / (2 * step), rtol=1e-5, atol=1e-7)
