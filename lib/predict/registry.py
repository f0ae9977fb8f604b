"""One row a model: what it is called, how it is drawn, how it is made, and what it answers.

Tables, figures and notebooks list no models: they filter these rows. A model is entered by one row.
"""

from __future__ import annotations

import inspect
from typing import NamedTuple

from lib import checks

CONDITIONAL, DRUG = "conditional", "drug"  # tasks
OWN = "#00A000"  # colour of a model without a row


class Made(NamedTuple):
    """How a model is made for a task.

    string: import string of a class or function. It is given what it takes of the setting
    options: given always
    trains_on: "cells", or "arms" of perturbed cells
    told: is shown the truth, and judged by no check of leaks
    """

    string: str
    options: dict = {}
    trains_on: str = "cells"
    told: bool = False


class Row(NamedTuple):
    """A model.

    key, label, colour: its name in tables, its name and its colour in figures
    made: task -> how it is made, for each task that it answers
    sets: lists that it is on, named in `SETS`
    note: what stands in its row where it has no score
    """

    key: str
    label: str
    colour: str
    made: dict[str, Made]
    sets: str
    note: str = ""


SETS = {
    "basic": "asked in notebooks 02 and 03",
    "leaky": "asked in notebook 02, to show what a leak is worth",
    "leaderboard": "asked in notebook 05",
    "drug": "asked in notebook 04",
    "generative": "has the laws of all genes, and is asked for those of the base genes",
    "compared": "stands in the panels of notebooks 02 to 04 beside the references",
    "curves": "stands in the dose-response curves of notebook 03",
    "scatter": "stands in the scatter plots of notebook 02, which has room for four",
    "dispersion": "stands in the panel of a mechanistic dispersion",
    "picked": "stands in the panel of notebook 05 that picks out few",
    "judged": "is scored by cell-eval as well",
    "peers": "is a published model, fitted in an environment of its own: ./run_all.sh peers",
}
NO_LAW = "predicts means or draws, no law: no KL"
_BASIC = "basic leaderboard compared"


def _of_cells(string, told=False, **options):
    return {CONDITIONAL: Made(string, options, told=told)}


def _of_arms(string, **options):
    return {CONDITIONAL: Made(string, options, trains_on="arms")}


def _of_drugs(string, told=False, **options):
    return {DRUG: Made(string, options, told=told)}


_ORACLE = "lib.predict.references:Oracle"
_VAE = "lib.predict.neural:VAE"
_UNTRAINED = {"training_options": None}  # has its own
ROWS = [
    Row("oracle", "oracle", "black",
        _of_cells(_ORACLE, told=True) | _of_drugs(_ORACLE, told=True), "basic leaderboard drug judged"),
    Row("oracle_draws", "oracle, 100 draws", "#7F7F7F",
        _of_cells(_ORACLE, told=True, n_draws=100), "leaderboard", NO_LAW),
    Row("true_form", "true form, fitted", "#4D4D4D",
        _of_cells("lib.predict.references:TrueForm", told=True), "leaderboard picked"),
    Row("marginal", "marginal", "#999999",
        _of_cells("lib.predict.references:Marginal"), "basic leaderboard generative judged"),
    Row("no_change", "no change", "#666666",
        _of_cells("lib.predict.references:NoChange", told=True) | _of_drugs("lib.predict.drug:NoChange"), "leaderboard drug compared"),
    Row("mean_shift", "mean shift", "#A96B59", _of_drugs("lib.predict.drug:MeanShift"), "drug compared"),
    Row("fold_change", "fold change", "#832DB6", _of_drugs("lib.predict.drug:FoldChange"), "drug compared"),
    Row("ridge", "ridge", "#8C6D31", _of_cells("lib.predict.regressions:ridge"), _BASIC),
    Row("ridge_log1p", "ridge, log1p", "#C9A66B", _of_cells("lib.predict.regressions:ridge_log1p"), "leaderboard"),
    Row("neighbours", "neighbours", "#332288", _of_cells("lib.predict.regressions:neighbours"), _BASIC),
    Row("zinb_regression", "ZINB regression", "#009E73",
        _of_cells("lib.predict.regressions:ZINBRegression"), f"{_BASIC} curves scatter dispersion judged"),
    Row("zinb_regression_log", "ZINB regression, log", "#66C2A5",
        _of_cells("lib.predict.regressions:ZINBRegression", link="log"), "leaderboard"),
    Row("zinb_regression_products", "ZINB regression, products", "#00735C",
        _of_cells("lib.predict.regressions:ZINBRegression", order=2), "leaderboard picked"),
    Row("boosting", "boosting", "#E69F00", _of_cells("lib.predict.regressions:boosting"), f"{_BASIC} scatter picked judged"),
    Row("mean_of_perturbed", "mean of perturbed", "#BDBDBD",
        _of_arms("lib.predict.screen:MeanOfPerturbed"), "leaderboard"),
    Row("bilinear", "bilinear", "#6A51A3",
        _of_arms("lib.predict.screen:Bilinear", smearing=True), "leaderboard", NO_LAW),
    Row("mlp", "MLP", "#A65628", _of_cells("lib.predict.neural:MLP"), "leaderboard generative picked"),
    Row("vae", "VAE", "#0072B2",
        _of_cells(_VAE) | _of_drugs("lib.predict.drug:LatentArithmetic"), f"{_BASIC} drug generative curves scatter picked"),
    Row("vae_copying", "VAE, copying", "#56B4E9", _of_cells(_VAE, beta=0.02), f"{_BASIC} generative"),
    Row("vae_conditional", "VAE, conditional", "#D55E00",
        _of_cells(_VAE, beta=1.0, target="hidden"), f"{_BASIC} generative curves scatter dispersion picked judged"),
    Row("vae_leaky", "VAE, leaky", "#CC79A7", _of_cells(_VAE, beta=0.02, leaky=True), "leaky"),
    Row("scvi", "scVI", "#17A2B8",
        {CONDITIONAL: Made("peers.scvi:ScVI", _UNTRAINED | {"n_steps": 10})}, "peers picked",  # of its own kind
        "not run with these questions: ./run_all.sh peers"),
    Row("scgen", "scGen", "#1B7837",
        {DRUG: Made("peers.scgen:ScGen", _UNTRAINED)}, "peers",
        "predicts treated cells: asked about the drugs of notebook 04 alone, in the table below"),
    Row("dependency_network", "dependency network", "#D0006F",
        _of_cells("lib.predict.neural:DependencyNetworks", **_UNTRAINED), "leaderboard generative picked judged"),
    Row("dependency_network_ensemble", "dependency network, ensemble", "#7A0045",
        _of_cells("lib.predict.neural:dependency_ensemble"), "leaderboard generative"),
    Row("maximum_likelihood", "maximum likelihood", "#009E73", {}, "drug compared"),
]  # fmt: skip
BY_KEY = {row.key: row for row in ROWS}
_PLACES = {key: place for place, key in enumerate(BY_KEY)}


def rows(*sets: str, task: str = "", trains_on: str = "") -> list[Row]:
    """The rows that are on all of these lists, in the order of the tables.

    task: that they must answer, by default any
    trains_on: what they must be fitted to in some task, by default anything
    """
    return [
        row
        for row in ROWS
        if {*sets} <= {*row.sets.split()}
        and (not task or task in row.made)
        and (not trains_on or trains_on in [made.trains_on for made in row.made.values()])
    ]


def keys(*sets: str, task: str = "", trains_on: str = "") -> list[str]:
    """The keys of `rows`."""
    return [row.key for row in rows(*sets, task=task, trains_on=trains_on)]


def order(keys) -> list[str]:
    """Keys in the order of the tables, those without a row at the end."""
    return sorted(keys, key=lambda key: _PLACES.get(key, len(ROWS)))


def in_order(column):
    """Places of a Series of keys, for `sort_values(key=...)`."""
    return column.map(lambda key: _PLACES.get(key, len(ROWS)))


def make(made: Made, **setting):
    """A model, unfitted: its class or function is given what it takes of the setting.

    setting: `inputs`, `reference`, `seed`, `device`, `training_options`, `n_steps` and the like
    """
    function = checks.imported("model", made.string)
    taken = inspect.signature(function).parameters
    return function(**{name: value for name, value in (setting | made.options).items() if name in taken})
