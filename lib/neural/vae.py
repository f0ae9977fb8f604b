"""The variational autoencoder of counts."""

import torch
from torch import Generator, Tensor, nn

from lib import checks
from lib.laws.likelihood import log_likelihood
from lib.neural.layers import MaskedNetwork, Parameters, apply_to_visible, hidden_layers, initialise
from lib.neural.linear import Linear


class ZINBVAE(MaskedNetwork):
    """Variational autoencoder of counts.

        z ~ N(0, I),   x_g | z ~ ZINB(mu_g(z), theta_g(z), pi_g(z)),
        q(z | visible counts) Gaussian

    after Kingma and Welling (arXiv 1312.6114), with scVI's likelihood (Lopez et al. 2018).

    n_latent, n_hidden: sizes of the latent space and of the hidden layers
    beta: weight of the KL term; 1 is the true evidence lower bound (ELBO), less copies cells
    inputs: indices of the genes that the encoder may see, by default all; the others are masked
    hide: in training, each cell's inputs are masked too, at a rate uniform in [0, hide], so that
        any of them can be hidden and predicted
    target: "all", the ELBO of all genes; or "hidden", the ELBO of the masked genes given the
        others, in which the encoder is prior and posterior at once and the KL term is 0
    n_layers: hidden layers of the encoder, and as many of the decoder
    dispersion: "gene-cell", theta decoded like mu and pi; or "gene", a constant of the gene, scVI's
        default, which costs less
    """

    needed = "the encoder a gene to see, and one to predict"

    def __init__(
        self, n_genes: int, n_latent: int = 10, n_hidden: int = 128, beta: float = 1.0,
        inputs: list[int] | None = None, hide: float = 0.0, target: str = "all", n_layers: int = 2,
        dispersion: str = "gene-cell", *, generator: Generator | None = None,
    ):  # fmt: skip
        super().__init__(n_genes, inputs, hide, must_hide=target == "hidden")
        self.n_latent = checks.integer("n_latent", n_latent, low=1)
        n_hidden = checks.integer("n_hidden", n_hidden, low=1)
        self.beta = checks.number("beta", beta, low=0)
        self.target = checks.choice("target", target, ("all", "hidden"))
        n_layers = checks.integer("n_layers", n_layers, low=1)
        checks.choice("dispersion", dispersion, ("gene-cell", "gene"))
        self.config = dict(
            n_genes=self.n_genes, n_latent=self.n_latent, n_hidden=n_hidden, beta=self.beta,
            inputs=self.inputs, hide=self.hide, target=target, n_layers=n_layers,
            dispersion=dispersion,
        )  # fmt: skip
        n_heads = 3 if dispersion == "gene-cell" else 2  # raw mu, log theta, logit pi
        with torch.random.fork_rng(devices=[]):  # torch initialises by the global generator
            seeing = hidden_layers(2 * self.n_genes, n_hidden, n_layers, normalised=True)
            self.encoder = nn.Sequential(*seeing, Linear(n_hidden, 2 * self.n_latent))
            self.decoder = nn.Sequential(*hidden_layers(self.n_latent, n_hidden, n_layers))
            self.heads = Linear(n_hidden, n_heads * self.n_genes)
        if dispersion == "gene":
            self.log_theta = nn.Parameter(torch.zeros(self.n_genes))
        initialise(self, generator or torch.Generator().manual_seed(0))

    def inference(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | visible counts), each (n_cells, n_latent)."""
        mean, log_var = apply_to_visible(self.encoder, x, visible).chunk(2, dim=-1)
        return mean, log_var.clamp(-12, 6)

    def generative(self, z: Tensor, genes=slice(None)) -> Parameters:
        """mu, theta and the logit of pi of some genes, (..., n_genes), from z (..., n_latent)."""
        mu, theta, logit_pi = self.parameters_of(self.decoder(z), genes)
        return mu, theta.expand_as(mu), logit_pi

    def noise(self, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Which counts are visible, and the deviations (n_cells, n_latent) of z from its mean."""
        visible = self.visible(x, generator)
        return visible, torch.randn(len(x), self.n_latent, generator=generator, device=x.device)

    def loss_given(self, x: Tensor, visible: Tensor, noise: Tensor) -> Tensor:
        """Negative ELBO of each cell in nats, (n_cells,): a sum over genes."""
        mean, log_var = self.inference(x, visible)
        hidden = self.decoder(mean + torch.exp(0.5 * log_var) * noise)
        log_p = log_likelihood(x, *self.parameters_of(hidden))
        if self.target == "hidden":
            return -(log_p * (1 - visible)).sum(-1)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1)
        return self.warmed * self.beta * kl - log_p.sum(-1)
