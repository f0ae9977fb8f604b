"""What the networks are made of: hidden layers, masks, heads with the parameters of a law."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lib import checks
from lib.laws import ZINB, zinb
from lib.neural.linear import Linear, linear

Parameters = tuple[Tensor, Tensor, Tensor]  # mu, theta and the logit of pi, of any shape

LOG_THETA_RANGE = tuple(math.log(t) for t in zinb.THETA_RANGE)
# In the basin in which zeros are explained by pi; from a small theta, no way leads out
START_THETA = 7.0


def places_of(inputs, n_genes):
    """The indices of the inputs, by default of all genes."""
    if inputs is None:
        return list(range(n_genes))
    return [checks.integer("inputs", i, 0, n_genes - 1) for i in inputs]


def mask_of(inputs, n_genes):
    """1 for the inputs and 0 for other genes, (n_genes,)."""
    return torch.zeros(n_genes).index_fill_(0, torch.tensor(inputs), 1.0)


def hidden_layers(n_inputs, n_hidden, n_layers, normalised=False):
    """Hidden layers, one behind the other."""
    layers = []
    for width in (n_inputs, *[n_hidden] * (n_layers - 1)):
        norm = [nn.LayerNorm(n_hidden)] if normalised else []
        layers += [Linear(width, n_hidden), *norm, nn.SiLU()]
    return layers


def apply_to_visible(network, x, visible):
    """A network of the visible counts' logarithms and of which are visible.

    The first layer is applied to these apart: they needn't be joined, and what is visible in all
    cells alike is one row.
    """
    first = network[0]
    of_counts, of_visible = first.weight.chunk(2, dim=1)
    hidden = linear(torch.log1p(x) * visible, of_counts) + linear(visible, of_visible, first.bias)
    for layer in list(network)[1:]:
        hidden = layer(hidden)
    return hidden


def start_heads(heads, scale, counts, log_theta=None):
    """Set the heads' constants where zeros are explained by pi and mu is the mean of the rest."""
    mean, rate = mean_and_zero_rate(counts)
    one = torch.full_like(mean, math.log(math.expm1(1.0)))  # softplus of it is 1
    theta = torch.full_like(mean, math.log(START_THETA))
    of_cells = [theta] if log_theta is None else []
    with torch.no_grad():
        scale.copy_(mean)
        heads.bias.copy_(torch.cat([one, *of_cells, torch.logit(rate)]))
        heads.weight.mul_(0.1)
        if log_theta is not None:
            log_theta.copy_(theta)


def zinb_parameters(heads, scale, hidden, genes, log_theta=None):
    """mu, theta and the logit of pi of some genes from a hidden layer.

    log_theta : logarithms of theta, (n_genes,), where they are constants of the genes and no heads
    """
    n_heads = 3 if log_theta is None else 2
    parameters = heads.weight, heads.bias
    weights, biases = (p.unflatten(0, (n_heads, -1))[:, genes].unbind() for p in parameters)
    # one product each: parts of a common one would lie apart in memory, and slow down what follows
    raw_mu, *of_cells, logit_pi = (linear(hidden, w, b) for w, b in zip(weights, biases))
    log_theta = of_cells[0] if log_theta is None else log_theta[genes]
    mu = scale[genes] * F.softplus(raw_mu) + 1e-6
    return mu, torch.exp(log_theta.clamp(*LOG_THETA_RANGE)), F.hardtanh(logit_pi, -30, 30)


def visible_mask(x, is_input, hide, generator):
    """1 where a network may look.

    Each cell's inputs are hidden at random, at a rate uniform in [0, hide].
    """
    mask = is_input[None]
    if generator is None or hide == 0:
        return mask
    rate = hide * torch.rand(len(x), 1, generator=generator, device=x.device)
    return mask * (torch.rand(x.shape, generator=generator, device=x.device) >= rate)


def mean_and_zero_rate(counts):
    """Mean of the non-zero counts, and share of zeros, of each gene."""
    positive = (counts > 0).float()
    rate = (1 - positive.mean(0)).clamp(1e-3, 1 - 1e-3)
    mean = counts.sum(0) / positive.sum(0).clamp(min=1)
    return mean.clamp(min=1e-2), rate


def initialise(module: nn.Module, generator: Generator | None) -> None:
    """Draw the weights of all linear layers from `generator` rather than the global one."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            nn.init.zeros_(layer.bias)


def to_law(mu: Tensor, theta: Tensor, logit_pi: Tensor) -> ZINB:
    """A network's parameters as a law."""
    parameters = mu, theta, torch.sigmoid(logit_pi.double())
    return ZINB(*(p.detach().double().cpu().numpy() for p in parameters))


def to_tensor(counts, device: torch.device | str = "cpu") -> Tensor:
    """Counts, sparse or dense, as a float32 tensor (n_cells, n_genes)."""
    array = counts.toarray() if hasattr(counts, "toarray") else np.asarray(counts)
    return torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32), device=device)
