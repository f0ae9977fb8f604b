"""Figure 10: a screen of a gene regulatory network, from the network to counts, and how real."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection

from lib.show import panels, style

MOSAIC = [list("aaaaaa"), list("bbccdd"), list("eeefgg")]
UNREACHED = "0.85"
SHIFTED = "#0072B2", "#D55E00"  # without a shift, and with one
MEASURES = {
    "gene_mean": "mean of genes",
    "mean_variance": "variance given the mean",
    "mean_zeros": "zeros given the mean",
    "library_size": "library size",
    "gene_correlation": "gene-gene correlations",
    "gene_pairs": "correlations, pair by pair",
    "cell_correlation": "cell-cell correlations",
    "components": "principal components",
}
FIRST = "real half", "network"
ARMS = {"control": "control", "as_intended": "perturbed, as intended", "as_labelled": "as labelled"}


def figure(summary: pd.DataFrame, example) -> plt.Figure:
    """One arm from the network to counts, what arms do, and how real simulated cells are.

    summary: means over replicates, from `tables.summary`
    example: the arm of panels a to d, a `tasks.network.Example`
    """
    fig, axes = style.figure(MOSAIC, 183, 175, height_ratios=[1.35, 1, 1])
    network(axes["a"], example)
    molecules(axes["b"], example)
    laws(axes["c"], example)
    folds(axes["d"], example)
    of_real = summary[summary["scenario"] == "realism"]
    realism(axes["e"], of_real)
    forest(axes["f"], of_real)
    effects(axes["g"], summary)
    return fig


def network(ax, example) -> None:
    """Genes by generation, those that the knockdown reaches in the colour of their change."""
    at = _layout(example.nodes)
    carried = example.edges["carried"].to_numpy()
    of_regulators = example.nodes["regulator"][example.edges["target"]].to_numpy()
    for some, look in (
        (~carried & of_regulators, {"colors": "0.9", "linewidths": 0.25, "zorder": 0}),
        (carried, {"colors": "0.5", "linewidths": 0.2, "alpha": 0.35, "zorder": 1}),
    ):
        edges = example.edges[some]
        ends = np.stack([at.loc[edges["regulator"]], at.loc[edges["target"]]], axis=1)
        ax.add_collection(LineCollection(ends, **look))
    size = np.where(example.nodes["regulator"], 9, 3)
    reached = example.nodes["reached"].to_numpy()
    look = {"lw": 0}
    ax.scatter(*at[~reached].to_numpy().T, s=size[~reached], c=UNREACHED, zorder=2, **look)
    change = example.nodes["log_fold_change"][reached]
    limit = np.nanquantile(np.abs(change), 0.95)
    colours = {"c": change, "cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    look = {"lw": 0.2, "edgecolors": "0.3"}
    shown = ax.scatter(*at[reached].to_numpy().T, s=size[reached], zorder=3, **colours, **look)
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.7, pad=0.01, aspect=15, extend="both")
    bar.set_label("exact log fold change")
    bar.outline.set_visible(False)
    x, y = at.loc[example.perturbation]
    ax.annotate(
        f"{example.perturbation}, knocked down",
        (x, y),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=style.SMALL,
    )
    for depth in range(int(example.nodes["depth"].max())):
        ax.text(-0.015, -depth, f"{depth}", ha="right", va="center", color="0.5")
    ax.text(-0.015, at["y"].min() + 0.35, "other\ngenes", ha="right", va="center", color="0.5")
    ax.text(-0.015, 0.45, "regulators", ha="right", va="center", color="0.5")
    ax.set(xlim=(-0.06, 1.01), ylim=(at["y"].min() - 0.2, 0.6))
    ax.axis("off")


def _layout(nodes):
    """Places of the genes: regulators by depth, the others below, in the order of modules."""
    is_regulator = nodes["regulator"].to_numpy()
    y = -nodes["depth"].to_numpy(dtype=float)
    lowest = y[is_regulator].min() - 1.0
    y[~is_regulator] = lowest
    x = np.empty(len(nodes))
    order = nodes["module"].rank(method="first").to_numpy()
    for row in np.unique(y):
        here = np.flatnonzero(y == row)
        here = here[np.argsort(order[here])]
        x[here] = (np.arange(len(here)) + 0.5) / len(here)
    others = np.flatnonzero(~is_regulator)
    y[others] -= 0.25 * (np.argsort(np.argsort(x[others])) % 4)
    return pd.DataFrame({"x": x, "y": y}, index=nodes.index)


def molecules(ax, example) -> None:
    """Molecules of the perturbed regulator in a cell against what is counted of them."""
    rng = np.random.default_rng(0)
    for arm, name in (("control", "control"), (example.perturbation, "treated")):
        cells = example.molecules[example.molecules["arm"] == arm]
        cells = cells.iloc[:400]
        jitter = rng.uniform(-0.3, 0.3, len(cells))
        look = {"color": style.COLOURS[name], "ms": 1.5, "mec": "none", "alpha": 0.6}
        label = "control" if arm == "control" else "knockdown"
        ax.plot(cells["molecules"], cells["counts"] + jitter, "o", label=label, **look)
    end = example.molecules["molecules"].quantile(0.995)
    top = 1.05 * example.molecules["counts"].quantile(0.998) + 3
    ax.plot([0, end], [0, end], color="0.6", lw=0.6, ls="--")
    at_line = 0.9 * min(end, top)
    ax.text(at_line + 0.02 * end, at_line, "all counted", color="0.5", fontsize=style.SMALL)
    ax.set(xlabel=f"molecules of {example.perturbation}", ylabel="its counts")
    ax.set(xlim=(-1, end), ylim=(-1, top))
    ax.legend(loc="upper right", markerscale=2)


def laws(ax, example) -> None:
    """Exact laws of the target's counts, and the shares of the arm's cells."""
    table = example.laws
    counts = table["count"]
    ax.bar(counts, table["observed"], color="0.88", width=0.9, label="cells of the arm")
    for arm, name in ARMS.items():
        look = {"color": style.COLOURS[arm], "marker": "o", "ms": 1.8, "lw": 0.9}
        ax.plot(counts, table[arm], label=name, **look)
    ax.set(xlabel=f"counts of {example.target}", ylabel="probability")
    ax.set_ylim(0, None)
    ax.legend(loc="upper right")


def folds(ax, example) -> None:
    """Log fold changes estimated from the arm's cells against exact ones, a point a gene."""
    table = example.folds
    low, high = table["estimated"].quantile([0.002, 0.998])
    for reached, colour, name in ((False, "0.75", "not reached"), (True, "#0072B2", "reached")):
        genes = table[table["reached"] == reached]
        look = {"color": colour, "ms": 1.5, "mec": "none", "alpha": 0.6, "rasterized": True}
        ax.plot(genes["exact"], genes["estimated"], "o", label=name, **look)
    panels.diagonal(ax, *table["exact"].quantile([0.001, 0.999]))
    ax.set(xlabel="exact log fold change, as labelled", ylabel="estimated from its cells")
    ax.set_ylim(low, high)
    ax.legend(loc="upper left", markerscale=2)


def realism(ax, summary: pd.DataFrame) -> None:
    """Distances of simulated cells from held-out real ones, a row a measure, with intervals."""
    part = summary[summary["metric"].isin(MEASURES)]
    measures = [m for m in MEASURES if (part["metric"] == m).any()]
    models = _models(part)
    for number, model in enumerate(models):
        own = part[part["model"] == model].set_index("metric").reindex(measures)
        at = np.arange(len(measures))[::-1] - 0.6 * ((number + 0.5) / len(models) - 0.5)
        _interval(ax, own, at, model, of_rows=True)
    ax.set_yticks(np.arange(len(measures))[::-1], [MEASURES[m] for m in measures])
    largest = part[["mean", "ci_high"]].max().max()  # one replicate has no intervals
    ax.set(xlim=(0, 1.25 * largest), xlabel="distance to held-out real cells")
    ax.legend(loc="upper right")


def forest(ax, summary: pd.DataFrame) -> None:
    """AUROC of a random forest that tells simulated from held-out real cells, with intervals."""
    part = summary[summary["metric"] == "forest_auroc"]
    models = _models(part)
    for place, model in enumerate(models):
        _interval(ax, part[part["model"] == model], np.array([place]), model)
    ax.axhline(0.5, color="0.6", lw=0.6, ls="--")
    ax.set_xticks(range(len(models)), [style.label(m) for m in models], rotation=35, ha="right")
    ax.set(xlim=(-0.6, len(models) - 0.4), ylim=(0.4, 1), ylabel="AUROC of a forest")


def _models(summary):
    """The models of a report, real cells first."""
    there = list(pd.unique(summary["model"]))
    return [m for m in FIRST if m in there] + [m for m in there if m not in FIRST]


def _interval(ax, means, at, model, of_rows=False):
    ends = np.abs(means[["ci_low", "ci_high"]].to_numpy().T - means["mean"].to_numpy())
    look = {"fmt": "o", "color": style.COLOURS.get(model, style.OWN), "ms": 2.5, "lw": 0}
    look |= {"elinewidth": 0.8, "label": style.label(model)}
    if of_rows:
        ax.errorbar(means["mean"], at, xerr=ends, **look)
    else:
        ax.errorbar(at, means["mean"], yerr=ends, **look)


def effects(ax, summary: pd.DataFrame) -> None:
    """Mean KL of arms' genes from control, a point a kind of arm, by shift, with intervals."""
    part = summary[(summary["metric"] == "kl_nats") & (summary["split"] == "as_intended")]
    kinds = list(pd.unique(part["mechanism"]))
    for number, (scenario, colour) in enumerate(zip(pd.unique(part["scenario"]), SHIFTED)):
        own = part[part["scenario"] == scenario].set_index("mechanism").reindex(kinds)
        at = np.arange(len(kinds)) + 0.2 * number - 0.1
        ends = np.abs(own[["ci_low", "ci_high"]].to_numpy().T - own["mean"].to_numpy())
        look = {"fmt": "o", "color": colour, "ms": 2.5, "lw": 0, "elinewidth": 0.8}
        ax.errorbar(at, own["mean"], ends, label=scenario, **look)
    ax.set_xticks(range(len(kinds)), kinds)
    ax.set(ylabel="KL from control (nats a gene)", ylim=(-1e-4, None))
    ax.legend(loc="upper center")
