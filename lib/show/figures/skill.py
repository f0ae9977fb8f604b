"""The panel that Figures 2, 3 and 5 share: skill by mechanism."""

import pandas as pd

from lib.show import panels, style


def by_mechanism(
    ax, summary: pd.DataFrame, *, order: list[str] | None = None, low: float | None = None
) -> None:
    """Mean skill of models at each mechanism with 95 % intervals.

    summary: columns mechanism, model, mean, ci_low, ci_high
    order, low: as in `panels.intervals`

    Lines mark the marginal's 0 and the oracle's 1.
    """
    panels.intervals(ax, summary, "mechanism", order=order, low=low)
    ax.axhline(0, color="0.6", lw=0.5)
    ax.axhline(1, color=style.TRUTH, lw=0.6, ls="--")
