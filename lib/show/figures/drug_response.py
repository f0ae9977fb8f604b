"""Figure 4: what drugs do to a cell type that was never seen treated."""

import matplotlib.pyplot as plt
import pandas as pd

from lib.predict import registry
from lib.show import panels, style

MOSAIC = [
    ["a", "a2", "a3", "a4"],
    ["b", "b2", "b3", "b4"],
    ["c", "c", "d", "d"],
    ["e", "e", "f", "f"],
]
SCORES = {  # panel -> split, metric, name of the axis
    "c": ("held_out", "kl_nats", "KL (nats), held-out cells"),
    "d": ("held_out_type", "kl_nats", "KL (nats), held-out type"),
    "e": ("held_out_type", "de_recall", "changed genes that are found"),
    "f": ("held_out_type", "de_precision", "found genes that are changed"),
}


def figure(
    summary: pd.DataFrame, positions: dict[str, pd.DataFrame], means: dict[str, pd.DataFrame]
) -> plt.Figure:
    """Cells and genes of the held-out type under four drugs, and the scores of models.

    summary: means over replicates, from `tables.summary`
    positions: drug -> cells in the latent space; columns source (control, treated, predicted), x, y
    means: drug -> mean counts, a row a gene, columns "true" and models
    """
    fig, axes = style.figure(MOSAIC, 183, 190)
    for suffix, drug in zip(("", "2", "3", "4"), positions):
        latent_space(axes["a" + suffix], positions[drug])
        axes["a" + suffix].set_title(style.label(drug))
        treated_means(axes["b" + suffix], means[drug])
    axes["a"].legend(loc="best", markerscale=0.8)
    axes["b"].set_ylabel("predicted treated mean")
    for letter, (split, metric, text) in SCORES.items():
        of_split = (summary["split"] == split) & (summary["metric"] == metric)
        scores(axes[letter], summary[of_split], list(positions))
        axes[letter].set_ylabel(text)
        if metric == "kl_nats":
            axes[letter].set_yscale("log")
        else:
            axes[letter].set_ylim(-0.05, 1.05)
    panels.models_legend(fig, [axes["c"], axes["e"]], ["oracle", *_compared(summary)])
    return fig


def latent_space(ax, positions: pd.DataFrame) -> None:
    """Control, treated and predicted cells in two dimensions."""
    colours = {name: style.COLOURS[name] for name in ("control", "treated", "predicted")}
    points = positions[["x", "y"]].to_numpy()
    panels.embedding(ax, points, positions["source"], colours=colours, name="latent UMAP")


def treated_means(ax, means: pd.DataFrame) -> None:
    """Predicted against true mean counts of treated cells, a point a gene."""
    panels.diagonal(ax, 0, 1.05 * means["true"].max())
    for model in means.columns.drop("true"):
        look = {"color": style.COLOURS[model], "mec": "none", "alpha": 0.7}
        ax.plot(means["true"], means[model], "o", ms=2, **look)
    ax.set(xlabel="true treated mean of a gene", ylim=(0, None))


def scores(ax, summary: pd.DataFrame, drugs: list[str]) -> None:
    """Mean score of each model under each drug with 95 % intervals.

    summary: one metric in one split

    The oracle is left out where its score is 0, the exact distances.
    """
    exact = (summary["metric"] == "kl_nats").any()
    shown = [*([] if exact else ["oracle"]), *_compared(summary)]
    there = [model for model in shown if (summary["model"] == model).any()]
    part = summary.set_index("model").loc[there].reset_index()
    panels.intervals(ax, part, "scenario", order=drugs)


def _compared(summary):
    """The models to draw: those compared, and what was asked for beside them."""
    more = [key for key in pd.unique(summary["model"]) if key not in registry.keys("drug")]
    return [*registry.keys("drug", "compared"), *more]
