"""Networks of counts: the ZINB variational autoencoder.

    z ~ N(0, I),   x_g | z ~ ZINB(mu_g(z), theta_g(z), pi_g(z)),   q(z | visible counts) Gaussian

after Kingma and Welling (arXiv 1312.6114), with the count likelihood of scVI (Lopez et al. 2018).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lib import checks, zinb

LOG_THETA_RANGE = tuple(math.log(t) for t in zinb.THETA_RANGE)
START_THETA = 7.0  # the basin in which zeros are explained by pi; from a small theta, no way leads out


class ZINBVAE(nn.Module):
    """Variational autoencoder of counts.

    n_genes : genes, all of which it generates
    n_latent, n_hidden : sizes of the latent space and of the hidden layers
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
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        n_genes = checks.integer("n_genes", n_genes, low=1)
        n_latent = checks.integer("n_latent", n_latent, low=1)
        n_hidden = checks.integer("n_hidden", n_hidden, low=1)
        self.beta = checks.number("beta", beta, low=0)
        self.hide = checks.number("hide", hide, 0, 1)
        self.target = checks.choice("target", target, ("all", "hidden"))
        inputs = list(range(n_genes)) if inputs is None else [checks.integer("inputs", i, 0, n_genes - 1) for i in inputs]
        if not inputs or (target == "hidden" and hide == 0 and len(inputs) == n_genes):
            raise ValueError(f"inputs = {inputs!r}: must leave the encoder a gene to see, and one to predict")
        self.config = dict(
            n_genes=n_genes, n_latent=n_latent, n_hidden=n_hidden, beta=self.beta, inputs=inputs, hide=self.hide, target=target
        )
        self.n_latent = n_latent
        self.kl_share = 1.0  # of beta; below 1 while training warms up
        self.register_buffer("is_input", torch.zeros(n_genes).index_fill_(0, torch.tensor(inputs), 1.0))
        self.register_buffer("scale", torch.ones(n_genes))  # counts; mu is learned in units of it
        with torch.random.fork_rng(devices=[]):  # torch's own initialisation draws from the global generator
            self.encoder = nn.Sequential(
                nn.Linear(2 * n_genes, n_hidden), nn.LayerNorm(n_hidden), nn.SiLU(),
                nn.Linear(n_hidden, n_hidden), nn.LayerNorm(n_hidden), nn.SiLU(),
                nn.Linear(n_hidden, 2 * n_latent),
            )  # fmt: skip
            self.decoder = nn.Sequential(nn.Linear(n_latent, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden), nn.SiLU())
            self.heads = nn.Linear(n_hidden, 3 * n_genes)  # raw mu, log theta, logit pi
        _initialise(self, generator or torch.Generator().manual_seed(0))

    def start_at(self, counts: torch.Tensor) -> None:
        """Set the heads' constants where zeros are explained by pi and mu is the mean of the rest.

        counts : (n_cells, n_genes)
        """
        positive = (counts > 0).float()
        rate = (1 - positive.mean(0)).clamp(1e-3, 1 - 1e-3)
        mean = (counts.sum(0) / positive.sum(0).clamp(min=1)).clamp(min=1e-2)
        one = torch.full_like(mean, math.log(math.expm1(1.0)))  # softplus of it is 1
        constants = torch.cat([one, torch.full_like(mean, math.log(START_THETA)), torch.logit(rate)])
        with torch.no_grad():
            self.scale.copy_(mean)
            self.heads.bias.copy_(constants)
            self.heads.weight.mul_(0.1)

    def inference(self, x: torch.Tensor, visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance of q(z | visible counts), each (n_cells, n_latent).

        x : (n_cells, n_genes) counts; visible : the same shape, 1 where the encoder may look
        """
        mean, log_var = self.encoder(torch.cat([torch.log1p(x) * visible, visible], dim=-1)).chunk(2, dim=-1)
        return mean, log_var.clamp(-12, 6)

    def generative(self, z: torch.Tensor, genes=slice(None)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """mu, theta and the logit of pi of some genes, each (..., n_genes), from z (..., n_latent)."""
        weight = self.heads.weight.unflatten(0, (3, -1))[:, genes].flatten(0, 1)
        bias = self.heads.bias.unflatten(0, (3, -1))[:, genes].flatten()
        raw_mu, log_theta, logit_pi = F.linear(self.decoder(z), weight, bias).chunk(3, dim=-1)
        return self.scale[genes] * F.softplus(raw_mu) + 1e-6, torch.exp(log_theta.clamp(*LOG_THETA_RANGE)), logit_pi.clamp(-30, 30)

    def visible(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Which counts the encoder may see: (n_cells, n_genes); at random if given a generator."""
        mask = self.is_input.expand_as(x)
        if generator is None or self.hide == 0:
            return mask
        rate = self.hide * torch.rand(len(x), 1, generator=generator, device=x.device)
        return mask * (torch.rand(x.shape, generator=generator, device=x.device) >= rate)

    def loss(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Negative ELBO of each cell in nats, (n_cells,): a sum over genes, whatever their number."""
        visible = self.visible(x, generator)
        mean, log_var = self.inference(x, visible)
        noise = torch.randn(mean.shape, generator=generator, device=x.device)
        log_p = zinb.log_likelihood(x, *self.generative(mean + torch.exp(0.5 * log_var) * noise))
        if self.target == "hidden":
            return -(log_p * (1 - visible)).sum(-1)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1)
        return self.kl_share * self.beta * kl - log_p.sum(-1)


def _initialise(module: nn.Module, generator: torch.Generator | None) -> None:
    """Draw the weights of all linear layers from `generator` rather than the global one."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            nn.init.zeros_(layer.bias)


def to_law(mu: torch.Tensor, theta: torch.Tensor, logit_pi: torch.Tensor) -> zinb.ZINB:
    """A network's parameters as a law."""
    arrays = (t.detach().double().cpu().numpy() for t in (mu, theta, torch.sigmoid(logit_pi.double())))
    return zinb.ZINB(*arrays)


def to_tensor(counts, device: torch.device | str = "cpu") -> torch.Tensor:
    """Counts, sparse or dense, as a float32 tensor (n_cells, n_genes)."""
    array = counts.toarray() if hasattr(counts, "toarray") else np.asarray(counts)
    return torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32), device=device)
