"""The conditional variational autoencoder of counts."""

import torch
from torch import Generator, Tensor, nn

from lib import checks
from lib.laws.likelihood import log_likelihood
from lib.neural.layers import MaskedNetwork, Parameters, hidden_layers, initialise
from lib.neural.linear import Linear


class ConditionalZINBVAE(MaskedNetwork):
    """Variational autoencoder of counts x given conditions c.

        z ~ N(A c, I),   x_g | z, c ~ ZINB(mu_g(z, c), theta_g, pi_g(z, c)),   q(z | x) Gaussian

    after Sohn, Lee and Yan (2015, NeurIPS 28), whose prior too has conditions, with scVI's
    likelihood. What it is trained on has a cell a row: its counts, and behind them its conditions.
    An encoder that sees the conditions may move z by any function of them, as long as the decoder
    moves it back, and what it does at unseen ones is left open: here it sees the counts alone.

    n_conditions: numbers that a condition is made of
    n_latent, n_hidden, n_layers: as of `ZINBVAE`
    """

    needed = "the encoder a gene to see"

    def __init__(
        self,
        n_genes: int,
        n_conditions: int,
        n_latent: int = 10,
        n_hidden: int = 128,
        n_layers: int = 2,
        *,
        generator: Generator | None = None,
    ):
        super().__init__(n_genes, None, 0.0, must_hide=False)
        self.n_conditions = checks.integer("n_conditions", n_conditions, low=1)
        self.n_latent = checks.integer("n_latent", n_latent, low=1)
        n_hidden = checks.integer("n_hidden", n_hidden, low=1)
        n_layers = checks.integer("n_layers", n_layers, low=1)
        self.config = dict(
            n_genes=self.n_genes, n_conditions=self.n_conditions, n_latent=self.n_latent,
            n_hidden=n_hidden, n_layers=n_layers,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):  # torch initialises by the global generator
            seeing = hidden_layers(self.n_genes, n_hidden, n_layers, normalised=True)
            self.encoder = nn.Sequential(*seeing, Linear(n_hidden, 2 * self.n_latent))
            n_given = self.n_latent + self.n_conditions
            self.decoder = nn.Sequential(*hidden_layers(n_given, n_hidden, n_layers))
            self.heads = Linear(n_hidden, 2 * self.n_genes)  # raw mu, logit pi
        self.log_theta = nn.Parameter(torch.zeros(self.n_genes))
        self.to_centre = nn.Parameter(torch.zeros(self.n_latent, self.n_conditions))  # A
        initialise(self, generator or torch.Generator().manual_seed(0))

    def centre(self, conditions: Tensor) -> Tensor:
        """Mean of z given the conditions, (n_cells, n_latent)."""
        return conditions @ self.to_centre.T

    def inference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | counts), each (n_cells, n_latent)."""
        mean, log_var = self.encoder(torch.log1p(x)).chunk(2, dim=-1)
        return mean, log_var.clamp(-12, 6)

    def generative(self, z: Tensor, conditions: Tensor) -> Parameters:
        """mu, theta and the logit of pi, (n_cells, n_genes); theta is (n_genes,)."""
        return self.parameters_of(self.decoder(torch.cat([z, conditions], dim=-1)))

    def noise(self, x: Tensor, generator: Generator) -> tuple[Tensor]:
        """The deviations (n_cells, n_latent) of z from its mean."""
        return (torch.randn(len(x), self.n_latent, generator=generator, device=x.device),)

    def loss_given(self, x: Tensor, noise: Tensor) -> Tensor:
        """Negative ELBO of each cell in nats, (n_cells,): a sum over genes.

        x: (n_cells, n_genes + n_conditions)
        """
        counts, conditions = x.split([self.n_genes, self.n_conditions], dim=-1)
        mean, log_var = self.inference(counts)
        z = mean + torch.exp(0.5 * log_var) * noise
        log_p = log_likelihood(counts, *self.generative(z, conditions))
        away = mean - self.centre(conditions)
        kl = 0.5 * (away**2 + log_var.exp() - 1 - log_var).sum(-1)
        return self.warmed * kl - log_p.sum(-1)
