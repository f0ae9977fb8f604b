"""What a model answers, as a law: the forms of `predict`, and what is no answer.

`predict(query)` answers with a law. A user's model may have a simpler form instead:

    predict(adata, gene)             a law of each cell, or draws or means of the cells
    predict(control)                 a law of each gene in an arm, or cells of the arm
    predict(control, perturbation)   the same, told what was done

Names tell the form: a parameter `query`; one called `perturbation`, or a second without default.
"""

import inspect

import numpy as np

from lib.counts import dense
from lib.laws import Cells, Empirical, Law, Stacked
from lib.predict.base import Query, around


def answer(model, query: Query, name: str = "model") -> Law:
    """A model's prediction as a checked law of shape `query.shape`. Raises ValueError in one line.

    Draws, and cells of an arm, become their empirical law; a mean becomes the narrowest law of
    whole counts with that mean.
    """
    says = f"{name}: predicts"
    parameters = inspect.signature(model.predict).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in positional]
    if needed == ["query"]:
        return _checked(model.predict(query), query, query.shape, says)
    if query.perturbation is None:
        laws = []
        for gene in query.genes:
            predicted = model.predict(query.cells, gene)
            laws.append(_as_law(predicted, query._replace(genes=[gene]), says))
        return Stacked(laws)
    if any(p.name == "perturbation" for p in parameters):
        predicted = model.predict(query.cells, perturbation=query.perturbation)
    elif len(needed) > 1:
        predicted = model.predict(query.cells, query.perturbation)
    else:
        predicted = model.predict(query.cells)
    return _as_law(predicted, query, says)


def _as_law(predicted, query, says):
    """The answer about one gene, or about an arm, as a checked law.

    predicted: a law; draws (n_cells, n_draws) or means (n_cells,) of a gene; cells (n, n_genes) of
        an arm
    """
    if isinstance(predicted, Law):
        return _checked(predicted, query, query.shape[:1], says)
    of_arm = query.perturbation is not None
    n_cells, n_genes, what = query.cells.n_obs, len(query.genes), in_words(query)
    if of_arm:
        allowed = f"a law a gene, or cells (n_cells, {n_genes} genes)"
    else:
        allowed = f"a law, draws ({n_cells} cells, n_draws) or means ({n_cells},)"
    try:
        values = np.asarray(dense(predicted), dtype=float)
    except (TypeError, ValueError, RuntimeError):  # the last: a tensor that requires its gradient
        kind = type(predicted).__name__
        raise ValueError(f"{says} a {kind} for {what}; must be {allowed}") from None
    if not of_arm and values.shape == (n_cells, 1) and (values != np.floor(values)).any():
        values = values[:, 0]  # means as a column
    if of_arm:
        fits = values.ndim == 2 and values.shape[1] == n_genes
    else:
        fits = values.ndim in (1, 2) and len(values) == n_cells
    if not fits or values.size == 0:
        raise ValueError(f"{says} shape {values.shape} for {what}; must be {allowed}")
    are_draws = values.ndim == 2
    _check_values(values, what, says, whole=are_draws)
    if of_arm:
        return Cells(values)
    return Empirical(values) if are_draws else around(values)


def _check_values(values, what, says, *, whole):
    for wrong, found, must in (
        (~np.isfinite(values), "NaN or infinite values", "finite"),
        (values < 0, "negative values", "at least 0"),
        (whole & (values != np.floor(values)), "fractional draws", "whole counts"),
    ):
        if wrong.any():
            first = f"{values[wrong][0]:g}"
            raise ValueError(f"{says} {found} for {what}, the first {first}; must be {must}")


def _checked(law, query, shape, says):
    """A law as it is, if it is one of this shape and has numbers as parameters."""
    what = in_words(query)
    if not isinstance(law, Law):
        raise ValueError(f"{says} a {type(law).__name__} for {what}; must be a law")
    if law.shape != shape:
        must = f"must be one law each, {shape}"
        raise ValueError(f"{says} laws of shape {law.shape} for {what}; {must}")
    point = law.parameters()
    numbers = [law.mean] if point is None else [law.mean, point.mean, np.log(point.theta)]
    if any(np.isnan(values).any() for values in numbers):
        raise ValueError(f"{says} NaN parameters for {what}; must be numbers")
    if isinstance(law, Empirical):
        _check_values(law.draws, what, says, whole=True)
    return law


def in_words(query):
    """What a query asks about, in words."""
    if query.perturbation:
        return f"{query.perturbation.name} in control cells"
    return " and ".join(query.genes[:2])
