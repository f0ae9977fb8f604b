"""The summary of a full run: the table in the README."""

from pathlib import Path

import pandas as pd

from lib.predict import registry
from lib.score import tables
from lib.show import style

SPLITS = ["held_out", "do_inside", "do_beyond"]


def table(folder: str | Path) -> str:
    """Skill of the models in the README, a mean over mechanisms, and their KL off target.

    folder: holds the means of all tables, summary.csv

    Returns Markdown. A model that lacks a mechanism has no mean.
    """
    means = tables.read(Path(folder) / "summary.csv").query("scenario == 'leaderboard'")
    shown = tables.over_mechanisms(means, "skill_kl", SPLITS)
    shown = shown.map(lambda value: "" if pd.isna(value) else f"{value:z.2f}")
    off_target = means[means["metric"] == "off_target_kl"].set_index("model")["mean"]
    shown["off target (nats)"] = off_target.map("{:.2g}".format)
    shown = shown.reindex([key for key in registry.keys("readme") if key in shown.index])
    shown.index = [style.label(key) for key in shown.index]
    return shown.rename(columns=style.label).to_markdown(disable_numparse=True)
