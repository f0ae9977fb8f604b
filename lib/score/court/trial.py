"""A trial: one network's screen, its models and the zoo, all metrics, all charges."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from lib.predict import registry
from lib.predict.arms.answers import Means
from lib.score import arms
from lib.score.court import charges, hearing, zoo
from lib.score.court.hearing import INFINITE, Verdicts
from lib.score.court.panel import Panel
from lib.score.court.setting import Setting
from lib.score.screen import Scores, exact
from lib.tasks.intended import intended
from lib.tasks.screen import Design, Question, Task
from lib.tasks.splits import GENE, OTHER, REGULATOR

KINDS = {GENE: {"unseen regulator": REGULATOR, "unseen other gene": OTHER}}
LIVE = Design(  # the screen of the live case of notebook 08
    n_genes=200, n_regulators=30, n_arms=40, n_pairs=10, n_unseen=12, n_asked_pairs=0,
    n_strengths=0, n_control=2000,
)  # fmt: skip
_N_CONTROL = 2000  # of the tests for differential expression


class Trial(NamedTuple):
    """What came of it.

    table: rows of all charges, keys as in `charges`
    verdicts: name of a panel -> its verdicts
    panels: the same -> the panel
    """

    table: pd.DataFrame
    verdicts: dict[str, Verdicts]
    panels: dict[str, Panel]


def trial(
    task: Task,
    setting: Setting,
    *,
    models: list[str] = (),
    own: str = "",
    seed: int | tuple[int, ...] = 0,
    device: str = "cpu",
    report: Callable[[str], None] = lambda said: None,
) -> Trial:
    """Fit models to a screen, and try all metrics on their predictions.

    models: keys; empty for those of the list "court", or all with `setting.every_model`; the
        perturbed mean and no change always stand beside them
    own, seed, device: as in `arms.chosen`
    report: told who was asked
    """
    scores = Scores(task, exact(task))
    wanted = [*(models or registry.keys("court")), "no_change"]
    wanted = wanted if models or not setting.every_model else []
    answers = _answers(task, arms.chosen(wanted, task, own=own, seed=seed, device=device), report)
    most = max(*setting.cells, *setting.ceilings, 0)
    found = Trial(pd.DataFrame(), {}, {})
    parts = []
    for name in setting.panels:
        questions = [q for q in task.asked if q.split.startswith(name)]
        if len(questions) < 3:
            raise ValueError(f"panels: {name!r} has {len(questions)} arms here; must be 3 or more")
        panel = Panel(task, scores, questions, most)
        court = _court(panel, name, answers, setting, report)
        found.verdicts[name], found.panels[name] = court.verdicts, panel
        parts.append(court.all_rows())
        if name == setting.panels[0]:
            parts += _others(court, answers, setting, report)
    return found._replace(table=pd.concat(parts, ignore_index=True))


def _answers(task, entrants, report):
    """Key -> name of a question -> answer."""
    found = {}
    for key, entrant in entrants.items():
        entrant.model.fit(task.train(entrant.prior))
        found[key] = {}
        for question in task.asked:
            try:
                found[key][question.name] = entrant.model.arm(question.query)
            except NotImplementedError:
                continue
        report(f"{key} fitted")
    return found


def _court(panel, name, answers, setting, report):
    members = _members(panel, answers, setting.with_zoo)
    ns = setting.cells if name == setting.panels[0] else setting.cells[:1]
    asked = {n: _at(place) for place, n in enumerate(ns)}
    if setting.infinite:
        asked[INFINITE] = _at(0)
    verdicts = hearing.hear(
        panel,
        members,
        asked,
        suites=setting.suites,
        report=lambda said: report(f"{name}: {said}"),
    )
    kinds = {
        label: [place for place, q in enumerate(panel.questions) if q.kind == kind]
        for label, kind in KINDS.get(name, {}).items()
    }
    is_first = name == setting.panels[0]
    return charges.Court(verdicts, panel, name, kinds, is_first=is_first)


def _at(place):
    """Who is asked: everyone first, then models alone, and the truth."""

    def asked(member):
        return not place or charges.is_model(member.key, member.group) or member.key == zoo.ORACLE

    return asked


def _members(panel, answers, with_zoo):
    """Those who have an answer about every arm of a panel."""
    names = [question.name for question in panel.questions]
    told = {
        zoo.ORACLE: [exact.table for exact in panel.exact],
        zoo.EXACT: [Means(exact.mean) for exact in panel.exact],
    }
    complete = {
        key: [given[name] for name in names]
        for key, given in answers.items()
        if all(name in given for name in names)
    }
    natural = told | complete
    members = [zoo.natural(key, given, panel) for key, given in natural.items()]
    return members + (zoo.zoo(panel, complete[zoo.MEAN]) if with_zoo else [])


def _others(court, answers, setting, report):
    """Charges that need other cells."""
    found, panel = [], court.panel
    if setting.ceilings:
        from lib.score.court.ceilings import ceilings

        mean = [answers[zoo.MEAN][question.name] for question in panel.questions]
        member = zoo.natural(zoo.MEAN, mean, panel)
        for n in setting.ceilings:
            found.append(ceilings(panel, member, n, court.split))
            report(f"ceilings, {n} cells")
    if setting.tests:
        from lib.score.court.expression import tests

        asked = [q.query.perturbation for q in panel.questions if _may_act(q)]
        cells = intended(panel.task, asked, max(setting.tests), _N_CONTROL)
        found.append(tests(cells, list(setting.tests), "unseen regulator"))
        report("tests")
    return found


def _may_act(question: Question):
    return question.kind == REGULATOR or question.split != GENE
