"""The variational autoencoder of counts."""

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


class ZINBVAE(nn.Module):
    """Variational autoencoder of counts.

        z ~ N(0, I),   x_g | z ~ ZINB(mu_g(z), theta_g(z), pi_g(z)),
        q(z | visible counts) Gaussian

    after Kingma and Welling (arXiv 1312.6114), with scVI's likelihood (Lopez et al. 2018).

    n_genes : genes, all of which it generates
    n_latent, n_hidden : sizes of the latent space and of the hidden layers
    n_layers : hidden layers of the encoder, and as many of the decoder
    dispersion : "gene-cell", theta decoded like mu and pi; or "gene", a constant of the gene,
        scVI's default, which costs less
    beta : weight of the KL term; 1 is the true evidence lower bound (ELBO), less copies cells
    inputs : indices of the genes that the encoder may see, by default all; the others are
        masked, in training and in prediction
    hide : in training, each cell's inputs are masked too, at a rate uniform in [0, hide], so that
        any of them can be hidden and predicted
    target : "all", the ELBO of all genes; or "hidden", the ELBO of the masked genes given the
        others, in which the encoder is prior and posterior at once and the KL term is 0
    """

    def __init__(
        self,
        n_genes: int,
        n_latent: int = 10,
        n_hidden: int = 128,
        beta: float = 1.0,
        inputs: list[int] | None = None,
        hide: float = 0.0,
        target: str = "all",
        n_layers: int = 2,
        dispersion: str = "gene-cell",
        *,
        generator: Generator | None = None,
    ):
        super().__init__()
        n_genes = checks.integer("n_genes", n_genes, low=1)
        n_latent = checks.integer("n_latent", n_latent, low=1)
        n_hidden = checks.integer("n_hidden", n_hidden, low=1)
        self.beta = checks.number("beta", beta, low=0)
        self.hide = checks.number("hide", hide, 0, 1)
        self.target = checks.choice("target", target, ("all", "hidden"))
        n_layers = checks.integer("n_layers", n_layers, low=1)
        checks.choice("dispersion", dispersion, ("gene-cell", "gene"))
        inputs = places_of(inputs, n_genes)
        if not inputs or (target == "hidden" and hide == 0 and len(inputs) == n_genes):
            needed = "must leave the encoder a gene to see, and one to predict"
            raise ValueError(f"inputs = {inputs!r}: {needed}")
        self.config = dict(
            n_genes=n_genes, n_latent=n_latent, n_hidden=n_hidden, beta=self.beta, inputs=inputs,
            hide=self.hide, target=target, n_layers=n_layers, dispersion=dispersion,
        )  # fmt: skip
        self.n_latent = n_latent
        self.warmed = 1.0  # and the share of beta that counts
        self.register_buffer("is_input", mask_of(inputs, n_genes))
        self.register_buffer("scale", torch.ones(n_genes))  # counts; mu is learned in units of it
        n_heads = 3 if dispersion == "gene-cell" else 2  # raw mu, log theta, logit pi
        with torch.random.fork_rng(devices=[]):  # torch initialises by the global generator
            seeing = hidden_layers(2 * n_genes, n_hidden, n_layers, normalised=True)
            self.encoder = nn.Sequential(*seeing, Linear(n_hidden, 2 * n_latent))
            self.decoder = nn.Sequential(*hidden_layers(n_latent, n_hidden, n_layers))
            self.heads = Linear(n_hidden, n_heads * n_genes)
        self.log_theta = nn.Parameter(torch.zeros(n_genes)) if dispersion == "gene" else None
        initialise(self, generator or torch.Generator().manual_seed(0))

    def start_at(self, counts: Tensor) -> None:
        """Set the heads' constants where zeros are explained by pi and mu is the mean of the rest.

        counts : (n_cells, n_genes)
        """
        start_heads(self.heads, self.scale, counts, self.log_theta)

    def inference(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | visible counts), each (n_cells, n_latent).

        x : counts (n_cells, n_genes)
        visible : 1 where the encoder may look, of the same shape or (1, n_genes)
        """
        mean, log_var = apply_to_visible(self.encoder, x, visible).chunk(2, dim=-1)
        return mean, log_var.clamp(-12, 6)

    def generative(self, z: Tensor, genes=slice(None)) -> Parameters:
        """mu, theta and the logit of pi of some genes, (..., n_genes), from z (..., n_latent)."""
        mu, theta, logit_pi = self._decoded(z, genes)
        return mu, theta.expand_as(mu), logit_pi

    def _decoded(self, z, genes=slice(None)):
        return zinb_parameters(self.heads, self.scale, self.decoder(z), genes, self.log_theta)

    def visible(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Which counts the encoder may see: (n_cells, n_genes), or (1, n_genes) if all alike.

        generator : source of what is hidden at random; without it nothing is
        """
        return visible_mask(x, self.is_input, self.hide, generator)

    def loss(self, x: Tensor, generator: Generator) -> Tensor:
        """Negative ELBO of each cell in nats, (n_cells,): a sum over genes."""
        return self.loss_given(x, *self.noise(x, generator))

    def noise(self, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Which counts are visible, and the deviations (n_cells, n_latent) of z from its mean."""
        visible = self.visible(x, generator)
        return visible, torch.randn(len(x), self.n_latent, generator=generator, device=x.device)

    def loss_given(self, x: Tensor, visible: Tensor, noise: Tensor) -> Tensor:
        """`loss` with what is random in it given."""
        mean, log_var = self.inference(x, visible)
        log_p = log_likelihood(x, *self._decoded(mean + torch.exp(0.5 * log_var) * noise))
        if self.target == "hidden":
            return -(log_p * (1 - visible)).sum(-1)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1)
        return self.warmed * self.beta * kl - log_p.sum(-1)
