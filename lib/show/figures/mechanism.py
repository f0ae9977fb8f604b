"""Figure 2: what models learn of a mechanistic gene."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from lib.predict import registry
from lib.show import panels, style
from lib.show.figures import skill


def figure(summary: pd.DataFrame, laws: pd.DataFrame, dispersion: str) -> plt.Figure:
    """Laws of single genes in the first replicate, skill of the compared models, and a leak.

    summary: means over replicates, from `tables.summary`
    laws: parameters of the true and predicted laws in one replicate, from `answers.parameters`
    dispersion: gene whose dispersion is mechanistic; the first other one is shown too
    """
    mosaic = [["a", "a2", "a3", "a4"], ["b", "b", "b", "b"], ["c", "d", "e", "e"]]
    fig, axes = style.figure(mosaic, 183, 150, height_ratios=[1, 1, 1])
    first = laws["gene"].iloc[0]
    of_first = laws[laws["gene"] == first]
    for name, model in zip(("a", "a2", "a3", "a4"), registry.keys("basic", "scatter")):
        scatter(axes[name], of_first, model, first)
    axes["a"].set_ylabel("predicted μ")
    main = summary[summary["scenario"] == "mechanistic_gene"]
    skills(axes["b"], main)
    thetas(axes["c"], laws[laws["gene"] == dispersion])
    zeros(axes["d"], of_first, first)
    leakage(axes["e"], main)
    return fig


def scatter(ax, laws: pd.DataFrame, model: str, gene: str) -> None:
    """A model's mu against the true one, a point a cell."""
    true, predicted = (_of(laws, name)["mu"] for name in ("true", model))
    panels.against_truth(ax, true, predicted, model, log=True)
    ax.set(xlabel=f"true μ of {style.label(gene)}", title=style.label(model))


def skills(ax, summary: pd.DataFrame) -> None:
    """Skill (KL) of the compared models by mechanism."""
    compared = registry.keys("basic", "compared")
    shown = (summary["metric"] == "skill_kl") & summary["model"].isin(compared)
    skill.by_mechanism(ax, summary[shown], low=-0.08)
    at_edge = {"transform": ax.get_yaxis_transform(), "ha": "right", "fontsize": style.SMALL}
    ax.text(0.995, 1.01, "oracle", va="bottom", **at_edge)
    ax.text(0.995, -0.01, "marginal", va="top", color="0.5", **at_edge)
    ax.set(ylabel="skill (KL), held-out cells", ylim=(-0.08, 1.12))
    ax.legend(ncols=7, loc="upper left", bbox_to_anchor=(0.03, 1.15), columnspacing=1)


def thetas(ax, laws: pd.DataFrame) -> None:
    """Predicted against true theta, a point a cell."""
    true = _of(laws, "true")["theta"]
    for model in registry.keys("dispersion"):
        points = {"color": style.COLOURS[model], "label": style.label(model)}
        points |= {"ms": 1.2, "alpha": 0.35, "mec": "none", "rasterized": True}
        ax.plot(true, _of(laws, model)["theta"], "o", **points)
    panels.diagonal(ax, true.min(), true.max())
    labels = {"xlabel": "true θ, mechanistic dispersion", "ylabel": "predicted θ"}
    ax.set(xscale="log", yscale="log", **labels)
    ax.legend(loc="upper left", markerscale=3)


def zeros(ax, laws: pd.DataFrame, gene: str) -> None:
    """Predicted pi over cells, a box a model, and the true one."""
    models = [m for m in registry.keys("basic", "compared") if m != "vae_copying"]
    boxes = {"legend": False, "fliersize": 0, "linewidth": 0.6, "width": 0.6}
    shown = laws[laws["model"].isin(models)]
    sns.boxplot(
        shown, x="pi", y="model", hue="model", palette=style.COLOURS, order=models, ax=ax, **boxes
    )
    ax.axvline(_of(laws, "true")["pi"].iloc[0], color=style.TRUTH, lw=0.6, ls="--")
    ax.set_yticks(range(len(models)), [style.label(m) for m in models])
    ax.set(xlabel=f"predicted π of {style.label(gene)}", ylabel="")


def leakage(ax, summary: pd.DataFrame) -> None:
    """Exact KL against the NLL of observed counts less the oracle's, a point a mechanism."""
    keys = ["mechanism", "model"]
    means = summary.pivot_table(index=keys, columns="metric", values="mean", sort=False)
    oracle = means["nll_nats"].xs("oracle", level="model")
    means["excess"] = means["nll_nats"] - oracle.reindex(means.index, level="mechanism")
    leaky = registry.keys("leaky")
    for model in [*registry.keys("basic", "compared"), *leaky]:
        points = means.xs(model, level="model")
        look = {"color": style.COLOURS[model], "label": style.label(model)}
        ax.plot(points["excess"], points["kl_nats"], "o", **look)
    ax.axvspan(ax.get_xlim()[0], 0, color="0.93", lw=0, zorder=0)
    ax.set(yscale="log", ylabel="exact KL (nats)")
    ax.set_xlabel("NLL of observed counts less the oracle's (nats)")
    corner = {"xycoords": "axes fraction", "va": "bottom", "fontsize": style.SMALL}
    ax.annotate("better than the truth:\nonly by leakage", (0.04, 0.05), **corner)
    for model in leaky:
        points = means.xs(model, level="model")
        at = points["excess"].mean(), points["kl_nats"].median()
        below = {"xytext": (0, -16), "textcoords": "offset points", "ha": "center"}
        look = {"color": style.COLOURS[model], "fontsize": style.SMALL}
        ax.annotate(style.label(model), at, **below, **look)


def _of(laws, model):
    return laws[laws["model"] == model]
