"""One row a model: what it is called, how it is drawn, how it is made, and what it answers.

Tables, figures and notebooks list no models: they filter these rows. A model is entered by one row.
"""

import inspect
from typing import NamedTuple

from lib import checks

CONDITIONAL, DRUG = "conditional", "drug"  # tasks
OWN = "#00A000"  # colour of a model without a row


class Made(NamedTuple):
    """How a model is made for a task.

    string: import string of a class or function, which is given what it takes of the setting
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

    made: task -> how it is made, for each task that it answers
    sets: lists that it is on, explained in `SETS`
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
    "peers": "a published model, fitted in an environment of its own: ./run_all.sh peers",
    "saved": "has weights, which notebook 02 leaves to 03",
    "generative": "has the laws of all genes, and is asked for those of the base genes",
    "compared": "stands in the panels of notebooks 02 to 04 beside the references",
    "curves": "stands in the dose-response curves of notebook 03",
    "scatter": "stands in the scatter plots of notebook 02, which has room for four",
    "dispersion": "stands in the panel of a mechanistic dispersion",
    "readme": "stands in the table of the README",
    "picked": "stands in the panel of notebook 05 that picks out few",
    "judged": "is scored by cell-eval as well",
}
NO_LAW = "predicts means or draws, no law: no KL"
NOT_RUN = "not run with these questions: ./run_all.sh peers"
DRUGS_ALONE = (
    "predicts treated cells: asked about the drugs of notebook 04 alone, in the table below"
)


def _cells(string, told=False, trains_on="cells", **options):
    return {CONDITIONAL: Made(string, options, trains_on, told)}


def _drug(string, told=False, **options):
    return {DRUG: Made(string, options, told=told)}


_ORACLE, _VAE, _ZINB = (
    "lib.predict.references:Oracle",
    "lib.predict.neural:VAE",
    "lib.predict.regressions:ZINBRegression",
)
_NO_CHANGE = _cells("lib.predict.references:NoChange", told=True) | _drug(
    "lib.predict.drug:NoChange"
)
_UNTRAINED = {"training_options": None}  # those of the setting are the VAEs' and the MLP's
_BASIC = "basic leaderboard compared"
ROWS = [
    Row("oracle", "oracle", "black", _cells(_ORACLE, told=True) | _drug(_ORACLE, told=True), "basic leaderboard drug judged"),
    Row("oracle_draws", "oracle, 100 draws", "#7F7F7F", _cells(_ORACLE, told=True, n_draws=100), "leaderboard", NO_LAW),
    Row("true_form", "true form, fitted", "#4D4D4D", _cells("lib.predict.references:TrueForm", told=True), "leaderboard picked"),
    Row("marginal", "marginal", "#999999", _cells("lib.predict.references:Marginal"), "basic leaderboard generative judged readme"),
    Row("no_change", "no change", "#666666", _NO_CHANGE, "leaderboard drug compared"),
    Row("mean_shift", "mean shift", "#A96B59", _drug("lib.predict.drug:MeanShift"), "drug compared"),
    Row("fold_change", "fold change", "#832DB6", _drug("lib.predict.drug:FoldChange"), "drug compared"),
    Row("ridge", "ridge", "#8C6D31", _cells("lib.predict.regressions:ridge"), _BASIC),
    Row("ridge_log1p", "ridge, log1p", "#C9A66B", _cells("lib.predict.regressions:ridge_log1p"), "leaderboard"),
    Row("neighbours", "neighbours", "#332288", _cells("lib.predict.regressions:neighbours"), _BASIC),
    Row("zinb_regression", "ZINB regression", "#009E73", _cells(_ZINB), f"{_BASIC} curves scatter dispersion judged readme"),
    Row("zinb_regression_log", "ZINB regression, log", "#66C2A5", _cells(_ZINB, link="log"), "leaderboard"),
    Row("zinb_regression_products", "ZINB regression, products", "#00735C", _cells(_ZINB, order=2), "leaderboard picked"),
    Row("boosting", "boosting", "#E69F00", _cells("lib.predict.regressions:boosting"), f"{_BASIC} scatter picked judged readme"),
    Row("mean_of_perturbed", "mean of perturbed", "#BDBDBD", _cells("lib.predict.screen:MeanOfPerturbed", trains_on="arms"), "leaderboard"),
    Row("bilinear", "bilinear", "#6A51A3", _cells("lib.predict.screen:Bilinear", trains_on="arms", smearing=True), "leaderboard", NO_LAW),
    Row("mlp", "MLP", "#A65628", _cells("lib.predict.neural:MLP"), "leaderboard generative picked readme"),
    Row("vae", "VAE", "#0072B2", _cells(_VAE) | _drug("lib.predict.drug:LatentArithmetic"), f"{_BASIC} saved drug generative curves scatter picked readme"),
    Row("vae_copying", "VAE, copying", "#56B4E9", _cells(_VAE, beta=0.02), f"{_BASIC} saved generative"),
    Row("vae_conditional", "VAE, conditional", "#D55E00", _cells(_VAE, beta=1.0, target="hidden"), f"{_BASIC} saved generative curves scatter dispersion picked judged readme"),
    Row("vae_leaky", "VAE, leaky", "#CC79A7", _cells(_VAE, beta=0.02, leaky=True), "leaky"),
    Row("scvi", "scVI", "#17A2B8", _cells("peers.scvi:ScVI", n_steps=10, **_UNTRAINED), "peers picked readme", NOT_RUN),
    Row("scgen", "scGen", "#1B7837", _drug("peers.scgen:ScGen", **_UNTRAINED), "peers", DRUGS_ALONE),
    Row("dependency_network", "dependency network", "#D0006F", _cells("lib.predict.neural:DependencyNetworks", **_UNTRAINED), "leaderboard generative picked judged readme"),
    Row("dependency_network_ensemble", "dependency network, ensemble", "#7A0045", _cells("lib.predict.neural:dependency_ensemble"), "leaderboard generative"),
    Row("maximum_likelihood", "maximum likelihood", "#009E73", {}, "drug compared"),
]  # fmt: skip
BY_KEY = {row.key: row for row in ROWS}
_PLACES = {key: place for place, key in enumerate(BY_KEY)}


def rows(*sets: str, task: str = "", trains_on: str = "") -> list[Row]:
    """The rows that are on all of these lists, answer a task, and are fitted to "cells" or "arms", in the order of the tables."""
    found = [
        row for row in ROWS if {*sets} <= {*row.sets.split()} and (not task or task in row.made)
    ]
    return [
        row
        for row in found
        if not trains_on or any(made.trains_on == trains_on for made in row.made.values())
    ]


def keys(*sets: str, task: str = "", trains_on: str = "") -> list[str]:
    """The keys of `rows`."""
    return [row.key for row in rows(*sets, task=task, trains_on=trains_on)]


def order(keys) -> list[str]:
    """Keys in the order of the tables, those without a row at the end, by name."""
    return sorted(keys, key=lambda key: (_PLACES.get(key, len(ROWS)), key))


def in_order(column):
    """Places of a Series of keys, for `sort_values(key=...)`."""
    return column.map(lambda key: _PLACES.get(key, len(ROWS)))


def make(made: Made, **setting):
    """A model, unfitted: its class or function is given what it takes of the setting (`inputs`, `seed`, `device`, ...).

    `reference`, cells with their truth, is given only to those that are told it.
    """
    function = checks.imported("model", made.string)
    taken = inspect.signature(function).parameters
    given = {
        name: value
        for name, value in setting.items()
        if name in taken and (made.told or name != "reference")
    }
    return function(**given | made.options)
