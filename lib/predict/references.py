"""References: what is told the truth, or its form, and the constant law that skill is measured from.

The one file of the room that imports the truth.
"""

from collections.abc import Callable

import anndata as ad
import numpy as np
import torch

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

    n_draws: draws by which alone each law is known, 0 for the law itself: what the truth scores where a model only
        draws. The CRPS of n draws exceeds that of their law by sum_k F(k) (1 - F(k)) / n
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
        law = truth.treated_law(query.cells, self.drugs, *query.perturbation)
        return law[0, query.cells.var_names.get_indexer(query.genes)]


class Marginal(Constant):
    """The one constant law fitted to the gene in the training cells: skill 0."""

    def fit(self, train):
        self.laws = dict(zip(train.var_names, maximum_likelihood.fit(train.X)))
        return self


class NoChange(Conditional):
    """The law that each cell's reference cell had before the intervention: what ignoring it costs.

    reference: the cells that `perturb.dose_series` was given, named in `obs["reference"]` of its cells
    """

    def __init__(self, reference: ad.AnnData):
        super().__init__()
        self.reference = reference

    def fit(self, train):
        return self

    def law_of(self, cells, gene):
        if "reference" not in cells.obs:
            raise NotImplementedError(
                "cells: have no obs['reference'], as those of dose_series have"
            )
        names = cells.obs["reference"].astype(str).to_numpy()
        rows = self.reference.obs_names.get_indexer(names)
        if (rows < 0).any():
            raise ValueError(
                f"cells: reference cell {names[rows < 0][0]!r} is not among those given to NoChange"
            )
        return truth.law(self.reference, [gene])[:, 0][rows]


class TrueForm(Conditional):
    """The mechanism's own form, fitted by maximum likelihood: what this many cells can tell.

    It is told a gene's mechanism, its parents, the pairs of an interaction and the floor, and must find weights, every
    other parameter, and pi; theta is one constant, or has the form of its own mechanism. A gene without a mechanism
    gets the marginal law.

    seed: of the random starts, of which the most likely fit is kept
    """

    n_starts = 3
    # of a kink or a step, relative to the activation; made narrow by and by, since a step has no gradient
    widths = (1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256, 1 / 512, 0.0)

    def __init__(self, *, seed: int | tuple[int, ...] = 0):
        super().__init__()
        self.seed = seed

    def fit(self, train):
        self.train, self.fitted, self.marginal = train.copy(), {}, Marginal().fit(train)
        self.entries = {
            str(entry["gene"]): entry for entry in train.uns.get("mechanisms", {}).values()
        }
        return self

    def law_of(self, cells, gene):
        if gene not in self.entries:
            return self.marginal.law_of(cells, gene)
        if gene not in self.fitted:
            self.fitted[gene] = self.fit_gene(gene)
        return self.fitted[gene](self.parents_of(cells, gene))

    def parents_of(self, cells: ad.AnnData, gene: str) -> torch.Tensor:
        """Counts of a gene's parents, (n_cells, n_parents)."""
        names = checks.genes(
            f"parents of {gene}", self.entries[gene]["parents"], list(cells.var_names)
        )
        return torch.as_tensor(dense(cells[:, names].X).astype(float))

    def fit_gene(self, gene: str) -> Callable[[torch.Tensor], ZINB]:
        """A function from counts of the parents, (n_cells, n_parents), to laws."""
        x, y = self.parents_of(self.train, gene), torch.as_tensor(gene_counts(self.train, gene))
        if "do" in self.train.layers:  # a count that was set says nothing
            drawn = dense(self.train[:, [gene]].layers["do"])[:, 0] == 0
            x, y = x[drawn], y[drawn]
        of_mu, of_theta = (_form(gene, self.entries[gene].get(name), x) for name in ("mu", "theta"))
        rng, (_, log_theta, logit_pi, _) = stream(self.seed, f"starts of {gene}"), basin(y)
        seen = (
            y > 0 if (y > 0).any() else y == 0
        )  # without the zeros of dropout, counts are about mu
        theta_start = of_theta.start(x, torch.full_like(y, float(log_theta.exp())))

        def law(p, x, width):
            n = of_mu.n_parameters
            mu, theta = of_mu.value(p[1 : n + 1], x, width), of_theta.value(p[n + 1 :], x, width)
            return mu.clamp(1e-6, 1e6), theta.clamp(*zinb.THETA_RANGE), p[0]

        def total(p, width):
            return log_likelihood(y, *law(p, x, width)).mean()

        best = (-np.inf, None, None)
        for attempt in range(self.n_starts):
            start = of_mu.start(x[seen], y[seen])
            if attempt:
                start = start * torch.as_tensor(rng.normal(1, 0.3, len(start)))
            p = torch.cat([logit_pi[None], start, theta_start])
            for width in self.widths:
                p = maximise(lambda p, width=width: total(p, width), p, max_iter=150)
                if width <= self.widths[-2]:
                    best = max(
                        best,
                        (float(total(p, width)), p, width),
                        key=lambda fit: np.nan_to_num(fit[0], nan=-np.inf),
                    )
        _, p, width = best
        return lambda x: model.to_law(*law(p, x, width))


class _Same:
    """A positive parameter that is the same in every cell."""

    n_parameters = 1

    def start(self, x, level):
        return level.mean()[None].log()

    def value(self, p, x, width):
        return p.clamp(-20, 20).exp()


class _Form:
    """A mechanism with unknown parameters p: `start(x, level)` gives those of values near `level`, `value` the values.

    kind, constants: as in `uns["mechanisms"]`; of the constants, those that aren't fitted are read
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
        """What the weights multiply, each with standard deviation 1 in the training cells."""
        if self.kind == "polynomial":
            x = torch.cat([x, x**2], dim=1)
        elif self.kind == "interaction":
            first, second = (
                np.asarray(self.constants[name], dtype=int) for name in ("first", "second")
            )
            x = torch.cat([x, x[:, first] * x[:, second]], dim=1)
        return x / self.scale


class _Additive(_Form):
    """max(floor, sum of weighted features): linear, polynomial, interaction. The kink is smooth at first."""

    def start(self, x, level):
        return least_squares(self.features(x), level)

    def value(self, p, x, width):
        above = self.features(x) @ p - self.floor
        return self.floor + (
            torch.nn.functional.softplus(above, beta=1 / (10 * width))
            if width
            else above.clamp(min=0)
        )


class _Hill(_Form):
    """floor + top a^n / (1 + a^n), a = w.x with w >= 0: the half is in the weights, whose scale it can't be told from."""

    n_others = 2

    def start(self, x, level):
        total = self.features(x).sum(1).median().clamp(min=1e-3)
        weights = torch.log(torch.expm1(1 / total)).expand(self.n_parameters - 2)
        return torch.cat(
            [
                torch.log(torch.stack([2 * level.mean(), torch.tensor(3.0, dtype=torch.float64)])),
                weights,
            ]
        )

    def value(self, p, x, width):
        top, power, weights = (
            p[0].clamp(-20, 20).exp(),
            p[1].clamp(-5, 5).exp(),
            torch.nn.functional.softplus(p[2:]),
        )
        return self.floor + top * torch.sigmoid(
            power * torch.log((self.features(x) @ weights).clamp(min=1e-9))
        )


class _Threshold(_Form):
    """low or high by the side of a plane that w.x is on; a sigmoid across it until `width` is 0."""

    n_others = 3

    def start(self, x, level):
        above = level > level.median()
        low, high = (level[side].mean() if side.any() else level.mean() for side in (~above, above))
        z = torch.cat([torch.ones(len(x), 1), self.features(x)], dim=1)
        plane = least_squares(z, above.double() - 0.5)
        return torch.cat(
            [torch.log(torch.stack([low, high])), plane / plane[1:].norm().clamp(min=1e-6)]
        )

    def value(self, p, x, width):
        low, high = p[:2].clamp(-5, 14).exp()
        distance = (p[2] + self.features(x) @ p[3:]) / p[3:].norm()
        return low + (high - low) * (
            torch.sigmoid(distance / width) if width else (distance > 0).double()
        )


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
            f"gene = {gene!r}: true_form has no form for its mechanism {kind!r}; it has one for {', '.join(_FORMS)}"
        )
    return _FORMS[kind](kind, entry["parameters"], x)
