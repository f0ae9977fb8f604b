"""Figure 13: four predictions that everyone should know, and what metrics say of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.score.court import charges, zoo
from lib.score.court.hearing import RISK
from lib.score.court.panel import Panel
from lib.show import style

EXACT_SKILL = "exact skill"
SHOWN = {  # key of a metric -> its colour and what it is called
    "scperteval mse": ("#0072B2", "MSE"),
    "scperteval pearson_ctrl": ("#D55E00", "Pearson delta"),
    "scperteval nir": ("#009E73", "NIR"),
    "cell-eval2 pds_cosine": ("#56B4E9", "PDS cosine"),
    "scperteval energy_distance_pca_k": ("#CC79A7", "energy distance"),
    "scperteval de_auprc": ("#E69F00", "DE AUPRC"),
    "cell-eval2 de_wilcoxon_sig_recall": ("#8C6D31", "DE recall"),
    "cell-eval2 vcc2025": ("#999999", "challenge 2025"),
    "cell-eval2 vcc2026": ("#555555", "challenge 2026"),
}
_LOW, _HIGH = -1.0, 2.0  # of a score that is drawn
_GREY = "0.75"


def figure(summary: pd.DataFrame, panel: Panel, split: str = "unseen gene"):
    """Four cases (columns): what is predicted of an arm, and what metrics say of all arms.

    summary: means over networks, columns `tables.SUMMARY`
    panel: a network's, whose strongest arm is shown
    split: the panel's name in the summary
    """
    fig, axes = style.figure("abcd;efgh", 183, 105, height_ratios=[1, 1.25])
    scores = _scores(summary, split)
    arm = _Arm(panel)
    arm.scaled(axes["a"])
    arm.repeated(axes["b"])
    arm.spiked(axes["c"])
    arm.noisy(axes["d"])
    factors = {
        "effects_50": 0.5,
        zoo.EXACT: 1,
        "effects_150": 1.5,
        "effects_200": 2,
        "effects_300": 3,
    }
    _curves(axes["e"], scores, factors, "true effects, times")
    _pairs(axes["f"], scores, zoo.MEAN, "mean_repeated", "mean's cells to one profile")
    _pairs(axes["g"], scores, zoo.MEAN, "mean_spiked", "mean to spiked mean")
    noise = {zoo.EXACT: 0, "noise_03": 0.03, "noise_10": 0.1, "noise_30": 0.3}
    _curves(axes["h"], scores, noise, "sd of noise on log folds")
    handles = [
        axes["e"].plot([], [], color=colour, marker="o", ms=2.5, label=label)[0]
        for colour, label in [("black", EXACT_SKILL), *SHOWN.values()]
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=5)
    return fig


def _scores(summary, split):
    """(metric, member) scores with the perturbed mean at 0 and the truth at 1, exact skill too."""
    part = summary[summary["split"] == split]
    scores = part[part["scenario"] == charges.SCORE]
    wide = scores.pivot(index="metric", columns="model", values="mean")
    risk = part[(part["scenario"] == charges.RISKED) & (part["gene"] == RISK)]
    skill = 1 - risk.set_index("model")["mean"]
    return pd.concat([wide, skill.to_frame(EXACT_SKILL).T])


def _lines(scores):
    """Key, colour and label of what is there."""
    shown = {EXACT_SKILL: ("black", EXACT_SKILL)} | SHOWN
    return [(key, *look) for key, look in shown.items() if key in scores.index]


def _frame(ax, label):
    ax.axhline(0, color="0.6", lw=0.5)
    ax.axhline(1, color="0.6", lw=0.5, ls=":")
    ax.set(ylim=(_LOW - 0.1, _HIGH + 0.1), ylabel="mean 0, truth 1", xlabel=label)


def _curves(ax, scores, members, label):
    """Scores against what is dialled."""
    members = {key: x for key, x in members.items() if key in scores}
    for key, colour, _ in _lines(scores):
        values = scores.loc[key, list(members)].astype(float).clip(_LOW, _HIGH)
        width = 1.6 if key == EXACT_SKILL else 0.8
        ax.plot(list(members.values()), values, color=colour, marker="o", ms=2, lw=width)
    _frame(ax, label)


def _pairs(ax, scores, before, after, label):
    """Scores of what a trick is made from, and of the trick; "none" where it has none."""
    shown = _lines(scores)
    for place, (key, colour, _) in enumerate(shown):
        ends = scores.loc[key].reindex([before, after]).astype(float).clip(_LOW, _HIGH)
        if ends.notna().all():
            ax.annotate(
                "", (place, ends[after]), (place, ends[before]),
                arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1, "shrinkA": 0,
                            "shrinkB": 0, "mutation_scale": 6},
            )  # fmt: skip
            ax.plot(place, ends[before], "o", color=colour, ms=2, mfc="white")
        else:
            ax.text(place, 0, "none", fontsize=style.SMALL, ha="center", rotation=90, color=colour)
    _frame(ax, label)
    ax.set_xticks([])
    ax.set_xlim(-0.7, len(shown) - 0.3)


class _Arm:
    """The arm of a panel that moves the most genes."""

    def __init__(self, panel: Panel):
        self.place = int(np.argmax([exact.sets["affected"].sum() for exact in panel.exact]))
        exact, control = panel.exact[self.place], panel.helper.law.mean
        self.panel, self.exact, self.affected = panel, exact, exact.sets["affected"]
        self.own = exact.sets["own"]
        self.folds = np.log(np.maximum(exact.mean, 1e-9) / np.maximum(control, 1e-9))
        self.name = panel.names[self.place]

    def _plane(self, ax, title):
        limit = 1.1 * np.abs(self.folds[~self.own]).max()
        ax.plot([-limit, limit], [-limit, limit], color="0.6", lw=0.5, zorder=0)
        ax.set(xlim=(-limit, limit), xlabel="true log fold", ylabel="predicted log fold")
        ax.set_title(title, fontsize=style.MEDIUM)

    def scaled(self, ax) -> None:
        """Log folds times two lie on a steeper line."""
        for factor, colour in ((1, "black"), (2, "#D55E00")):
            values = factor * self.folds
            ax.plot(self.folds[~self.own], values[~self.own], "o", ms=1.2, color=colour)
            ax.plot([], [], "o", ms=2, color=colour, label=f"× {factor}")
        self._plane(ax, "effects too large")
        ax.legend(loc="upper left", handletextpad=0.2)

    def repeated(self, ax) -> None:
        """A profile in place of cells: one count where cells have many."""
        gene = int(np.argsort(np.abs(self.panel.helper.law.mean - 3))[0])
        row = self.exact.table.rows[gene][:14]
        mean = self.exact.mean[gene]
        low = int(np.floor(mean))
        ax.bar(range(len(row)), row, color=_GREY, width=0.9, label="cells of the arm")
        heights = [1 - mean % 1, mean % 1]
        ax.bar([low, low + 1], heights, color="#D55E00", width=0.35, label="mean, repeated")
        ax.set(xlabel=f"counts of {self.panel.genes[gene]}", ylabel="share of cells", ylim=(0, 1))
        ax.set_title("a mean in place of cells", fontsize=style.MEDIUM)
        ax.legend(loc="upper right")

    def spiked(self, ax) -> None:
        """Genes that the panel's other arms perturb, raised."""
        own = self.panel.own()
        targets = np.flatnonzero(own.any(axis=0) & ~self.own)
        ax.axhline(0, color="0.6", lw=0.5)
        x = np.arange(len(targets))
        ax.plot(x, self.folds[targets], "o", ms=2, color=_GREY, label="truth")
        ax.plot(x, np.full(len(x), np.log(2)), "^", ms=2, color="#D55E00", label="raised")
        ax.set(xlabel="genes that other arms perturb", ylabel="log fold", ylim=(-1, 1.6), xticks=[])
        ax.set_title("other targets spiked", fontsize=style.MEDIUM)
        ax.legend(loc="upper right", ncols=2, handletextpad=0.2)

    def noisy(self, ax) -> None:
        """Noise on all genes, most of which nothing happens to."""
        rng = np.random.default_rng(0)
        values = self.folds + 0.1 * rng.normal(size=len(self.folds))
        rest = ~self.affected & ~self.own
        ax.plot(self.folds[rest], values[rest], "o", ms=1.2, color=_GREY, label="not affected")
        ax.plot(self.folds[self.affected & ~self.own], values[self.affected & ~self.own], "o",
                ms=1.2, color="#D55E00", label="affected")  # fmt: skip
        self._plane(ax, "noise on all genes")
        ax.legend(loc="upper left", handletextpad=0.2)
