"""What the networks are made of: inputs, hidden layers, heads, where they start; their law."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lib import checks
from lib.laws import ZINB, zinb
from lib.neural.linear import Linear, linear

LOG_THETA_RANGE = tuple(math.log(t) for t in zinb.THETA_RANGE)
# In the basin in which zeros are explained by pi; from a small theta, no way leads out
START_THETA = 7.0
Parameters = tuple[Tensor, Tensor, Tensor]  # mu, theta and the logit of pi


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

    The first layer takes these apart: they needn't be joined, and what is visible in all cells
    alike is one row.
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


class MaskedNetwork(nn.Module):
    """A network of the counts that it may see. A kind of it has `noise` and `loss_given`, and sets

    needed: what the inputs must leave, for the error where they don't
    heads: linear layer to raw mu, log theta and the logit of pi of each gene, one behind the other
    log_theta: logarithms of theta, (n_genes,), if they are constants of the genes and no heads
    """

    needed: str

    def __init__(self, n_genes: int, inputs: list[int] | None, hide: float, must_hide: bool):
        super().__init__()
        self.n_genes = checks.integer("n_genes", n_genes, low=1)
        self.hide = checks.number("hide", hide, 0, 1)
        self.inputs = places_of(inputs, self.n_genes)
        if not self.inputs or (must_hide and hide == 0 and len(self.inputs) == n_genes):
            raise ValueError(f"inputs = {self.inputs!r}: must leave {self.needed}")
        self.warmed = 1.0
        self.register_parameter("log_theta", None)
        self.register_buffer(
            "is_input", torch.zeros(self.n_genes).index_fill_(0, torch.tensor(self.inputs), 1.0)
        )
        self.register_buffer("scale", torch.ones(self.n_genes))  # counts; the unit of mu

    @torch.no_grad()
    def start_at(self, counts: Tensor) -> None:
        """Set the heads' constants: pi explains the zeros, and mu is the mean of the rest."""
        mean, rate = mean_and_zero_rate(counts)
        one = torch.full_like(mean, math.log(math.expm1(1.0)))  # softplus of it is 1
        theta = torch.full_like(mean, math.log(START_THETA))
        of_cells = [theta] if self.log_theta is None else []
        self.scale.copy_(mean)
        self.heads.bias.copy_(torch.cat([one, *of_cells, torch.logit(rate)]))
        self.heads.weight.mul_(0.1)
        if self.log_theta is not None:
            self.log_theta.copy_(theta)

    def visible(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """1 where it may look, (n_cells, n_genes), or (1, n_genes) where in all cells alike.

        With a generator, each cell's inputs are hidden at a rate uniform in [0, hide].
        """
        mask = self.is_input[None]
        if generator is None or self.hide == 0:
            return mask
        rate = self.hide * torch.rand(len(x), 1, generator=generator, device=x.device)
        return mask * (torch.rand(x.shape, generator=generator, device=x.device) >= rate)

    def parameters_of(self, hidden: Tensor, genes=slice(None)) -> Parameters:
        """mu, theta and the logit of pi of some genes from the last hidden layer."""
        n_heads = 3 if self.log_theta is None else 2
        layer = self.heads.weight, self.heads.bias
        weights, biases = (p.unflatten(0, (n_heads, -1))[:, genes].unbind() for p in layer)
        # one product each: parts of a common one lie apart in memory, and slow down what follows
        raw_mu, *of_cells, logit_pi = (linear(hidden, w, b) for w, b in zip(weights, biases))
        log_theta = of_cells[0] if self.log_theta is None else self.log_theta[genes]
        mu = self.scale[genes] * F.softplus(raw_mu) + 1e-6
        theta = torch.exp(log_theta.clamp(*LOG_THETA_RANGE))
        return mu, theta, F.hardtanh(logit_pi, -30, 30)

    def loss(self, x: Tensor, generator: Generator) -> Tensor:
        """The loss of each cell in nats, (n_cells,), with what is random in it drawn."""
        return self.loss_given(x, *self.noise(x, generator))


def to_law(mu: Tensor, theta: Tensor, logit_pi: Tensor) -> ZINB:
    """A network's parameters as a law."""
    parameters = mu, theta, torch.sigmoid(logit_pi.double())
    return ZINB(*(p.detach().double().cpu().numpy() for p in parameters))


def to_tensor(counts, device: torch.device | str = "cpu") -> Tensor:
    """Counts, sparse or dense, as a float32 tensor (n_cells, n_genes)."""
    array = counts.toarray() if hasattr(counts, "toarray") else np.asarray(counts)
    return torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32), device=device)
