"""The leaderboard: the same questions to every model, and what a model of one's own must answer.

A question is a gene and cells, with the gene's true law in each: held-out cells, cells after do(parent = dose)
inside and beyond the doses of training, after a pair of these, and genes that an intervention doesn't touch.
A model is anything with `fit(adata)` and `predict(adata, gene)`, which returns for each cell a law, draws
(n_cells, n_draws), or a mean (n_cells,).
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import time
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks, dataset, interventional, mechanisms, metrics, networks, perturb, predictors, zinb
from lib.seeds import key, stream

KEYS = [  # of the models, in the order of the table
    "oracle", "oracle_draws", "true_form", "marginal", "no_change",
    "ridge", "ridge_log1p", "neighbours", "zinb_regression", "zinb_regression_log", "zinb_regression_products", "boosting",
    "mean_of_perturbed", "bilinear",
    "mlp", "vae", "vae_copying", "vae_conditional", "scvi", "scgen",
    "dependency_network", "dependency_network_ensemble",
]  # fmt: skip
INTERVENTIONAL = ["mean_of_perturbed", "bilinear"]
SCENARIO = "leaderboard"
SECONDS = ["seconds", "cpu_seconds"]  # of `enter`: measured, and another number at each run


class Question(NamedTuple):
    """One gene in some cells: its true law in each, (n_cells,), and the dose, where one was given."""

    mechanism: str
    gene: str
    split: str
    cells: ad.AnnData
    true: zinb.ZINB
    dose: np.ndarray | None = None


def simulate(n_cells: int, n_genes: int, zero_rate: float, kinds: list[str], n_parents: int = 0, *, seed: int | tuple[int, ...]) -> ad.AnnData:
    """Training cells: independent base genes, and one mechanistic gene of each kind that depends on them.

    n_parents : on so many of them, drawn at random for each kind; 0 for all
    """
    train = dataset.base_genes(n_cells, n_genes, zero_rate, seed=seed)
    base, n_parents = list(train.var_names), checks.integer("n_parents", n_parents, 0, n_genes)
    for kind in kinds:
        places = np.sort(stream(seed, f"parents of {kind}").permutation(n_genes)[: n_parents or n_genes])
        train = dataset.get_mech_dataset(train, kind, parents=[base[i] for i in places], target_zero_prob=zero_rate, seed=seed)
    return train


def questions(
    train: ad.AnnData,
    test: ad.AnnData,
    reference: ad.AnnData,
    *,
    n_doses: int = 30,
    n_pair_doses: int = 5,
    n_off_target: int = 2,
    seed: int | tuple[int, ...],
) -> list[Question]:
    """What is asked about each mechanistic gene of a data set.

    test : held-out cells; reference : cells on which interventions are performed
    n_doses : of the parent with the largest weight (the first, where a mechanism has none), from 0 to twice
        the 99.9th percentile of its counts in `train`; inside are those up to the 99th
    n_pair_doses : of each of that parent and a second one, inside
    n_off_target : base genes that are asked about after do() of a parent of the first mechanistic gene
    """
    seed = key(seed)
    if not dataset.kinds(train):
        raise ValueError("train: has no mechanistic gene to ask about; dataset.get_mech_dataset adds one")
    asked, cells = [], range(reference.n_obs)
    for gene, kind in dataset.kinds(train).items():
        asked.append(Question(kind, gene, "held_out", test, dataset.law(test, gene)[:, 0]))
        try:
            parent = perturb.parent_to_perturb(train, "largest", gene)
        except ValueError:  # a mechanism of one's own may have no weights
            parent = dataset.parents(train)[gene][0]
        values, end = perturb.doses_to_beyond(train, parent, n_doses, percentile=99.9)
        doses = perturb.dose_series(reference, {parent: values}, cells=cells, seed=seed)
        dose = doses.obs[f"dose_{parent}"].to_numpy()
        for split, rows in (("do_inside", dose <= end), ("do_beyond", dose > end)):
            some = doses[rows].copy()
            asked.append(Question(kind, gene, split, some, dataset.law(some, gene)[:, 0], dose[rows]))
        if len(dataset.parents(train)[gene]) > 1:
            second = perturb.second_parent(train, parent, gene)
            tops = {g: perturb.doses_to_beyond(train, g, 2)[1] for g in (parent, second)}
            grid = {g: np.unique(np.round(np.linspace(0, np.floor(top), n_pair_doses))) for g, top in tops.items()}
            pairs = perturb.dose_series(reference, grid, cells=cells[::4], seed=(*seed, 3))
            asked.append(Question(kind, gene, "pairs", pairs, dataset.law(pairs, gene)[:, 0]))
        if gene == next(iter(dataset.kinds(train))):
            some = doses[np.isin(dose, values[values <= end][::2])].copy()
            others = [g for g in train.var_names if g != parent and not train.var.loc[g, "mechanistic"]][:n_off_target]
            asked += [Question("", g, "off_target", some, dataset.law(some, g)[:, 0]) for g in others]
    return asked


def models(
    base: list[str],
    reference: ad.AnnData,
    *,
    beta: float = 1.0,
    n_latent: int = 10,
    max_epochs: int = 100,
    n_steps: int = 1500,
    n_members: int = 3,
    device: str = "auto",
    seed=0,
) -> dict:
    """Every model but the published ones (`lib.peers`), unfitted, by its key. All of them see the genes `base` alone.

    beta : of the model "vae"; n_latent : of all VAEs
    """
    options = {"max_epochs": max_epochs, "patience": 5, "learning_rate": 5e-3}
    common = {"device": device, "seed": seed}

    def dependency_network(seed):
        return networks.DependencyNetwork(base, n_steps=n_steps, device=device, seed=seed)

    made = predictors.baselines(base, seed=seed) | networks.variational(base, beta=beta, n_latent=n_latent, training_options=options, **common)
    made |= {
        "oracle_draws": predictors.Oracle(n_draws=100, seed=seed),
        "no_change": predictors.NoChange(reference),
        "mean_of_perturbed": interventional.MeanOfPerturbed(),
        "bilinear": interventional.Bilinear(smearing=True),
        "mlp": networks.MLP(base, training_options=options, **common),
        "dependency_network": dependency_network(seed),
        "dependency_network_ensemble": networks.Ensemble(dependency_network, n_members, seed),
    }
    return {name: made[name] for name in KEYS if name in made}


def own(name: str, string: str, keys: list[str] | None = None) -> type:
    """The class of a model of one's own from its import string, checked. Raises ValueError in one line.

    keys : of the models that the table has, whose names it can't have; by default those of the leaderboard
    """
    made = mechanisms.imported(name, string)
    for method in ("fit", "predict"):
        if not callable(getattr(made, method, None)):
            raise ValueError(f"{name} = {string!r}: must be a class with the methods fit(adata) and predict(adata, gene)")
    if string.rpartition(":")[2] in (KEYS if keys is None else keys):
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


def answer(model, cells: ad.AnnData, gene: str, name: str = "model") -> zinb.Law:
    """A model's prediction as one law a cell, (n_cells,), checked.

    Draws become their empirical law, a mean the narrowest law of whole counts that has it. Raises ValueError in one line for what is
    neither a law, draws nor a mean of each cell, or has NaN or negative values.
    """
    predicted = model.predict(cells.copy(), gene)  # some change in place what they are given
    if isinstance(predicted, zinb.Empirical):
        predicted = predicted.draws
    if isinstance(predicted, zinb.Law):
        law = predicted
        for part in (law.components if isinstance(law, zinb.Mixture) else law,):
            if isinstance(part, zinb.ZINB) and any(np.isnan(p).any() for p in (part.mu, part.theta, part.pi)):
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
        law = zinb.Empirical(values if values.ndim == 2 else _around(values))
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


def enter(model, train: ad.AnnData, asked: list[Question], name: str = "model", *, test: ad.AnnData | None = None, seed: int | tuple[int, ...] = 0) -> tuple[float, float]:
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


def score(fitted: dict[str, object], asked: list[Question]) -> pd.DataFrame:
    """Scores of fitted models, "marginal" among them, on every question: model, metric, value and the question's keys.

    Laws are scored by KL and CRPS, draws and means by CRPS and the mean alone. A model that has no answer to a question,
    which it says by `NotImplementedError`, has no row there.
    """
    frames = []
    for question in asked:
        laws = {}
        for name, model in fitted.items():
            try:
                laws[name] = answer(model, question.cells, question.gene, name)
            except NotImplementedError:
                continue
        keys = {"mechanism": question.mechanism, "gene": question.gene, "split": question.split}
        frame = metrics.score(question.true, laws)
        if question.split == "off_target":
            frame = frame.query("metric in ['kl_nats', 'excess_crps']").replace({"metric": {"kl_nats": "off_target_kl", "excess_crps": "off_target_crps"}})
        frames.append(frame.assign(**keys))
        if question.dose is not None:
            slopes = {name: metrics.slope_ratio(question.dose, law.mean, question.true.mean) for name, law in laws.items()}
            frames.append(pd.DataFrame({"model": slopes.keys(), "metric": "slope_ratio", "value": slopes.values(), **keys}))
    joined = pd.concat(frames, ignore_index=True)
    off_target = joined["split"] == "off_target"
    mean = joined[off_target].groupby(["model", "metric", "mechanism", "split"], sort=False, as_index=False)["value"].mean()
    return pd.concat([joined[~off_target], mean.assign(gene="")], ignore_index=True)[["model", "metric", "value", "mechanism", "gene", "split"]]


def marginal_laws(fitted: dict[str, object], test: ad.AnnData, genes: list[str]) -> pd.DataFrame:
    """Squared error of mu of `genes`, a mean over them and over cells, for each model that predicts it."""
    truth, rows = dataset.law(test, genes), []
    for name, model in fitted.items():
        try:
            laws = [answer(model, test, gene, name) for gene in genes]
        except NotImplementedError:
            continue
        if not all(isinstance(law, zinb.ZINB | zinb.Mixture) for law in laws):
            continue
        errors = [((law.parameters().mu - truth[:, i].mu) ** 2).mean() for i, law in enumerate(laws)]
        rows.append({"model": name, "metric": "mse_mu", "value": np.mean(errors), "mechanism": "", "gene": "", "split": "base_genes"})
    return pd.DataFrame(rows)


def interventional_data(train: ad.AnnData, asked: list[Question], *, seed: int | tuple[int, ...]) -> ad.AnnData | None:
    """A screen of as many cells as `train`: controls, and an arm for each base gene but those whose doses are asked about.

    Returns None where this leaves fewer than two genes.
    """
    held_out = {g.removeprefix("dose_") for q in asked if q.dose is not None for g in q.cells.obs if g.startswith("dose_")}
    genes = [g for g in train.var_names if not train.var.loc[g, "mechanistic"] and g not in held_out]
    if len(genes) < 2:
        return None
    return interventional.arms(train, genes, n_cells=max(2, train.n_obs // (len(genes) + 1)), seed=seed)


def known(path: str | Path, marginal: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table that was written before, if its questions were the same ones: if its marginal's rows are these, all to 1 %, which
    leaves room for another end of its fit and for no other cells.

    marginal : rows of `metrics.table` of the marginal's scores. Returns an empty table where there is none, or one of other
        questions; rows of seconds too, which 05_leaderboard.csv has in 05_seconds.csv beside it
    """
    path = Path(path)
    if not path.is_file():
        return marginal.iloc[:0]
    beside = path.with_name("05_seconds.csv")
    paths = [path, beside] if path.name == "05_leaderboard.csv" and beside.is_file() else [path]
    table = pd.concat([metrics.read(p) for p in paths], ignore_index=True)
    table = table[(table["scenario"] != SCENARIO) | table["replicate"].isin(marginal["replicate"].astype(table["replicate"].dtype))]
    theirs = table[(table["model"] == "marginal") & (table["scenario"] == SCENARIO) & ~table["metric"].isin(SECONDS)]
    keys = [k for k in metrics.KEYS if k != "model"]
    both = marginal.astype({"replicate": int}).merge(theirs.astype({"replicate": int}), on=keys, suffixes=("", "_known"))
    same = len(both) == len(marginal) == len(theirs) and np.allclose(both["value"], both["value_known"], rtol=1e-2, atol=1e-8, equal_nan=True)
    return table if same else table.iloc[:0]


def join(table: pd.DataFrame, more: pd.DataFrame, fitted: list[str]) -> pd.DataFrame:
    """The rows of `table`, and those of `more` but what it has of this leaderboard's questions to models just `fitted`; each once."""
    more = more[(more["scenario"] != SCENARIO) | ~more["model"].isin(fitted)]
    return pd.concat([table, more], ignore_index=True).drop_duplicates(metrics.KEYS, ignore_index=True)


def cell_eval(path: str | Path) -> dict[str, pd.Series]:
    """Model -> means of cell-eval's scores, and of the exact `skill_kl` in the same cells; empty where there is no such table."""
    if not Path(path).is_file():
        return {}
    table = metrics.read(path)
    return dict(iter(table.pivot_table(index="model", columns="metric", values="value", sort=False).iterrows()))
