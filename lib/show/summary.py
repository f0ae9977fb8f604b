"""The summary of a full run: the table in the README."""

from pathlib import Path

import pandas as pd

from lib.predict import registry
from lib.score import screen, tables
from lib.show import style
from lib.show.figures import screen as figure

COLUMNS = {
    ("unseen gene", "regulator"): "unseen regulator",
    ("unseen gene", "other gene"): "unseen other gene",
    ("pair, seen 2", "pair"): "pair, both seen",
    ("pair, seen 1", "pair"): "pair, one seen",
}


def table(folder: str | Path) -> str:
    """Skill on a screen's unseen arms of the models in the README, with a shift that arms share.

    folder: has the means of the sweep, 07_sweep.csv, or those of one run, in 07_screen.csv

    Returns Markdown. A model that has no answer has no skill.
    """
    means = screen.swept(folder)
    if not len(means):
        means = tables.summary(tables.read(Path(folder) / "07_screen.csv"))
    else:
        means = figure.of_all(means)
    shown = figure.skills(means, screen.usual_of(means))
    last = shown.columns.get_level_values(0)[-1]  # of the shifts
    shown = shown[last].rename(columns={figure.COLUMNS[place]: n for place, n in COLUMNS.items()})
    shown = shown.reindex(columns=list(COLUMNS.values()))
    shown = shown.map(lambda value: "" if pd.isna(value) else f"{value:z.2f}")
    shown = shown.reindex([key for key in registry.keys("readme") if key in shown.index])
    shown.index = [style.label(key) for key in shown.index]
    return shown.to_markdown(disable_numparse=True)
