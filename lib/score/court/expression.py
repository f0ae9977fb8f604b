"""Tests for differential expression, whose true nulls and true effects are known here.

The tests are those that the two packages use, against control cells, at a false discovery rate of
0.05 by Benjamini and Hochberg. They see log1p of counts, as they are or scaled to one total, which
moves every gene where an arm changes others.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.counts import CONTROL
from lib.score.court import charges
from lib.score.court.cells import labelled, log1p
from lib.score.court.packages import NON_TARGETING, TARGET, quiet, renamed
from lib.tasks.intended import Intended

NORMALISED, AS_COUNTED = SCALES = "normalised", "as counted"
RATE = 0.05  # false discovery rate that is asked for
FDR, POWER, FALSE = "false discovery rate", "power", "false positives, of nulls"
_CELL_EVAL2 = "cell-eval2 wilcoxon"


def tests(screen: Intended, ns: list[int], split: str) -> pd.DataFrame:
    """True false discovery rate, power and false positives of each test, means over arms.

    ns: numbers of cells of an arm, of which the first are taken

    `model` is the test, `gene` the scale, `mechanism` the number of cells. The false discovery rate
    is that of all arms together: of all calls, the share that are nulls.
    """
    found = []
    for scale in SCALES:
        control = _scaled(screen.control.X, scale)
        arms = {name: _scaled(cells.X, scale) for name, cells in screen.arms.items()}
        for n in ns:
            some = {name: rows[:n] for name, rows in arms.items()}
            for test, calls in _calls(control, some, list(screen.control.var_names)).items():
                for what, value in _rates(calls, screen).items():
                    found.append(
                        (charges.TESTS, charges.cells_of(n), test, scale, split, what, value)
                    )
    return charges.as_rows(found)


def _scaled(counts, scale):
    counts = counts.toarray().astype(float)
    return log1p(counts) if scale == NORMALISED else np.log1p(counts)


def _calls(control, arms, genes):
    """Test -> label -> (n_genes,) whether it calls a gene."""
    from scperteval.blocks.de import DE_METHODS

    found = {}
    for name in DE_METHODS.names():
        test = DE_METHODS[name]
        with quiet():
            found[f"scperteval {name}"] = {
                arm: np.nan_to_num(test(cells, control).pvalue_adj, nan=1.0) < RATE
                for arm, cells in arms.items()
            }
    found[_CELL_EVAL2] = _by_cell_eval2(control, arms, genes)
    return found


def _by_cell_eval2(control, arms, genes):
    """The same by cell-eval2's table of tests, from values on a scale of logs."""
    from cell_eval2 import EvalConfig
    from cell_eval2.de_compute import compute_de

    cells = renamed(labelled({CONTROL: control} | arms, genes))
    defaults = EvalConfig().de
    with quiet():
        table = compute_de(
            cells,
            backend=defaults.backend,
            groupby=TARGET,
            reference=NON_TARGETING,
            mean_calc=defaults.mean_calc,
            epsilon=defaults.epsilon,
            input_type="lognorm",
            filter_gene_min_cpm_cell=None,
            threads=1,
        )
    table = pd.DataFrame(table.to_dict(as_series=False))
    significant = table[table["p_adj"] < RATE].groupby("target")["feature"].agg(set)
    return {arm: np.isin(genes, list(significant.get(arm, ()))) for arm in arms}


def _rates(calls, screen):
    called, false, power, of_nulls = 0, 0, [], []
    for arm, genes in calls.items():
        nulls, affected = screen.nulls[arm], screen.affected[arm]
        called += int((genes & (nulls | affected)).sum())
        false += int((genes & nulls).sum())
        of_nulls.append(genes[nulls].mean())
        if affected.any():
            power.append(genes[affected].mean())
    return {
        FDR: false / called if called else np.nan,
        POWER: float(np.mean(power)) if power else np.nan,
        FALSE: float(np.mean(of_nulls)),
    }
