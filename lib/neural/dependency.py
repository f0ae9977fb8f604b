"""The dependency network: the law of each gene given the others."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from lib import checks
from lib.laws import maximum_likelihood
from lib.laws.likelihood import log_likelihood
from lib.neural.layers import (
    LOG_THETA_RANGE,
    START_THETA,
    _mean_and_zero_rate,
    _places,
)


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


def _concave(value, free):
    """The minimax concave penalty for a factor of 1: |value| near zero, and constant above `free`."""
    size = value.abs()
    return torch.where(size < free, size - size**2 / (2 * free), free / 2)


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
