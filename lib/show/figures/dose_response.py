"""Figure 3: how a law changes with a dose, and which models foresee it."""

import matplotlib.pyplot as plt
import pandas as pd

from lib.predict import registry
from lib.show import panels, style
from lib.show.figures import skill


def figure(
    summary: pd.DataFrame, laws: pd.DataFrame, perturbed: dict[str, tuple[str, float]]
) -> plt.Figure:
    """Dose-response curves of one replicate, and skill inside and beyond the doses of training.

    summary: means over replicates, from `tables.summary`
    laws: parameters of the true and predicted laws in one replicate, from `answers.parameters`
    perturbed: mechanistic gene -> the gene that is set, and the end of its doses inside
    """
    n = len(perturbed)
    top = ["a", *(f"mu{i}" for i in range(1, n))]
    below = [[f"{parameter}{i}" for i in range(n)] for parameter in ("theta", "pi")]
    mosaic = [top, *below, ["b"] * n, ["c"] * n]
    heights = [1.2, 0.8, 0.8, 1, 1]
    fig, axes = style.figure(mosaic, 183, 190, height_ratios=heights, sharey=False)
    drawn = laws[laws["model"].isin(["true", *registry.keys("curves")])]
    for i, (gene, (parent, end)) in enumerate(perturbed.items()):
        column = [axes[top[i]], *(axes[row[i]] for row in below)]
        curves(column, drawn[drawn["gene"] == gene], parent, end)
    for ax, parameter in zip((axes[row[0]] for row in (top, *below)), style.SYMBOLS):
        of = " of the mechanistic gene" if parameter == "mu" else ""
        ax.set_ylabel(style.SYMBOLS[parameter] + of)
    compared = registry.keys("basic", "compared")
    order = list(laws.groupby("gene", sort=False)["mechanism"].first()[list(perturbed)])
    for letter, split in (("b", "do_inside"), ("c", "do_beyond")):
        skills(axes[letter], summary[summary["model"].isin(compared)], split, order)
    panels.models_legend(fig, list(axes.values()), ["true", *compared])
    return fig


def curves(axes: list, laws: pd.DataFrame, parent: str, end: float) -> None:
    """One gene's mu, theta and pi over the dose of a parent, from top to bottom.

    laws: columns mechanism, model, dose, mu, theta, pi
    end: 99th percentile of the counts in training, up to which a dose is inside
    """
    mu, theta, pi = axes
    for ax, parameter in zip(axes, style.SYMBOLS):
        panels.response(ax, laws, parameter, end_inside=end)
    mu.set_title(style.label(laws["mechanism"].iloc[0]))
    theta.set_yscale("log")
    pi.set(xlabel=f"dose: count of {parent}", ylim=(0, 1))


def skills(ax, summary: pd.DataFrame, split: str, order: list[str]) -> None:
    """Skill (KL) by mechanism at the doses of a split."""
    shown = (summary["metric"] == "skill_kl") & (summary["split"] == split)
    skill.by_mechanism(ax, summary[shown], order=order, low=-0.5)
    ax.set(ylabel=f"skill (KL), {style.label(split)}", ylim=(-0.5, 1.1))
