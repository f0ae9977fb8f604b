"""References: models told the truth or its form, and the constant law that skill is measured from.

This is the one file of `lib/predict` that imports the truth.
"""

from collections.abc import Callable
from functools import partial

import anndata as ad
import numpy as np
import torch
from torch.nn.functional import softplus

from lib import checks, model
from lib.counts import dense
from lib.laws import ZINB, Empirical, maximum_likelihood, zinb
from lib.laws.likelihood import log_likelihood
from lib.predict.base import Conditional, Constant, Query, gene_counts
from lib.predict.regressions import basin, least_squares, maximise
from lib.seeds import stream
from lib.simulate import mechanisms, truth


class Oracle(Conditional):
    """The true law: the floor of every distance.

    n_draws: draws that stand for each law, 0 for the law itself. They show what the truth scores
        where a model only draws: the CRPS of n draws exceeds that of their law by
        sum_k F(k) (1 - F(k)) / n
    seed: whole number, or several
    """

    def __init__(self, n_draws: int = 0, *, seed: int | tuple[int, ...] = 0):
        super().__init__()
        self.n_draws = checks.integer("n_draws", n_draws, low=0)
        self.seed = seed

    def fit(self, train):
        self.drugs = train.uns.get("drugs", {})
        return self

    def law_of(self, cells, gene):
        law = truth.law(cells, [gene])[:, 0]
        if not self.n_draws:
            return law
        rng = stream(self.seed, f"draws of {gene}")
        return Empirical(law[:, None].sample(rng, (cells.n_obs, self.n_draws)))

    def predict(self, query: Query):
        if query.perturbation is None:
            return super().predict(query)
        if query.cells.obs["cell_type"].nunique() != 1:
            raise ValueError("control: must be cells of one type")
        name, dose, _ = query.perturbation
        law = truth.treated_law(query.cells, self.drugs, name, dose)
        return law[0, query.cells.var_names.get_indexer(query.genes)]


class Marginal(Constant):
    """The one constant law fitted to the gene in the training cells: skill 0."""

    def fit(self, train):
        self.laws = dict(zip(train.var_names, maximum_likelihood.fit(train.X)))
        return self


class NoChange(Conditional):
    """The law of each cell before the intervention: what ignoring it costs.

    reference: cells that `perturb.dose_series` was given; `obs["reference"]` of its cells names
        them
    """

    def __init__(self, reference: ad.AnnData):
        super().__init__()
        self.reference = reference

    def fit(self, train):
        return self

    def law_of(self, cells, gene):
        if "reference" not in cells.obs:
            raise NotImplementedError("cells: have no obs['reference'], as those of dose_series do")
        names = cells.obs["reference"].astype(str).to_numpy()
        rows = self.reference.obs_names.get_indexer(names)
        if (rows < 0).any():
            missing = names[rows < 0][0]
            raise ValueError(
                f"cells: reference cell {missing!r} is not among those given to NoChange"
            )
        return truth.law(self.reference, [gene])[:, 0][rows]


class TrueForm(Conditional):
    """The mechanism's own form, fitted by maximum likelihood: what this many cells can tell.

    It is told a gene's mechanism, its parents, the pairs of an interaction, and the floor. It must
    find the weights, every other parameter, and pi. theta is one constant, or has the form of its
    own mechanism. A gene without a mechanism gets the marginal law.

    seed: whole number, or several; of the random starts, the most likely fit is kept
    """

    n_starts = 3
    # widths of a kink or a step, relative to the activation: each fit starts from the last, since a
    # step has no gradient
    widths = (1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256, 1 / 512, 0.0)

    def __init__(self, *, seed: int | tuple[int, ...] = 0):
        super().__init__()
        self.seed = seed

    def fit(self, train):
        self.train = train.copy()
        self.fitted = {}
        self.marginal = Marginal().fit(train)
        entries = train.uns.get("mechanisms", {}).values()
        self.entries = {str(entry["gene"]): entry for entry in entries}
        return self

    def law_of(self, cells, gene):
        if gene not in self.entries:
            return self.marginal.law_of(cells, gene)
        if gene not in self.fitted:
            self.fitted[gene] = self.fit_gene(gene)
        return self.fitted[gene](self.parents_of(cells, gene))

    def parents_of(self, cells: ad.AnnData, gene: str) -> torch.Tensor:
        """Counts of a gene's parents, (n_cells, n_parents)."""
        parents = self.entries[gene]["parents"]
        names = checks.genes(f"parents of {gene}", parents, list(cells.var_names))
        return torch.as_tensor(dense(cells[:, names].X).astype(float))

    def fit_gene(self, gene: str) -> Callable[[torch.Tensor], ZINB]:
        """Fit one gene. Returns a function from counts of its parents to laws, (n_cells,)."""
        x = self.parents_of(self.train, gene)
        y = torch.as_tensor(gene_counts(self.train, gene))
        if "do" in self.train.layers:  # a count that was set says nothing
            drawn = dense(self.train[:, [gene]].layers["do"])[:, 0] == 0
            x, y = x[drawn], y[drawn]
        of_mu = _form(gene, self.entries[gene].get("mu"), x)
        of_theta = _form(gene, self.entries[gene].get("theta"), x)
        n_mu = of_mu.n_parameters

        def law(p, x, width):
            mu = of_mu.value(p[1 : n_mu + 1], x, width)
            theta = of_theta.value(p[n_mu + 1 :], x, width)
            return mu.clamp(1e-6, 1e6), theta.clamp(*zinb.THETA_RANGE), p[0]

        def total(p, width):
            return log_likelihood(y, *law(p, x, width)).mean()

        best = (-np.inf, None, None)
        for p in self._starts(gene, x, y, of_mu, of_theta):
            for width in self.widths:
                p = maximise(partial(total, width=width), p, max_iter=150)
                if width <= self.widths[-2]:
                    best = max(best, (float(total(p, width)), p, width), key=_likelihood)
        _, p, width = best
        return lambda x: model.to_law(*law(p, x, width))

    def _starts(self, gene, x, y, of_mu, of_theta):
        """Parameters to start from: logit pi, those of mu, those of theta."""
        rng = stream(self.seed, f"starts of {gene}")
        _, log_theta, logit_pi, _ = basin(y)
        # counts above 0 tell of mu without the zeros of dropout
        seen = y > 0 if (y > 0).any() else y == 0
        theta = of_theta.start(x, torch.full_like(y, float(log_theta.exp())))
        for attempt in range(self.n_starts):
            mu = of_mu.start(x[seen], y[seen])
            if attempt:
                mu = mu * torch.as_tensor(rng.normal(1, 0.3, len(mu)))
            yield torch.cat([logit_pi[None], mu, theta])


def _likelihood(fit):
    """The likelihood of a fit, the first of its parts; NaN is the worst."""
    return np.nan_to_num(fit[0], nan=-np.inf)


class _Same:
    """A positive parameter that is the same in every cell."""

    n_parameters = 1

    def start(self, x, level):
        return level.mean()[None].log()

    def value(self, p, x, width):
        return p.clamp(-20, 20).exp()


class _Form:
    """A mechanism with unknown parameters p.

    A subclass writes `start(x, level)`, the parameters at which values are near `level`, and
    `value(p, x, width)`, the values.

    kind: name of the mechanism
    constants: parameters of the mechanism in `uns["mechanisms"]`; only those not fitted are read
    x: (n_cells, n_parents) counts, for their scale
    """

    n_others = 0  # parameters beside the weights

    def __init__(self, kind: str, constants: dict, x: torch.Tensor):
        self.kind, self.constants = kind, constants
        self.floor = float(constants.get("floor", mechanisms.FLOOR))
        self.scale = torch.ones(1)
        self.scale = self.features(x).std(0).clamp(min=1e-6)
        self.n_parameters = self.n_others + len(self.scale)

    def features(self, x):
        """Terms of the sum, before their weights: with standard deviation 1 in training cells."""
        if self.kind == "polynomial":
            x = torch.cat([x, x**2], dim=1)
        elif self.kind == "interaction":
            first = np.asarray(self.constants["first"], dtype=int)
            second = np.asarray(self.constants["second"], dtype=int)
            x = torch.cat([x, x[:, first] * x[:, second]], dim=1)
        return x / self.scale


class _Additive(_Form):
    """max(floor, sum of weighted features), with a smooth kink until `width` is 0.

    For linear, polynomial and interaction.
    """

    def start(self, x, level):
        return least_squares(self.features(x), level)

    def value(self, p, x, width):
        above = self.features(x) @ p - self.floor
        if width:
            return self.floor + softplus(above, beta=1 / (10 * width))
        return self.floor + above.clamp(min=0)


class _Hill(_Form):
    """floor + top a^n / (1 + a^n), a = w.x with w >= 0.

    The half is part of the weights, since it can't be told from their scale.
    """

    n_others = 2

    def start(self, x, level):
        total = self.features(x).sum(1).median().clamp(min=1e-3)
        weights = torch.log(torch.expm1(1 / total)).expand(self.n_parameters - 2)
        power = torch.tensor(3.0, dtype=torch.float64)
        return torch.cat([torch.log(torch.stack([2 * level.mean(), power])), weights])

    def value(self, p, x, width):
        top = p[0].clamp(-20, 20).exp()
        power = p[1].clamp(-5, 5).exp()
        activation = self.features(x) @ softplus(p[2:])
        return self.floor + top * torch.sigmoid(power * torch.log(activation.clamp(min=1e-9)))


class _Threshold(_Form):
    """low or high, by the side of a plane that x is on; a sigmoid across it until `width` is 0."""

    n_others = 3

    def start(self, x, level):
        above = level > level.median()
        low, high = (level[side].mean() if side.any() else level.mean() for side in (~above, above))
        z = torch.cat([torch.ones(len(x), 1), self.features(x)], dim=1)
        plane = least_squares(z, above.double() - 0.5)
        plane = plane / plane[1:].norm().clamp(min=1e-6)
        return torch.cat([torch.log(torch.stack([low, high])), plane])

    def value(self, p, x, width):
        low, high = p[:2].clamp(-5, 14).exp()
        distance = (p[2] + self.features(x) @ p[3:]) / p[3:].norm()
        share = torch.sigmoid(distance / width) if width else (distance > 0).double()
        return low + (high - low) * share


_FORMS = {
    "linear": _Additive,
    "polynomial": _Additive,
    "interaction": _Additive,
    "hill": _Hill,
    "threshold": _Threshold,
}


def _form(gene: str, entry: dict | None, x: torch.Tensor):
    """The form of one parameter of a gene."""
    if entry is None:
        return _Same()
    kind = str(entry["mechanism"])
    if kind not in _FORMS:
        raise NotImplementedError(
            f"gene = {gene!r}: true_form has no form for its mechanism {kind!r}; "
            f"it has one for {', '.join(_FORMS)}"
        )
    return _FORMS[kind](kind, entry["parameters"], x)
