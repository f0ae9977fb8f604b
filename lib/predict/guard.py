"""Models of one's own, and leaks."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import time

import anndata as ad
import numpy as np
import pandas as pd

from lib import dataset
from lib.laws import ZINB, Empirical, Law, Mixture
from lib.predict import registry
from lib.seeds import stream
from lib.simulate import mechanisms


def own(name: str, string: str, keys: list[str] | None = None) -> type:
    """The class of a model of one's own from its import string, checked. Raises ValueError in one line.

    keys : of the models that the table has, whose names it can't have; by default those of the leaderboard
    """
    made = mechanisms.imported(name, string)
    for method in ("fit", "predict"):
        if not callable(getattr(made, method, None)):
            raise ValueError(f"{name} = {string!r}: must be a class with the methods fit(adata) and predict(adata, gene)")
    if string.rpartition(":")[2] in (registry.KEYS if keys is None else keys):
        raise ValueError(f"{name} = {string!r}: its name is that of a model of the table; it must have another")
    try:
        inspect.signature(made).bind(**dict.fromkeys(_taken(made)))
    except TypeError as error:
        raise ValueError(f"{name} = {string!r}: its constructor is {error}; must need none but inputs and seed") from None
    return made


def _taken(made):
    """Which of `inputs` and `seed` a class wants to be made with."""
    return [parameter for parameter in ("inputs", "seed") if parameter in inspect.signature(made).parameters]


def make(made: type, inputs: list[str], seed: int | tuple[int, ...] = 0):
    """An instance of a class of one's own, given `inputs` and `seed`, one whole number, if its constructor takes these."""
    values = {"inputs": list(inputs), "seed": int(stream(seed, "model of one's own").integers(2**31))}
    return made(**{name: values[name] for name in _taken(made)})


class Own:
    """A model of one's own as an entry of the leaderboard: it is shown cells, and nothing of the truth about them.

    made : the class. If its constructor takes no `inputs` it sees every gene, and isn't asked about one of these,
        whose law given its children is another one than the truth of the leaderboard
    inputs : the genes that it may see; seed : of `make`
    """

    def __init__(self, made: type, inputs: list[str], seed: int | tuple[int, ...] = 0):
        self.model, self.inputs, self.sees_all = make(made, inputs, seed), list(inputs), "inputs" not in _taken(made)

    def fit(self, adata: ad.AnnData) -> Own:
        """Fit the model to what it is shown of `adata`."""
        self.model.fit(_shown(adata))
        return self

    def predict(self, adata: ad.AnnData, gene: str):
        """What the model predicts: a law, draws or means, unchecked."""
        if self.sees_all and gene in self.inputs:
            raise NotImplementedError(f"gene = {gene!r}: not asked of a model that sees its children")
        return self.model.predict(_shown(adata), gene)


def _shown(adata):
    """A copy with counts and names, cell types and what was perturbed or given."""
    columns = [c for c in ("cell_type", "drug", "perturbed") if c in adata.obs]
    return ad.AnnData(adata.X.copy(), obs=adata.obs[columns].copy(), var=pd.DataFrame(index=adata.var_names))


def answer(model, cells: ad.AnnData, gene: str, name: str = "model") -> Law:
    """A model's prediction as one law a cell, (n_cells,), checked.

    Draws become their empirical law, a mean the narrowest law of whole counts that has it. Raises ValueError in one line for what is
    neither a law, draws nor a mean of each cell, or has NaN or negative values.
    """
    predicted = model.predict(cells.copy(), gene)  # some change in place what they are given
    if isinstance(predicted, Empirical):
        predicted = predicted.draws
    if isinstance(predicted, Law):
        law = predicted
        for part in (law.components if isinstance(law, Mixture) else law,):
            if isinstance(part, ZINB) and any(np.isnan(p).any() for p in (part.mu, part.theta, part.pi)):
                raise ValueError(f"{name}: predicts NaN parameters for {gene}; must be numbers")
    else:
        try:
            values = np.asarray(predicted, dtype=float)
        except (TypeError, ValueError):
            raise ValueError(f"{name}: predicts a {type(predicted).__name__} for {gene}; must be a law, draws or means") from None
        if values.ndim not in (1, 2) or len(values) != cells.n_obs or values.size == 0:
            raise ValueError(
                f"{name}: predicts shape {values.shape} for {gene}; must be a law, draws ({cells.n_obs} cells, n_draws) or means ({cells.n_obs},)"
            )
        checks_of_values = [(~np.isfinite(values), "NaN or infinite values", "finite"), (values < 0, "negative values", "at least 0")]
        if values.ndim == 2:
            checks_of_values.append((values != np.floor(values), "fractional draws", "whole counts"))
        for wrong, what, allowed in checks_of_values:
            if wrong.any():
                raise ValueError(f"{name}: predicts {what} for {gene}, the first {values[wrong][0]:g}; must be {allowed}")
        law = Empirical(values if values.ndim == 2 else _around(values))
    if law.shape != (cells.n_obs,):
        raise ValueError(f"{name}: predicts laws of shape {law.shape} for {gene}; must be one law a cell, ({cells.n_obs},)")
    return law


def _around(mean, n_draws=20):
    """Whole counts (n_cells, n_draws) next to a mean, above and below it in such shares that it is theirs."""
    return np.floor(mean)[:, None] + (np.arange(n_draws) < np.round(n_draws * (mean % 1))[:, None])


def check_leakage(model, cells: ad.AnnData, gene: str, name: str = "model", *, n_cells: int = 300, seed: int | tuple[int, ...] = 0) -> None:
    """Raise ValueError if what a model predicts of `gene` changes when the cells have other counts of it.

    n_cells : of `cells` at most, taken at random

    Where it says the same but for rounding, all is well. Where it doesn't, it may draw at random: it is called eight times
    with each, and how they differ must be the most extreme of all 6,435 ways to part these calls, in two independent
    rounds, to be a leak. What the cells of one call have in common, such as a mask drawn for it, is then none.
    """
    rng = stream(seed, "other counts")
    cells = cells[np.sort(rng.permutation(cells.n_obs)[:n_cells])].copy()
    counts = dataset.dense(cells[:, [gene]].X)[:, 0]
    # of another mean too
    other = dataset.with_counts(cells, {gene: rng.permutation(counts) + rng.poisson(1 + counts.mean(), cells.n_obs)})

    def told(cells):
        law = answer(model, cells, gene, name)
        return np.concatenate([law.cdf(np.zeros(cells.n_obs)), law.mean])

    before, after = told(cells), told(other)
    same = np.allclose(after, before, rtol=1e-5, atol=1e-5 * np.abs(before).mean())
    if not same and all(_most_extreme([told(c) for _ in range(8) for c in (cells, other)]) for _ in range(2)):
        raise ValueError(f"{name}: leakage: what it predicts of {gene} changes with the counts of {gene}; they must not be used")


def _most_extreme(calls):
    """Whether calls of even and odd places differ more than in any other parting of them into halves, as the mean square of values."""
    values = np.stack(calls)
    values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-12)
    gram, n = values @ values.T, len(calls)
    halves = np.array([[0, *rest] for rest in itertools.combinations(range(1, n), n // 2 - 1)])
    signs = -np.ones((len(halves), n))
    np.put_along_axis(signs, halves, 1.0, axis=1)
    distance = np.einsum("ij,jk,ik->i", signs, gram, signs)
    actual = np.array([1.0, -1.0] * (n // 2))
    return actual @ gram @ actual >= distance.max() * (1 - 1e-9)


def enter(model, train: ad.AnnData, asked: list, name: str = "model", *, test: ad.AnnData | None = None, seed: int | tuple[int, ...] = 0) -> tuple[float, float]:
    """Fit a model, have it answer each gene once (some fit a gene when it is asked for), and check one of one's own for leaks.

    test : cells in which the laws of the base genes are asked for as well (`marginal_laws`)

    Returns the seconds that this took but for the check, by the clock and of all processor cores together. Raises ValueError for what `answer`
    and `check_leakage` refuse, and for a model that answers nothing.
    """
    start = time.perf_counter(), time.process_time()
    model.fit(train.copy())
    answered = 0
    for question in {q.gene: q for q in asked}.values():
        with contextlib.suppress(NotImplementedError):
            answer(model, question.cells[:2], question.gene, name)
            answered += 1
    took = time.perf_counter() - start[0], time.process_time() - start[1]
    if isinstance(model, Own):
        if not answered:
            raise ValueError(f"{name}: answers no question (NotImplementedError each time)")
        more = [] if test is None else [(test, gene) for gene in model.inputs]
        for cells, gene in [*((q.cells, q.gene) for q in asked), *more]:
            with contextlib.suppress(NotImplementedError):
                check_leakage(model, cells, gene, name, seed=seed)
    return took
