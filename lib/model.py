"""Networks of counts: the ZINB variational autoencoder, the dependency network, and a regression network."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lib import checks, maximum_likelihood, zinb
from lib.likelihood import log_likelihood
from lib.linear import Linear, linear

LOG_THETA_RANGE = tuple(math.log(t) for t in zinb.THETA_RANGE)
START_THETA = 7.0  # the basin in which zeros are explained by pi; from a small theta, no way leads out


class ZINBVAE(nn.Module):
    """Variational autoencoder of counts.

        z ~ N(0, I),   x_g | z ~ ZINB(mu_g(z), theta_g(z), pi_g(z)),   q(z | visible counts) Gaussian

    after Kingma and Welling (arXiv 1312.6114), with the count likelihood of scVI (Lopez et al. 2018).

    n_genes : genes, all of which it generates
    n_latent, n_hidden, n_layers : sizes of the latent space and of the hidden layers, and how many of these encoder and decoder have
    dispersion : "gene-cell", theta decoded like mu and pi; or "gene", a constant of the gene, scVI's default, which costs less
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
        generator: torch.Generator | None = None,
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
        inputs = _places(inputs, n_genes)
        if not inputs or (target == "hidden" and hide == 0 and len(inputs) == n_genes):
            raise ValueError(f"inputs = {inputs!r}: must leave the encoder a gene to see, and one to predict")
        self.config = dict(
            n_genes=n_genes, n_latent=n_latent, n_hidden=n_hidden, beta=self.beta, inputs=inputs, hide=self.hide, target=target,
            n_layers=n_layers, dispersion=dispersion,
        )  # fmt: skip
        self.n_latent = n_latent
        self.warmed = 1.0  # share of the warm-up that is over, and of beta that counts
        self.register_buffer("is_input", torch.zeros(n_genes).index_fill_(0, torch.tensor(inputs), 1.0))
        self.register_buffer("scale", torch.ones(n_genes))  # counts; mu is learned in units of it
        with torch.random.fork_rng(devices=[]):  # torch's own initialisation draws from the global generator
            self.encoder = nn.Sequential(*_layers(2 * n_genes, n_hidden, n_layers, normalised=True), Linear(n_hidden, 2 * n_latent))
            self.decoder = nn.Sequential(*_layers(n_latent, n_hidden, n_layers))
            self.heads = Linear(n_hidden, (3 if dispersion == "gene-cell" else 2) * n_genes)  # raw mu, log theta, logit pi
        self.log_theta = nn.Parameter(torch.zeros(n_genes)) if dispersion == "gene" else None
        _initialise(self, generator or torch.Generator().manual_seed(0))

    def start_at(self, counts: torch.Tensor) -> None:
        """Set the heads' constants where zeros are explained by pi and mu is the mean of the rest.

        counts : (n_cells, n_genes)
        """
        _start_heads(self.heads, self.scale, counts, self.log_theta)

    def inference(self, x: torch.Tensor, visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance of q(z | visible counts), each (n_cells, n_latent).

        x : (n_cells, n_genes) counts; visible : the same shape or (1, n_genes), 1 where the encoder may look
        """
        mean, log_var = _of_visible(self.encoder, x, visible).chunk(2, dim=-1)
        return mean, log_var.clamp(-12, 6)

    def generative(self, z: torch.Tensor, genes=slice(None)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """mu, theta and the logit of pi of some genes, each (..., n_genes), from z (..., n_latent)."""
        mu, theta, logit_pi = _heads(self.heads, self.scale, self.decoder(z), genes, self.log_theta)
        return mu, theta.expand_as(mu), logit_pi

    def visible(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Which counts the encoder may see: (n_cells, n_genes), at random if given a generator; (1, n_genes) where in all cells the same."""
        return _visible(x, self.is_input, self.hide, generator)

    def loss(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Negative ELBO of each cell in nats, (n_cells,): a sum over genes, whatever their number."""
        return self.loss_given(x, *self.noise(x, generator))

    def noise(self, x: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """What is random in the loss: which counts are visible, and the deviations (n_cells, n_latent) of z from its mean."""
        return self.visible(x, generator), torch.randn(len(x), self.n_latent, generator=generator, device=x.device)

    def loss_given(self, x: torch.Tensor, visible: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """`loss` with what is random in it given, so that models can be stacked."""
        mean, log_var = self.inference(x, visible)
        hidden = self.decoder(mean + torch.exp(0.5 * log_var) * noise)
        log_p = log_likelihood(x, *_heads(self.heads, self.scale, hidden, slice(None), self.log_theta))
        if self.target == "hidden":
            return -(log_p * (1 - visible)).sum(-1)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1)
        return self.warmed * self.beta * kl - log_p.sum(-1)


class DependencyNetwork(nn.Module):
    """The law of each gene given the others' counts, for all genes at once.

        x_g | others ~ ZINB(mu_g, theta_g, pi_g),   theta_g and pi_g constants of the gene
        mu_g = scale_g (floor_g + softplus(sharp_g l_g) / sharp_g)
        l_g = slope_g s_g + sum_k height_gk sigmoid(steep_gk (s_g - place_gk))
        s_g = bias_g + sum_j w_gj x_j + sum_jk q_gjk x_j x_k

    A dependency network (Heckerman et al. 2000, JMLR 1, 49): one conditional law a gene, from which
    cells and the laws given some genes only follow by Gibbs sampling. A gene's own count is in none of
    its own terms, so that no count need be masked. Each conditional is a single-index model (Ichimura
    1993): an index of second order, and a link that is learned, from a straight line to a step.

    While training warms up, the index is of first order. The weights of the index carry a minimax
    concave penalty (Zhang 2010, Ann. Statist. 38, 894), which leaves most at zero and the large ones free; so does the
    slope, without which a link that is flat beyond the data would keep on rising there. After training, `settle` draws the others from their Laplace
    approximation (MacKay 1992): a law is predicted as the mixture over these draws, so that where
    the data leave the index open, near a step or far out, the prediction says so.

    n_genes : genes, all of which it predicts
    inputs : indices of the genes that others may depend on, by default all
    n_units : sigmoids in a gene's link
    sparsity : factor on the penalty
    max_pairs : squares and products of inputs in the index; where there are more products, those that
        correlate most with any gene's counts
    n_draws : of the weights
    """

    PRODUCTS, SQUARES, LINEAR = 0.85, 0.6, 0.35  # penalty in units of sqrt(2 log(terms) / cells)
    FREE = 0.1  # a weight above this, in units of the feature's spread, isn't drawn towards zero
    ZERO = 0.01  # and one below this is set to zero after training
    BENT = 0.3  # a slope above this isn't drawn towards zero
    STEPS = (0.25, 0.5, 1.0, 2.0)  # of the line search, in units of the index, where the term is there

    def __init__(
        self,
        n_genes: int,
        inputs: list[int] | None = None,
        n_units: int = 4,
        sparsity: float = 1.0,
        max_pairs: int = 400,
        n_draws: int = 16,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        n_genes = checks.integer("n_genes", n_genes, low=1)
        n_units = checks.integer("n_units", n_units, low=1)
        self.sparsity = checks.number("sparsity", sparsity, low=0)
        n_draws, max_pairs = checks.integer("n_draws", n_draws, low=2), checks.integer("max_pairs", max_pairs, low=0)
        inputs = _places(inputs, n_genes)
        if not inputs or inputs == [0] == list(range(n_genes)):
            raise ValueError(f"inputs = {inputs!r}: must leave a gene something to depend on")
        n_inputs = len(inputs)
        n_products = min(n_inputs * (n_inputs - 1) // 2, max(max_pairs - n_inputs, 0))
        n_squares = n_inputs if max_pairs >= n_inputs else 0
        self.config = dict(n_genes=n_genes, inputs=inputs, n_units=n_units, sparsity=self.sparsity, max_pairs=max_pairs, n_draws=n_draws)
        n_terms = n_inputs + n_squares + n_products
        self.register_buffer("inputs", torch.tensor(inputs))
        self.register_buffer("pairs", torch.zeros(2, n_squares + n_products, dtype=torch.long))  # places in inputs
        self.register_buffer("spread", torch.ones(n_terms))
        self.register_buffer("scale", torch.ones(n_genes))  # counts; mu is learned in units of it
        self.register_buffer("allowed", torch.ones(n_terms, n_genes))  # 0 for the terms with the gene itself
        self.register_buffer("penalty_of", torch.zeros(n_terms, n_genes))  # nats a cell and unit of weight
        self.register_buffer("draws", torch.zeros(n_draws, n_terms + 1, n_genes))  # of the weights and the bias
        generator = generator or torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.zeros(n_terms, n_genes))
        self.bias = nn.Parameter(torch.ones(n_genes))
        self.slope = nn.Parameter(torch.ones(n_genes))
        self.height = nn.Parameter(0.01 * torch.randn(n_genes, n_units, generator=generator))
        self.log_steep = nn.Parameter(torch.full((n_genes, n_units), math.log(2.0)))
        self.place = nn.Parameter(torch.linspace(-0.5, 2, n_units).repeat(n_genes, 1))
        self.warmed = 1.0  # share of the warm-up that is over; before its end the index is of first order
        self.log_sharp = nn.Parameter(torch.full((n_genes,), math.log(10.0)))  # of the softplus
        self.log_floor = nn.Parameter(torch.full((n_genes,), math.log(0.05)))
        self.log_theta = nn.Parameter(torch.full((n_genes,), math.log(START_THETA)))
        self.logit_pi = nn.Parameter(torch.zeros(n_genes))
        self._index_terms()

    @torch.no_grad()
    def start_at(self, counts: torch.Tensor) -> None:
        """Choose the products, set the units of all terms, and start where zeros are explained by pi.

        counts : (n_cells, n_genes)
        """
        mean, rate = _mean_and_zero_rate(counts)
        self.scale.copy_(mean)
        self.logit_pi.copy_(torch.logit(rate))
        self._index_terms(counts)
        self.spread.copy_(self._raw_terms(counts).std(0).clamp(min=1e-3))
        unit = self.sparsity * math.sqrt(2 * math.log(max(len(self.weight), 2)) / len(counts))
        self.penalty_of.copy_(unit * self._by_order(self.LINEAR, self.SQUARES, self.PRODUCTS).expand_as(self.penalty_of))

    def weigh(self, counts: torch.Tensor) -> None:
        """Set the penalty on each weight in units of the standard error of its score (Belloni et al. 2012,
        Econometrica 80, 2369), at the present fit: a term that few cells tell of is then not held to what many would tell.

        counts : (n_cells, n_genes)
        """
        squares = (self.terms(counts) ** 2).T @ self._score(counts) ** 2 / len(counts)
        unit = self.sparsity * torch.sqrt(squares * 2 * math.log(max(len(self.weight), 2)) / len(counts))
        self.penalty_of.copy_(unit * self._by_order(0.5, 1.0, 1.0))

    def _by_order(self, linear, square, product):
        """A value for each term by its order, (n_terms, 1)."""
        values = torch.full((len(self.weight), 1), float(linear), device=self.weight.device)
        values[len(self.inputs) :, 0] = torch.where(self.pairs[0] == self.pairs[1], float(square), float(product))
        return values

    def _cost_of_terms(self, n_cells):
        """What a term must bring, (n_terms, 1), in nats: see `criterion`."""
        n_inputs = len(self.inputs)
        choices = n_inputs, n_inputs, max(n_inputs * (n_inputs - 1) // 2, 1)
        return 0.5 * math.log(n_cells) + self._by_order(*(math.log(n) for n in choices))

    def _score(self, counts):
        """Derivative of the log-likelihood with respect to the index, (n_cells, n_genes)."""
        with torch.no_grad():
            index = self.index(counts)
        index.requires_grad_()
        (score,) = torch.autograd.grad(log_likelihood(counts, *self.link(index)).sum(), index)
        return score

    @torch.no_grad()
    def _index_terms(self, counts=None):
        """Which pairs of inputs are terms of the index, and which terms a gene may have."""
        n_inputs, n_terms = len(self.inputs), len(self.weight)
        if n_terms > n_inputs:
            first, second = torch.triu_indices(n_inputs, n_inputs, 1, device=self.inputs.device)
            n_products = n_terms - 2 * n_inputs
            if counts is not None and len(first) > n_products:
                strength = _strength_of_products(counts[torch.linspace(0, len(counts) - 1, min(len(counts), 2000)).long()], self.inputs)[first, second]
                chosen = strength.topk(n_products).indices.sort().values
                first, second = first[chosen], second[chosen]
            squares = torch.arange(n_inputs, device=self.inputs.device).repeat(2, 1)
            self.pairs.copy_(torch.cat([squares, torch.stack([first, second])[:, :n_products]], dim=1))
        self.allowed.fill_(1)
        self.allowed[torch.arange(n_inputs), self.inputs] = 0
        terms = torch.arange(n_inputs, n_terms)
        for place in self.pairs:
            self.allowed[terms, self.inputs[place]] = 0

    def _raw_terms(self, x):
        x = x[..., self.inputs]
        return torch.cat([x, x[..., self.pairs[0]] * x[..., self.pairs[1]]], dim=-1)

    def terms(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs' counts, squares and products in units of their spread, (..., n_terms)."""
        return self._raw_terms(x) / self.spread

    def index(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """The index of each gene, (n_cells, n_genes), from counts (n_cells, n_genes).

        kept : 1 for the terms that count, (n_terms, n_genes), by default all that are allowed
        """
        return self.terms(x) @ (self.weight * (self.allowed if kept is None else kept)) + self.bias

    def link(self, index: torch.Tensor, genes=slice(None)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """mu (..., n_genes), theta and the logit of pi (n_genes,) of some genes, from their index (..., n_genes)."""
        steps = torch.sigmoid(self.log_steep[genes].exp() * (index[..., None] - self.place[genes]))
        level = self.slope[genes] * index + (self.height[genes] * steps).sum(-1)
        sharp = self.log_sharp[genes].exp()
        mu = self.scale[genes] * (F.softplus(level * sharp) / sharp + self.log_floor[genes].exp()) + 1e-6
        return mu, self.log_theta[genes].clamp(*LOG_THETA_RANGE).exp(), self.logit_pi[genes].clamp(-30, 30)

    def penalty(self) -> torch.Tensor:
        """The minimax concave penalty on each weight, (n_terms, n_genes), in nats a cell."""
        return self.penalty_of * _concave(self.weight, self.FREE)

    def loss(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Penalised negative log-likelihood of each cell, (n_cells,): a sum over genes, each given the others."""
        allowed = self.allowed
        if self.warmed < 1:
            allowed = allowed * (torch.arange(len(allowed), device=x.device) < len(self.inputs))[:, None]
        straight = self.penalty_of.max() * _concave(self.slope, self.BENT).sum()
        return (self.penalty() * allowed).sum() + straight - log_likelihood(x, *self.link(self.index(x, allowed))).sum(-1)

    @torch.no_grad()
    def search(self, counts: torch.Tensor, n_steps: int = 20) -> int:
        """Out of local optima: give each gene, up to `n_steps` times, the change of one weight that raises its likelihood most.

        Where a term should make a gene silent and isn't there yet, the gene's zeros pass for dropout, whatever its mean: the
        gradient is nearly none, and only a large step finds the term. A step must be worth what the term costs by the
        extended Bayesian information criterion, or one nat where it is there already.

        counts : (n_cells, n_genes). Returns the number of steps
        """
        terms, cost = self.terms(counts), self._cost_of_terms(len(counts))
        sizes = torch.tensor([*(-s for s in self.STEPS), *self.STEPS], device=counts.device)
        cells = [column.nonzero()[:, 0] for column in terms.T]
        steps = [sizes / terms[rows, term].mean().clamp(min=1e-3) if len(rows) else sizes for term, rows in enumerate(cells)]
        taken = 0
        for gene in torch.where((self.weight.abs() > self.ZERO).any(0))[0].tolist():
            candidates = self.allowed[:, gene].nonzero()[:, 0].tolist()
            for _ in range(n_steps):
                index = terms @ (self.weight[:, gene] * self.allowed[:, gene])[:, None] + self.bias[gene]
                now = self._likelihood_of(gene, counts, index)
                best, change = 0.0, None
                for term in candidates:
                    rows = cells[term]
                    moved = self._likelihood_of(gene, counts[rows], index[rows] + terms[rows, term, None] * steps[term])
                    gains = (moved - now[rows]).sum(0)
                    gain, at = gains.max(0)
                    gain = gain - (1.0 if self.weight[term, gene].abs() > self.ZERO else cost[term, 0])
                    if gain > best:
                        best, change = gain.item(), (term, steps[term][at])
                if change is None:
                    break
                self.weight[change[0], gene] += change[1]
                taken += 1
        return taken

    def _likelihood_of(self, gene, counts, index):
        """Log-likelihood of one gene's counts under several values of its index, (n_cells, n_values)."""
        return log_likelihood(counts[:, gene, None], *(p.squeeze(-1) for p in self.link(index[..., None], [gene])))

    @torch.no_grad()
    def criterion(self, counts: torch.Tensor) -> torch.Tensor:
        """Extended Bayesian information criterion of each gene's index, (n_genes,), in nats: smaller is better.

        Negative log-likelihood, and for each term log(n_cells) / 2 and the logarithm of how many terms of its
        order there were to choose from (Chen and Chen 2008, Biometrika 95, 759).
        """
        kept = (self.weight.abs() > self.ZERO) * self.allowed
        return (self._cost_of_terms(len(counts)) * kept).sum(0) - log_likelihood(counts, *self.link(self.index(counts, kept))).sum(0)

    @torch.no_grad()
    def adopt(self, other: DependencyNetwork, genes: torch.Tensor) -> None:
        """Take the parameters of some genes, a boolean (n_genes,), from a network that was fitted to the same counts."""
        for name, parameter in self.named_parameters():
            taken = dict(other.named_parameters())[name]
            parameter.copy_(torch.where(genes if name == "weight" else genes.view(-1, *[1] * (parameter.ndim - 1)), taken, parameter))

    def settle(self, counts: torch.Tensor, generator: torch.Generator) -> None:
        """After training: drop what the data don't need, and draw the weights that remain.

        Small weights are set to zero. A gene whose index doesn't raise the likelihood by what its terms and link cost by
        the Bayesian information criterion (Schwarz 1978) gets the constant law of maximum likelihood instead. The
        weights that remain are drawn from their Laplace approximation, by the empirical Fisher information.

        counts : (n_cells, n_genes) that it was trained on
        """
        with torch.no_grad():
            self.weight.mul_((self.weight.abs() > self.ZERO) * self.allowed)
            likelihood = log_likelihood(counts, *self.link(self.index(counts))).sum(0)
            fitted = maximum_likelihood.fit(counts.cpu().numpy())
            mu, theta, pi = (torch.as_tensor(p, dtype=torch.float32, device=counts.device) for p in (fitted.mu, fitted.theta, fitted.pi))
            constants = mu.clamp(min=1e-6), theta.clamp(*(math.exp(t) for t in LOG_THETA_RANGE)), torch.logit(pi.clamp(1e-12, 1 - 1e-6))
            gain = likelihood - log_likelihood(counts, *constants).sum(0)
            n_parameters = (self.weight != 0).sum(0) + 1 + 3 * self.height.shape[1]
            idle = gain < 0.5 * math.log(len(counts)) * n_parameters
            self.weight[:, idle] = 0
            self.scale[idle] *= (constants[0] / self.link(self.bias)[0])[idle]
            self.log_theta[idle], self.logit_pi[idle] = constants[1].log()[idle], constants[2][idle]
            terms = torch.cat([self.terms(counts), torch.ones(len(counts), 1, device=counts.device)], dim=1)
        score = self._score(counts)
        self.draws.copy_(torch.cat([self.weight, self.bias[None]]).detach())
        half = len(self.draws) // 2
        for gene in range(len(self.bias)):
            free = torch.cat([self.weight[:, gene] != 0, torch.ones(1, dtype=torch.bool, device=counts.device)])
            if free.sum() == 1:  # the same index in all cells, and no other value to know the link at
                continue
            slopes = (terms[:, free] * score[:, gene, None]).double()
            information = slopes.T @ slopes + torch.eye(slopes.shape[1], device=counts.device)  # a prior of spread 1
            noise = torch.randn(slopes.shape[1], half, generator=generator, device=counts.device, dtype=torch.float64)
            change = torch.linalg.solve_triangular(torch.linalg.cholesky(information).mT, noise, upper=True).T.float()
            self.draws[:half, free, gene] += change
            self.draws[half : 2 * half, free, gene] -= change  # in pairs, so that their mean is the estimate

    def drawn(self, x: torch.Tensor, gene: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """mu, theta and the logit of pi of one gene under each draw of the weights, each (n_draws, n_cells)."""
        weights = self.draws[:, :, gene]
        mu, theta, logit_pi = self.link((weights[:, :-1] @ self.terms(x).T + weights[:, -1:])[..., None], [gene])
        return mu[..., 0], theta.expand_as(mu)[..., 0], logit_pi.expand_as(mu)[..., 0]


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


def _concave(value, free):
    """The minimax concave penalty for a factor of 1: |value| near zero, and constant above `free`."""
    size = value.abs()
    return torch.where(size < free, size - size**2 / (2 * free), free / 2)


def _places(inputs, n_genes):
    """The indices of the inputs, by default of all genes."""
    return list(range(n_genes)) if inputs is None else [checks.integer("inputs", i, 0, n_genes - 1) for i in inputs]


def _layers(n_inputs, n_hidden, n_layers, normalised=False):
    """Hidden layers, one behind the other."""
    layers = []
    for width in (n_inputs, *[n_hidden] * (n_layers - 1)):
        layers += [Linear(width, n_hidden), *([nn.LayerNorm(n_hidden)] if normalised else []), nn.SiLU()]
    return layers


def _of_visible(network, x, visible):
    """A network of the visible counts' logarithms and of which are visible.

    The first layer is applied to these apart: they needn't be joined, and what is visible in all cells alike is one row.
    """
    first, (of_counts, of_visible) = network[0], network[0].weight.chunk(2, dim=1)
    hidden = linear(torch.log1p(x) * visible, of_counts) + linear(visible, of_visible, first.bias)
    for layer in list(network)[1:]:
        hidden = layer(hidden)
    return hidden


def _start_heads(heads, scale, counts, log_theta=None):
    """Set the heads' constants where zeros are explained by pi and mu is the mean of the rest."""
    mean, rate = _mean_and_zero_rate(counts)
    one = torch.full_like(mean, math.log(math.expm1(1.0)))  # softplus of it is 1
    theta = torch.full_like(mean, math.log(START_THETA))
    with torch.no_grad():
        scale.copy_(mean)
        heads.bias.copy_(torch.cat([one, *([theta] if log_theta is None else []), torch.logit(rate)]))
        heads.weight.mul_(0.1)
        if log_theta is not None:
            log_theta.copy_(theta)


def _heads(heads, scale, hidden, genes, log_theta=None):
    """mu, theta and the logit of pi of some genes from a hidden layer; theta is (n_genes,) where its logarithm is given."""
    n_heads = 3 if log_theta is None else 2
    weights, biases = (p.unflatten(0, (n_heads, -1))[:, genes].unbind() for p in (heads.weight, heads.bias))
    # one product each: parts of a common one would lie apart in memory, which makes all that follows slower
    raw_mu, *of_cells, logit_pi = (linear(hidden, w, b) for w, b in zip(weights, biases))
    log_theta = of_cells[0] if log_theta is None else log_theta[genes]
    return scale[genes] * F.softplus(raw_mu) + 1e-6, torch.exp(log_theta.clamp(*LOG_THETA_RANGE)), F.hardtanh(logit_pi, -30, 30)


def _visible(x, is_input, hide, generator):
    """1 where a network may look; each cell's inputs are hidden at random at a rate uniform in [0, hide]."""
    mask = is_input[None]
    if generator is None or hide == 0:
        return mask
    rate = hide * torch.rand(len(x), 1, generator=generator, device=x.device)
    return mask * (torch.rand(x.shape, generator=generator, device=x.device) >= rate)


def _mean_and_zero_rate(counts):
    """Mean of the non-zero counts, and share of zeros, of each gene."""
    positive = (counts > 0).float()
    rate = (1 - positive.mean(0)).clamp(1e-3, 1 - 1e-3)
    return (counts.sum(0) / positive.sum(0).clamp(min=1)).clamp(min=1e-2), rate


def _strength_of_products(counts, inputs):
    """The largest correlation of each product of two inputs with any third gene's count, (n_inputs, n_inputs)."""
    centred = (counts - counts.mean(0)) / counts.std(0).clamp(min=1e-3)
    x, strength = counts[:, inputs], []
    for place, gene in enumerate(inputs):
        products = x * x[:, [place]]
        correlation = ((products - products.mean(0)).T @ centred / (len(counts) * products.std(0).clamp(min=1e-3)[:, None])).abs()
        correlation[:, gene] = 0
        correlation[torch.arange(len(inputs)), inputs] = 0
        strength.append(correlation.amax(1))
    return torch.stack(strength)


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
