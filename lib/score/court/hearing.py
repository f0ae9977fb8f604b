"""Every metric asked about every member of a panel, and the members' exact risks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from lib.counts import CONTROL
from lib.predict.arms.pseudobulk import TARGET_SUM
from lib.score.court import own
from lib.score.court.cells import labelled
from lib.score.court.judges import Judges
from lib.score.court.metrics import CELL_EVAL2, LAWS, OWN, SCPERTEVAL, rows
from lib.score.court.packages import Judged
from lib.score.court.panel import Panel
from lib.score.court.zoo import Member

RISKS = {  # name -> set of genes and metric of `score.screen`
    "KL": ("all", "kl_nats"),
    "KL, affected genes": ("affected", "kl_nats"),
    "error of the log mean": ("all", "mse_log_mean"),
    "CRPS": ("all", "excess_crps"),
}
RISK = "KL"  # the one that decides, where one must
INFINITE = 0  # stands for infinitely many cells
# of scPertEval and cell-eval2, those that see means alone, and need no test of the cells
_OF_MEANS = {
    SCPERTEVAL: "pearson pearson_ctrl pearson_pert mse pearson_heg_k pearson_ctrl_heg_k l2_heg_k "
    "r2_ctrl r2_pert rank transpose_rank nir",
    CELL_EVAL2: "expr_mae expr_mse pds_l1 pds_l2 pds_cosine delta_pearson delta_mae delta_mse",
}


class Verdicts(NamedTuple):
    """What metrics say of members, and the members' exact risks.

    means: number of cells -> (member, metric) score of the panel
    arms: number of cells -> metric -> (member, arm) score
    failed: member, metric, n_cells, reason: where there is no score
    risks: name of a risk -> (member, arm) risk, NaN where no gene counts
    groups: key of a member -> its group
    own_law: keys of members that are more than means
    """

    means: dict[int, pd.DataFrame]
    arms: dict[int, dict[str, pd.DataFrame]]
    failed: pd.DataFrame
    risks: dict[str, pd.DataFrame]
    groups: dict[str, str]
    own_law: list[str]


def hear(
    panel: Panel,
    members: Iterable[Member],
    asked: dict[int, Callable[[Member], bool]],
    *,
    suites: Sequence[str] = (),
    report: Callable[[str], None] = lambda said: None,
) -> Verdicts:
    """Ask all metrics about members.

    asked: numbers of cells, of which `INFINITE` is one, and of which members at each
    suites: challenges of cell-eval2 that are scored at the first number of cells
    report: told the key of each member and the seconds that it took
    """
    finite = [n for n in asked if n != INFINITE]
    courts = {}
    for n in finite:
        first = n == finite[0]
        courts[n] = _Court(panel, n, suites if first else ())
    if INFINITE in asked:
        courts[INFINITE] = _Limit(panel)
    said: dict[int, dict[str, Judged]] = {n: {} for n in asked}
    risks, groups, own_law = {}, {}, []
    for member in members:
        start = time.perf_counter()
        risks[member.key] = _risk(panel, member)
        groups[member.key] = member.group
        if any(hasattr(answer, "pmf_table") or _is_cells(answer) for answer in member.answers):
            own_law.append(member.key)
        at = [n for n in asked if asked[n](member)]
        drawn = member.drawn() if set(at) - {INFINITE} else None
        of_laws = _of_laws(panel, member, [n for n in at if n != INFINITE])
        for n in at:
            found = courts[n].judge(member, drawn)
            said[n][member.key] = found.joined(of_laws[n]) if n in of_laws else found
        report(f"{member.key} {time.perf_counter() - start:.1f} s")
    of_risks = {name: pd.DataFrame({k: of[name] for k, of in risks.items()}).T for name in RISKS}
    return Verdicts(*_tables(said, panel.names), of_risks, groups, own_law)


def _is_cells(answer):
    return getattr(answer, "values", np.empty(0)).ndim == 2


class _Court:
    """All metrics at one number of cells."""

    def __init__(self, panel, n_cells, suites):
        self.panel, self.n_cells = panel, n_cells
        self.judges = Judges(panel.measured(n_cells), panel.names, suites=suites)

    def judge(self, member, drawn) -> Judged:
        counts = self.panel.measured(self.n_cells, cells=[each.counts for each in drawn])
        return self.judges.judge(counts, self.panel.logs(self.n_cells, drawn))


class _Limit:
    """Metrics of means at infinitely many cells: exact means, as one cell an arm."""

    def __init__(self, panel):
        self.panel = panel
        protocols, metrics = (_OF_MEANS[name].split() for name in (SCPERTEVAL, CELL_EVAL2))
        measured = self._one_cell_each([exact.mean for exact in panel.exact])
        self.judges = Judges(measured, panel.names, protocols, metrics=metrics, fractional=True)

    def _one_cell_each(self, means) -> ad.AnnData:
        """Means in place of cells, the controls' too."""
        control = self.panel.helper.law.mean
        scale = TARGET_SUM / control.sum()  # means of few counts would be rounded
        cells = scale * np.array([control, *means])
        blocks = {name: row[None] for name, row in zip((CONTROL, *self.panel.names), cells)}
        return labelled(blocks, self.panel.genes)

    def judge(self, member, drawn) -> Judged:
        laws = [self.panel.helper.as_law(answer) for answer in member.answers]
        return self.judges.judge(self._one_cell_each([law.mean for law in laws]))


def _of_laws(panel, member, ns):
    """n -> NLL and CRPS of a member's laws."""
    if not ns:
        return {}
    laws = [panel.helper.as_law(answer) for answer in member.answers]
    found, keys = {}, [row.key for row in OWN if row.takes == LAWS]
    for n, values in own.of_laws(laws, panel.true, ~panel.own(), ns).items():
        arms = {key: pd.Series(row, panel.names) for key, row in zip(keys, values)}
        found[n] = Judged({key: float(row.mean()) for key, row in arms.items()}, arms, {})
    return found


def _risk(panel, member):
    """(arm, risk) of a member."""
    names = [question.name for question in panel.questions]
    answers = dict(zip(names, member.answers))
    table = panel.scores.of(answers, are_draws=member.key.startswith("duplicate"), doubt=False)
    wide = table.pivot(index="question", columns=["gene", "metric"], values="value")
    return (
        wide.reindex(index=names, columns=RISKS.values())
        .set_axis(panel.names)
        .set_axis(list(RISKS), axis="columns")
    )


def _tables(said, names):
    """The parts of `Verdicts` that metrics have said."""
    order = list(rows())
    means, arms, failed = {}, {}, []
    for n, of_members in said.items():
        keys = {key for judged in of_members.values() for key in (*judged.means, *judged.failed)}
        columns = [key for key in order if key in keys]
        table = {member: judged.means for member, judged in of_members.items()}
        means[n] = pd.DataFrame(table).T.reindex(columns=columns)
        arms[n] = {}
        for key in columns:
            of_metric = {m: j.arms[key] for m, j in of_members.items() if key in j.arms}
            if of_metric:
                arms[n][key] = pd.DataFrame(of_metric).T.reindex(columns=names)
        for member, judged in of_members.items():
            missing = {
                key: judged.failed.get(key, "the package gives none")
                for key in columns
                if not np.isfinite(judged.means.get(key, np.nan))
            }
            failed += [(member, key, n, why) for key, why in missing.items()]
    return means, arms, pd.DataFrame(failed, columns=["member", "metric", "n_cells", "reason"])
