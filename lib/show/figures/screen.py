"""Figure 10: a screen of a gene regulatory network, from the network to counts, and how real."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection

from lib.show import panels, style
from lib.tasks.screen import Example

MOSAIC = [["a", "a", "a"], ["b", "c", "d"], ["e", "e", "f"]]
UNREACHED = "0.85"
ARMS = {"control": "control", "as_intended": "perturbed, as intended", "as_labelled": "as labelled"}


def network(ax, example: Example) -> None:
    """Genes by generation, those that the knockdown reaches in the colour of their change."""
    at = _layout(example.nodes)
    carried = example.edges["carried"].to_numpy()
    of_regulators = example.nodes["regulator"][example.edges["target"]].to_numpy()
    for some, look in (
        (~carried & of_regulators, {"colors": "0.9", "linewidths": 0.25, "zorder": 0}),
        (carried, {"colors": "0.55", "linewidths": 0.25, "alpha": 0.6, "zorder": 1}),
    ):
        edges = example.edges[some]
        ends = np.stack([at.loc[edges["regulator"]], at.loc[edges["target"]]], axis=1)
        ax.add_collection(LineCollection(ends, rasterized=True, **look))
    size = np.where(example.nodes["regulator"], 9, 3)
    reached = example.nodes["reached"].to_numpy()
    look = {"lw": 0, "rasterized": True}
    ax.scatter(*at[~reached].to_numpy().T, s=size[~reached], c=UNREACHED, zorder=2, **look)
    change = example.nodes["log_fold_change"][reached]
    limit = np.nanquantile(np.abs(change), 0.95)
    colours = {"c": change, "cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    shown = ax.scatter(*at[reached].to_numpy().T, s=size[reached], zorder=3, **colours, **look)
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.7, pad=0.01, aspect=15)
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


def molecules(ax, example: Example) -> None:
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
    ax.plot([0, end], [0, end], color="0.6", lw=0.6, ls="--")
    ax.annotate("all counted", (0.55 * end, 0.55 * end), rotation=0, color="0.5", ha="right")
    ax.set(xlabel=f"molecules of {example.perturbation}", ylabel="its counts")
    ax.set(xlim=(-1, end), ylim=(-1, 1.05 * example.molecules["counts"].quantile(0.998) + 3))
    ax.legend(loc="upper left", markerscale=2)


def laws(ax, example: Example) -> None:
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


def folds(ax, example: Example) -> None:
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
