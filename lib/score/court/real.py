"""The checks that need no truth, on a real screen: what tricks gain where no law is known.

Each arm's cells are split in halves. One is measured; the other, the duplicate, stands for a
perfect prediction. Predictions without skill know the other arms alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib import checks
from lib.counts import CONTROL, SEPARATOR, dense
from lib.score.court.cells import labelled, log1p
from lib.score.court.judges import Judges
from lib.score.court.metrics import rows
from lib.score.court.real_cells import LABEL, RealScreen
from lib.seeds import stream

DUPLICATE, MEAN, REPEATED, SCALED, SPIKED = MEMBERS = (
    "duplicate", "perturbed mean", "mean, repeated", "mean, effects × 2", "mean, targets spiked",
)  # fmt: skip
_FOLD = 2.0


def tricks(screen: RealScreen, *, seed: int | tuple[int, ...] = 0) -> pd.DataFrame:
    """Scores of predictions without skill: metric, member, value.

    The perturbed mean has 0 and the duplicate 1. A metric that tells these two apart the wrong way
    round, or not at all, has no row.
    """
    checks.listed("arms", screen.arms, least=3)
    rng = stream(seed, "halves of a real screen")
    halves = {name: _halves(screen, name, rng) for name in screen.arms}
    measured = {name: half for name, (half, _) in halves.items()}
    others = {name: half for name, (_, half) in halves.items()}
    control = dense(screen.counts[screen.counts.obs[LABEL] == CONTROL].X)
    predicted = {DUPLICATE: (others, None)} | _without_skill(others, control, screen, rng)

    def together(cells, control=control):
        blocks = {CONTROL: control} | {name: cells[name] for name in screen.arms}
        return labelled(blocks, screen.counts.var_names)

    judges, said = Judges(together(measured), screen.arms), {}
    for member, (cells, logs) in predicted.items():
        logs = None if logs is None else together(logs, log1p(control))
        said[member] = judges.judge(together(cells), logs)
    found = []
    for key, row in rows().items():
        zero, one = (said[member].means.get(key, np.nan) for member in (MEAN, DUPLICATE))
        if row.better and np.isfinite([zero, one]).all() and row.oriented(one - zero) > 0:
            for member, judged in said.items():
                value = (judged.means.get(key, np.nan) - zero) / (one - zero)
                found.append((key, member, value))
    return pd.DataFrame(found, columns=["metric", "member", "value"])


def _halves(screen, name, rng):
    cells = dense(screen.counts[screen.counts.obs[LABEL] == name].X)
    cells = cells[rng.permutation(len(cells))]
    half = len(cells) // 2
    return cells[:half], cells[half : 2 * half]


def _without_skill(others, control, screen, rng):
    """Member -> cells of each arm, and logs where these are a profile."""
    genes = {gene: place for place, gene in enumerate(screen.counts.var_names)}
    targets = {
        name: [genes[gene] for gene in name.split(SEPARATOR) if gene in genes] for name in others
    }
    found: dict[str, tuple[dict, dict | None]] = {
        member: ({}, {} if member == REPEATED else None) for member in MEMBERS[1:]
    }
    for name, cells in others.items():
        pool = np.vstack([rows for other, rows in others.items() if other != name])
        some = pool[rng.choice(len(pool), len(cells), replace=len(pool) < len(cells))]
        mean, usual = pool.mean(axis=0), control.mean(axis=0)
        fold = np.where((mean > 0) & (usual > 0), mean / np.where(usual > 0, usual, 1), 1.0)
        spike = np.ones(len(mean))
        spike[[place for other in others if other != name for place in targets[other]]] = _FOLD
        spike[targets[name]] = 1.0
        found[MEAN][0][name] = some
        found[SCALED][0][name] = _multiplied(some, fold ** (_FOLD - 1), rng)
        found[SPIKED][0][name] = _multiplied(some, spike, rng)
        found[REPEATED][0][name] = _multiplied(np.ones(some.shape), mean, rng)
        found[REPEATED][1][name] = np.broadcast_to(log1p(pool).mean(axis=0), some.shape)
    return found


def _multiplied(counts, fold, rng):
    """Counts times a fold, rounded at random so that means are kept."""
    values = counts * fold
    return np.floor(values) + (rng.random(values.shape) < values % 1)
