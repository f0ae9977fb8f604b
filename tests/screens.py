"""A small screen to test on, made once."""

from functools import cache

from lib.score import screen as score
from lib.tasks import screen

DESIGN = screen.Design(
    n_genes=40,
    n_regulators=10,
    n_arms=10,
    n_pairs=4,
    n_unseen=6,
    n_asked_pairs=6,
    n_strengths=2,
    n_cells=30,
    n_control=400,
    shift=0.4,
)
N_TRUTH = 300


@cache
def task(**changes):
    """The small screen, with other fields of its design."""
    fields = {name: getattr(DESIGN, name) for name in DESIGN.__dataclass_fields__}
    return screen.Task(screen.Design(**fields | changes), 7, n_truth=N_TRUTH)


@cache
def known():
    """The truth about all that it asks, and about its controls."""
    return score.exact(task())


def truth():
    """The truth about its arms."""
    return known().arms


@cache
def scores():
    """What scores answers about it."""
    return score.Scores(task(), known())
