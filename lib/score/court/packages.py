"""The two packages that have published metrics, each at its documented defaults.

`ScPertEval` and `CellEval2` are given the measured cells once, and then one prediction after the
other; both say `Judged`. A metric that fails has no value, and its reason.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from dataclasses import replace
from typing import NamedTuple

import anndata as ad
import pandas as pd

from lib.counts import CONTROL
from lib.score.court.cells import normalised
from lib.score.court.metrics import CELL_EVAL2, SCPERTEVAL, VCC2025, VCC2026
from lib.score.court.real_cells import LABEL

NON_TARGETING = "non-targeting"  # cell-eval2's default name of controls
TARGET = "target_gene"  # its challenge's name of the column
_ALL_CELLS, _DEGS = "gt_all_cells", 0.05  # of scPertEval: its truth, its default of padj
FULL, CHALLENGE = "full", "vcc2026"  # profiles of cell-eval2


class Judged(NamedTuple):
    """What metrics say of a prediction.

    means: key of a metric -> the score that the package reports of the whole panel
    arms: the same -> score of each arm, NaN where it has none
    failed: key of a metric without a score -> why
    """

    means: dict[str, float]
    arms: dict[str, pd.Series]
    failed: dict[str, str]

    def joined(self, other: Judged) -> Judged:
        """With what other metrics say."""
        return Judged(*(a | b for a, b in zip(self, other)))


@contextlib.contextmanager
def quiet():
    """Without progress bars, and without the packages' remarks on arms that they leave out."""
    levels = {name: logging.getLogger(name).level for name in ("cell_eval2", "pdex")}
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        os.environ.pop("TQDM_DISABLE")
        if before is not None:
            os.environ["TQDM_DISABLE"] = before


class ScPertEval:
    """scPertEval (Schäfer et al. 2026, bioRxiv 10.64898/2026.07.23.740433), `score`.

    measured: log1p of normalised counts, with `LABEL`
    protocols: names; None for all
    min_cells: of an arm, below which it is left out

    Protocols over differentially expressed genes refuse a panel with an arm that has none. These
    are asked about the arms that have some, by the package's own test.
    """

    def __init__(self, measured: ad.AnnData, protocols=None, *, min_cells: int = 1):
        import scperteval
        from scperteval.protocols.table import TABLE

        self.protocols = [p for p in TABLE if protocols is None or p.name in protocols]
        self._options = {"workers": 1, "min_cells": min_cells}
        named = [p.name for p in self.protocols if not _of_degs(p)]
        with quiet():
            self._all = scperteval.prepare(measured, named, **self._options)
            some = any(map(_of_degs, self.protocols))
            self._with_degs = self._restricted(measured) if some else None

    def _restricted(self, measured):
        """A handle of the arms with differentially expressed genes; None: fewer than two.

        The test is against all perturbed cells, which are others where arms are left out, so that
        they are until none is.
        """
        import scperteval

        handle = self._all
        while True:
            # as `score` does; the public `de` takes half of the cells, as `calibrate` does
            run = handle._run_context(de_method="t-test", calibrator="score", truth=_ALL_CELLS)
            tests = {name: run.de(name, _ALL_CELLS, "all_perturbed") for name in run.perturbations}
            kept = [name for name, test in tests.items() if (test.pvalue_adj < _DEGS).any()]
            if len(kept) == len(tests):
                return handle
            if len(kept) < 2:
                return None
            measured = measured[measured.obs[LABEL].isin([CONTROL, *kept])].copy()
            handle = scperteval.prepare(measured, [], **self._options)

    def judge(self, predicted: ad.AnnData) -> Judged:
        """Scores of predicted cells, log1p of normalised counts, with `LABEL`."""
        import scperteval

        said = Judged({}, {}, {})
        for protocol in self.protocols:
            key = f"{SCPERTEVAL} {protocol.name}"
            handle = self._with_degs if _of_degs(protocol) else self._all
            if handle is None:
                said.failed[key] = "fewer than two arms have differentially expressed genes"
                continue
            try:
                with quiet():
                    found = scperteval.score(handle, protocol.name, predicted)
            except Exception as error:  # a package's; whatever it is, it is this metric's alone
                said.failed[key] = _line(error)
                continue
            said.means[key] = float(found.aggregate["mean"])
            of_arm = found.per_perturbation.set_index("perturbation")["score"]
            said.arms[key] = of_arm.astype(float)
        return said


def _of_degs(protocol):
    return "degs" in protocol.name


def _line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


class CellEval2:
    """cell-eval2 (Arc Institute), its defaults of version 2, and the challenge's scores.

    measured: counts, with `LABEL`
    metrics: profile of metrics, or a list of names
    suites: which of `vcc2025` and `vcc2026` to score as well, against the perturbed mean that the
        package builds of the measured cells
    fractional: whether counts may be other than whole, which the default refuses

    The package's own temporary cache keeps what it computes of the measured cells.
    """

    def __init__(self, measured: ad.AnnData, metrics=FULL, *, suites=(), fractional: bool = False):
        self._cache = tempfile.TemporaryDirectory()
        self.measured = renamed(measured)
        # of a panel of pairs no label is a gene's, which must be said: no gene is left out then
        some = self.measured.obs[TARGET].isin(self.measured.var_names).any()
        self._targets = None if some else {"*": None}
        self.config = self._of("v2", metrics, fractional)
        self._suites = {}
        for suite in suites:
            try:
                with quiet():
                    make = {VCC2025: _Suite2025, VCC2026: _Suite2026}[suite]
                    self._suites[suite] = make(self)
            except Exception as error:
                self._suites[suite] = _line(error)

    def _of(self, preset, metrics, fractional=False):
        from cell_eval2 import EvalConfig

        return replace(
            EvalConfig.from_preset(preset),
            metrics=metrics,
            pert_col=TARGET,
            num_threads=1,
            cache_real=f"{self._cache.name}/{preset}",
            validate_input=not fractional,
            target_gene_map=self._targets,
        )

    def judge(self, predicted: ad.AnnData) -> Judged:
        """Scores of predicted cells, counts, with `LABEL`."""
        from cell_eval2 import compute_metrics
        from cell_eval2.run import metric_output_names

        names, said = metric_output_names(self.config), Judged({}, {}, {})
        predicted = renamed(predicted)
        try:
            with quiet():
                table = compute_metrics(predicted, self.measured, config=self.config)
        except Exception as error:
            keys = [*names, *self._suites]
            return Judged({}, {}, {f"{CELL_EVAL2} {name}": _line(error) for name in keys})
        of_arms = pd.DataFrame(table.to_dict(as_series=False)).groupby("metric")
        for name in names:
            key = f"{CELL_EVAL2} {name}"
            try:
                said.means[key] = self._mean(table, name)
            except Exception as error:  # a ratio of sums, of which the second isn't positive
                said.failed[key] = _line(error)
            if name in of_arms.groups:
                rows = of_arms.get_group(name).set_index("perturbation")["value"]
                said.arms[key] = rows.astype(float)
        for suite, score in self._suites.items():
            key = f"{CELL_EVAL2} {suite}"
            try:
                if isinstance(score, str):
                    raise RuntimeError(score)
                with quiet():
                    said.means[key] = score(predicted, table)
            except Exception as error:
                said.failed[key] = _line(error)
        return said

    def _mean(self, table, name):
        """The package's score of the whole panel, NaN where it has none."""
        from cell_eval2 import aggregate_metrics
        from cell_eval2.catalog import CATALOG

        derived = CATALOG[name].derived
        needed = [derived.numerator, derived.denominator] if derived else [name]
        found = aggregate_metrics(
            table.filter(table["metric"].is_in(needed)), metrics=[*needed, name]
        )
        mean = found.filter(found["metric"] == name)["mean"]
        return float(mean[0]) if len(mean) else float("nan")


class _Suite2025:
    """Mean of three scores over the baseline's: `vcc` of version 1, on logs, as it asked for."""

    def __init__(self, package):
        from cell_eval2.baseline import build_generic_baseline

        self.measured = normalised(package.measured)
        self.config = package._of("v1", "vcc")
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/baseline.h5ad"
            build_generic_baseline(
                package.measured, config=package._of("v2", "vcc"), save_pred=path
            )
            baseline = ad.read_h5ad(path)
        self.baseline = self._wide(normalised(baseline))

    def _wide(self, predicted):
        from cell_eval2 import aggregate_metrics_wide, compute_metrics

        return aggregate_metrics_wide(compute_metrics(predicted, self.measured, config=self.config))

    def __call__(self, predicted, table):
        from cell_eval2.compat import score_agg_metrics

        scored = score_agg_metrics(self._wide(normalised(predicted)), self.baseline)
        return float(scored.filter(scored["metric"] == "avg_score")["from_baseline"][0])


class _Suite2026:
    """Mean of six scores, baseline 0 and replicate 1: preset `vcc2026`, against a "real bundle"."""

    def __init__(self, package):
        from cell_eval2.baseline import build_generic_baseline
        from cell_eval2.real_bundle import build_real_bundle

        self.measured, self.config = package.measured, package._of(CHALLENGE, CHALLENGE)
        self._folder = tempfile.TemporaryDirectory()
        self.bundle = f"{self._folder.name}/bundle"
        path = f"{self._folder.name}/baseline.h5ad"
        build_generic_baseline(self.measured, config=self.config, save_pred=path)
        baseline = ad.read_h5ad(path)
        build_real_bundle(
            self.measured, baseline, config=self.config, outdir=self.bundle, bundle_id="panel"
        )

    def __call__(self, predicted, table):
        from cell_eval2 import aggregate_metrics_wide, score_metrics
        from cell_eval2.baseline import build_run_meta
        from cell_eval2.run import metric_output_names

        names = metric_output_names(self.config)
        some = table.filter(table["metric"].is_in(names))
        meta = build_run_meta(self.config, self.measured, predicted)
        scored = score_metrics(
            aggregate_metrics_wide(some, metrics=names), real_bundle=self.bundle, user_meta=meta
        )
        return float(scored.filter(scored["metric"] == "avg_score")["from_replicate"][0])


def renamed(cells: ad.AnnData) -> ad.AnnData:
    """With the column and the name of controls that cell-eval2 takes by default."""
    labels = cells.obs[LABEL].astype(str).replace(CONTROL, NON_TARGETING)
    obs = pd.DataFrame({TARGET: pd.Categorical(labels)}, index=cells.obs_names)
    return ad.AnnData(cells.X, obs=obs, var=cells.var)
