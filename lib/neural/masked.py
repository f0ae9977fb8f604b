"""What the networks share that see some counts and have heads with the law of every gene."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lib import checks
from lib.neural.layers import LOG_THETA_RANGE, START_THETA, mean_and_zero_rate, places_of
from lib.neural.linear import linear

Parameters = tuple[Tensor, Tensor, Tensor]  # mu, theta and the logit of pi


class MaskedNetwork(nn.Module):
    """A network of the counts that it may see. A kind of it has `noise` and `loss_given`, and sets

    needed : what the inputs must leave, for the error where they don't
    heads : linear layer to raw mu, log theta and the logit of pi of each gene, one behind the other
    log_theta : logarithms of theta, (n_genes,), if they are constants of the genes and no heads
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
        is_input = torch.zeros(self.n_genes).index_fill_(0, torch.tensor(self.inputs), 1.0)
        self.register_buffer("is_input", is_input)
        self.register_buffer("scale", torch.ones(self.n_genes))  # counts; the unit of mu

    @torch.no_grad()
    def start_at(self, counts: Tensor) -> None:
        """Set the heads' constants where zeros are explained by pi and mu is the mean of the rest.

        counts : (n_cells, n_genes)
        """
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

        generator : source of what is hidden at random, of each cell's inputs at a rate uniform in
            [0, hide]; without it nothing is
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
