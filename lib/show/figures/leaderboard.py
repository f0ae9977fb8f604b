"""Figure 5: the leaderboard."""

import matplotlib.pyplot as plt
import pandas as pd

from lib.predict import registry
from lib.score import tables
from lib.show import panels, style
from lib.show.figures import skill

_SPLITS = ("held_out", "do_inside", "do_beyond", "pairs")
_JUDGES = {  # score of cell-eval2 -> marker, and what it is called
    "delta_pearson": ("o", "Pearson delta"),
    "de_wilcoxon_overlap": ("s", "DE overlap"),
    "pds_cosine": ("^", "discrimination (cosine)"),
}


def figure(
    summary: pd.DataFrame, cell_eval: dict[str, pd.Series], own: str | None = None
) -> plt.Figure:
    """Skill of every model, intervals of a few, harm to other genes, and another package's scores.

    summary: rows of the leaderboard, means over replicates
    cell_eval: model -> mean scores by cell-eval2, from `board.cell_eval`; may be empty
    own: key of a model of one's own, which panel b draws too
    """
    mosaic = [["a"] * 7, ["b", "b", "b", "c", "c", "d", "d"]]
    fig, axes = style.figure(mosaic, 183, 165, height_ratios=[1.7, 1])
    table = skill_table(summary)
    order = registry.order({*table.index, *registry.keys("peers")})
    panels.board(axes["a"], table.reindex(order), notes=notes(table))
    compared = [*registry.keys("picked"), own]
    intervals(axes["b"], summary[summary["model"].isin(compared)])
    harmful = harms(axes["c"], summary)
    judgement(axes["d"], cell_eval)
    named = [key for key in order if key in {*compared, *harmful}]
    panels.models_legend(fig, [axes["b"], axes["c"]], named, ncols=6)
    return fig


def skill_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Mean skills, a row a model.

    Columns are (split, mechanism) for skill by KL, and ("mean_crps", split) for skill by CRPS, a
    mean over mechanisms; NaN for a model that lacks one of them.
    """
    splits = [split for split in _SPLITS if split in set(summary["split"])]
    asked = summary[summary["split"].isin(splits)]
    keys = {"index": "model", "columns": ["split", "mechanism"], "values": "mean", "sort": False}
    by_kl = asked[asked["metric"] == "skill_kl"].pivot_table(**keys)[splits]
    by_crps = tables.over_mechanisms(asked, "skill_crps", splits)
    by_crps.columns = pd.MultiIndex.from_product([["mean_crps"], splits])
    return pd.concat([by_kl, by_crps], axis=1)


def notes(table: pd.DataFrame) -> dict[str, str]:
    """Why a model's row is empty, or has no KL: model -> a note of the registry."""
    by_kl = table.drop(columns="mean_crps", level=0)
    own = [key for key in table.index if key not in registry.BY_KEY]
    found = {key: registry.NO_LAW for key in own if by_kl.loc[key].isna().all()}
    for row in registry.ROWS:
        is_there = row.key in table.index
        if row.note and is_there == (row.note == registry.NO_LAW):
            found[row.key] = row.note
    return found


def intervals(ax, summary: pd.DataFrame) -> None:
    """Skill (KL) by mechanism inside the doses of training; dotted, 0.95."""
    shown = (summary["metric"] == "skill_kl") & (summary["split"] == "do_inside")
    skill.by_mechanism(ax, summary[shown], low=-0.2)
    ax.axhline(0.95, color="0.6", lw=0.5, ls=":")
    ax.set(ylabel="skill (KL), do, inside", ylim=(-0.2, 1.05))
    ax.tick_params(axis="x", rotation=25)


def harms(ax, summary: pd.DataFrame) -> list[str]:
    """Off-target KL against the error of the base genes' own laws.

    Returns the models that have both.
    """
    means = summary.set_index("model")
    off_target = means.loc[means["metric"] == "off_target_kl", "mean"]
    is_base = (means["metric"] == "mse_mu") & (means["split"] == "base_genes")
    of_base = means.loc[is_base, "mean"]
    models = list(of_base.index.intersection(off_target.index))
    for key in models:
        colour = style.COLOURS.get(key, style.OWN)
        ax.plot(of_base[key], off_target[key], "o", color=colour, label=style.label(key))
    ax.set(xscale="log", yscale="log", ylabel="off-target KL (nats)")
    ax.set_xlabel("squared error of μ, base genes (counts²)")
    ax.xaxis.set_minor_formatter("")
    return models


def judgement(ax, cell_eval: dict[str, pd.Series]) -> None:
    """Scores of cell-eval2 against the exact skill of the same predictions."""
    for score, (marker, name) in _JUDGES.items():
        for key, means in cell_eval.items():
            ax.plot(
                means["skill_kl"],
                means[score],
                marker,
                ms=2.5,
                color=style.COLOURS[key],
                label=name if key == "oracle" else None,
            )
    ax.set(xlabel="exact skill (KL)", ylabel="score by cell-eval2")
    if cell_eval:
        ax.legend(loc="lower right")
