"""All charges against a metric in one row, from means over networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lib.score import tables
from lib.score.court import charges, zoo
from lib.score.court.charges import APART, BOOTSTRAP, CEILING, HALVES, MANY
from lib.score.court.hearing import RISK
from lib.score.court.metrics import CELL_EVAL2, SUITES, rows

RIGHT = 0.95  # share of pairs of models whose order must be right


def first_cells(summary: pd.DataFrame) -> str:
    """The number of cells at which every member was asked, as tables say it."""
    return summary.loc[summary["scenario"] == charges.RAW, "mechanism"].iloc[0]


def judged(summary: pd.DataFrame, split: str) -> pd.DataFrame:
    """A row a metric that ranks, in the order of its agreement; NaN where a charge isn't there.

    summary: means over networks, columns `tables.SUMMARY`
    split: the panel

    takes, source: of the metric
    tau, tau_low, tau_high: agreement over models with the KL over all genes
    tau_affected: over affected genes; tau_zoo: over all members; tau_own: over own laws and cells
    ties: share of pairs of models that it doesn't tell apart
    gain, trick: the largest gain by a member that is truly worse than what it is made from, and
        which; in units of the truth less the perturbed mean
    no_skill, who: the best score of a member that knows nothing of an arm
    needed: the fewest cells at which, and at all more, 95 % of pairs of models whose risks are 20
        to 50 % of the mean's apart are ordered right; infinite: at none
    right: that share
    halves, bootstrap, many: ceilings, where as many new cells have 1
    verdict: share of models that it puts on the right side of the perturbed mean
    """
    part = summary[(summary["split"] == split) | (summary["split"] == "")]
    at = part[part["mechanism"] == first_cells(summary)]
    found = pd.DataFrame(index=[key for key, row in rows().items() if row.better])
    found["source"] = [rows()[key].source for key in found.index]
    found["takes"] = [rows()[key].takes for key in found.index]
    for column, risk, members in (
        ("tau", RISK, charges.MODELS),
        ("tau_affected", "KL, affected genes", charges.MODELS),
        ("tau_zoo", RISK, charges.ZOO),
        ("tau_own", RISK, charges.OWN_LAWS),
    ):
        some = _of(at, charges.AGREEMENT, gene=risk, model=members).set_index("metric")
        found[column] = some["mean"]
        if column == "tau":
            found["tau_low"], found["tau_high"] = some["ci_low"], some["ci_high"]
    found["ties"] = _of(at, charges.TIES, gene=RISK).set_index("metric")["mean"]
    found = found.join(gains(part, at))
    found["needed"] = needed(part)
    found["right"] = _of(at, charges.ORDER, model=APART).set_index("metric")["mean"]
    for column, kind in (("halves", HALVES), ("bootstrap", BOOTSTRAP), ("many", MANY)):
        found[column] = _of(at, CEILING, model=kind).set_index("metric")["mean"]
    found["verdict"] = _of(at, charges.SIDE).set_index("metric")["mean"]
    there = found.dropna(subset=["tau"])
    return there.sort_values("tau", ascending=False, kind="stable")


def _of(table, scenario, **keys):
    for key, wanted in ({"scenario": scenario} | keys).items():
        table = table[table[key] == wanted]
    return table


def gains(part: pd.DataFrame, at: pd.DataFrame) -> pd.DataFrame:
    """gain, trick, no_skill and who, by metric."""
    scores = _of(at, charges.SCORE).pivot(index="metric", columns="model", values="mean")
    worse = [key for key in truly_worse(part) if key in scores]
    found = pd.DataFrame(index=scores.index)
    if worse:
        of_members = scores[worse] - np.array([scores[zoo.ROWS[key].of] for key in worse]).T
        found["gain"] = of_members.max(axis=1)
        some = found["gain"].notna()
        found.loc[some, "trick"] = of_members[some].idxmax(axis=1)
    blind = [key for key, row in zoo.ROWS.items() if row.group in (zoo.TRICK, zoo.NO_SKILL)]
    blind = [key for key in ("no_change", *blind) if key in scores]
    if blind:
        found["no_skill"] = scores[blind].max(axis=1)
        some = found["no_skill"].notna()
        found.loc[some, "who"] = scores.loc[some, blind].idxmax(axis=1)
    return found


def truly_worse(part: pd.DataFrame) -> list[str]:
    """Members of the zoo whose exact risk is above that of what they are made from, for sure.

    The intervals over networks don't touch; of a single network, the means.
    """
    risk = _of(part, charges.RISKED, gene=RISK).set_index("model")
    found = []
    for key, row in zoo.ROWS.items():
        if row.of and key in risk.index and row.of in risk.index:
            low = np.nan_to_num(risk.loc[key, "ci_low"], nan=risk.loc[key, "mean"])
            high = np.nan_to_num(risk.loc[row.of, "ci_high"], nan=risk.loc[row.of, "mean"])
            if low > high:
                found.append(key)
    return found


def needed(part: pd.DataFrame) -> pd.Series:
    """Fewest cells at which, and at all more, pairs of models are ordered right."""
    order = _of(part, charges.ORDER, model=APART)
    order = order[order["mechanism"].str.endswith(" cells")]
    n = order["mechanism"].str.removesuffix(" cells").astype(int)
    wide = order.assign(n=n).pivot(index="metric", columns="n", values="mean").sort_index(axis=1)
    right = (wide >= RIGHT).iloc[:, ::-1].cummin(axis=1).iloc[:, ::-1]
    fewest = right.idxmax(axis=1).astype(float)
    return fewest.where(right.any(axis=1), np.inf)


def dialled(dials: pd.DataFrame, model: str, parameter: str) -> pd.DataFrame:
    """Whether metrics put a model before the perturbed mean, a row a metric, a column a value.

    dials: means over networks of runs in which one parameter at a time was changed

    The first row is the exact risk's. A value is the share of networks, a tie half. Metrics are in
    the order of how often they say what the exact risk says.
    """
    part = dials[(dials["scenario"] == charges.VERDICT) & (dials["model"] == model)]
    part = part[part["gene"] == RISK]
    wide = part.pivot_table(index="metric", columns=parameter, values="mean")
    if charges.EXACTLY not in wide.index:
        return wide
    exact = wide.loc[charges.EXACTLY]
    wrong = (wide - exact).abs().mean(axis=1)
    return wide.loc[wrong.sort_values(kind="stable").index]


def usual_of(dials: pd.DataFrame, parameter: str) -> pd.DataFrame:
    """Rows of runs in which nothing but one parameter is other than usual."""
    from dataclasses import fields

    from lib.tasks.screen import Design

    usual = {field.name: field.default for field in fields(Design) if field.name in dials}
    for name, value in usual.items():
        if name != parameter:
            given = pd.to_numeric(dials[name], errors="coerce").fillna(value)
            dials = dials[given == value]
    given = pd.to_numeric(dials[parameter], errors="coerce").fillna(usual[parameter])
    return dials.assign(**{parameter: given})


def flips(dials: pd.DataFrame, model: str, parameter: str) -> pd.DataFrame | str:
    """`dialled` of runs in which nothing else is other than usual, to read."""
    if not len(dials):
        return "not there: ./run_all.sh sweep court_dials"
    return dialled(usual_of(dials, parameter), model, parameter).round(2)


def known(folder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means of the sweeps `court` and `court_dials`; without a file there are no rows.

    folder: has 08_court.csv and 08_dials.csv
    """
    paths = [Path(folder) / f"08_{name}.csv" for name in ("court", "dials")]
    none = pd.DataFrame(columns=tables.SUMMARY)
    court, dials = (tables.read(path) if path.is_file() else none for path in paths)
    return court, dials


def questions(summary: pd.DataFrame, split: str) -> pd.DataFrame:
    """Agreement over models with each exact risk, and over some of the arms, a row a metric."""
    part = _of(summary, charges.AGREEMENT, mechanism=first_cells(summary), model=charges.MODELS)
    of_split = part[part["split"] == split].pivot(index="metric", columns="gene", values="mean")
    some = part[(part["split"] != split) & (part["gene"] == RISK)]
    of_arms = some.pivot_table(index="metric", columns="split", values="mean")
    return of_split.join(of_arms).sort_values(RISK, ascending=False, kind="stable")


def suites(summary: pd.DataFrame, split: str) -> pd.DataFrame:
    """Scores of members of the zoo by the challenge's two suites, and their exact skill."""
    part = summary[(summary["split"] == split) & (summary["scenario"] == charges.SCORE)]
    keys = [f"{CELL_EVAL2} {name}" for name in SUITES]
    wide = part[part["metric"].isin(keys)].pivot(index="model", columns="metric", values="mean")
    risk = _of(summary[summary["split"] == split], charges.RISKED, gene=RISK)
    wide["exact skill"] = 1 - risk.set_index("model")["mean"]
    wide = wide.loc[charges.in_order(wide.index)]
    wide.insert(0, "what", [zoo.ROWS[k].label if k in zoo.ROWS else "" for k in wide.index])
    return wide


def told(summary: pd.DataFrame, split: str) -> pd.DataFrame:
    """Scores of the models that are told one by one, the mean's 0 and the truth's 1, by metric.

    The first row is their exact skill.
    """
    part = summary[(summary["split"] == split) & (summary["scenario"] == charges.SCORE)]
    models = [key for key in part["model"].unique() if key not in zoo.ROWS]
    part = part[part["model"].isin(models)]
    wide = part.pivot(index="metric", columns="model", values="mean")
    risk = _of(summary[summary["split"] == split], charges.RISKED, gene=RISK)
    skill = 1 - risk.set_index("model")["mean"].reindex(wide.columns)
    return pd.concat([skill.to_frame("exact skill").T, wide])


def ceilings(summary: pd.DataFrame, split: str) -> pd.DataFrame:
    """Ceilings by metric, kind and number of cells; empty where they weren't asked for."""
    part = summary[(summary["split"] == split) & (summary["scenario"] == CEILING)]
    wide = part.pivot(index="metric", columns=["model", "mechanism"], values="mean")
    kinds = [kind for kind in charges.CEILINGS if kind in wide.columns.get_level_values(0)]
    return wide.reindex(columns=kinds, level=0) if len(wide) else wide


def expression(summary: pd.DataFrame) -> pd.DataFrame:
    """What is known of tests for differential expression; empty where they weren't asked for."""
    part = summary[summary["scenario"] == charges.TESTS]
    return part.pivot(index=["model", "gene"], columns=["metric", "mechanism"], values="mean")
