"""The perceptron with ZINB heads."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from lib import checks
from lib.laws.likelihood import log_likelihood
from lib.neural.layers import (
    Parameters,
    apply_to_visible,
    hidden_layers,
    initialise,
    mask_of,
    places_of,
    start_heads,
    visible_mask,
    zinb_parameters,
)
from lib.neural.linear import Linear


class ZINBMLP(nn.Module):
    """Supervised regression of all genes at once: a perceptron of visible counts with ZINB heads.

    It is trained on the likelihood of the genes that it doesn't see. Parameters as of `ZINBVAE`.
    """

    def __init__(
        self,
        n_genes: int,
        n_hidden: int = 128,
        inputs: list[int] | None = None,
        hide: float = 0.1,
        *,
        generator: Generator | None = None,
    ):
        super().__init__()
        n_genes = checks.integer("n_genes", n_genes, low=1)
        n_hidden = checks.integer("n_hidden", n_hidden, low=1)
        self.hide = checks.number("hide", hide, 0, 1)
        inputs = places_of(inputs, n_genes)
        if not inputs or (hide == 0 and len(inputs) == n_genes):
            needed = "must leave it a gene to see, and one to predict"
            raise ValueError(f"inputs = {inputs!r}: {needed}")
        self.config = dict(n_genes=n_genes, n_hidden=n_hidden, inputs=inputs, hide=self.hide)
        self.warmed = 1.0  # it warms up to nothing
        self.register_buffer("is_input", mask_of(inputs, n_genes))
        self.register_buffer("scale", torch.ones(n_genes))  # counts; mu is learned in units of it
        with torch.random.fork_rng(devices=[]):  # torch initialises by the global generator
            self.body = nn.Sequential(*hidden_layers(2 * n_genes, n_hidden, 2, normalised=True))
            self.heads = Linear(n_hidden, 3 * n_genes)  # raw mu, log theta, logit pi
        initialise(self, generator or torch.Generator().manual_seed(0))

    def start_at(self, counts: Tensor) -> None:
        """As `ZINBVAE.start_at`."""
        start_heads(self.heads, self.scale, counts)

    def visible(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """As `ZINBVAE.visible`."""
        return visible_mask(x, self.is_input, self.hide, generator)

    def forward(self, x: Tensor, visible: Tensor, genes=slice(None)) -> Parameters:
        """mu, theta and the logit of pi of some genes, each (n_cells, n_genes)."""
        hidden = apply_to_visible(self.body, x, visible)
        return zinb_parameters(self.heads, self.scale, hidden, genes)

    def loss(self, x: Tensor, generator: Generator) -> Tensor:
        """Negative log-likelihood of the genes that it doesn't see in each cell, (n_cells,)."""
        return self.loss_given(x, *self.noise(x, generator))

    def noise(self, x: Tensor, generator: Generator) -> tuple[Tensor]:
        """Which counts are visible."""
        return (self.visible(x, generator),)

    def loss_given(self, x: Tensor, visible: Tensor) -> Tensor:
        """`loss` with what is random in it given."""
        return -(log_likelihood(x, *self.forward(x, visible)) * (1 - visible)).sum(-1)
