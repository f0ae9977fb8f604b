"""What is known of an arm of a screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from lib.laws.population import Population
from lib.laws.tabulated import Tabulated

AFFECTED = 0.005  # nats from control


@dataclass(frozen=True)
class Arm:
    """The truth about an arm in cells of one type.

    perturbation, cell_type, sense: what it is about
    law: `Population` of the genes' counts, (n_genes,), over the controls' captures, or at the one
        that was stated
    genes: a row a gene: `mean` count; `mean_log1p`, mean of log(1 + count) at the fixed capture;
        `log_fold_change`, log of the mean over that of control; `kl_nats`, divergence of the
        control's law from the arm's; `reached`, downstream of a perturbed gene, or one; `affected`,
        whether kl_nats is above 0.005; `error_nats`, an estimate of the numerical error of the law:
        a quarter of the divergence of two independent computations, whose mean the law is, and what
        the grid of rates adds at most
    fixed_capture: of `mean_log1p`
    """

    perturbation: str
    cell_type: str
    sense: str
    genes: pd.DataFrame
    fixed_capture: float
    table: Tabulated
    make_law: Callable[[], Population] = field(repr=False)

    @cached_property
    def law(self) -> Population:
        """The laws of the genes' counts, (n_genes,)."""
        return self.make_law()

    @property
    def error_nats(self) -> float:
        """Numerical error of the laws, mean over genes, nats."""
        return float(self.genes["error_nats"].mean())
