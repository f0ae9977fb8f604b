"""Models of arms, fitted to a screen, asked about it, and scored."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.predict import guard, registry
from lib.predict.guard import Guarded
from lib.score import screen
from lib.score.dependence import Dependence
from lib.tasks.screen import GRAPH, NONE, Task

SECONDS = "seconds", "cpu_seconds"


class Entrant(NamedTuple):
    """A model that enters.

    model: unfitted
    prior: what it is told of the network
    """

    model: Guarded
    prior: str = NONE


def entrants(rows: list[registry.Row], task: Task, **setting) -> dict[str, Entrant]:
    """Unfitted models of screens, by their keys.

    setting: what `registry.make` may give a model, such as seed or device
    """
    made = guard.models(rows, registry.SCREEN, reference=task, **setting)
    return {row.key: Entrant(made[row.key], row.made[registry.SCREEN].prior) for row in rows}


def chosen(
    keys: list[str], task: Task, *, own: str = "", seed: int | tuple[int, ...] = 0, **setting
) -> dict[str, Entrant]:
    """The models of notebook 07_screen: those of some keys, and what skill is measured from.

    keys: empty for all models that answer about screens; else the perturbed mean stands beside them
    own: import string of a model of one's own, "" for none
    setting: as in `entrants`
    """
    rows = registry.rows("screen")
    if keys:
        rows = [row for row in rows if row.key in {*keys, screen.MEAN}]
    found = entrants(rows, task, seed=seed, **setting)
    if own:
        made = guard.load("model", own)
        found[made.__name__] = Entrant(guard.own(made, [], seed), GRAPH)
    return found


class Entered(NamedTuple):
    """What came of a model.

    scores: of each arm, as `screen.Scores.of` gives them
    cannot: name of a question -> why it has no answer
    took: seconds for fit and answers, by the clock and of all cores
    energy: name of a question -> energy distance, where some were judged
    """

    scores: pd.DataFrame
    cannot: dict[str, str]
    took: tuple[float, float]
    energy: dict[str, float] = {}


def enter(
    key: str,
    entrant: Entrant,
    task: Task,
    scores: screen.Scores,
    *,
    judge: Dependence | None = None,
    check: bool = True,
    seed: int | tuple[int, ...] = 0,
) -> Entered:
    """Fit a model, ask it about all arms, and score it.

    judge: of how genes vary together; None: nobody looks
    check: whether to look for leaks, by the first question that it answers

    Raises ValueError in one line for what is no answer, for leaks, and for a model of one's own
    that answers nothing.
    """
    model, cannot, answers = entrant.model, {}, {}
    train = task.train(entrant.prior)
    clock, cores = time.perf_counter(), time.process_time()
    model.fit(train)
    for question in task.asked:
        try:
            answers[question.name] = model.arm(question.query)
        except NotImplementedError as error:
            cannot[question.name] = str(error) or "has no answer"
    took = time.perf_counter() - clock, time.process_time() - cores
    if not answers and key not in registry.BY_KEY:
        why = next(iter(cannot.values()))
        raise ValueError(f"{key}: answers no question ({why})")
    if check and answers and not model.told:
        first = next(question for question in task.asked if question.name in answers)
        guard.check_leaks(model, first.query, key, seed=seed)
    energy = judge.of(answers) if judge else {}
    return Entered(scores.of(answers, are_draws=model.told, name=key), cannot, took, energy)


def energies(entered: dict[str, Entered], judge: Dependence) -> pd.DataFrame:
    """Mean energy distances: model, split, mechanism (the kind of arm), gene, metric, value.

    The oracle has an energy_floor beside its energy: that of other true cells. A model that lacks
    an arm has no mean.
    """
    found = {(key, "energy"): result.energy for key, result in entered.items()}
    found["oracle", "energy_floor"] = judge.floor()
    kinds: dict = {}
    for name, question in judge.asked.items():
        kinds.setdefault((question.split, question.kind), []).append(name)
    rows = []
    for (key, metric), values in found.items():
        for (split, kind), names in kinds.items():
            if all(name in values for name in names):
                mean = float(np.mean([values[name] for name in names]))
                rows.append((key, split, kind, "all", metric, mean))
    return pd.DataFrame(rows, columns=["model", "split", "mechanism", "gene", "metric", "value"])


def reasons(entered: dict[str, Entered], task: Task) -> pd.DataFrame:
    """Why models have no score of a split: model, split, mechanism (the kind of arm), reason."""
    by_name = {question.name: question for question in task.asked}
    rows = []
    for key, result in entered.items():
        for name, why in result.cannot.items():
            rows.append((key, by_name[name].split, by_name[name].kind, why))
    table = pd.DataFrame(rows, columns=["model", "split", "mechanism", "reason"])
    return table.drop_duplicates(["model", "split", "mechanism"], ignore_index=True)


def seconds(entered: dict[str, Entered]) -> pd.DataFrame:
    """The seconds that each model took: model, metric, value."""
    frames = [
        pd.DataFrame({"model": key, "metric": SECONDS, "value": result.took})
        for key, result in entered.items()
    ]
    return pd.concat(frames, ignore_index=True)
