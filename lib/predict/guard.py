"""Between models and questions: what a model is shown, how its answer becomes a law, and whether it leaks.

`predict(query)` answers with a law. In a user's simpler forms, `predict(adata, gene)` for cells and `predict(control)`
or `predict(control, perturbation)` for an arm, it may be a law, or draws or means of the cells, or cells of the arm.
Names tell the form: a parameter `query`, and one called `perturbation` or a second one without default.
"""

import contextlib
import inspect
import itertools
import time
from typing import Self

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks
from lib.counts import counts_of, dense, with_counts
from lib.laws import Cells, Empirical, Law, Stacked
from lib.predict import registry
from lib.predict.base import Query, around
from lib.seeds import stream

SHOWN = ("cell_type", "drug", "dose", "perturbed")  # of obs: what an experimenter knows of a cell
_AGAIN = 8  # calls with each side, where a model may draw at random


class Guarded:
    """A model behind the contract: it is shown cells and nothing of the truth, and its answers are checked.

    model: anything with `fit` and one of the forms of `predict`
    told: is shown everything, as a reference is
    not_asked: genes that it has no answer to
    """

    def __init__(
        self, model, name: str = "model", *, told: bool = False, not_asked: list[str] = ()
    ):
        self.model, self.name, self.told, self.not_asked = model, name, told, list(not_asked)

    def fit(self, train: ad.AnnData) -> Self:
        """Fit the model to what it is shown of `train`."""
        self.model.fit(train if self.told else shown(train))
        return self

    def predict(self, query: Query) -> Law:
        """The law of the genes asked about, of shape `query.shape`. Raises ValueError as `answer`."""
        if query.perturbation is None and {*query.genes} & {*self.not_asked}:
            raise NotImplementedError(
                f"genes = {query.genes}: not asked of a model that sees their children"
            )
        cells = (
            query.cells.copy() if self.told else shown(query.cells)
        )  # some change in place what they are given
        return answer(self.model, query._replace(cells=cells), self.name)

    def law(self, cells: ad.AnnData, gene: str) -> Law:
        """The law of one gene in each cell, (n_cells,)."""
        return self.predict(Query(cells, [gene]))[:, 0]


def shown(cells: ad.AnnData) -> ad.AnnData:
    """A copy with whole counts, names of genes, and of obs what an experimenter knows; cells are numbered, not named."""
    obs = cells.obs[[c for c in SHOWN if c in cells.obs]].set_axis(
        [str(i) for i in range(cells.n_obs)]
    )
    for column in obs.select_dtypes("category"):
        obs[column] = obs[column].cat.remove_unused_categories()
    return ad.AnnData(counts_of(cells).copy(), obs=obs, var=pd.DataFrame(index=cells.var_names))


def models(rows: list[registry.Row], task: str, **setting) -> dict[str, Guarded]:
    """Models of a task by their keys, unfitted. `setting` as of `registry.make`."""
    made = {row.key: row.made[task] for row in rows}
    return {
        key: Guarded(registry.make(how, **setting), key, told=how.told) for key, how in made.items()
    }


def load(name: str, string: str) -> type:
    """The class of a model of one's own, that a parameter `name` gives by its import string. Raises ValueError."""
    made = checks.imported(name, string)
    if not all(callable(getattr(made, method, None)) for method in ("fit", "predict")):
        raise ValueError(
            f"{name} = {string!r}: must be a class with the methods fit(adata) and predict(adata, gene)"
        )
    if string.rpartition(":")[2] in registry.BY_KEY:
        raise ValueError(
            f"{name} = {string!r}: its name is that of a model of the table; it must have another"
        )
    try:
        inspect.signature(made).bind(**dict.fromkeys(_taken(made)))
    except TypeError as error:
        raise ValueError(
            f"{name} = {string!r}: its constructor is {error}; must need none but inputs and seed"
        ) from None
    return made


def own(made: type, inputs: list[str], seed: int | tuple[int, ...] = 0, name: str = "") -> Guarded:
    """A model of one's own, unfitted, as an entry beside the others, from its class.

    A constructor that takes `seed` is given a whole number, one that takes `inputs` the genes that the model may see.
    One that doesn't sees every gene, and isn't asked about these, whose law given their children isn't the truth.
    """
    taken = _taken(made)
    values = {
        "inputs": list(inputs),
        "seed": int(stream(seed, "model of one's own").integers(2**31)),
    }
    model = made(**{parameter: values[parameter] for parameter in taken})
    return Guarded(model, name or made.__name__, not_asked=[] if "inputs" in taken else inputs)


def _taken(made):
    """Which of `inputs` and `seed` a class wants to be made with."""
    return [p for p in ("inputs", "seed") if p in inspect.signature(made).parameters]


def answer(model, query: Query, name: str = "model") -> Law:
    """A model's prediction as a law of shape `query.shape`, checked. Raises ValueError in one line.

    Draws, and cells for an arm, become their empirical law; a mean the narrowest law of whole counts that has it.
    """
    parameters = inspect.signature(model.predict).parameters.values()
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    says = f"{name}: predicts"
    if needed == ["query"]:
        return _checked(model.predict(query), query, says)
    if query.perturbation is not None:
        told = (
            {"perturbation": query.perturbation}
            if any(p.name == "perturbation" for p in parameters)
            else {}
        )
        also = [query.perturbation] if len(needed) > 1 and not told else []
        return _checked(
            _as_law(model.predict(query.cells, *also, **told), query, says), query, says
        )
    single = [query._replace(genes=[gene]) for gene in query.genes]
    laws = [_as_law(model.predict(one.cells, *one.genes), one, says) for one in single]
    return Stacked(
        [_checked(law, one, says, (query.cells.n_obs,)) for law, one in zip(laws, single)]
    )


def _as_law(predicted, query, says):
    """A law as it is; of cells draws (n_cells, n_draws) or means (n_cells,), of an arm cells (n, n_genes), as a law."""
    if isinstance(predicted, Law):
        return predicted
    n_cells, of_arm, what = query.cells.n_obs, query.perturbation is not None, _asked(query)
    allowed = (
        f"a law a gene, or cells (n_cells, {len(query.genes)} genes)"
        if of_arm
        else f"a law, draws ({n_cells} cells, n_draws) or means ({n_cells},)"
    )
    try:
        values = np.asarray(dense(predicted), dtype=float)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ):  # a tensor that wants its gradient raises the last
        raise ValueError(
            f"{says} a {type(predicted).__name__} for {what}; must be {allowed}"
        ) from None
    if not of_arm and values.shape == (n_cells, 1) and (values != np.floor(values)).any():
        values = values[:, 0]  # means as a column
    fits = (
        values.ndim == 2 and values.shape[1] == len(query.genes)
        if of_arm
        else values.ndim in (1, 2) and len(values) == n_cells
    )
    if not fits or values.size == 0:
        raise ValueError(f"{says} shape {values.shape} for {what}; must be {allowed}")
    _check_values(values, says, what, whole=values.ndim == 2)
    return Cells(values) if of_arm else Empirical(values) if values.ndim == 2 else around(values)


def _check_values(values, says, what, *, whole):
    for wrong, found, must in (
        (~np.isfinite(values), "NaN or infinite values", "finite"),
        (values < 0, "negative values", "at least 0"),
        (whole & (values != np.floor(values)), "fractional draws", "whole counts"),
    ):
        if wrong.any():
            raise ValueError(
                f"{says} {found} for {what}, the first {values[wrong][0]:g}; must be {must}"
            )


def _checked(law, query, says, shape=None):
    shape = query.shape if shape is None else shape
    if not isinstance(law, Law):
        raise ValueError(f"{says} a {type(law).__name__} for {_asked(query)}; must be a law")
    if law.shape != shape:
        raise ValueError(
            f"{says} laws of shape {law.shape} for {_asked(query)}; must be one law each, {shape}"
        )
    point = law.parameters()
    if (
        np.isnan(law.mean).any()
        or point is not None
        and np.isnan([point.mean, np.log(point.theta)]).any()
    ):
        raise ValueError(f"{says} NaN parameters for {_asked(query)}; must be numbers")
    if isinstance(law, Empirical):
        _check_values(law.draws, says, _asked(query), whole=True)
    return law


def _asked(query):
    """What a query asks about, in words."""
    return (
        f"{query.perturbation.name} in control cells"
        if query.perturbation
        else " and ".join(query.genes[:2])
    )


def check_leaks(
    model, query: Query, name: str = "model", *, n_cells: int | None = 300, seed=0
) -> None:
    """Raise ValueError if what a model predicts changes where only what is hidden from it does.

    Hidden are the counts of the genes asked about (but of control cells of an arm), the names of cells, and whatever
    else than counts and `SHOWN` the cells hold. Where a model doesn't say the same but for rounding, it may draw at
    random: it is called eight times with each, and how they differ must be the most extreme of all 6,435 ways to part
    these calls, in two independent rounds. What cells of one call have in common, such as a mask, is then no leak.

    n_cells: of the query, taken at random; None for all
    """
    rng = stream(seed, "other counts")
    rows = np.sort(rng.permutation(query.cells.n_obs)[:n_cells])
    query = query._replace(cells=query.cells[rows].copy())
    other = query._replace(cells=_otherwise_hidden(query, rng))

    def told(query):
        law = answer(model, query, name)
        return np.concatenate([law.cdf(np.zeros(law.shape)), law.mean], axis=None)

    what, before = _asked(query), told(query)
    try:
        after = told(other)
        leaks = not np.allclose(after, before, rtol=1e-5, atol=1e-5 * np.abs(before).mean())
        if leaks:
            leaks = all(
                _most_extreme([told(q) for _ in range(_AGAIN) for q in (query, other)])
                for _ in range(2)
            )
    except NotImplementedError:  # it had an answer, and has none to the same question
        leaks = True
    if leaks:
        raise ValueError(
            f"{name}: leakage: what it predicts of {what} changes with what is hidden (the counts of {what}, names of cells, "
            "the truth); it must not be used"
        )


def _otherwise_hidden(query, rng):
    """The query's cells, the same in all that is shown and other in all that is not."""
    cells = query.cells.copy()
    if query.perturbation is None:
        for gene in query.genes:  # of another mean too
            counts = dense(cells[:, [gene]].X)[:, 0]
            new = rng.permutation(counts) + rng.poisson(1 + counts.mean(), cells.n_obs)
            cells = with_counts(cells, {gene: new})
    order = rng.permutation(cells.n_obs)
    for column in cells.obs.columns.difference(SHOWN):
        cells.obs[column] = cells.obs[column].to_numpy()[order]
    genes = rng.permutation(cells.n_vars)
    for mapping, rows in ((cells.layers, order), (cells.obsm, order), (cells.varm, genes)):
        for name, values in mapping.items():
            mapping[name] = values[rows]
    cells.var = cells.var.iloc[genes].set_axis(cells.var_names)
    cells.obs_names = [f"other_{i}" for i in range(cells.n_obs)]
    return ad.AnnData(
        cells.X, obs=cells.obs, var=cells.var, layers=cells.layers, obsm=cells.obsm, varm=cells.varm
    )


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


def enter(
    model,
    train: ad.AnnData,
    queries: list[Query],
    name: str = "model",
    *,
    more: list[Query] = (),
    seed: int | tuple[int, ...] = 0,
) -> tuple[float, float]:
    """Fit a model, have it answer each gene once (some fit only then), and check it in `queries` and `more` for leaks.

    Returns the seconds that this took but for the check, by the clock and of all processor cores together. Raises
    ValueError for what `answer` and `check_leaks` refuse, and for a model that answers nothing.
    """
    guarded = model if isinstance(model, Guarded) else Guarded(model, name)
    start = time.perf_counter(), time.process_time()
    guarded.fit(train)
    answered = 0
    for query in {tuple(q.genes): q for q in queries}.values():
        few = query if query.perturbation else query._replace(cells=query.cells[:2])
        with contextlib.suppress(NotImplementedError):
            guarded.predict(few)
            answered += 1
    took = time.perf_counter() - start[0], time.process_time() - start[1]
    if guarded.told:
        return took
    if not answered:
        raise ValueError(f"{name}: answers no question (NotImplementedError each time)")
    n_cells = 300 if name in registry.BY_KEY else None  # of one's own all are looked at
    for query in [*queries, *more]:
        with contextlib.suppress(NotImplementedError):
            check_leaks(guarded, query, name, n_cells=n_cells, seed=seed)
    return took
