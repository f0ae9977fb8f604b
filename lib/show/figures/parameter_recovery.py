"""Figure 1: laws that are recovered from counts, generated cells, and real counts."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lib.show import panels, style
from lib.show.embedding import Together

DASHED = {"color": style.TRUTH, "lw": 0.6, "ls": "--"}
DOTS = {"mec": "none", "rasterized": True}
N_COUNTS = 41  # counts shown, from 0


def figure(
    summary: pd.DataFrame,
    laws: dict,
    counts: np.ndarray,
    misfits: pd.DataFrame,
    generated: Together,
    real: Together,
) -> plt.Figure:
    """Laws of single genes in one data set, their errors over all, and cells beside cells.

    summary: means over replicates, from `tables.summary`
    laws: "true", "maximum_likelihood" and "beta=..." -> laws of one data set of a single type
    counts: (n_cells, n_genes) counts of that data set
    misfits: one row a gene, one column a family of laws
    generated: "simulated" and "generated" cells
    real: "real" and "simulated" cells
    """
    mosaic = [["a", "a2", "a3", "b"], ["c", "c2", "d", "e"], ["f", "g", "g2", "h"]]
    fig, axes = style.figure(mosaic, 183, 140)
    one_law = laws["true"][0]
    recovered = {"maximum_likelihood": laws["maximum_likelihood"], "vae": laws["beta=1"]}
    for name, parameter in zip(("a", "a2", "a3"), style.SYMBOLS):
        estimates(axes[name], one_law, recovered, parameter)
    axes["a"].legend(loc="upper left")
    over_beta(axes["b"], summary)
    scenarios = summary["scenario"]
    smallest = min(scenarios[scenarios.str.startswith("beta=")], key=_beta)
    copying([axes["c"], axes["c2"]], counts[:, 0], one_law.mu[0], laws, [smallest, "beta=1"])
    colours = {"simulated": style.COLOURS["simulated"], "generated": style.COLOURS["vae"]}
    panels.embedding(axes["d"], generated.umap, generated.source, colours=colours)
    axes["d"].legend(**panels.ABOVE)
    frequencies(axes["e"], generated.counts, colours)
    families(axes["f"], misfits)
    colours = {name: style.COLOURS[name] for name in ("real", "simulated")}
    moments(axes["g"], axes["g2"], real.counts, colours)
    panels.embedding(axes["h"], real.pca, real.source, colours=colours, name="PC")
    axes["h"].legend(**panels.ABOVE)
    return fig


def estimates(ax, true, estimated: dict, parameter: str) -> None:
    """A parameter's estimates against its true value, a point a gene; medians over cells.

    true: one law a gene
    estimated: model -> laws of genes, or of genes in each cell
    """
    truth = getattr(true, parameter)
    values = {model: getattr(law, parameter) for model, law in estimated.items()}
    values = {m: np.median(v, axis=0) if v.ndim == 2 else v for m, v in values.items()}
    every = np.concatenate([truth, *values.values()])
    panels.diagonal(ax, every.min(), every.max())
    for (model, value), marker in zip(values.items(), "so"):
        face = "none" if marker == "s" else None
        look = {"color": style.COLOURS[model], "label": style.label(model), "mfc": face}
        ax.plot(truth, value, marker, ms=3, mew=0.7, **look)
    symbol = style.SYMBOLS[parameter]
    ax.set(xlabel=f"true {symbol}", ylabel=f"estimated {symbol}")


def over_beta(ax, summary: pd.DataFrame) -> None:
    """Squared error of the VAE's mu over beta, between those of two references."""
    errors = summary[summary["metric"] == "mse_mu"]
    path = errors[errors["scenario"].str.startswith("beta=")]
    beta = path["scenario"].map(_beta)
    mean = path["mean"].to_numpy()
    sides = np.abs(path[["ci_low", "ci_high"]].to_numpy().T - mean)
    colour = style.COLOURS["vae"]
    ax.errorbar(beta, mean, sides, fmt="o-", ms=3, lw=0.8, color=colour)
    for model in ("constant", "maximum_likelihood"):
        row = (errors["scenario"] == "one_type") & (errors["model"] == model)
        level = errors.loc[row, "mean"].item()
        ax.axhline(level, color=style.COLOURS[model], lw=0.8)
        _note(ax, style.label(model), (beta.min(), level), (0, 2), color=style.COLOURS[model])
    _note(ax, "VAE", (beta.iloc[0], mean[0]), (4, 3), color=colour)
    ax.set(xscale="log", yscale="log", xlabel=style.label("beta"), ylabel=style.label("mse_mu"))


def copying(axes: list, counts: np.ndarray, true_mu: float, laws: dict, shown: list[str]) -> None:
    """Decoded mu of the first gene in each cell that counted it, against the count.

    axes: for the VAE that copies, and the one that doesn't
    counts: (n_cells,) counts of the gene
    true_mu: mu of the gene
    shown: keys of the two VAEs' laws, "beta=..."
    """
    positive = np.flatnonzero(counts)
    top = 1.05 * max(laws[shown[0]].mu[:, 0].max(), true_mu)
    for ax, scenario, model in zip(axes, shown, ("vae_copying", "vae")):
        decoded = laws[scenario].mu[positive, 0]
        look = {"color": style.COLOURS[model], **DOTS}
        ax.plot(counts[positive], decoded, "o", ms=1.2, alpha=0.35, **look)
        ax.axhline(true_mu, **DASHED)
        ax.set(xlabel="count that was seen", ylabel="decoded μ, one gene")
        ax.set(title=scenario.replace("beta=", "β = "), xlim=(0, None), ylim=(0, top))
    right = {"xycoords": ("axes fraction", "data"), "ha": "right"}
    _note(axes[1], "true μ", (1, true_mu), (0, 2), **right)


def frequencies(ax, counts: dict[str, np.ndarray], colours: dict[str, str]) -> None:
    """How frequent each count is, over all cells and genes of a source."""
    k = np.arange(N_COUNTS)
    for name, values in counts.items():
        found = np.bincount(values.astype(int).ravel(), minlength=N_COUNTS)[:N_COUNTS]
        dashes = "--" if name == "simulated" else "-"
        ax.plot(k, found / values.size, color=colours[name], lw=1, ls=dashes, label=name)
    ax.set(yscale="log", xlabel="count, all genes", ylabel="share of counts")
    ax.legend()


def families(ax, misfits: pd.DataFrame) -> None:
    """Misfit of families of laws, a box over genes."""
    sns.boxplot(misfits, color="0.85", showfliers=False, linewidth=0.6, width=0.6, ax=ax)
    ax.set_xticks(range(misfits.shape[1]), [str(name).replace(" ", "\n") for name in misfits])
    ax.set(title="real counts, gene by gene", xlabel="", ylabel="total variation distance")
    ax.set_ylim(bottom=0)


def moments(of_variance, of_zeros, counts: dict[str, np.ndarray], colours: dict[str, str]) -> None:
    """Variance and share of zeros against the mean count, a point a gene that was ever counted."""
    for name, values in counts.items():
        mean = values.mean(0)
        there = mean > 0
        look = {"ms": 1.5, "alpha": 0.5, "color": colours[name], **DOTS}
        of_variance.plot(mean[there], values.var(0)[there], "o", label=name, **look)
        of_zeros.plot(mean[there], (values == 0).mean(0)[there], "o", **look)
    of_variance.set(xscale="log", yscale="log", xlabel="mean count of a gene", ylabel="variance")
    of_variance.legend(markerscale=2)
    of_zeros.set(xscale="log", xlabel="mean count of a gene", ylabel="share of zeros")


def _beta(scenario):
    return float(scenario.removeprefix("beta="))


def _note(ax, text, at, offset, **options):
    ax.annotate(text, at, offset, textcoords="offset points", fontsize=style.SMALL, **options)
