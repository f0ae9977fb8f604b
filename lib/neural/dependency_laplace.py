"""After a dependency network's training: drop what the data don't need, and draw what remains.

A law is predicted as the mixture over draws of the weights, from their Laplace approximation
(MacKay 1992), so that where the data leave the index open, near a step or far out, the prediction
says so.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from lib.laws import maximum_likelihood
from lib.laws.likelihood import log_likelihood
from lib.neural.dependency import DependencyNetwork
from lib.neural.layers import LOG_THETA_RANGE


def settle(network: DependencyNetwork, counts: Tensor, generator: Generator) -> None:
    """Prune the network, and draw the weights that remain.

    counts : (n_cells, n_genes) that it was trained on
    """
    prune(network, counts)
    draw(network, counts, generator)


@torch.no_grad()
def prune(network: DependencyNetwork, counts: Tensor) -> None:
    """Set small weights to zero, and give genes that follow no other the constant law.

    A gene whose index doesn't raise the likelihood by what its terms and link cost by the Bayesian
    information criterion (Schwarz 1978) gets the constant law of maximum likelihood instead.
    """
    network.weight.mul_((network.weight.abs() > network.ZERO) * network.allowed)
    likelihood = log_likelihood(counts, *network.link(network.index(counts))).sum(0)
    mu, theta, logit_pi = _constant_laws(counts)
    gain = likelihood - log_likelihood(counts, mu, theta, logit_pi).sum(0)
    n_parameters = (network.weight != 0).sum(0) + 1 + 3 * network.height.shape[1]
    idle = gain < 0.5 * math.log(len(counts)) * n_parameters
    network.weight[:, idle] = 0
    network.scale[idle] *= (mu / network.link(network.bias)[0])[idle]
    network.log_theta[idle] = theta.log()[idle]
    network.logit_pi[idle] = logit_pi[idle]


def draw(network: DependencyNetwork, counts: Tensor, generator: Generator) -> None:
    """Draw the weights of each gene that follows others, by the empirical Fisher information."""
    device = counts.device
    terms = torch.cat([network.terms(counts), torch.ones(len(counts), 1, device=device)], dim=1)
    score = network.score(counts)
    draws = network.draws
    draws.copy_(torch.cat([network.weight, network.bias[None]]).detach())
    half = len(draws) // 2
    is_bias = torch.ones(1, dtype=torch.bool, device=device)
    for gene in range(len(network.bias)):
        free = torch.cat([network.weight[:, gene] != 0, is_bias])
        if free.sum() == 1:  # the same index in all cells, and no other value to know the link at
            continue
        slopes = (terms[:, free] * score[:, gene, None]).double()
        prior = torch.eye(slopes.shape[1], device=device)  # of spread 1
        factor = torch.linalg.cholesky(slopes.T @ slopes + prior)
        shape = slopes.shape[1], half
        noise = torch.randn(shape, generator=generator, device=device, dtype=torch.float64)
        change = torch.linalg.solve_triangular(factor.mT, noise, upper=True).T.float()
        draws[:half, free, gene] += change
        draws[half : 2 * half, free, gene] -= change  # in pairs, so that their mean is the estimate


def _constant_laws(counts):
    """mu, theta and the logit of pi of each gene's law of maximum likelihood, each (n_genes,)."""
    fitted = maximum_likelihood.fit(counts.cpu().numpy())
    mu, theta, pi = (
        torch.as_tensor(p, dtype=torch.float32, device=counts.device)
        for p in (fitted.mu, fitted.theta, fitted.pi)
    )
    theta = theta.clamp(*(math.exp(t) for t in LOG_THETA_RANGE))
    return mu.clamp(min=1e-6), theta, torch.logit(pi.clamp(1e-12, 1 - 1e-6))
