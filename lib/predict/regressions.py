"""One regression a gene."""

import abc
import math
from collections.abc import Callable

import anndata as ad
import numpy as np
import torch

from lib import checks, model
from lib.counts import dense
from lib.laws import ZINB, Law
from lib.laws.likelihood import log_likelihood
from lib.predict.base import Conditional, gene_counts

_LARGEST = 1e6  # counts, of a predicted mu


class GeneByGene(Conditional):
    """A model that fits one regression a gene, when it is first asked about the gene.

    A subclass writes `fit_gene`.
    """

    def fit(self, adata):
        self.train = adata.copy()
        self.genes = list(adata.var_names)
        self.fitted = {}
        return self

    def law_of(self, cells, gene):
        if gene not in self.fitted:
            checks.genes("gene", gene, self.genes)
            x = self.features(self.train, gene)
            self.fitted[gene] = self.fit_gene(x, gene_counts(self.train, gene))
        return self.fitted[gene](self.features(cells, gene))

    def features(self, cells: ad.AnnData, gene: str) -> np.ndarray:
        """Counts of the inputs except `gene`, (n_cells, n_inputs)."""
        inputs = self.genes if self.inputs is None else self.inputs
        inputs = checks.genes("inputs", inputs, list(cells.var_names))
        return dense(cells[:, [g for g in inputs if g != gene]].X).astype(float)

    @abc.abstractmethod
    def fit_gene(self, x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], Law]:
        """Fit to training cells. Returns a function from counts like x to laws (n_cells,).

        x: (n_cells, n_inputs) counts of the inputs
        y: (n_cells,) counts of the gene
        """


class MeanRegression(GeneByGene):
    """A regression of the mean count from scikit-learn, with a ZINB law put around it.

    Such a regression estimates the mean (1 - pi) mu, not mu. Constant theta and pi, and a floor of
    the mean, are then fitted by maximum likelihood. They are fitted to means predicted out of fold,
    since the means of the fit itself are too close to the counts.

    regressor: function that makes the estimator
    inputs: genes whose counts it may see, by default all
    """

    def __init__(self, regressor: Callable, inputs: list[str] | None = None):
        super().__init__(inputs)
        self.regressor = regressor

    def fit_gene(self, x, y):
        from sklearn.model_selection import KFold, cross_val_predict

        folds = KFold(3, shuffle=True, random_state=0)
        floor, theta, pi = law_around_mean(cross_val_predict(self.regressor(), x, y, cv=folds), y)
        fitted = self.regressor().fit(x, y)
        return lambda x: ZINB(np.maximum(fitted.predict(x), floor) / (1 - pi), theta, pi)


def ridge(inputs: list[str] | None = None) -> MeanRegression:
    """Ridge regression on counts, with the penalty of the least leave-one-out error."""
    return MeanRegression(_ridge, inputs)


def ridge_log1p(inputs: list[str] | None = None) -> MeanRegression:
    """Ridge regression of the count on log1p counts, its penalty chosen as for `ridge`."""
    return MeanRegression(_ridge_of_log1p, inputs)


def neighbours(inputs: list[str] | None = None) -> MeanRegression:
    """Mean of the 50 nearest training cells, in Euclidean distance of log1p counts."""
    return MeanRegression(_neighbours_of_log1p, inputs)


def boosting(inputs: list[str] | None = None) -> MeanRegression:
    """Gradient-boosted trees with Poisson loss, stopped early on held-out cells."""
    return MeanRegression(_trees, inputs)


def _ridge():
    from sklearn.linear_model import RidgeCV

    return RidgeCV(np.logspace(-2, 4, 13))


def _ridge_of_log1p():
    return _of_log1p(_ridge())


def _neighbours_of_log1p():
    from sklearn.neighbors import KNeighborsRegressor

    return _of_log1p(KNeighborsRegressor(50, algorithm="brute"), _on_a_grid)


def _on_a_grid(logarithms):
    """Logarithms whose products have no rounding, so that ties are ties on any machine."""
    return np.round(logarithms * 2**20) / 2**20


def _trees():
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        loss="poisson", max_iter=300, max_leaf_nodes=15, early_stopping=True, random_state=0
    )


def _of_log1p(regressor, *steps):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(*map(FunctionTransformer, (np.log1p, *steps)), regressor)


class ZINBRegression(GeneByGene):
    """A ZINB regression on counts by maximum likelihood, with theta and pi constant in each gene.

    inputs: genes whose counts it may see, by default all
    link: "identity", mu = max(floor, b + sum_i w_i x_i), or "log", mu = exp(b + sum_i w_i x_i), the
        standard generalised linear model, which explodes at large counts where the truth is linear.
        Both are cut at 1e6 counts, so that distances are finite
    order: 1, or 2 to add squares and products of the inputs; there is no penalty
    """

    def __init__(self, inputs: list[str] | None = None, link: str = "identity", order: int = 1):
        super().__init__(inputs)
        self.link = checks.choice("link", link, ("identity", "log"))
        self.order = checks.integer("order", order, 1, 2)

    def terms(self, x: np.ndarray) -> torch.Tensor:
        """The terms of the sum, (n_cells, n_terms), before their weights.

        x: (n_cells, n_inputs) counts
        """
        if self.order == 2:
            first, second = np.triu_indices(x.shape[1])
            x = np.concatenate([x, x[:, first] * x[:, second]], axis=1)
        return torch.as_tensor(x)

    def fit_gene(self, x, y):
        x = self.terms(x)
        y = torch.as_tensor(y)
        scale = x.std(0).clamp(min=1e-6)
        start = torch.zeros(x.shape[1] + 4, dtype=torch.float64)
        start[:4] = basin(y)
        if self.link == "log":
            start[0] = start[0].clamp(min=1e-3).log()

        def mu_of(p, x):
            value = p[0] + x @ (p[4:] / scale)
            if self.link == "log":
                return value.clamp(-math.log(_LARGEST), math.log(_LARGEST)).exp()
            return torch.maximum(value, p[3].exp()).clamp(max=_LARGEST)

        def total(p):
            return log_likelihood(y, mu_of(p, x), _theta(p[1]), p[2]).mean()

        p = maximise(total, start, max_iter=120)
        return lambda x: model.to_law(mu_of(p, self.terms(x)), _theta(p[1]), p[2])


def law_around_mean(mean: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """The most likely (floor, theta, pi) of counts ~ ZINB(max(mean, floor) / (1 - pi), theta, pi).

    mean: (n_cells,) means, predicted without having seen these counts
    counts: (n_cells,)
    """
    m = torch.as_tensor(np.asarray(mean, dtype=float))
    y = torch.as_tensor(np.asarray(counts, dtype=float))
    start = basin(y)[1:]
    start[2] = torch.log(0.1 * y.mean().clamp(min=1e-3))

    def total(p):
        floor = p[2].clamp(max=12).exp()
        odds = torch.exp(p[1].clamp(max=12))  # pi / (1 - pi), so that 1 + odds is 1 / (1 - pi)
        mu = torch.maximum(m, floor) * (1 + odds)
        return log_likelihood(y, mu, _theta(p[0]), p[1]).mean()

    log_theta, logit_pi, log_floor = maximise(total, start, max_iter=50)
    floor = float(log_floor.clamp(max=12).exp())
    return floor, float(_theta(log_theta)), float(torch.sigmoid(logit_pi.clamp(max=12)))


def maximise(
    function: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, max_iter: int = 200
) -> torch.Tensor:
    """The parameters at which a differentiable function is largest, by L-BFGS.

    start: (n_parameters,) where the search begins
    """
    p = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [p], max_iter=max_iter, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        loss = -function(p)
        loss.backward()
        return loss

    optimiser.step(closure)
    return p.detach()


def basin(y: torch.Tensor) -> torch.Tensor:
    """A start of mu, log theta, logit pi, log floor: a fit finds dropout, not a small theta.

    y: (n_cells,) counts
    """
    positive = y > 0
    mean = y.sum() / positive.sum().clamp(min=1)
    log_theta = torch.tensor(model.START_THETA, dtype=torch.float64).log()
    rate = (1 - positive.double().mean()).clamp(1e-3, 1 - 1e-3)
    return torch.stack([mean, log_theta, torch.logit(rate), torch.log(0.1 * mean.clamp(min=1e-3))])


def _theta(log_theta: torch.Tensor) -> torch.Tensor:
    return torch.exp(log_theta.clamp(*model.LOG_THETA_RANGE))


def least_squares(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Weights of the columns of x, with a ridge so small that it only keeps them finite."""
    penalty = 1e-3 * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.solve(x.T @ x + penalty, x.T @ y)
