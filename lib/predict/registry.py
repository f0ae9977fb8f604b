"""One row a model: its name, how it is drawn, how it is made, and what it answers.

Tables, figures and notebooks list no models: they filter these rows. A new model needs one row.
"""

import inspect
from typing import NamedTuple

from lib import checks

CONDITIONAL, DRUG, SCREEN = "conditional", "drug", "screen"  # tasks
OWN = "#00A000"  # colour of a model without a row


class Made(NamedTuple):
    """How a model is made for a task.

    string: import string of a class or function; it is given what it takes of the setting
    options: arguments that it is given always
    trains_on: "cells", or "arms" of perturbed cells
    told: whether it is shown the truth; then it isn't checked for leaks
    prior: what a model of screens is told of the network, as `tasks.screen.Task.train` takes it
    """

    string: str
    options: dict = {}
    trains_on: str = "cells"
    told: bool = False
    prior: str = "none"


class Row(NamedTuple):
    """A model.

    key: name in tables
    label: name in figures
    colour: colour in figures
    made: task -> how it is made, for each task that it answers
    sets: names of the lists that it is on, explained in `SETS`
    note: text in its row where it has no score
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
    "scatter": "stands in the scatter plots of notebook 02, which have room for four",
    "dispersion": "stands in the panel of a mechanistic dispersion",
    "readme": "stands in the table of the README",
    "picked": "stands in the panel of notebook 05 that picks out few",
    "judged": "is scored by cell-eval as well",
    "screen": "asked in notebook 07_screen",
    "reference": "is told what no model could know",
    "mechanistic": "carries knockdowns through a network of genes",
    "fidelity": "stands in the panel of Figure 11 over the prior's fidelity",
    "arms": "stands in the other panels of Figure 11",
    "beside": "stands beside published models of screens in Figure 11",
    "court": "stands before the metrics of notebook 08, where not all models do",
    "published": "a published model of screens, from files: ./run_all.sh peers NAME",
}
NO_LAW = "predicts means or draws, no law: no KL"
NOT_RUN = "published, and not run with these questions"
DRUGS_ALONE = (
    "predicts treated cells: asked about the drugs of notebook 04 alone, in the table below"
)


def _cells(name, told=False, trains_on="cells", **options):
    return {CONDITIONAL: Made(f"lib.predict.{name}", options, trains_on, told)}


def _screen(name, prior="none", told=False, **options):
    return {SCREEN: Made(f"lib.predict.{name}", options, "arms", told, prior)}


def _drug(name, told=False, **options):
    return {DRUG: Made(f"lib.predict.{name}", options, told=told)}


_NO_OPTIONS = {"training_options": None}  # where the setting's are for the VAEs and the MLP
_SCVI = {CONDITIONAL: Made("peers.scvi:ScVI", {"n_steps": 10, **_NO_OPTIONS})}
_SCGEN = {DRUG: Made("peers.scgen:ScGen", _NO_OPTIONS)}
_ORACLE = {
    **_cells("references:Oracle", told=True),
    **_drug("references:Oracle", told=True),
    **_screen("arms.references:Oracle", told=True),
}
_NO_CHANGE = {
    **_cells("references:NoChange", told=True),
    **_drug("drug:NoChange"),
    **_screen("arms.baselines:NoChange"),
}
_NETWORK = "regulatory.network:RegulatoryNetwork"
_NEIGHBOURS = _cells("regressions:neighbours") | _screen("arms.regressions:Neighbours", "graph")
_BILINEAR = {
    **_cells("screen:Bilinear", trains_on="arms", smearing=True),
    **_screen("arms.regressions:Bilinear"),
}
_MLP = _cells("neural:MLP") | _screen("arms.perceptron:Perceptron", "graph")
_VAES = {
    **_cells("neural:VAE"),
    **_drug("drug:LatentArithmetic"),
    **_screen("arms.networks:LatentArithmetic"),
}
_ZINB = "regressions:ZINBRegression"
_BASIC = "basic leaderboard compared"
ROWS = [
    Row("oracle", "oracle", "black", _ORACLE,
        "basic leaderboard drug judged screen reference"),
    Row("oracle_draws", "oracle, 100 draws", "#7F7F7F",
        _cells("references:Oracle", told=True, n_draws=100), "leaderboard", NO_LAW),
    Row("true_form", "true form, fitted", "#4D4D4D", _cells("references:TrueForm", told=True),
        "leaderboard picked"),
    Row("marginal", "marginal", "#999999", _cells("references:Marginal"),
        "basic leaderboard generative judged"),
    Row("no_change", "no change", "#666666", _NO_CHANGE,
        "leaderboard drug compared screen beside arms"),
    Row("mean_shift", "mean shift", "#A96B59", _drug("drug:MeanShift"),
        "drug compared"),
    Row("fold_change", "fold change", "#832DB6", _drug("drug:FoldChange"),
        "drug compared"),
    Row("ridge", "ridge", "#8C6D31", _cells("regressions:ridge"),
        _BASIC),
    Row("ridge_log1p", "ridge, log1p", "#C9A66B", _cells("regressions:ridge_log1p"),
        "leaderboard"),
    Row("neighbours", "neighbours", "#332288", _NEIGHBOURS,
        f"{_BASIC} screen fidelity court"),
    Row("zinb_regression", "ZINB regression", "#009E73", _cells(_ZINB),
        f"{_BASIC} curves scatter dispersion judged"),
    Row("zinb_regression_log", "ZINB regression, log", "#66C2A5", _cells(_ZINB, link="log"),
        "leaderboard"),
    Row("zinb_regression_products", "ZINB regression, products", "#00735C", _cells(_ZINB, order=2),
        "leaderboard picked"),
    Row("boosting", "boosting", "#E69F00", _cells("regressions:boosting"),
        f"{_BASIC} scatter picked judged"),
    Row("mean_of_perturbed", "mean of perturbed", "#BDBDBD",
        _cells("screen:MeanOfPerturbed", trains_on="arms"), "leaderboard"),
    Row("bilinear", "bilinear", "#6A51A3", _BILINEAR,
        "leaderboard screen readme arms court", NO_LAW),
    Row("mlp", "MLP", "#A65628", _MLP,
        "leaderboard generative picked screen readme fidelity court"),
    Row("vae", "VAE", "#0072B2", _VAES,
        f"{_BASIC} saved drug generative curves scatter picked screen"),
    Row("vae_copying", "VAE, copying", "#56B4E9", _cells("neural:VAE", beta=0.02),
        f"{_BASIC} saved generative"),
    Row("vae_conditional", "VAE, conditional", "#D55E00",
        _cells("neural:VAE", beta=1.0, target="hidden"),
        f"{_BASIC} saved generative curves scatter dispersion picked judged"),
    Row("vae_leaky", "VAE, leaky", "#CC79A7", _cells("neural:VAE", beta=0.02, leaky=True),
        "leaky"),
    Row("scvi", "scVI", "#17A2B8", _SCVI,
        "peers picked", NOT_RUN),
    Row("scgen", "scGen", "#1B7837", _SCGEN,
        "peers", DRUGS_ALONE),
    Row("dependency_network", "dependency network", "#D0006F",
        _cells("neural:DependencyNetworks", **_NO_OPTIONS),
        "leaderboard generative picked judged"),
    Row("dependency_network_ensemble", "dependency network, ensemble", "#7A0045",
        _cells("neural:dependency_ensemble"),
        "leaderboard generative"),
    Row("maximum_likelihood", "maximum likelihood", "#009E73", {},
        "drug compared"),
    Row("perturbed_mean", "perturbed mean", "#999933", _screen("arms.baselines:PerturbedMean"),
        "screen beside"),
    Row("perturbed_mean_log1p", "perturbed mean, log1p", "#BCBD22",
        _screen("arms.regressions:MeanOfLogs"), "screen"),
    Row("perturbed_mean_systema", "perturbed mean, Systema", "#6B8E23",
        _screen("arms.regressions:MeanOfLogs", own=True), "screen"),
    Row("additive", "additive", "#88CCEE", _screen("arms.baselines:Additive"), "screen"),
    Row("additive_shrunken", "additive, shrunken", "#44AA99",
        _screen("arms.baselines:ShrunkenAdditive"), "screen beside readme arms"),
    Row("bilinear_prior", "bilinear, prior", "#AA4499",
        _screen("arms.regressions:Bilinear", "graph", embedding="prior"), "screen beside fidelity"),
    Row("conditional_vae", "conditional VAE", "#117733",
        _screen("arms.networks:ConditionalVAE", "graph"), "screen beside readme arms"),
    Row("grn_controls", "GRN, controls alone", "#FDB863",
        _screen(_NETWORK, graph="none", arms=False), "screen arms mechanistic"),
    Row("grn_unnamed", "GRN, regulators unnamed", "#E6550D",
        _screen(_NETWORK, "unnamed", graph="none"), "screen mechanistic"),
    Row("grn", "GRN, learned", "#D0006F",
        _screen(_NETWORK, graph="none"), "screen beside readme fidelity arms mechanistic court"),
    Row("grn_prior", "GRN, prior graph", "#882255",
        _screen(_NETWORK, "graph", graph="soft"), "screen beside readme fidelity arms mechanistic"),
    Row("grn_directed", "GRN, directed prior", "#661100",
        _screen(_NETWORK, "directed", graph="soft"), "screen fidelity mechanistic"),
    Row("grn_true", "GRN, true graph", "#7F7F7F",
        _screen(_NETWORK, "true", graph="trusted"),
        "screen beside readme fidelity arms reference mechanistic court"),
    Row("biolord", "biolord", "#0B7A75", {}, "published"),
    Row("gears", "GEARS", "#7B2D26", {}, "published"),
    Row("scouter", "Scouter", "#3D5A80", {}, "published"),
    Row("cpa", "CPA", "#C17C00", {}, "published"),
    Row("state", "STATE, small", "#6B4E71", {}, "published"),
    Row("expected", "true mechanism, arm unseen", "#333333",
        _screen("arms.references:Expected", told=True), "screen readme reference"),
    Row("exact_means", "exact means, helper's law", "#595959",
        _screen("arms.references:ExactMeans", told=True), "screen beside arms reference"),
    *[Row(f"duplicate_{n}", f"duplicate, {n} cells", "#8C8C8C",
          _screen("arms.references:Duplicate", told=True, n_cells=n), "screen reference")
      for n in (25, 100, 400)],
]  # fmt: skip
BY_KEY = {row.key: row for row in ROWS}
_PLACES = {key: place for place, key in enumerate(BY_KEY)}


def rows(*sets: str, task: str = "", trains_on: str = "") -> list[Row]:
    """Rows that are on all of these lists, in the order of the tables.

    task: only models that answer it
    trains_on: only models that are fitted to these, "cells" or "arms"
    """
    found = [row for row in ROWS if {*sets} <= {*row.sets.split()}]
    if task:
        found = [row for row in found if task in row.made]
    if trains_on:
        found = [
            row
            for row in found
            if trains_on in {how.trains_on for name, how in row.made.items() if task in ("", name)}
        ]
    return found


def keys(*sets: str, task: str = "", trains_on: str = "") -> list[str]:
    """The keys of `rows`."""
    return [row.key for row in rows(*sets, task=task, trains_on=trains_on)]


def order(keys) -> list[str]:
    """Keys in the order of the tables; at the end, by name, the keys without a row."""
    return sorted(keys, key=lambda key: (_PLACES.get(key, len(ROWS)), key))


def in_order(column):
    """Places of a Series of keys, for `sort_values(key=...)`."""
    return column.map(lambda key: _PLACES.get(key, len(ROWS)))


def make(made: Made, **setting):
    """An unfitted model.

    setting: arguments (inputs, seed, device, ...), of which it is given what it takes. `reference`,
        cells with their truth, is given only to a model that is told the truth
    """
    if not made.told:
        setting.pop("reference", None)
    function = checks.imported("model", made.string)
    taken = inspect.signature(function).parameters
    given = {name: value for name, value in setting.items() if name in taken}
    return function(**given | made.options)
