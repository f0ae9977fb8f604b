"""A small court to test on, made once: a screen, a panel, its members, what metrics say."""

from functools import cache

from lib.score import arms
from lib.score import screen as score
from lib.score.court import zoo
from lib.score.court.panel import Panel
from lib.tasks import screen

DESIGN = screen.Design(
    n_genes=60,
    n_regulators=12,
    n_arms=12,
    n_pairs=0,
    n_unseen=8,
    n_asked_pairs=0,
    n_strengths=0,
    n_cells=40,
    n_control=600,
    shift=0.4,
)
N_CELLS = 120


@cache
def task():
    return screen.Task(DESIGN, 5, n_truth=400)


@cache
def scores():
    return score.Scores(task(), score.exact(task()))


@cache
def panel():
    return Panel(task(), scores(), task().asked, N_CELLS)


@cache
def answers():
    """Key of a cheap model -> its answers, in order."""
    found = {}
    for key, entrant in arms.chosen(["no_change", "exact_means", "bilinear"], task()).items():
        entrant.model.fit(task().train(entrant.prior))
        found[key] = [entrant.model.arm(question.query) for question in task().asked]
    return found


@cache
def members():
    """Key -> member: models, the truth, the zoo."""
    told = {zoo.ORACLE: [exact.table for exact in panel().exact]}
    models = [zoo.natural(key, given, panel()) for key, given in (told | answers()).items()]
    return {member.key: member for member in [*models, *zoo.zoo(panel(), answers()[zoo.MEAN])]}
