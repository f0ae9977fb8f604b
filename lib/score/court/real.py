"""The checks that need no truth, on a real screen: what tricks gain where no law is known.

Each arm's cells are split in halves. One is measured; the other, the duplicate, stands for a
perfect prediction. Predictions without skill know the other arms alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sparse

from lib import checks
from lib.counts import CONTROL, SEPARATOR, counts_of, dense
from lib.score.court import own
from lib.score.court.metrics import rows
from lib.score.court.packages import CellEval2, Judged, ScPertEval
from lib.score.court.panel import LABEL, TARGET_SUM
from lib.seeds import stream

DUPLICATE, MEAN, REPEATED, SCALED, SPIKED = MEMBERS = (
    "duplicate", "perturbed mean", "mean, repeated", "mean, effects × 2", "mean, targets spiked",
)  # fmt: skip
_LEAST = 20  # cells of an arm
_FOLD = 2.0
_WHOLE = 0.02  # what a count made of logs may be off, at 1 count
_MOST_LEAST = 5  # counts of the least value that a cell has


class RealScreen(NamedTuple):
    """Cells of a screen.

    counts: cells of one type, with `LABEL`
    arms: labels of arms with enough cells
    """

    counts: ad.AnnData
    arms: list[str]


def read(path: str | Path) -> RealScreen:
    """A screen of an .h5ad. Raises ValueError in one line.

    It has whole counts in X or a layer, or log1p of normalised ones, of which counts are made; and
    in obs `perturbation`: "control", or names of genes joined by "+". Of several `cell_type`s the
    one with the most cells is taken.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"real_screen = {str(path)!r}: no such file")
    try:
        cells = ad.read_h5ad(path)
    except Exception as error:
        said = " ".join(str(error).split())
        raise ValueError(f"real_screen = {str(path)!r}: can't be read ({said})") from None
    if LABEL not in cells.obs:
        raise ValueError(f"real_screen = {str(path)!r}: has no obs[{LABEL!r}]")
    if "cell_type" in cells.obs:
        kept = cells.obs["cell_type"].value_counts().index[0]
        cells = cells[cells.obs["cell_type"] == kept].copy()
    try:
        counts = counts_of(cells)
    except ValueError:
        counts = _of_logs(cells.X, path)
    labels = cells.obs[LABEL].astype(str)
    n = labels.value_counts()
    arms = [name for name in n.index if name != CONTROL and n[name] >= _LEAST]
    if len(arms) < 3 or n.get(CONTROL, 0) < _LEAST:
        must = f"must have control cells and three arms of at least {_LEAST} cells"
        raise ValueError(f"real_screen = {str(path)!r}: {must}")
    obs = pd.DataFrame({LABEL: pd.Categorical(labels)}, index=cells.obs_names)
    var = pd.DataFrame(index=cells.var_names)
    return RealScreen(ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=var), sorted(arms))


def _of_logs(logs, path):
    """Counts of log1p of normalised ones: a cell's least value above 0 is one count, or a few."""
    found = sparse.csr_matrix(logs, dtype=float).expm1()
    for first, last in zip(found.indptr[:-1], found.indptr[1:]):
        values = found.data[first:last] / found.data[first:last].min(initial=np.inf)
        for least in range(1, _MOST_LEAST + 1):
            off = abs(least * values - np.round(least * values))
            if (off <= _WHOLE * np.sqrt(least * values)).all():
                break
        else:
            must = "must have counts, or log1p of normalised ones"
            raise ValueError(f"real_screen = {str(path)!r}: {must}")
        found.data[first:last] = np.round(least * values)
    return found


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
    judges = _Judges(screen, control, measured)
    said = {member: judges.judge(*cells) for member, cells in predicted.items()}
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
        found[REPEATED][1][name] = np.broadcast_to(_logs(pool).mean(axis=0), some.shape)
    return found


def _multiplied(counts, fold, rng):
    """Counts times a fold, rounded at random so that means are kept."""
    values = counts * fold
    return np.floor(values) + (rng.random(values.shape) < values % 1)


def _logs(counts):
    return np.log1p(counts * (TARGET_SUM / np.maximum(counts.sum(axis=1, keepdims=True), 1)))


class _Judges:
    """All metrics with measured cells to hold against."""

    def __init__(self, screen, control, measured):
        self.genes, self.control, self.arms = screen.counts.var_names, control, screen.arms
        counts = self._labelled(measured)
        logs = self._normalised(counts)
        self.scperteval, self.cell_eval2 = ScPertEval(logs), CellEval2(counts)
        self.ours = own.Definitions(logs, self.arms)

    def _labelled(self, cells, control=None):
        blocks = [self.control if control is None else control, *(cells[n] for n in self.arms)]
        labels = np.repeat([CONTROL, *self.arms], [len(block) for block in blocks])
        obs = pd.DataFrame(
            {LABEL: pd.Categorical(labels)}, index=[f"c{i}" for i in range(len(labels))]
        )
        values = sparse.csr_matrix(np.vstack(blocks), dtype=np.float32)
        return ad.AnnData(values, obs=obs, var=pd.DataFrame(index=self.genes))

    def _normalised(self, counts):
        logs = counts.copy()
        sc.pp.normalize_total(logs, target_sum=TARGET_SUM)
        sc.pp.log1p(logs)
        return logs

    def judge(self, cells, logs) -> Judged:
        counts = self._labelled(cells)
        if logs is None:
            logs = self._normalised(counts)
        else:
            logs = self._labelled(logs, _logs(self.control))
        found = self.scperteval.judge(logs).joined(self.ours.judge(logs))
        return found.joined(self.cell_eval2.judge(counts))
