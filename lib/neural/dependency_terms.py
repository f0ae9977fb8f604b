"""Terms of a dependency network's index: what one costs, how one is found, which stay.

All are called between or after trainings, on the counts (n_cells, n_genes) that the network is
trained on. A law is predicted as the mixture over draws of the weights, from their Laplace
approximation (MacKay 1992), so that where the data leave the index open, near a step or far out,
the prediction says so.
"""

import math

import torch
from torch import Generator, Tensor

from lib.laws import maximum_likelihood
from lib.laws.likelihood import log_likelihood
from lib.neural.dependency import DependencyNetwork
from lib.neural.layers import LOG_THETA_RANGE

# Steps of the search, in units of the index in cells where the term isn't 0
STEPS = (-0.25, -0.5, -1.0, -2.0, 0.25, 0.5, 1.0, 2.0)


def weigh(network: DependencyNetwork, counts: Tensor) -> None:
    """Set the penalty on each weight in units of the standard error of its score, as now fitted.

    A term that few cells tell of is then not held to what many would tell (Belloni et al. 2012,
    Econometrica 80, 2369).
    """
    squares = (network.terms(counts) ** 2).T @ network.score(counts) ** 2 / len(counts)
    spread = torch.sqrt(squares * 2 * math.log(max(len(network.weight), 2)) / len(counts))
    network.penalty_of.copy_(network.sparsity * spread * network.by_order(0.5, 1.0, 1.0))


@torch.no_grad()
def criterion(network: DependencyNetwork, counts: Tensor) -> Tensor:
    """Extended Bayesian information criterion of each gene's index, (n_genes,), in nats.

    Smaller is better. Negative log-likelihood, and for each term log(n_cells) / 2 and the logarithm
    of how many terms of its order there were to choose from (Chen and Chen 2008, Biometrika 95,
    759).
    """
    kept = (network.weight.abs() > network.ZERO) * network.allowed
    log_p = log_likelihood(counts, *network.link(network.index(counts, kept))).sum(0)
    return (_cost_of_terms(network, len(counts)) * kept).sum(0) - log_p


@torch.no_grad()
def adopt(network: DependencyNetwork, other: DependencyNetwork, genes: Tensor) -> None:
    """Take the parameters of some genes (booleans) from a network fitted to the same counts."""
    theirs = dict(other.named_parameters())
    for name, parameter in network.named_parameters():
        taken = genes if name == "weight" else genes.view(-1, *[1] * (parameter.ndim - 1))
        parameter.copy_(torch.where(taken, theirs[name], parameter))


@torch.no_grad()
def search(network: DependencyNetwork, counts: Tensor, n_steps: int = 20) -> int:
    """Out of local optima: change one weight of a gene, the one that raises its likelihood most.

    Where a term should make a gene silent and isn't there yet, the gene's zeros pass for dropout,
    whatever its mean: the gradient is nearly none, and only a large step finds the term. A step
    must be worth what the term costs by the `criterion`, or one nat where it is there already.

    Returns the number of changes, at most `n_steps` a gene.
    """
    terms = network.terms(counts)
    cost = _cost_of_terms(network, len(counts))
    sizes = torch.tensor(STEPS, device=counts.device)
    cells = [column.nonzero()[:, 0] for column in terms.T]  # of each term, those where it is there
    means = [
        terms[rows, term].mean().clamp(min=1e-3) if len(rows) else 1.0
        for term, rows in enumerate(cells)
    ]
    steps = [sizes / mean for mean in means]
    n_taken = 0
    for gene in torch.where((network.weight.abs() > network.ZERO).any(0))[0].tolist():
        for _ in range(n_steps):
            change = _best_change(network, gene, counts, terms, cells, steps, cost)
            if change is None:
                break
            term, step = change
            network.weight[term, gene] += step
            n_taken += 1
    return n_taken


def _best_change(network, gene, counts, terms, cells, steps, cost):
    """The term and the step of its weight that raise a gene's likelihood most, if worth it."""
    weight, allowed = network.weight[:, gene], network.allowed[:, gene]
    index = terms @ (weight * allowed)[:, None] + network.bias[gene]
    now = _likelihood_of(network, gene, counts, index)
    best, change = 0.0, None
    for term in allowed.nonzero()[:, 0].tolist():
        rows = cells[term]
        moved = index[rows] + terms[rows, term, None] * steps[term]
        gains = (_likelihood_of(network, gene, counts[rows], moved) - now[rows]).sum(0)
        gain, at = gains.max(0)
        gain = gain - (1.0 if weight[term].abs() > network.ZERO else cost[term, 0])
        if gain > best:
            best, change = gain.item(), (term, steps[term][at])
    return change


def _likelihood_of(network, gene, counts, index):
    """Log-likelihood of a gene's counts under several values of its index, (n_cells, n_values)."""
    law = (p.squeeze(-1) for p in network.link(index[..., None], [gene]))
    return log_likelihood(counts[:, gene, None], *law)


def _cost_of_terms(network, n_cells):
    """What a term must bring, (n_terms, 1), in nats: see `criterion`."""
    n_inputs = len(network.inputs)
    choices = n_inputs, n_inputs, max(n_inputs * (n_inputs - 1) // 2, 1)
    return 0.5 * math.log(n_cells) + network.by_order(*(math.log(n) for n in choices))


def settle(network: DependencyNetwork, counts: Tensor, generator: Generator) -> None:
    """Set small weights to zero, and draw those that remain.

    A gene whose index doesn't raise the likelihood by what its terms and link cost by the Bayesian
    information criterion (Schwarz 1978) gets the constant law of maximum likelihood instead.
    """
    _prune(network, counts)
    _draw(network, counts, generator)


@torch.no_grad()
def _prune(network, counts):
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


def _draw(network, counts, generator):
    """Draw the weights of each gene that follows others, by the empirical Fisher information."""
    device, draws, half = counts.device, network.draws, len(network.draws) // 2
    terms = torch.cat([network.terms(counts), torch.ones(len(counts), 1, device=device)], dim=1)
    score = network.score(counts)
    draws.copy_(torch.cat([network.weight, network.bias[None]]).detach())
    is_bias = torch.ones(1, dtype=torch.bool, device=device)
    for gene in range(len(network.bias)):
        free = torch.cat([network.weight[:, gene] != 0, is_bias])
        if free.sum() == 1:  # the same index in all cells, and no other value to know the link at
            continue
        slopes = (terms[:, free] * score[:, gene, None]).double()
        prior = torch.eye(slopes.shape[1], device=device)  # of spread 1
        factor = torch.linalg.cholesky(slopes.T @ slopes + prior)
        noise = torch.randn(
            len(factor), half, generator=generator, device=device, dtype=torch.float64
        )
        change = torch.linalg.solve_triangular(factor.mT, noise, upper=True).T.float()
        draws[:half, free, gene] += change
        draws[half : 2 * half, free, gene] -= change  # in pairs, so that their mean is the estimate


def _constant_laws(counts):
    """mu, theta and the logit of pi of each gene's law of maximum likelihood, each (n_genes,)."""
    fitted = maximum_likelihood.fit(counts.cpu().numpy())
    parameters = fitted.mu, fitted.theta, fitted.pi
    mu, theta, pi = (
        torch.as_tensor(p, dtype=torch.float32, device=counts.device) for p in parameters
    )
    theta = theta.clamp(*(math.exp(t) for t in LOG_THETA_RANGE))
    return mu.clamp(min=1e-6), theta, torch.logit(pi.clamp(1e-12, 1 - 1e-6))
