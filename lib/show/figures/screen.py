"""Figure 11: who predicts arms that nobody has seen, and what decides it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.predict import registry
from lib.score.screen import FACTORS, MEAN, SWEEP, usual_of
from lib.show import panels, style

UNSEEN = "unseen gene", "regulator"
PAIRS = "pair, seen 2", "pair"
TYPE, TYPE_FEW = ("unseen type", "regulator"), ("unseen type, few", "regulator")
COLUMNS = {
    UNSEEN: "regulator",
    ("unseen gene", "other gene"): "other gene",
    PAIRS: "pair, 2 seen",
    ("pair, seen 1", "pair"): "pair, 1 seen",
    ("pair, seen 0", "pair"): "pair, 0 seen",
    ("unseen strength", "knockdown"): "weaker",
    ("unseen strength", "activation"): "activation",
    TYPE: "type, none seen",
    TYPE_FEW: "type, few seen",
}
BUDGET = 10_000  # cells of arms in all, over which panel d has more or fewer arms


def figure(swept: pd.DataFrame, live: pd.DataFrame, published: pd.DataFrame) -> plt.Figure:
    """Skill of every model on every split, and of some over what a screen is like.

    swept: means of the sweeps, from `score.screen.swept`; may be empty, or of the first alone
    live: a summary of one run, shown where there is no sweep
    published: means of published models, and of others on the same smaller screens; may be empty
    """
    usual = usual_of(swept)
    boards = {"a": skills(of_all(swept), usual) if len(swept) else skills(live, {})}
    if len(published):
        some = registry.keys("published") + registry.keys("screen", "beside")
        boards["b"] = skills(published[published["model"].isin(some)], {})
    boards = {name: board.reindex(rows(board.index)) for name, board in boards.items()}
    heights = [25 + 4.6 * len(board) for board in boards.values()]
    curves = "cdef" if len(swept) and "fidelity" in swept else ""
    mosaic = [[name] * max(1, len(curves)) for name in boards]
    if curves:
        mosaic.append(list(curves))
        heights.append(62)
    fig, axes = style.figure(mosaic, 183, sum(heights), height_ratios=heights)
    for name, board in boards.items():
        panels.board(axes[name], board, notes={})
    if curves:
        _curves(fig, axes, swept, usual)
    return fig


def _curves(fig, axes, swept, usual):
    told, others = registry.keys("screen", "fidelity"), registry.keys("screen", "arms")
    lines(axes["c"], over(swept, "fidelity", usual), "fidelity", told)
    axes["c"].set_xlabel("true share of the prior graph")
    lines(axes["d"], over_budget(swept, usual), "n_arms", others)
    axes["d"].set_xticks([25, 100, 200, 400])
    axes["d"].set_xlabel(f"arms, {BUDGET:,} cells in all")
    lines(axes["e"], over(swept, "divergence", usual, TYPE), "divergence", others)
    axes["e"].set_xlabel("edges that differ in the type")
    beaten(axes["f"], swept, usual)
    panels.models_legend(fig, [axes[n] for n in "cde"], registry.keys("screen"), ncols=6)


def rows(models) -> list[str]:
    """Models in the order of the boards: simple, published, mechanistic ones, then references."""
    order = ("published", "mechanistic", "reference")

    def group(key):
        if key in ("no_change", MEAN):
            return -1
        sets = registry.BY_KEY[key].sets.split() if key in registry.BY_KEY else []
        return max((1 + order.index(name) for name in order if name in sets), default=0)

    return sorted((key for key in registry.order(models) if key != "oracle"), key=group)


def base(summary: pd.DataFrame, usual: dict, *but: str) -> pd.DataFrame:
    """Rows at the usual parameters, but for some of these."""
    kept = np.ones(len(summary), dtype=bool)
    for name, value in usual.items():
        if name in summary and name not in but:
            given = summary[name]
            is_text = isinstance(value, str)
            kept &= given == value if is_text else np.isclose(given.astype(float), value)
    return summary[kept]


def of_all(swept: pd.DataFrame) -> pd.DataFrame:
    """Rows of the sweep of all models, and those of several types, of which it has none."""
    if "n_cell_types" not in swept:
        return swept
    return swept[(swept["sweep"] == SWEEP) | (swept["n_cell_types"].astype(float) > 1)]


def skills(
    summary: pd.DataFrame, usual: dict, *, metric: str = "skill_kl", gene: str = "all"
) -> pd.DataFrame:
    """Mean of a metric over a set of genes, a row a model; columns (shift, split and kind)."""
    part = base(summary, usual, "shift", "n_cell_types")
    part = part[(part["metric"] == metric) & (part["gene"] == gene)]
    if part.empty:
        return pd.DataFrame()
    if "shift" not in part:
        part = part.assign(shift=part["scenario"].str.rpartition(" ")[2].astype(float))
    place = pd.Series(list(zip(part["split"], part["mechanism"])), index=part.index)
    part = part.assign(place=place.map(COLUMNS), group=part["shift"].map("shift {:g}".format))
    part = part.dropna(subset=["place"])
    if "n_cell_types" in part:  # with several types, other splits are asked again
        of_types = part["split"].str.startswith("unseen type")
        part = part[of_types == (part["n_cell_types"] > 1)]
    table = part.pivot_table(index="model", columns=["group", "place"], values="mean")
    order = [c for g in sorted(set(part["group"])) for c in ((g, p) for p in COLUMNS.values())]
    return table[[column for column in order if column in table]]


def over(summary: pd.DataFrame, name: str, usual: dict, place=UNSEEN) -> pd.DataFrame:
    """Skill over one parameter, at the usual others, of a split and kind, on the same networks."""
    is_type = place[0].startswith("unseen type")
    others = {k: v for k, v in usual.items() if not (is_type and k == "n_cell_types")}
    part = base(summary[summary["sweep"] == FACTORS], others, name)
    asked = (part["split"] == place[0]) & (part["mechanism"] == place[1])
    return part[asked & (part["metric"] == "skill_kl") & (part["gene"] == "all")]


def factors(swept: pd.DataFrame, names: list[str], place=UNSEEN) -> pd.DataFrame:
    """Mean skill over each of some parameters, at the usual others; a row a model."""
    usual, tables = usual_of(swept), []
    for name in (name for name in names if name in usual):
        wide = over(swept, name, usual, place).pivot(index="model", columns=name, values="mean")
        wide.columns = pd.MultiIndex.from_product([[name], wide.columns])
        tables.append(wide.dropna())
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, axis=1)
    return table.loc[rows(table.index)]


def over_budget(summary: pd.DataFrame, usual: dict) -> pd.DataFrame:
    """Skill over arms, where arms times cells of each is the same."""
    part = over(summary, "n_arms", {k: v for k, v in usual.items() if k != "n_cells"})
    return part[np.isclose(part["n_arms"] * part["n_cells"], BUDGET)]


def lines(ax, summary: pd.DataFrame, x: str, models: list[str]) -> None:
    """Skill of models over a parameter, with 95 % intervals."""
    part = summary[summary["model"].isin(models)].sort_values("model", key=registry.in_order)
    panels.sweep(ax, part, x, "model", metric="skill_kl")
    ax.set_ylabel("skill (KL)")


def beaten(ax, summary: pd.DataFrame, usual: dict) -> None:
    """Share of arms in which a model has less KL than the perturbed mean, of unseen regulators."""
    part = base(of_all(summary), usual, "shift")
    asked = (part["split"] == UNSEEN[0]) & (part["mechanism"] == UNSEEN[1])
    part = part[asked & (part["metric"] == "beats_mean") & (part["gene"] == "all")]
    keys = [k for k in registry.keys("screen", "arms") if k in set(part["model"])][::-1]
    for shift, marker in zip(sorted(set(part["shift"])), "os"):
        rows = part[np.isclose(part["shift"], shift)].set_index("model")
        for place, key in enumerate(k for k in keys if k in rows.index):
            row, colour = rows.loc[key], style.COLOURS[key]
            face = colour if marker == "s" else "white"
            ax.plot([row["ci_low"], row["ci_high"]], [place] * 2, color=colour, lw=0.8)
            ax.plot(row["mean"], place, marker, color=colour, mfc=face, ms=3)
        ax.plot([], [], marker, color="0.4", mfc="0.4" if marker == "s" else "white",
                label=f"shift {shift:g}")  # fmt: skip
    ax.set_yticks(range(len(keys)), [style.label(key) for key in keys])
    ax.axvline(0.5, color="0.6", lw=0.5)
    ax.set(xlim=(-0.03, 1.03), xlabel="share of arms won")
    ax.legend(**panels.ABOVE)  # inside, its markers would pass for shares
