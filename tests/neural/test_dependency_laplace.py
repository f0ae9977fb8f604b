import numpy as np
import scipy.stats
import torch

from lib import model
from lib.laws import maximum_likelihood
from lib.neural import dependency_laplace
from tests.neural.small import link_by_hand, rng, scipy_log_pmf

torch.set_num_threads(1)


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
    dependency_laplace.settle(module, x, rng())
    np.testing.assert_array_equal((module.weight != 0).any(0), worth)


def test_settle_gives_genes_that_depend_on_nothing_the_maximum_likelihood_law():
    module, x = straight(np.array([0.0, 0.0, 3.0]), 800, seed=2)
    with torch.no_grad():
        module.height[:3] = 0.3  # so that the law isn't the right one before
        module.log_theta[:3] = 1.0
    dependency_laplace.settle(module, x, rng())
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
    dependency_laplace.settle(module, x, rng())
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
    dependency_laplace.settle(module, x, rng())
    mu, theta, logit_pi = (p.detach() for p in module.drawn(x, 2))
    assert mu.shape == theta.shape == logit_pi.shape == (6, 300)
    for draw in range(6):
        weight, square, bias = module.draws[draw, :, 2].double().numpy()
        assert square == 0
        first = x[:, 0].double().numpy()
        np.testing.assert_allclose(mu[draw], link_by_hand(module, weight * first / first.std(ddof=1) + bias, 2), rtol=1e-4)
