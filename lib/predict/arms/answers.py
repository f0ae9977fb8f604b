"""What a model answers about an arm of a screen: laws, or means or cells with their scale.

    Means(values, scale)      (n_genes,) mean of each gene over the arm's cells
    ArmCells(values, scale)   (n, n_genes) predicted cells

The scale is "counts", or a number T: log1p of counts that were scaled to a total of T a cell. A
model may return plain arrays instead, of one or two axes, if it has an attribute `scale`.
"""

import inspect
from typing import NamedTuple

import numpy as np

from lib import checks
from lib.counts import dense
from lib.laws import Cells, Law
from lib.predict.base import Query

COUNTS = "counts"
_OFF = 1e-6  # of a sum of probabilities from 1
_SCALES = f'"{COUNTS}", or a target sum above 0, of log1p'


class Means(NamedTuple):
    """Mean of each gene in an arm.

    values: (n_genes,) at least 0
    scale: "counts", or the target sum of log1p
    """

    values: np.ndarray
    scale: str | float = COUNTS


class ArmCells(NamedTuple):
    """Cells of an arm.

    values: (n, n_genes) at least 0
    scale: "counts", or the target sum of log1p
    """

    values: np.ndarray
    scale: str | float = COUNTS


Answer = Law | Means | ArmCells


def answer(model, query: Query, name: str = "model") -> Answer:
    """A model's answer about an arm, checked. Raises ValueError in one line.

    Laws are (n_genes,) and give every count a probability.
    """
    says = f"{name}: predicts"
    needed = [
        p.name
        for p in inspect.signature(model.predict).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if needed == ["query"]:
        predicted = model.predict(query)
    else:
        predicted = model.predict(query.cells, query.perturbation)
    return checked(predicted, query, says, getattr(model, "scale", None))


def checked(predicted, query: Query, says: str, scale=None) -> Answer:
    """An answer in one of its three forms. Raises ValueError in one line.

    predicted: what a model returned
    says: start of the messages
    scale: of plain arrays; None: not said
    """
    what, n_genes = f"{query.perturbation.name}", len(query.genes)
    if isinstance(predicted, Law) and not isinstance(predicted, Cells):
        if predicted.shape != (n_genes,):
            must = f"must be one law a gene, ({n_genes},)"
            raise ValueError(f"{says} laws of shape {predicted.shape} for {what}; {must}")
        if not predicted.has_density:
            raise ValueError(f"{says} draws for {what}; must be laws, or ArmCells with their scale")
        if not np.isfinite(predicted.mean).all():
            raise ValueError(f"{says} laws for {what} without a mean; must be numbers")
        table = predicted.pmf_table(int(predicted.reach(1e-9).max()) + 1)
        off = np.abs(table.sum(axis=-1) - 1).max()
        if not (off < _OFF and (table >= 0).all()):
            raise ValueError(f"{says} laws for {what} whose probabilities don't sum to 1")
        return predicted
    if isinstance(predicted, Cells):
        predicted = ArmCells(predicted.counts, COUNTS)
    if isinstance(predicted, (Means, ArmCells)):
        predicted, scale = predicted
    if scale is None:
        must = f"must be Means or ArmCells, or the model have an attribute scale: {_SCALES}"
        raise ValueError(f"{says} numbers for {what} without a scale; {must}")
    scale = checked_scale(f"scale of {says.partition(':')[0]}", scale)
    try:
        values = np.asarray(dense(predicted), dtype=float)
    except (TypeError, ValueError, RuntimeError):
        kind = type(predicted).__name__
        raise ValueError(f"{says} a {kind} for {what}; must be laws, means or cells") from None
    if values.ndim not in (1, 2) or values.shape[-1] != n_genes:
        must = f"must be of {n_genes} genes, ({n_genes},) or (n_cells, {n_genes})"
        raise ValueError(f"{says} shape {values.shape} for {what}; {must}")
    if not values.size:
        raise ValueError(f"{says} no cells for {what}; must be at least one")
    for wrong, kind in ((~np.isfinite(values), "not finite"), (values < 0, "below 0")):
        if wrong.any():
            given = f"{values[wrong].flat[0]:g}"
            raise ValueError(f"{says} {given} for {what}, which is {kind}")
    if len(values) == 1 and values.ndim == 2:  # one cell has no shape: it is taken as the mean
        values = values[0]
    return Means(values, scale) if values.ndim == 1 else ArmCells(values, scale)


def checked_scale(name: str, scale) -> str | float:
    """ "counts" or a target sum. Raises ValueError for another scale."""
    if scale == COUNTS:
        return COUNTS
    if isinstance(scale, str):
        try:
            scale = float(scale)
        except ValueError:
            raise ValueError(f"{name} = {scale!r}: must be {_SCALES}") from None
    return checks.number(name, scale, 1e-9)
