"""Which terms the index of a dependency network should have: what one costs, and how one is found.

All are called between trainings, on the counts (n_cells, n_genes) that the network is trained on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.laws.likelihood import log_likelihood
from lib.neural.dependency import DependencyNetwork

STEPS = (0.25, 0.5, 1.0, 2.0)  # of the search, in units of the index, where the term is there


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
    """Take the parameters of some genes from a network that was fitted to the same counts.

    genes : booleans (n_genes,)
    """
    theirs = dict(other.named_parameters())
    for name, parameter in network.named_parameters():
        taken = genes if name == "weight" else genes.view(-1, *[1] * (parameter.ndim - 1))
        parameter.copy_(torch.where(taken, theirs[name], parameter))


@torch.no_grad()
def search(network: DependencyNetwork, counts: Tensor, n_steps: int = 20) -> int:
    """Out of local optima: change one weight of a gene, the one that raises its likelihood most.

    Where a term should make a gene silent and isn't there yet, the gene's zeros pass for dropout,
    whatever its mean: the gradient is nearly none, and only a large step finds the term. A step
    must be worth what the term costs by the extended Bayesian information criterion, or one nat
    where it is there already.

    n_steps : changes of a gene at most

    Returns the number of changes, of all genes together.
    """
    terms = network.terms(counts)
    cost = _cost_of_terms(network, len(counts))
    sizes = torch.tensor([*(-s for s in STEPS), *STEPS], device=counts.device)
    cells = [column.nonzero()[:, 0] for column in terms.T]  # of each term, those where it is there
    steps = [
        sizes / terms[rows, term].mean().clamp(min=1e-3) if len(rows) else sizes
        for term, rows in enumerate(cells)
    ]
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
