"""Between models and questions: what a model is shown, and whether it leaks."""

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
from lib.laws import Law
from lib.predict import registry
from lib.predict.answers import answer, in_words
from lib.predict.arms import answers as arm_answers
from lib.predict.arms.answers import Answer, ArmCells, Means
from lib.predict.base import Query
from lib.seeds import stream

SHOWN = ("cell_type", "drug", "dose", "perturbed")  # columns of obs that an experimenter knows
OF_SCREEN = (
    "perturbation",
    "perturbation_type",
    "strength",
    "guide",
    "n_perturbations",
    "batch",
    "total_counts",
)  # and of a screen's, beside the cell type
PRIOR = "prior_graph", "prior"  # what a screen's models may know beforehand: in uns, and in varm
_AGAIN = 8  # calls on each side, where a model may draw at random

NO_QUESTION = (
    "of a gene regulatory network, whose laws given molecules can't be reached from counts"
)


class Guarded:
    """A model behind the contract: it sees nothing of the truth, and its answers are checked.

    model: anything with `fit` and one of the forms of `predict`
    told: whether it is shown everything, as a reference is
    not_asked: genes that it isn't asked about
    """

    def __init__(
        self, model, name: str = "model", *, told: bool = False, not_asked: list[str] = ()
    ):
        self.model = model
        self.name = name
        self.told = told
        self.not_asked = list(not_asked)
        self._controls: tuple[ad.AnnData, ad.AnnData] | None = None

    def fit(self, train: ad.AnnData) -> Self:
        """Fit the model to what it is shown of `train`."""
        self.model.fit(train if self.told else shown(train))
        return self

    def predict(self, query: Query) -> Law:
        """The law of the genes asked about, of shape `query.shape`. Raises what `answer` does."""
        if query.perturbation is None and {*query.genes} & {*self.not_asked}:
            raise NotImplementedError(
                f"genes = {query.genes}: not asked of a model that sees their children"
            )
        # a copy either way, since some models change in place what they are given
        cells = query.cells.copy() if self.told else shown(query.cells)
        return answer(self.model, query._replace(cells=cells), self.name)

    def arm(self, query: Query) -> Answer:
        """The answer about an arm of a screen. Raises what `arm_answers.answer` does."""
        if self.told:
            return arm_answers.answer(self.model, query, self.name)
        if self._controls is None or self._controls[0] is not query.cells:
            self._controls = query.cells, shown(query.cells)  # one copy for all arms of a cell type
        return arm_answers.answer(self.model, query._replace(cells=self._controls[1]), self.name)

    def law(self, cells: ad.AnnData, gene: str) -> Law:
        """The law of one gene in each cell, (n_cells,). Refuses cells of a network."""
        if "grn" in cells.uns:
            raise ValueError(f"cells: {NO_QUESTION}")
        return self.predict(Query(cells, [gene]))[:, 0]


def shown(cells: ad.AnnData) -> ad.AnnData:
    """A copy with whole counts, names of genes, what may be shown, and numbers as cell names.

    May be shown: the `SHOWN` columns, and of a screen those `OF_SCREEN`, which genes are
    regulators, and the prior.
    """
    numbers = [str(i) for i in range(cells.n_obs)]
    obs = cells.obs[[c for c in _columns(cells) if c in cells.obs]].set_axis(numbers)
    for column in obs.select_dtypes("category"):
        obs[column] = obs[column].cat.remove_unused_categories()
    copy = ad.AnnData(counts_of(cells).copy(), obs=obs, var=pd.DataFrame(index=cells.var_names))
    if is_screen(cells):
        if "regulator" in cells.var:
            copy.var["regulator"] = cells.var["regulator"].to_numpy()
        in_uns, in_varm = PRIOR
        if in_uns in cells.uns:
            copy.uns[in_uns] = cells.uns[in_uns].copy()
        if in_varm in cells.varm:
            copy.varm[in_varm] = np.array(cells.varm[in_varm])
    return copy


def is_screen(cells: ad.AnnData) -> bool:
    """Whether these are cells of a screen: what a cell was perturbed by is known."""
    return "perturbation" in cells.obs


def _columns(cells):
    """Columns of obs that may be shown."""
    return (*SHOWN, *OF_SCREEN) if is_screen(cells) else SHOWN


def models(rows: list[registry.Row], task: str, **setting) -> dict[str, Guarded]:
    """Unfitted models of a task, by their keys.

    setting: what `registry.make` may give a model, such as inputs, seed or device
    """
    made = {}
    for row in rows:
        how = row.made[task]
        made[row.key] = Guarded(registry.make(how, **setting), row.key, told=how.told)
    return made


def load(name: str, string: str) -> type:
    """The class of a model of one's own, from its import string. Raises ValueError in one line.

    name: parameter that the string was given to, for the message
    string: package.module:name
    """
    made = checks.imported(name, string)
    given = f"{name} = {string!r}"
    if not all(callable(getattr(made, method, None)) for method in ("fit", "predict")):
        methods = "fit(adata) and predict"
        raise ValueError(f"{given}: must be a class with the methods {methods}")
    if string.rpartition(":")[2] in registry.BY_KEY:
        raise ValueError(f"{given}: its name is that of a model of the table; it must have another")
    try:
        inspect.signature(made).bind(**dict.fromkeys(_taken(made)))
    except TypeError as error:
        must = "must need none but inputs and seed"
        raise ValueError(f"{given}: its constructor is {error}; {must}") from None
    return made


def own(made: type, inputs: list[str], seed: int | tuple[int, ...] = 0, name: str = "") -> Guarded:
    """A model of one's own, unfitted, from its class.

    A constructor that takes `seed` is given a whole number, and one that takes `inputs` the genes
    that the model may see. A model whose constructor takes no `inputs` sees every gene. It isn't
    asked about the inputs, whose law given their children isn't the truth.
    """
    taken = _taken(made)
    number = int(stream(seed, "model of one's own").integers(2**31))
    values = {"inputs": list(inputs), "seed": number}
    model = made(**{parameter: values[parameter] for parameter in taken})
    not_asked = [] if "inputs" in taken else inputs
    return Guarded(model, name or made.__name__, not_asked=not_asked)


def _taken(made):
    """Which of `inputs` and `seed` the constructor of a class takes."""
    return [p for p in ("inputs", "seed") if p in inspect.signature(made).parameters]


def check_leaks(
    model, query: Query, name: str = "model", *, n_cells: int | None = 300, seed=0
) -> None:
    """Raise ValueError if a model's prediction changes when only what is hidden from it changes.

    Hidden are the names of cells, everything in them but counts and `SHOWN`, and, unless the query
    names a perturbation, the counts of the genes asked about. Two answers that differ by more than
    rounding may come from a model that draws at random. So it is called eight times with the cells
    and eight times with the changed ones. It leaks if this split of the 16 calls is the most
    extreme of all 6,435 splits into halves, in two independent rounds. What the cells of one call
    have in common, such as a mask, is then no leak.

    model: what is judged; one that isn't in a guard is shown everything
    n_cells: cells of the query to look at, taken at random; None for all
    """
    guarded = model if isinstance(model, Guarded) else Guarded(model, name, told=True)
    rng = stream(seed, "other counts")
    rows = np.sort(rng.permutation(query.cells.n_obs)[:n_cells])
    query = query._replace(cells=query.cells[rows].copy())
    other = query._replace(cells=_otherwise_hidden(query, rng))

    def told(query):
        of_arm = query.perturbation is not None and query.perturbation.perturbation_type
        law = guarded.arm(query) if of_arm else guarded.predict(query)
        if isinstance(law, (Means, ArmCells)):
            return np.concatenate([law.values.mean(axis=0), law.values.std(axis=0)], axis=None)
        return np.concatenate([law.cdf(np.zeros(law.shape)), law.mean], axis=None)

    if _differ(told, query, other):
        what = in_words(query)
        raise ValueError(
            f"{name}: leakage: what it predicts of {what} changes with what is hidden "
            f"(the counts of {what}, names of cells, the truth); it must not be used"
        )


def _differ(told, query, other):
    """Whether the numbers that `told` gives for two queries differ by more than chance."""
    before = told(query)
    try:
        after = told(other)
        if np.allclose(after, before, rtol=1e-5, atol=1e-5 * np.abs(before).mean()):
            return False
        pair = (query, other)
        return all(_most_extreme([told(q) for _ in range(_AGAIN) for q in pair]) for _ in range(2))
    except NotImplementedError:  # it had an answer, and has none to the same question
        return True


def _otherwise_hidden(query, rng):
    """The query's cells, with all that is shown unchanged and all that is hidden changed."""
    cells = query.cells.copy()
    if query.perturbation is None:
        for gene in query.genes:
            counts = dense(cells[:, [gene]].X)[:, 0]
            shuffled = rng.permutation(counts)
            more = rng.poisson(1 + counts.mean(), cells.n_obs)  # so that the mean changes too
            cells = with_counts(cells, {gene: shuffled + more})
    order = rng.permutation(cells.n_obs)
    for column in cells.obs.columns.difference(_columns(cells)):
        cells.obs[column] = cells.obs[column].to_numpy()[order]
    genes = rng.permutation(cells.n_vars)
    for mapping, rows in ((cells.layers, order), (cells.obsm, order), (cells.varm, genes)):
        for name in mapping.keys() - ({PRIOR[1]} if is_screen(cells) else set()):
            mapping[name] = mapping[name][rows]
    before, cells.var = cells.var, cells.var.iloc[genes].set_axis(cells.var_names)
    if is_screen(cells) and "regulator" in before:
        cells.var["regulator"] = before["regulator"]
    cells.obs_names = [f"other_{i}" for i in range(cells.n_obs)]
    parts = {name: getattr(cells, name) for name in ("obs", "var", "layers", "obsm", "varm")}
    uns = {name: cells.uns[name] for name in PRIOR[:1] if is_screen(cells) and name in cells.uns}
    return ad.AnnData(cells.X, uns=uns, **parts)


def _most_extreme(calls):
    """Whether no other split of the calls into halves differs more than even from odd places.

    calls: arrays of the same shape; halves differ by the mean square difference of their means
    """
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
    """Fit a model, have it answer for each gene once, and check it for leaks.

    The answers are part of the time, since some models are fitted only when they are asked.

    queries: questions to answer and to check
    more: questions to check only

    Returns the seconds for fit and answers: by the clock, and of all processor cores together.
    Raises ValueError for what `answer` and `check_leaks` refuse, and for a model that answers
    nothing.
    """
    guarded = model if isinstance(model, Guarded) else Guarded(model, name)
    clock = time.perf_counter()
    cores = time.process_time()
    guarded.fit(train)
    answered, why = 0, ""
    for query in {tuple(q.genes): q for q in queries}.values():
        few = query if query.perturbation else query._replace(cells=query.cells[:2])
        try:
            guarded.predict(few)
            answered += 1
        except NotImplementedError as error:
            why = f": {error}" if str(error) else ""
    took = time.perf_counter() - clock, time.process_time() - cores
    if guarded.told:
        return took
    if not answered:
        raise ValueError(f"{name}: answers no question (NotImplementedError{why})")
    n_cells = 300 if name in registry.BY_KEY else None  # a model of one's own: all cells
    for query in [*queries, *more]:
        with contextlib.suppress(NotImplementedError):
            check_leaks(guarded, query, name, n_cells=n_cells, seed=seed)
    return took
