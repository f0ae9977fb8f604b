"""What the networks are made of: inputs, hidden layers, where they start; their law."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator, Tensor, nn

from lib import checks
from lib.laws import ZINB, zinb
from lib.neural.linear import Linear, linear

LOG_THETA_RANGE = tuple(math.log(t) for t in zinb.THETA_RANGE)
# In the basin in which zeros are explained by pi; from a small theta, no way leads out
START_THETA = 7.0


def places_of(inputs, n_genes):
    """The indices of the inputs, by default of all genes."""
    if inputs is None:
        return list(range(n_genes))
    return [checks.integer("inputs", i, 0, n_genes - 1) for i in inputs]


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
