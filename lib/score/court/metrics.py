"""Who stands before the court: a row a metric.

Rows of the two packages are read from their own tables, so that none is left out and none is said
to be what its authors don't say.
"""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

MEANS, CELLS, TESTS, LAWS = "means", "cells", "tests", "laws"
SCPERTEVAL, CELL_EVAL2, OURS = "scperteval", "cell-eval2", "definition"
VCC2025, VCC2026 = "vcc2025", "vcc2026"  # suites of cell-eval2: one score of several metrics
SUITES = {
    VCC2025: "Virtual Cell Challenge 2025: mean of three scores over the baseline's, none below 0",
    VCC2026: "Virtual Cell Challenge 2026: mean of six scores, baseline 0 and replicate 1",
}
_INF = float("inf")


class Metric(NamedTuple):
    """A published metric.

    key: package and name
    label: as figures call it
    source: the package that computes it, or "definition": the paper is named in `claims`
    takes: what of a prediction it sees: "means" over an arm's cells, "cells", "tests" for
        differential expression of its cells, or "laws"
    better: "higher", "lower", or "" for a diagnostic that ranks nothing
    low, high: its range
    claims: what it measures, in its authors' words or near to them
    """

    key: str
    label: str
    source: str
    takes: str
    better: str
    low: float
    high: float
    claims: str

    def oriented(self, values):
        """Values of which more is better."""
        return -values if self.better == "lower" else values


def _own(name, label, takes, better, low, high, claims):
    return Metric(f"{OURS} {name}", label, OURS, takes, better, low, high, claims)


_PERTURBENCH = "PerturBench (Wu et al. 2024, arXiv:2408.10609)"
_SYSTEMA = "Systema (Viñas Torné et al. 2025, Nature Biotechnology)"
_VENDI = "Friedman and Dieng 2023, TMLR; by vendi-score"
OWN = [
    _own("cosine_logfc", "cosine, logFC", MEANS, "higher", -1, 1,
         f"{_PERTURBENCH}: cosine similarity of log fold changes, of all genes"),
    _own("rank_cosine_logfc", "rank, cosine logFC", MEANS, "lower", 0, 1,
         f"{_PERTURBENCH}: share of other predictions that are nearer to the arm than its own"),
    _own("rmse_average", "RMSE", MEANS, "lower", 0, _INF,
         f"{_PERTURBENCH}: root mean squared error of the mean of logs"),
    _own("rank_rmse_average", "rank, RMSE", MEANS, "lower", 0, 1,
         f"{_PERTURBENCH}: the same rank, by RMSE"),
    _own("centroid_accuracy", "centroid accuracy", MEANS, "higher", 0, 1,
         f"{_SYSTEMA}: share of other arms that are farther from the prediction than its own"),
    _own("vendi", "Vendi diversity", MEANS, "", 1, _INF,
         f"number of arms that predictions tell apart ({_VENDI}): a sign of mode collapse"),
    _own("nll", "held-out NLL", LAWS, "lower", 0, _INF,
         "mean negative log likelihood of the measured counts: a proper score of laws"),
    _own("crps", "CRPS", LAWS, "lower", 0, _INF,
         "continuous ranked probability score of the measured counts (Gneiting and Raftery 2007)"),
]  # fmt: skip
BY_CONSTRUCTION = [row.key for row in OWN if row.takes == LAWS]  # lead, and are listed apart


@cache
def rows() -> dict[str, Metric]:
    """Key -> row of every metric."""
    listed = [*_of_scperteval(), *_of_cell_eval2(), *OWN]
    return {row.key: row for row in listed}


def _of_scperteval():
    from scperteval.protocols.table import TABLE

    takes = {"pseudobulk": MEANS, "distributional": CELLS, "de": TESTS}
    for protocol in TABLE:
        function = protocol.metric.func if isinstance(protocol.metric, partial) else protocol.metric
        low, high = _RANGES[function.__name__]
        said = function.__doc__.strip().splitlines()[0]
        centred = {"control_mean": ", less the controls' mean", None: ""}
        where = centred.get(protocol.centering, ", less the mean of all perturbed cells")
        yield Metric(
            f"{SCPERTEVAL} {protocol.name}",
            protocol.name,
            SCPERTEVAL,
            takes[protocol.group],
            protocol.better,
            low,
            high,
            said.rstrip(".") + where,
        )


_RANGES = {  # function of scPertEval -> range of its scores
    **dict.fromkeys(("pearson", "weighted_pearson"), (-1, 1)),
    **dict.fromkeys(("r2", "weighted_r2"), (-_INF, 1)),
    **dict.fromkeys(("mse", "weighted_mse", "l2", "sinkhorn_w2"), (0, _INF)),
    **dict.fromkeys(("energy_distance", "unbiased_mmd_median"), (-_INF, _INF)),  # without bias
    **dict.fromkeys(("rank_retrieval", "nir", "de_auprc", "de_auroc", "de_overlap"), (0, 1)),
}


def _of_cell_eval2():
    from cell_eval2.catalog import CATALOG, PROFILES, needs_moments_transitively
    from cell_eval2.catalog_text import metric_text

    for name in PROFILES["full"]:
        spec, text = CATALOG[name], metric_text(name)
        yield Metric(
            f"{CELL_EVAL2} {name}",
            name.replace("de_wilcoxon_", "de_"),
            CELL_EVAL2,
            TESTS if spec.kind == "de" else CELLS if needs_moments_transitively(name) else MEANS,
            (spec.scoring.direction or "") if spec.scoring.scored else "",
            -_INF if text.min is None else text.min,
            _INF if text.max is None else text.max,
            text.description,
        )
    for name, claims in SUITES.items():
        key = f"{CELL_EVAL2} {name}"
        yield Metric(key, f"{name} score", CELL_EVAL2, TESTS, "higher", -_INF, _INF, claims)
