"""Means as laws, by one helper for all models: the law of the control cells, scaled.

A model of means, and one of cells, is given the law of each gene's counts in control cells, as a
Poisson mixture, with all rates multiplied by the fold at which its mean is what the model predicts.
So KL is finite for all, and what a profile looks like beyond its mean counts in the CRPS of cells
of counts alone. The law is the exact one: how well a model's own controls would show it is no part
of its score.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import scipy.sparse as sparse
import scipy.special as special
from scipy.interpolate import PchipInterpolator

from lib.laws import Law, poisson
from lib.laws.poisson import PoissonMixture
from lib.laws.tabulated import Tabulated
from lib.predict.arms.answers import COUNTS, Answer, Means

N_CELLS = 50_000  # controls drawn for scales of logs, and for how genes vary together
_FOLDS = np.geomspace(1e-3, 1e3, 121)  # at which means on a scale of logs are known
_TOTALS = 25  # quantiles that totals of cells are put into
_STEP = 0.02
_LOG_RATES = np.arange(np.log(1e-9), np.log(1e8), _STEP)  # at which means of logs are computed


class Controls:
    """The laws of genes in control cells of one type, and what they are when scaled.

    table: the exact laws, (n_genes,)
    draw: function of a number of cells: so many new control cells, their counts, CSR
    law: the laws as a `PoissonMixture`, (n_genes,)
    """

    def __init__(self, table: Tabulated, draw: Callable[[int], sparse.csr_matrix]):
        self.law: PoissonMixture = poisson.of_table(table)
        self._draw = draw
        self._of_scale: dict[float, list] = {}

    @cached_property
    def counts(self) -> sparse.csc_matrix:
        """Counts of control cells, (n_cells, n_genes)."""
        return sparse.csc_matrix(self._draw(N_CELLS))

    @cached_property
    def totals(self) -> np.ndarray:
        """Total counts of these cells."""
        return np.asarray(self.counts.sum(axis=1)).ravel()

    def folds(self, means: Means) -> np.ndarray:
        """The fold of each gene at which its mean on the scale is the predicted one, (n_genes,).

        From 0.001 to 1,000.
        """
        if means.scale == COUNTS:
            folds = means.values / self.law.mean
        else:
            if means.scale not in self._of_scale:
                self._of_scale[means.scale] = self._curves(means.scale)
            curves = self._of_scale[means.scale]
            folds = np.array([curve(value) for curve, value in zip(curves, means.values)])
        return np.clip(folds, _FOLDS[0], _FOLDS[-1])

    def as_law(self, answer: Answer) -> Law:
        """The laws, (n_genes,), that an answer is scored by."""
        if isinstance(answer, Law):
            return answer
        return self.law.scaled(self.folds(as_means(answer)))

    def _curves(self, scale):
        """Function of each gene from its mean log1p to its fold."""
        edges = np.quantile(self.totals, np.linspace(0, 1, _TOTALS + 1)[1:-1])
        group = np.searchsorted(edges, self.totals)
        n_groups = np.bincount(group, minlength=_TOTALS)
        sums = np.bincount(group, self.totals, _TOTALS)
        per_count = scale / np.maximum(sums / np.maximum(n_groups, 1), 1)
        logs = (sparse.diags(scale / np.maximum(self.totals, 1)) @ self.counts).log1p()
        observed = np.asarray(logs.mean(axis=0)).ravel()
        mean_logs = _mean_logs(np.exp(_LOG_RATES), per_count)
        return [self._curve(gene, group, mean_logs, mean) for gene, mean in enumerate(observed)]

    def _curve(self, gene, group, mean_logs, observed):
        """That of one gene.

        A cell keeps its total, which a scale of logs doesn't tell, and its rate is what its own
        count tells of it.

        group: (n_cells,) group of a cell's total
        mean_logs: (n_log_rates, n_groups) mean of a Poisson count on the scale
        observed: mean of the controls, whose fold is 1
        """
        some = self.law.weights[:, gene] > 0
        rates, weights = self.law.rates[some, gene], self.law.weights[some, gene]
        column = self.counts[:, [gene]].toarray().ravel()
        values, place = np.unique(column, return_inverse=True)
        n = np.zeros((len(values), mean_logs.shape[1]))
        np.add.at(n, (place, group), 1 / len(group))
        told = _poisson(values[:, None], rates) * weights
        told /= told.sum(axis=1, keepdims=True)
        of_rate = told.T @ n  # (n_rates, n_groups)
        place = (np.log(_FOLDS)[:, None] + np.log(rates) - _LOG_RATES[0]) / _STEP
        low = np.clip(place.astype(np.int64), 0, len(_LOG_RATES) - 2)
        above = np.clip(place - low, 0, 1)
        means = np.einsum("frg,rg->fr", mean_logs[low], of_rate) * (1 - above)
        means += np.einsum("frg,rg->fr", mean_logs[low + 1], of_rate) * above
        total = means.sum(axis=1)
        usual = np.interp(0, np.log(_FOLDS), total)
        total = np.maximum.accumulate(total * (observed / usual if observed > 0 else 1))
        total += 1e-15 * np.arange(len(total))
        curve = PchipInterpolator(total, np.log(_FOLDS))
        return lambda mean: float(np.exp(curve(np.clip(mean, total[0], total[-1]))))


def as_means(answer: Answer) -> Means:
    """Means as they are, and the means of laws and of cells."""
    if isinstance(answer, Means):
        return answer
    if isinstance(answer, Law):
        return Means(answer.mean)
    return Means(answer.values.mean(axis=0), answer.scale)


def _poisson(k, rates):
    return np.exp(special.xlogy(k, rates) - rates - special.gammaln(k + 1))


def _mean_logs(rates, per_count):
    """Mean of log(1 + count * per_count) of Poisson counts, (n_rates, n_groups)."""
    found = np.empty((len(rates), len(per_count)))
    many = rates > 200  # there the mean of a log is the log of the mean, to second order
    few = rates[~many]
    k = np.arange(int(few.max(initial=0) + 12 * np.sqrt(few.max(initial=0)) + 20))
    found[~many] = _poisson(k, few[:, None]) @ np.log1p(k[:, None] * per_count)
    mean = 1 + rates[many, None] * per_count
    found[many] = np.log(mean) - rates[many, None] * per_count**2 / (2 * mean**2)
    return found
