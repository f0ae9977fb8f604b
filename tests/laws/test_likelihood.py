import numpy as np
import pytest
import torch

from benchmarks.references import plain_log_likelihood
from lib.laws import likelihood
from lib.laws.likelihood import log_likelihood
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
    for a in np.meshgrid(
        [0, 1, 3, 50, 1e4, 1e6],
        [1e-6, 1e-2, 1, 50, 1e4, 1e6],
        [1e-4, 0.1, 1, 8, 1e3, 1e5, 1e8],
        [-30, 0, 30],
    )
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_likelihood_and_gradients_are_finite_at_the_extremes(dtype):
    counts, *parameters = (torch.tensor(a, dtype=dtype) for a in EXTREMES)
    parameters = [p.requires_grad_() for p in parameters]
    value = log_likelihood(counts, *parameters)
    assert value.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(value.sum(), parameters))


@pytest.mark.parametrize(
    ("dtype", "largest", "tolerance"), [(torch.float64, 1e6, 1e-9), (torch.float32, 1e4, 1e-3)]
)
def test_log_likelihood_keeps_its_digits_at_the_extremes(dtype, largest, tolerance):
    k, mu, theta, logit = EXTREMES
    kept = (logit == -30) & (k <= largest)
    k, mu, theta = k[kept], mu[kept], theta[kept]
    expected = np.array([exact_log_prob(*p) for p in zip(k, mu, theta)])
    expected = np.where(k == 0, np.logaddexp(-30, expected), expected)
    given = k, mu, theta, np.full(len(k), -30.0)
    value = log_likelihood(*(torch.tensor(a, dtype=dtype) for a in given))
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=10 * tolerance)


def test_gradients_are_central_differences():
    rng = np.random.default_rng(1)
    counts = torch.tensor([0, 0, 0, 0, 1, 2, 7, 40, 300, 3000], dtype=torch.float64)
    mu = np.exp(rng.uniform(-1, 5, 10))
    theta = np.exp(rng.uniform(-2, 5, 10))
    parameters = [mu, theta, rng.uniform(-5, 5, 10)]
    tensors = [torch.tensor(p, requires_grad=True) for p in parameters]
    gradients = torch.autograd.grad(log_likelihood(counts, *tensors).sum(), tensors)
    for i, gradient in enumerate(gradients):
        step = 1e-5 * np.abs(parameters[i])
        ends = []
        for shift in (step, -step):
            moved = [p + shift * (j == i) for j, p in enumerate(parameters)]
            ends.append(log_likelihood(counts, *map(torch.tensor, moved)).numpy())
        high, low = ends
        np.testing.assert_allclose(gradient, (high - low) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.fixture(params=["zeros apart", "as on a GPU"])
def way(request, monkeypatch):
    if request.param == "as on a GPU":
        monkeypatch.setattr(likelihood, "_where_counts", lambda counts: None)


def drawn(shape, mu=(), theta=(), logit_pi=(), seed=0, dtype=torch.float64):
    """Counts, four in five of them zeros, and parameters of the given shapes."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(6, shape) * (rng.random(shape) < 0.2)
    mu = np.exp(rng.normal(1, 1, mu))
    theta = np.exp(rng.normal(1, 3, theta))
    parameters = mu, theta, rng.normal(0, 3, logit_pi)
    tensors = (torch.tensor(p, dtype=dtype, requires_grad=True) for p in parameters)
    return torch.tensor(counts, dtype=dtype), *tensors


SHAPES = {
    "of each entry": [(30, 7)] * 4,
    "constants of a gene": [(30, 7), (30, 7), (7,), (7,)],
    "one law": [(30, 7), (), (), ()],
    "samples of z": [(30, 7), (3, 30, 7), (7,), (3, 30, 7)],
    "a column and several values": [(30, 1), (30, 5), (1,), (1,)],
    "a pi an entry": [(30, 7), (7,), (7,), (30, 7)],
    "a pi an entry, a mu a cell": [(30, 7), (30, 1), (), (30, 7)],
    "several thetas": [(30, 7), (30, 7), (3, 1, 7), (7,)],
    "a theta an entry": [(7,), (7,), (30, 7), (7,)],
    "no cells": [(0, 7), (0, 7), (7,), (7,)],
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_value_and_gradients_are_those_of_the_plain_formula(shapes, way):
    counts, *parameters = drawn(*shapes)
    value, plain = log_likelihood(counts, *parameters), plain_log_likelihood(counts, *parameters)
    assert value.shape == plain.shape
    np.testing.assert_allclose(value.detach(), plain.detach(), rtol=1e-9, atol=1e-9)
    upstream = torch.tensor(np.random.default_rng(1).normal(size=value.shape))
    for gradient, expected in zip(
        torch.autograd.grad(value, parameters, upstream),
        torch.autograd.grad(plain, parameters, upstream),
    ):
        np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-7)


def test_counts_may_lie_column_by_column(way):
    counts, *parameters = drawn((30, 7), (30, 7), (7,), (30, 7))
    value = log_likelihood(counts.t().contiguous().t(), *parameters)
    np.testing.assert_array_equal(value.detach(), log_likelihood(counts, *parameters).detach())


def test_models_that_differ_in_theta_alone_may_be_stacked(way):
    counts, mu, theta, logit_pi = drawn((30, 7), (30, 7), (3, 7), (7,))
    value = torch.func.vmap(log_likelihood, in_dims=(None, None, 0, None))(
        counts, mu, theta, logit_pi
    )
    plain = torch.stack([plain_log_likelihood(counts, mu, one, logit_pi) for one in theta])
    np.testing.assert_allclose(value.detach(), plain.detach(), rtol=1e-9, atol=1e-9)


def test_only_what_asks_for_a_gradient_gets_one():
    counts, mu, theta, logit_pi = drawn((30, 7), (30, 7), (7,), (7,))
    log_likelihood(counts, mu, theta.detach(), logit_pi).sum().backward()
    assert mu.grad is not None and theta.grad is None
    with torch.no_grad():
        assert not log_likelihood(counts, mu, theta, logit_pi).requires_grad


@pytest.mark.parametrize(
    "shapes",
    [[(30, 7), (30, 7), (7,), (30, 7)], [(7,), (30, 7), (), (7,)], [(30, 7), (), (), (30, 7)]],
)
def test_stacked_models_have_the_values_and_gradients_of_each(shapes, way):
    each = [drawn(*shapes, seed=seed) for seed in range(3)]
    joined = [torch.stack(parts).detach() for parts in zip(*each)]
    stacked = [tensor.requires_grad_(i > 0) for i, tensor in enumerate(joined)]
    value = torch.func.vmap(log_likelihood)(*stacked)
    gradients = torch.autograd.grad(value.sum(), stacked[1:])
    for i, one in enumerate(each):
        alone = plain_log_likelihood(*one)
        np.testing.assert_allclose(value[i].detach(), alone.detach(), rtol=1e-9, atol=1e-9)
        for gradient, expected in zip(gradients, torch.autograd.grad(alone.sum(), one[1:])):
            np.testing.assert_allclose(gradient[i], expected, rtol=1e-7, atol=1e-7)


def test_whole_number_tensors_are_counts_too():
    k = torch.arange(40)
    law = [torch.tensor(p) for p in (6.0, 2.0, -1.0)]
    np.testing.assert_array_equal(log_likelihood(k, *law), log_likelihood(k.float(), *law))


@pytest.mark.parametrize("k", [0, 1, 9])
def test_gradients_in_float32_keep_their_digits_where_the_law_is_near_a_poisson(k, way):
    rng = np.random.default_rng(2)
    mu = rng.uniform(0.1, 20, 2000)
    theta = np.exp(rng.uniform(np.log(1e3), np.log(1e8), 2000))
    made = np.full(2000, float(k)), mu, theta, rng.normal(0, 2, 2000)
    exact = [torch.tensor(a, requires_grad=i > 0) for i, a in enumerate(made)]
    single = [t.detach().float().requires_grad_(i > 0) for i, t in enumerate(exact)]
    truth = torch.autograd.grad(plain_log_likelihood(*exact).sum(), exact[1:])
    ours = torch.autograd.grad(log_likelihood(*single).sum(), single[1:])
    plain = torch.autograd.grad(plain_log_likelihood(*single).sum(), single[1:])
    for i, scale in enumerate((1, exact[2].detach(), 1)):  # of theta, that of its logarithm
        error, of_plain = (((g[i].double() - truth[i]) * scale).abs().max() for g in (ours, plain))
        assert error < 3 * of_plain + 1e-6


def test_a_second_derivative_is_refused():
    counts, *parameters = drawn((30, 7), (30, 7), (7,), (7,))
    total = log_likelihood(counts, *parameters).sum()
    with pytest.raises(RuntimeError, match="plain_log_likelihood"):
        torch.autograd.grad(total, parameters, create_graph=True)


def test_float32_is_as_near_to_the_exact_value_as_the_plain_formula():
    exact = drawn((400, 50), (400, 50), (400, 50), (400, 50))
    single = [t.detach().float() for t in exact]
    truth = plain_log_likelihood(*exact).detach()
    error = (log_likelihood(*single) - truth).abs().max()
    of_plain = (plain_log_likelihood(*single) - truth).abs().max()
    assert error < 2 * of_plain
