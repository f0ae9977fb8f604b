"""The dependency network: the law of each gene given the others."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lib import checks
from lib.laws.likelihood import log_likelihood
from lib.neural.layers import (
    LOG_THETA_RANGE,
    START_THETA,
    Parameters,
    mean_and_zero_rate,
    places_of,
)


class DependencyNetwork(nn.Module):
    """The law of each gene given the others' counts, for all genes at once.

        x_g | others ~ ZINB(mu_g, theta_g, pi_g),   theta_g and pi_g constants of the gene
        mu_g = scale_g (floor_g + softplus(sharp_g l_g) / sharp_g)
        l_g = slope_g s_g + sum_k height_gk sigmoid(steep_gk (s_g - place_gk))
        s_g = bias_g + sum_j w_gj x_j + sum_jk q_gjk x_j x_k

    A dependency network (Heckerman et al. 2000, JMLR 1, 49): one conditional law a gene. A gene's
    own count is in none of its own terms, so that no count need be masked. Each conditional is a
    single-index model (Ichimura 1993): an index of second order, and a link that is learned, from a
    straight line to a step.

    While training warms up, the index is of first order. The weights of the index carry a minimax
    concave penalty (Zhang 2010, Ann. Statist. 38, 894), which leaves most at zero and the large
    ones free; so does the slope, without which a link that is flat beyond the data would keep on
    rising there. What a term must be worth, how one is found that training missed, which weights
    stay and the draws of them are in `dependency_terms`.

    inputs: indices of the genes that others may depend on, by default all
    n_units: sigmoids in a gene's link
    sparsity: factor on the penalty
    max_pairs: squares and products of inputs in the index; where there are more products, those
        that correlate most with any gene's counts
    n_draws: draws of the weights, over which a law is predicted
    """

    PRODUCTS, SQUARES, LINEAR = 0.85, 0.6, 0.35  # penalty in units of sqrt(2 log(terms) / cells)
    FREE = 0.1  # a weight above this, in units of the feature's spread, isn't drawn towards zero
    ZERO = 0.01  # and one below this is set to zero after training
    BENT = 0.3  # a slope above this isn't drawn towards zero

    def __init__(
        self, n_genes: int, inputs: list[int] | None = None, n_units: int = 4,
        sparsity: float = 1.0, max_pairs: int = 400, n_draws: int = 16,
        *, generator: Generator | None = None,
    ):  # fmt: skip
        super().__init__()
        n_genes = checks.integer("n_genes", n_genes, low=1)
        n_units = checks.integer("n_units", n_units, low=1)
        self.sparsity = checks.number("sparsity", sparsity, low=0)
        n_draws = checks.integer("n_draws", n_draws, low=2)
        max_pairs = checks.integer("max_pairs", max_pairs, low=0)
        inputs = places_of(inputs, n_genes)
        if not inputs or inputs == [0] == list(range(n_genes)):
            raise ValueError(f"inputs = {inputs!r}: must leave a gene something to depend on")
        self.config = dict(
            n_genes=n_genes, inputs=inputs, n_units=n_units, sparsity=self.sparsity,
            max_pairs=max_pairs, n_draws=n_draws,
        )  # fmt: skip
        self.warmed = 1.0  # before the end of the warm-up the index is of first order
        self._register_terms(inputs, max_pairs, n_genes, n_draws)
        generator = generator or torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.zeros(len(self.spread), n_genes))
        self.bias = nn.Parameter(torch.ones(n_genes))
        self.slope = nn.Parameter(torch.ones(n_genes))
        self.height = nn.Parameter(0.01 * torch.randn(n_genes, n_units, generator=generator))
        self.log_steep = nn.Parameter(torch.full((n_genes, n_units), math.log(2.0)))
        self.place = nn.Parameter(torch.linspace(-0.5, 2, n_units).repeat(n_genes, 1))
        self.log_sharp = nn.Parameter(torch.full((n_genes,), math.log(10.0)))  # of the softplus
        self.log_floor = nn.Parameter(torch.full((n_genes,), math.log(0.05)))
        self.log_theta = nn.Parameter(torch.full((n_genes,), math.log(START_THETA)))
        self.logit_pi = nn.Parameter(torch.zeros(n_genes))
        self._choose_terms()

    def _register_terms(self, inputs, max_pairs, n_genes, n_draws):
        """Room for what is known of the terms, and for the draws of their weights."""
        n_inputs = len(inputs)
        n_products = min(n_inputs * (n_inputs - 1) // 2, max(max_pairs - n_inputs, 0))
        n_pairs = (n_inputs if max_pairs >= n_inputs else 0) + n_products
        n_terms = n_inputs + n_pairs
        self.register_buffer("inputs", torch.tensor(inputs))
        self.register_buffer("pairs", torch.zeros(2, n_pairs, dtype=torch.long))  # places in inputs
        self.register_buffer("spread", torch.ones(n_terms))
        self.register_buffer("scale", torch.ones(n_genes))  # counts; mu is learned in units of it
        self.register_buffer("allowed", torch.ones(n_terms, n_genes))  # 0 for its own terms
        self.register_buffer("penalty_of", torch.zeros(n_terms, n_genes))  # nats a cell and weight
        self.register_buffer("draws", torch.zeros(n_draws, n_terms + 1, n_genes))  # the bias last

    @torch.no_grad()
    def start_at(self, counts: Tensor) -> None:
        """Choose products and the units of terms, and start where zeros are explained by pi."""
        mean, rate = mean_and_zero_rate(counts)
        self.scale.copy_(mean)
        self.logit_pi.copy_(torch.logit(rate))
        self._choose_terms(counts)
        self.spread.fill_(1)
        self.spread.copy_(self.terms(counts).std(0).clamp(min=1e-3))
        unit = self.sparsity * math.sqrt(2 * math.log(max(len(self.weight), 2)) / len(counts))
        strength = unit * self.by_order(self.LINEAR, self.SQUARES, self.PRODUCTS)
        self.penalty_of.copy_(strength.expand_as(self.penalty_of))

    @torch.no_grad()
    def _choose_terms(self, counts=None):
        """Which pairs of inputs are terms of the index, and which terms a gene may have."""
        n_inputs, n_terms = len(self.inputs), len(self.weight)
        if n_terms > n_inputs:
            pairs = torch.triu_indices(n_inputs, n_inputs, 1, device=self.inputs.device)
            n_products = n_terms - 2 * n_inputs
            if counts is not None and pairs.shape[1] > n_products:
                some = torch.linspace(0, len(counts) - 1, min(len(counts), 2000)).long()
                strength = _strength_of_products(counts[some], self.inputs)[*pairs]
                pairs = pairs[:, strength.topk(n_products).indices.sort().values]
            squares = torch.arange(n_inputs, device=self.inputs.device).repeat(2, 1)
            self.pairs.copy_(torch.cat([squares, pairs[:, :n_products]], dim=1))
        self.allowed.fill_(1)
        self.allowed[torch.arange(n_inputs), self.inputs] = 0
        terms = torch.arange(n_inputs, n_terms)
        for place in self.pairs:
            self.allowed[terms, self.inputs[place]] = 0

    def by_order(self, linear: float, square: float, product: float) -> Tensor:
        """A value for each term by its order, (n_terms, 1)."""
        values = torch.full((len(self.weight), 1), float(linear), device=self.weight.device)
        is_square = self.pairs[0] == self.pairs[1]
        values[len(self.inputs) :, 0] = torch.where(is_square, float(square), float(product))
        return values

    def terms(self, x: Tensor) -> Tensor:
        """The inputs' counts, squares and products in units of their spread, (..., n_terms)."""
        x = x[..., self.inputs]
        return torch.cat([x, x[..., self.pairs[0]] * x[..., self.pairs[1]]], dim=-1) / self.spread

    def index(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """The index of each gene, (n_cells, n_genes), from the terms `kept`, or all allowed."""
        return self.terms(x) @ (self.weight * (self.allowed if kept is None else kept)) + self.bias

    def link(self, index: Tensor, genes=slice(None)) -> Parameters:
        """mu, like the index (..., n_genes); theta and the logit of pi, (n_genes,)."""
        beyond = index[..., None] - self.place[genes]
        steps = torch.sigmoid(self.log_steep[genes].exp() * beyond)
        level = self.slope[genes] * index + (self.height[genes] * steps).sum(-1)
        sharp = self.log_sharp[genes].exp()
        above_floor = F.softplus(level * sharp) / sharp
        mu = self.scale[genes] * (above_floor + self.log_floor[genes].exp()) + 1e-6
        theta = self.log_theta[genes].clamp(*LOG_THETA_RANGE).exp()
        return mu, theta, self.logit_pi[genes].clamp(-30, 30)

    def drawn(self, x: Tensor, gene: int) -> Parameters:
        """mu, theta and the logit of pi of one gene under each draw, each (n_draws, n_cells)."""
        weights = self.draws[:, :, gene]
        index = weights[:, :-1] @ self.terms(x).T + weights[:, -1:]
        mu, theta, logit_pi = self.link(index[..., None], [gene])
        return mu[..., 0], theta.expand_as(mu)[..., 0], logit_pi.expand_as(mu)[..., 0]

    def score(self, counts: Tensor) -> Tensor:
        """Derivative of the log-likelihood with respect to the index, (n_cells, n_genes)."""
        with torch.no_grad():
            index = self.index(counts)
        index.requires_grad_()
        (score,) = torch.autograd.grad(log_likelihood(counts, *self.link(index)).sum(), index)
        return score

    def loss(self, x: Tensor, generator: Generator) -> Tensor:
        """Penalised negative log-likelihood of each cell, (n_cells,)."""
        allowed = self.allowed if self.warmed == 1 else self.allowed * self.by_order(1, 0, 0)
        penalty = self.penalty_of * _concave(self.weight, self.FREE)
        straight = self.penalty_of.max() * _concave(self.slope, self.BENT).sum()
        log_p = log_likelihood(x, *self.link(self.index(x, allowed))).sum(-1)
        return (penalty * allowed).sum() + straight - log_p


def _concave(value, free):
    """The minimax concave penalty for a factor of 1: |value| near zero, constant above `free`."""
    size = value.abs()
    return torch.where(size < free, size - size**2 / (2 * free), free / 2)


def _strength_of_products(counts, inputs):
    """Largest correlation of each product of inputs with a third gene, (n_inputs, n_inputs)."""
    centred = (counts - counts.mean(0)) / counts.std(0).clamp(min=1e-3)
    x, strength = counts[:, inputs], []
    for place, gene in enumerate(inputs):
        products = x * x[:, [place]]
        unit = len(counts) * products.std(0).clamp(min=1e-3)[:, None]
        correlation = ((products - products.mean(0)).T @ centred / unit).abs()
        correlation[:, gene] = 0
        correlation[torch.arange(len(inputs)), inputs] = 0
        strength.append(correlation.amax(1))
    return torch.stack(strength)
