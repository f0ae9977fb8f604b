"""Predictions of known quality: what models answer, made worse in one way each, and tricks.

A member answers with laws, means or cells, by which its exact risk is computed as that of any
model; and with the cells that a metric is given, whose laws these are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.special as special

from lib.laws.tabulated import Tabulated
from lib.predict.arms.answers import Answer, Means
from lib.predict.arms.pseudobulk import TARGET_SUM
from lib.score.controls import as_means
from lib.score.court.cells import log1p
from lib.score.court.panel import Drawn, Panel
from lib.seeds import stream

NATURAL, DEGRADED, TRICK, NO_SKILL = GROUPS = "natural", "degraded", "trick", "no skill"
ORACLE, MEAN, EXACT = "oracle", "perturbed_mean", "exact_means"
_TAIL = 1e-9  # of a law, which its table may leave out


class Member(NamedTuple):
    """A prediction of all arms of a panel.

    key: its name
    group: one of `GROUPS`
    of: key of the member that it is made from, "" for a model
    answers: of each arm
    cells: function of an arm's place, which draws the cells that metrics are given
    """

    key: str
    group: str
    of: str
    answers: list[Answer]
    cells: Callable[[int], Drawn]

    def drawn(self) -> list[Drawn]:
        """The cells of each arm."""
        return [self.cells(place) for place in range(len(self.answers))]


class Row(NamedTuple):
    """A member of the zoo.

    label: what a table calls it
    group, of: as in `Member`
    """

    label: str
    group: str
    of: str


ROWS = {
    "shrunk_25": Row("truth, 25 % of the cells unchanged", DEGRADED, ORACLE),
    "shrunk_50": Row("truth, 50 % of the cells unchanged", DEGRADED, ORACLE),
    "shrunk_75": Row("truth, 75 % of the cells unchanged", DEGRADED, ORACLE),
    "collapsed_50": Row("truth, 50 % of the cells the mean's", DEGRADED, ORACLE),
    "collapsed_75": Row("truth, 75 % of the cells the mean's", DEGRADED, ORACLE),
    "effects_50": Row("true effects × 0.5", DEGRADED, EXACT),
    "effects_150": Row("true effects × 1.5", DEGRADED, EXACT),
    "effects_200": Row("true effects × 2", DEGRADED, EXACT),
    "effects_300": Row("true effects × 3", DEGRADED, EXACT),
    "noise_03": Row("true log folds, noise 0.03", DEGRADED, EXACT),
    "noise_10": Row("true log folds, noise 0.1", DEGRADED, EXACT),
    "noise_30": Row("true log folds, noise 0.3", DEGRADED, EXACT),
    "narrow": Row("true means, too little variance", DEGRADED, EXACT),
    "wide": Row("true means, too much variance", DEGRADED, EXACT),
    "independent": Row("true laws, genes independent", DEGRADED, ORACLE),
    "ambient": Row("truth, the same added to all genes", DEGRADED, ORACLE),
    "library_half": Row("true means × 0.5", DEGRADED, EXACT),
    "library_double": Row("true means × 2", DEGRADED, EXACT),
    "log_scale": Row("truth, log1p of another sum", DEGRADED, ORACLE),
    "exact_repeated": Row("true mean, repeated", DEGRADED, EXACT),
    "mean_50": Row("perturbed mean × 0.5", TRICK, MEAN),
    "mean_200": Row("perturbed mean × 2", TRICK, MEAN),
    "mean_300": Row("perturbed mean × 3", TRICK, MEAN),
    "mean_repeated": Row("perturbed mean, repeated", TRICK, MEAN),
    "mean_spiked": Row("perturbed mean, targets spiked", TRICK, MEAN),
    "random": Row("random effects, much variance", NO_SKILL, ""),
}
_SPIKE = 2.0  # fold of the genes that the panel's other arms perturb
_AMBIENT = 0.1  # counts added to every gene, as a share of the mean gene's
_WRONG_SUM = 1e6  # of log1p, in place of 10,000
_NARROW, _WIDE, _WILDEST = 0.8, 1.2, 1.3  # powers of a law's rates, at equal mean
_WILD = 0.3  # sd of random log folds


def natural(key: str, answers: list[Answer], panel: Panel) -> Member:
    """A model, or the truth: its cells are the law's, or its own."""
    if key == ORACLE:
        return Member(key, NATURAL, "", answers, lambda place: Drawn(panel.other[place]))
    return Member(key, NATURAL, "", answers, _sampled(answers, panel))


def zoo(panel: Panel, perturbed_mean: list[Answer]) -> list[Member]:
    """All but the models.

    perturbed_mean: the model's answers
    """
    return [
        *_mixed(panel, perturbed_mean),
        *_scaled(panel),
        *_misshapen(panel),
        *_displaced(panel),
        *_of_mean(panel, perturbed_mean),
        _repeated("exact_repeated", [Means(e.mean) for e in panel.exact], panel),
        _random(panel),
    ]


def _sampled(answers, panel):
    """Cells of answers, by their laws."""
    return lambda place: Drawn(panel.of_answer(place, answers[place]))


def _member(key, answers, panel):
    return _made(key, answers, _sampled(answers, panel))


def _made(key, answers, cells):
    return Member(key, ROWS[key].group, ROWS[key].of, answers, cells)


def _mixed(panel, perturbed_mean):
    """The truth, with a share of the cells from controls, or from the perturbed mean."""
    n_counts = max(exact.table.n_counts for exact in panel.exact)
    usual = panel.helper.law.pmf_table(n_counts)
    means = [panel.helper.as_law(answer) for answer in perturbed_mean]
    found = []
    for name, group, shares in (("shrunk", "", (25, 50, 75)), ("collapsed", MEAN, (50, 75))):
        others = [panel.helper.law] * len(means) if not group else means
        for share in shares:
            answers = []
            for exact, law in zip(panel.exact, means):
                table = law.pmf_table(n_counts) if group else usual
                true = exact.table.padded(n_counts)
                rows = (1 - share / 100) * true + share / 100 * table
                answers.append(Tabulated(list(rows)))

            def cells(place, share=share, others=others):
                return _some(panel, place, share / 100, others[place])

            found.append(_made(f"{name}_{share}", answers, cells))
    return found


def _some(panel, place, share, law):
    """True cells, of which a share is replaced by cells of another law, first or last alike."""
    true = panel.other[place].copy()
    n = len(true)
    replaced = np.floor(share * np.arange(1, n + 1)) > np.floor(share * np.arange(n))
    true[replaced] = panel.of_answer(place, law)[replaced]
    return Drawn(true)


def _scaled(panel):
    """True means, their effects multiplied, or with noise on their log folds."""
    control = panel.helper.law.mean
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [np.log(exact.mean) - np.log(control) for exact in panel.exact]
    logs = [np.where(np.isfinite(row), row, 0) for row in logs]
    found = []
    for percent in (50, 150, 200, 300):
        means = [Means(control * np.exp(percent / 100 * row)) for row in logs]
        found.append(_member(f"effects_{percent}", means, panel))
    for sd, name in ((0.03, "noise_03"), (0.1, "noise_10"), (0.3, "noise_30")):
        rng = stream(panel.task.seed, "noise on log folds")
        means = [Means(e.mean * np.exp(sd * rng.normal(size=len(control)))) for e in panel.exact]
        found.append(_member(name, means, panel))
    return found


def _misshapen(panel):
    """True means with another variance, and true laws of independent genes."""
    found = []
    for key, power in (("narrow", _NARROW), ("wide", _WIDE)):
        answers = [_spread(panel, exact.mean, power) for exact in panel.exact]
        found.append(_member(key, answers, panel))

    def shuffled(place):
        rng = stream((*panel.task.seed, place), "independent genes")
        return Drawn(rng.permuted(panel.other[place], axis=0))

    answers = [exact.table for exact in panel.exact]
    return [*found, _made("independent", answers, shuffled)]


def _spread(panel, mean, power):
    """Laws whose rates are spread like a power of the controls', with these means."""
    law = panel.helper.law
    usual = np.maximum(law.mean, 1e-300)
    bent = type(law)((law.rates / usual) ** power * usual, law.weights)
    return _tabulated(bent.scaled(mean / np.maximum(bent.mean, 1e-300)))


def _tabulated(law):
    return Tabulated(list(law.pmf_table(int(law.reach(_TAIL).max()) + 1)))


def _displaced(panel):
    """The truth on another scale: something added to every gene, other totals, other logs."""
    control = panel.helper.law.mean
    added = _AMBIENT * control.mean()
    k = np.arange(int(added + 12 * np.sqrt(added) + 12))
    pmf = np.exp(special.xlogy(k, added) - added - special.gammaln(k + 1))
    blurred = [
        Tabulated([np.convolve(row, pmf) for row in exact.table.rows]) for exact in panel.exact
    ]

    def ambient(place):
        rng = stream((*panel.task.seed, place), "ambient counts")
        cells = panel.other[place]
        return Drawn(cells + rng.poisson(added, cells.shape))

    found = [_made("ambient", blurred, ambient)]
    for key, fold in (("library_half", 0.5), ("library_double", 2.0)):
        means = [Means(fold * exact.mean) for exact in panel.exact]
        found.append(_member(key, means, panel))

    def logs(place):
        cells = panel.other[place]
        return Drawn(cells, log1p(cells, _WRONG_SUM))

    answers = [Means(logs(place).logs.mean(axis=0), TARGET_SUM) for place in range(len(blurred))]
    return [*found, _made("log_scale", answers, logs)]


def _of_mean(panel, perturbed_mean):
    """Tricks that know no more of an arm than the perturbed mean, and whose panel it is in."""
    control, own = panel.helper.law.mean, panel.own()
    means = [as_means(panel.helper.as_law(answer)).values for answer in perturbed_mean]
    found = []
    for percent in (50, 200, 300):
        scaled = [Means(control * (mean / control) ** (percent / 100)) for mean in means]
        found.append(_member(f"mean_{percent}", scaled, panel))
    others = own.any(axis=0) & ~own
    spiked = [Means(np.where(of, _SPIKE, 1) * mean) for of, mean in zip(others, means)]
    found.append(_member("mean_spiked", spiked, panel))
    return [*found, _repeated("mean_repeated", perturbed_mean, panel)]


def _repeated(key, answers, panel):
    """The mean profile in place of cells: of logs where logs are asked for, else rounded at random.

    Its law is the narrowest of whole counts with that mean.
    """
    means = [as_means(panel.helper.as_law(answer)).values for answer in answers]
    shape = panel.n_cells, len(panel.genes)
    known: dict[bytes, np.ndarray] = {}  # the perturbed mean is the same for most arms

    def cells(place):
        mean = means[place]
        if mean.tobytes() not in known:
            known[mean.tobytes()] = panel.mean_logs(Means(mean))
        logs = known[mean.tobytes()]
        rng = stream((*panel.task.seed, place), "rounding of a mean")
        counts = np.floor(mean) + (rng.random(shape) < mean % 1)
        return Drawn(counts, np.broadcast_to(logs, shape))

    return _made(key, [_narrowest(mean) for mean in means], cells)


def _narrowest(mean):
    low = np.floor(mean).astype(int)
    rows = [np.append(np.zeros(k), [1 - (m - k), m - k]) for k, m in zip(low, mean)]
    return Tabulated(rows)


def _random(panel):
    """Effects that have nothing to do with the arm, in cells that vary too much."""
    control = panel.helper.law.mean
    rng = stream(panel.task.seed, "random effects")
    answers = []
    for _ in panel.exact:
        mean = control * np.exp(_WILD * rng.normal(size=len(control)))
        answers.append(_spread(panel, mean, _WILDEST))
    return _member("random", answers, panel)
