"""Arms of a screen as they were intended: no escapers, no wrong guides, no shift.

There a gene to which no path of the graph leads keeps the control's law exactly, so that it is a
true null of a test for differential expression.
"""

from __future__ import annotations

from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from lib import dataset, perturb
from lib.counts import CONTROL
from lib.predict.base import Perturbation
from lib.tasks.screen import Task
from lib.tasks.splits import COLUMNS

_INTENDED = int.from_bytes(b"intended")  # ends seeds of these cells


class Intended(NamedTuple):
    """Cells of arms as intended, and what is true of them.

    control: counts of control cells
    arms: label -> counts of its cells
    nulls: label -> (n_genes,) bool, genes not reached
    affected: label -> (n_genes,) bool, genes whose law the arm changes by more than 0.005 nats
    """

    control: ad.AnnData
    arms: dict[str, ad.AnnData]
    nulls: dict[str, np.ndarray]
    affected: dict[str, np.ndarray]


def intended(task: Task, asked: list[Perturbation], n_cells: int, n_control: int) -> Intended:
    """New cells of arms in the task's network, in the first cell type.

    asked: what to do, one arm each
    n_cells, n_control: cells of an arm, and controls

    The perturbed genes themselves are neither null nor affected.
    """
    table = pd.DataFrame([(p.name, p.perturbation_type, p.strength) for p in asked])
    table.columns = COLUMNS
    first, *others = map(str, task.network.cell_types)
    cells = perturb.screen(
        task.network,
        table,
        n_cells={first: n_cells} | dict.fromkeys(others, 0),
        n_control={first: n_control} | dict.fromkeys(others, 0),
        escapers=0.0,
        wrong_guides=0.0,
        depth=task.design.depth,
        seed=(*task.seed, _INTENDED),
    )
    truth = dataset.Truth(cells, first, n_cells=task.n_truth)
    labels = cells.obs["perturbation"].astype(str).to_numpy()
    found = Intended(cells[labels == CONTROL].copy(), {}, {}, {})
    for what in asked:
        arm = truth.arm(what.name, perturbation_type=what.perturbation_type, strength=what.strength)
        own = np.isin(arm.genes.index, what.name.split("+"))
        found.arms[what.name] = cells[labels == what.name].copy()
        found.nulls[what.name] = ~arm.genes["reached"].to_numpy() & ~own
        found.affected[what.name] = arm.genes["affected"].to_numpy() & ~own
    return found
