"""The perceptron with ZINB heads."""

from __future__ import annotations

import torch
from torch import nn

from lib import checks
from lib.laws.likelihood import log_likelihood
from lib.neural.layers import (
    _heads,
    _initialise,
    _layers,
    _of_visible,
    _places,
    _start_heads,
    _visible,
)
from lib.neural.linear import Linear


class ZINBMLP(nn.Module):
    """Supervised regression of all genes at once: a perceptron of the visible counts with ZINB heads.

    It is trained on the log-likelihood of the genes that it doesn't see. Parameters as of `ZINBVAE`.
    """

    def __init__(self, n_genes, n_hidden: int = 128, inputs: list[int] | None = None, hide: float = 0.1, *, generator=None):
        super().__init__()
        n_genes, n_hidden = checks.integer("n_genes", n_genes, low=1), checks.integer("n_hidden", n_hidden, low=1)
        self.hide = checks.number("hide", hide, 0, 1)
        inputs = _places(inputs, n_genes)
        if not inputs or (hide == 0 and len(inputs) == n_genes):
            raise ValueError(f"inputs = {inputs!r}: must leave it a gene to see, and one to predict")
        self.config = dict(n_genes=n_genes, n_hidden=n_hidden, inputs=inputs, hide=self.hide)
        self.register_buffer("is_input", torch.zeros(n_genes).index_fill_(0, torch.tensor(inputs), 1.0))
        self.register_buffer("scale", torch.ones(n_genes))  # counts; mu is learned in units of it
        with torch.random.fork_rng(devices=[]):  # torch's own initialisation draws from the global generator
            self.body = nn.Sequential(*_layers(2 * n_genes, n_hidden, 2, normalised=True))
            self.heads = Linear(n_hidden, 3 * n_genes)  # raw mu, log theta, logit pi
        _initialise(self, generator or torch.Generator().manual_seed(0))

    def start_at(self, counts: torch.Tensor) -> None:
        """As `ZINBVAE.start_at`."""
        _start_heads(self.heads, self.scale, counts)

    def visible(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Which counts it may see: (n_cells, n_genes); at random if given a generator."""
        return _visible(x, self.is_input, self.hide, generator)

    def forward(self, x: torch.Tensor, visible: torch.Tensor, genes=slice(None)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """mu, theta and the logit of pi of some genes, each (n_cells, n_genes), from the visible counts."""
        return _heads(self.heads, self.scale, _of_visible(self.body, x, visible), genes)

    def loss(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Negative log-likelihood of the genes that it doesn't see in each cell, (n_cells,)."""
        return self.loss_given(x, *self.noise(x, generator))

    def noise(self, x: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor]:
        """What is random in the loss: which counts are visible."""
        return (self.visible(x, generator),)

    def loss_given(self, x: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """`loss` with what is random in it given, so that models can be stacked."""
        return -(log_likelihood(x, *self.forward(x, visible)) * (1 - visible)).sum(-1)
