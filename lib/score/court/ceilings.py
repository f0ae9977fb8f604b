"""Ceilings: what benchmarks put in place of a perfect prediction, beside one.

new cells       as many new cells of the arm as were measured: what a perfect model can hand in
many cells      the same, four hundred
halves          one half of the measured cells against the other: scPertEval's technical
                duplicate, cell-eval2's half split
interpolated    scPertEval's interpolated duplicate (Miller et al. 2025), against the other half
Spearman-Brown  the half split's score r as 2 r / (1 + r), by cell-eval2's `compute_ceiling`
replicate       mean over five half splits, by cell-eval2's `compute_replicate_anchor`: the
                challenge's 1
bootstrap       two samples of the measured cells, with replacement, as the first cell-eval had
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import scperteval
import scperteval.protocols.table as protocols

from lib.score.court import charges
from lib.score.court.cells import normalised
from lib.score.court.charges import (
    BOOTSTRAP,
    CEILING,
    HALVES,
    INTERPOLATED,
    MANY,
    NEW,
    REPLICATE,
    SPEARMAN_BROWN,
)
from lib.score.court.judges import Judges
from lib.score.court.metrics import CELL_EVAL2, SCPERTEVAL, VCC2026, rows
from lib.score.court.packages import Judged, quiet
from lib.score.court.panel import Panel
from lib.score.court.zoo import Member
from lib.seeds import stream


def ceilings(panel: Panel, perturbed_mean: Member, n_cells: int, split: str) -> pd.DataFrame:
    """Scores of ceilings, the perturbed mean's at 0 and that of new cells at 1.

    perturbed_mean: the member with 0
    n_cells: measured cells of an arm
    """
    measured = panel.measured(n_cells)
    judges = Judges(measured, panel.names)
    mean = _judge(judges, panel, [each.counts[:n_cells] for each in perturbed_mean.drawn()])
    found = {
        NEW: _judge(judges, panel, [cells[:n_cells] for cells in panel.other]),
        MANY: _judge(judges, panel, panel.other),
        **_of_halves(panel, n_cells, measured, judges.cell_eval2),
        BOOTSTRAP: _bootstrap(panel, n_cells),
    }
    at, scored = charges.cells_of(n_cells), []
    for kind, judged in found.items():
        for key, value in judged.means.items():
            row = rows().get(key)
            if not row or not row.better or key not in mean.means:
                continue
            zero, one, value = (
                row.oriented(v) for v in (mean.means[key], found[NEW].means[key], value)
            )
            if one > zero and np.isfinite(value):
                scored.append((CEILING, at, kind, "", split, key, (value - zero) / (one - zero)))
    return charges.as_rows(scored)


def _judge(judges, panel, cells) -> Judged:
    """Scores of cells of each arm."""
    return judges.judge(panel.measured(len(cells[0]), cells=cells))


def _one_against(panel, first, second) -> Judged:
    """Scores of cells of each arm, held against others."""
    return _judge(Judges(panel.measured(len(first[0]), cells=first), panel.names), panel, second)


def _of_halves(panel, n_cells, measured, package):
    """Halves of the measured cells: against each other, interpolated, and as cell-eval2 has it."""
    first = [cells[: n_cells // 2] for cells in panel.true]
    second = [cells[n_cells // 2 : n_cells] for cells in panel.true]
    return {
        HALVES: _one_against(panel, first, second),
        INTERPOLATED: _interpolated(normalised(measured)),
        SPEARMAN_BROWN: _corrected(package),
        REPLICATE: _replicate(package),
    }


def _interpolated(logs):
    found = Judged({}, {}, {})
    with quiet():
        handle = scperteval.prepare(logs, "pseudobulk", workers=1, min_cells=1)
        for protocol in protocols.TABLE:
            if protocol.representation != "centroid":
                continue
            key = f"{SCPERTEVAL} {protocol.name}"
            try:
                said = scperteval.calibrate(handle, protocol.name, positive="interpolated")
            except ValueError as error:
                found.failed[key] = str(error)
                continue
            found.means[key] = float(np.nanmean(said.per_perturbation["raw_positive"]))
    return found


def _corrected(package):
    from cell_eval2 import compute_ceiling

    with quiet():
        _, said = compute_ceiling(package.measured, config=package.config)
    values = dict(zip(said["metric"], said["ceiling"]))
    return Judged({f"{CELL_EVAL2} {name}": value for name, value in values.items()}, {}, {})


def _replicate(package):
    from cell_eval2.anchor import compute_replicate_anchor

    config = replace(package.config, metrics=VCC2026, cache_real=None)
    try:
        with quiet():
            _, said = compute_replicate_anchor(package.measured, config=config)
    except ValueError as error:  # no arm has enough differentially expressed genes
        return Judged({}, {}, {f"{CELL_EVAL2} {VCC2026}": str(error)})
    values = dict(zip(said["metric"], said["replicate"]))
    return Judged({f"{CELL_EVAL2} {name}": value for name, value in values.items()}, {}, {})


def _bootstrap(panel, n_cells):
    """Two samples with replacement of the same measured cells, one against the other."""
    rng = stream(panel.task.seed, "bootstrap of cells")
    two = [[cells[rng.integers(0, n_cells, n_cells)] for cells in panel.true] for _ in range(2)]
    return _one_against(panel, *two)
