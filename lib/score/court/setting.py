"""What a trial asks. It imports nothing that takes seconds."""

from dataclasses import dataclass

from lib import checks
from lib.score.court.metrics import SUITES
from lib.tasks.splits import GENE

PAIR = "pair"
PANELS = GENE, PAIR  # arms that are judged together


@dataclass(frozen=True)
class Setting:
    """What is asked.

    cells: numbers of cells of an arm; every member at the first, models alone at the others, and of
        the first panel alone
    infinite: whether metrics of means are also asked about infinitely many cells
    suites: challenges that are scored, at the first number of cells
    panels: "unseen gene", "pair": each a panel of its own
    every_model: whether all models of screens are asked about, not those of the list "court" alone
    with_zoo: whether predictions of known quality are asked about, beside models
    ceilings, tests: numbers of cells for these charges; empty for none
    """

    cells: tuple[int, ...] = (100,)
    infinite: bool = True
    suites: tuple[str, ...] = tuple(SUITES)
    panels: tuple[str, ...] = PANELS
    every_model: bool = False
    with_zoo: bool = True
    ceilings: tuple[int, ...] = ()
    tests: tuple[int, ...] = ()

    def __post_init__(self):
        for name, least in (("cells", 1), ("ceilings", 0), ("tests", 0)):
            values = checks.listed(name, list(getattr(self, name)), least=least)
            for value in values:
                checks.integer(name, value, 4, 5000)
        checks.listed("suites", list(self.suites), tuple(SUITES), least=0)
        checks.listed("panels", list(self.panels), PANELS)
