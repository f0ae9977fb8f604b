"""What metrics are charged with, a row a number, all within one network.

Rows have the keys of every table: `metric` is the metric that is judged, `model` the member or the
set of members, `gene` the exact risk that it is held against, `split` the arms, `mechanism` the
number of cells of an arm, and `scenario` the charge:

    agreement    Kendall's tau-b between a score and the exact risk, over members
    ties         share of pairs of members that a metric doesn't tell apart
    score        of a member, with the perturbed mean at 0 and the oracle at 1
    raw          a reference's score as it is
    verdict      whether a metric, or the exact risk, puts a model before the perturbed mean
    right side   share of models that a metric puts on the right side of the mean, a tie half
    risk         a member's exact risk, over the perturbed mean's
    order        share of pairs of models whose order is right, by their true difference
    no score     share of members that a metric has no score for
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from lib.predict import registry
from lib.score.court.hearing import INFINITE, RISK, RISKS, Verdicts
from lib.score.court.metrics import rows
from lib.score.court.panel import Panel
from lib.score.court.zoo import DEGRADED, EXACT, MEAN, NATURAL, NO_SKILL, ORACLE, TRICK
from lib.seeds import stream

AGREEMENT, TIES, SCORE, RAW, VERDICT, SIDE, RISKED, ORDER, MISSING = SCENARIOS = (
    "agreement", "ties", "score", "raw", "verdict", "right side", "risk", "order", "no score",
)  # fmt: skip
CEILING, TESTS = "ceiling", "expression"  # charges of `ceilings` and of `expression`
NEW, MANY, HALVES, INTERPOLATED, SPEARMAN_BROWN, REPLICATE, BOOTSTRAP = CEILINGS = (
    "new cells", "many cells", "halves", "interpolated", "Spearman-Brown", "replicate",
    "bootstrap",
)  # fmt: skip
MODELS, OWN_LAWS, ZOO = SETS = "models", "own laws or cells", "all"
FAMILIES = {  # name -> beginnings of the keys of its models
    "GRN": ("grn",),
    "linear": ("bilinear", "neighbours", "mlp"),
    "autoencoders": ("vae", "conditional_vae"),
    "means": ("no_change", "perturbed_mean"),
    "additive": ("additive",),
}
STRONG, WEAK = "stronger half", "weaker half"
EXACTLY = "exact risk"  # in place of a metric
TOLD = "no_change", "bilinear", "mlp", "grn", "grn_true"  # models that are told one by one
APART = "20 to 50 %"  # of `DIFFERENCES`, where only one is told
DIFFERENCES = {  # of two models' risks, over the perturbed mean's
    "5 to 10 %": (0.05, 0.1),
    "10 to 20 %": (0.1, 0.2),
    "20 to 50 %": (0.2, 0.5),
    "over 50 %": (0.5, np.inf),
}
_NOT_MODELS = ORACLE, EXACT  # natural, and no models: told the arm, as duplicates are
_SUBSETS = 20  # random sets of arms


def is_model(key: str, group: str) -> bool:
    """Whether a member is a model that could be entered, whatever it is told of the network."""
    return group == NATURAL and key not in _NOT_MODELS and not key.startswith("duplicate")


def cells_of(n: int) -> str:
    """A number of cells, in a table."""
    return "infinite" if n == INFINITE else f"{n} cells"


class Court:
    """Verdicts on one panel, to be weighed.

    verdicts: of the panel
    panel: the arms
    split: name of all of them
    kinds: name -> places of some of them
    is_first: whether it is the first panel, of which the scores of all of the zoo are told
    """

    def __init__(
        self,
        verdicts: Verdicts,
        panel: Panel,
        split: str,
        kinds: dict[str, list[int]],
        *,
        is_first: bool = True,
    ):
        self.is_first = is_first
        self.verdicts, self.panel, self.split = verdicts, panel, split
        self.kinds = {name: places for name, places in kinds.items() if len(places) > 1}
        change = verdicts.risks[RISK].loc["no_change"].to_numpy()
        order = np.argsort(-change, kind="stable")
        half = len(order) // 2
        self.kinds |= {STRONG: sorted(order[:half]), WEAK: sorted(order[half:])}
        self.models = [key for key, group in verdicts.groups.items() if is_model(key, group)]

    def scores(self, n: int, metric: str, places: list[int] | None = None) -> pd.Series:
        """Scores of members, of which more is better: of all arms, or the mean over some."""
        if places is None:
            values = self.verdicts.means[n][metric]
        elif metric not in self.verdicts.arms[n]:
            values = pd.Series(np.nan, self.verdicts.means[n].index)
        else:
            some = self.verdicts.arms[n][metric].iloc[:, places]
            values = some.mean(axis=1).reindex(self.verdicts.means[n].index)
        return rows()[metric].oriented(values)

    def risk(self, name: str = RISK, places: list[int] | None = None) -> pd.Series:
        """Exact risk of members, a mean over arms."""
        table = self.verdicts.risks[name]
        return (table if places is None else table.iloc[:, places]).mean(axis=1)

    def judged(self, n: int) -> list[str]:
        """Metrics that rank, at a number of cells."""
        return [key for key in self.verdicts.means[n] if rows()[key].better]

    def all_rows(self) -> pd.DataFrame:
        """All charges."""
        parts = [self.agreement(), self.scored(), self.order(), self.missing()]
        return pd.concat(parts, ignore_index=True)

    def agreement(self) -> pd.DataFrame:
        """Kendall's tau-b, one thing varied at a time, and the share of ties."""
        first = next(n for n in self.verdicts.means if n != INFINITE)
        found = []
        for n in self.verdicts.means:
            found += self._taus(n, MODELS, self.models, RISK, self.split, None)
        for risk in RISKS:
            if risk != RISK:
                found += self._taus(first, MODELS, self.models, risk, self.split, None)
        for name, places in self.kinds.items():
            found += self._taus(first, MODELS, self.models, RISK, name, places)
        for name, keys in self._sets().items():
            found += self._taus(first, name, keys, RISK, self.split, None)
        return as_rows(found)

    def _sets(self):
        """Other sets of members."""
        own = [key for key in self.verdicts.own_law if not key.endswith("_repeated")]
        sets = {OWN_LAWS: own, ZOO: list(self.verdicts.groups)}
        for family, starts in FAMILIES.items():
            left = [key for key in self.models if not key.startswith(starts)]
            if len(left) < len(self.models):
                sets[f"{MODELS} but {family}"] = left
        return sets

    def _taus(self, n, name, keys, risk, split, places):
        keys = [key for key in keys if key in self.verdicts.means[n].index]
        true = self.risk(risk, places)[keys]
        found = []
        for metric in self.judged(n):
            scores = self.scores(n, metric, places)[keys]
            if scores.notna().all() and true.notna().all() and len(keys) > 2:
                tau = kendalltau(scores, -true).statistic
                at = (cells_of(n), name, risk, split, metric)
                found.append((AGREEMENT, *at, float(np.nan_to_num(tau))))
                if (name, risk) == (MODELS, RISK) and places is None and n != INFINITE:
                    found.append((TIES, *at, _ties(scores.to_numpy())))
        return found

    def scored(self) -> pd.DataFrame:
        """Scores and risks of members, and who is put before the perturbed mean."""
        n = next(n for n in self.verdicts.means if n != INFINITE)
        found, true = [], self.risk()
        others = [key for key in self.models if key != MEAN]
        for metric in self.judged(n):
            scores, at = self.scores(n, metric), cells_of(n)
            low, high = scores[MEAN], scores[ORACLE]
            for key in (ORACLE, EXACT, MEAN, "no_change"):
                value = rows()[metric].oriented(scores[key])  # as the package says it
                found.append((RAW, at, key, "", self.split, metric, value))
            if high > low:  # else nothing lies between: see the verdict on the truth
                values = (scores[self._scored(scores.index)] - low) / (high - low)
                found += [(SCORE, at, key, "", self.split, metric, v) for key, v in values.items()]
            before = (1 + np.sign(scores - low)) / 2
            found += [
                (VERDICT, at, key, RISK, self.split, metric, before[key]) for key in self._told()
            ]
            agree = 1 - (before[others] - (true[others] < true[MEAN])).abs()
            side = agree.mean() if agree.notna().all() else np.nan
            found.append((SIDE, at, MODELS, RISK, self.split, metric, side))
        for risk in RISKS:
            values = self.risk(risk)
            for key, value in (values / values[MEAN]).items():
                found.append((RISKED, "", key, risk, self.split, EXACTLY, value))
            for key in self._told():
                before = float(values[key] < values[MEAN])
                found.append((VERDICT, "", key, risk, self.split, EXACTLY, before))
        return as_rows(found)

    def _told(self):
        """Members of which scores and verdicts are told one by one, those of one's own too."""
        own = [key for key in self.models if key not in registry.BY_KEY]
        return [ORACLE, *(key for key in TOLD if key in self.models), *own]

    def _scored(self, keys):
        """Members whose scores are told: of a panel that isn't the first, tricks and models."""
        kept = (TRICK, NO_SKILL) if not self.is_first else (TRICK, NO_SKILL, DEGRADED)
        groups = self.verdicts.groups
        told = {*self._told(), MEAN, EXACT}
        return [key for key in keys if groups[key] in kept or key in told]

    def order(self) -> pd.DataFrame:
        """How often metrics order two models right: at numbers of cells, and of arms."""
        found = []
        for n in self.verdicts.means:
            for metric in self.judged(n):
                at = cells_of(n), self.split, metric
                found += self._orders(*at, [self.scores(n, metric)])
        n = next(n for n in self.verdicts.means if n != INFINITE)
        n_arms = len(self.panel.names)
        rng = stream(self.panel.task.seed, "some of the arms")
        for some in (5, 10, 20):
            if some >= n_arms:
                continue
            sets = [rng.permutation(n_arms)[:some] for _ in range(_SUBSETS)]
            for metric in self.verdicts.arms[n]:
                if rows()[metric].better:
                    each = [self.scores(n, metric, list(places)) for places in sets]
                    shares = self._orders(f"{some} arms", self.split, metric, each)
                    found += [share for share in shares if share[2] == APART]
        return as_rows(found)

    def _orders(self, at, split, metric, each):
        """Share of pairs that are right, a tie half, by their difference in risk."""
        true = self.risk()
        keys = [key for key in self.models if key in each[0].index]
        right: dict[str, list[float]] = {name: [] for name in DIFFERENCES}
        for a, b in itertools.combinations(keys, 2):
            apart = (true[b] - true[a]) / true[MEAN]
            for name, (low, high) in DIFFERENCES.items():
                if low <= abs(apart) < high:
                    says = [np.sign(scores[a] - scores[b]) * np.sign(apart) for scores in each]
                    right[name] += [(1 + np.nan_to_num(said)) / 2 for said in says]
        return [
            (ORDER, at, name, RISK, split, metric, float(np.mean(values)))
            for name, values in right.items()
            if values
        ]

    def missing(self) -> pd.DataFrame:
        """Metrics that have no score for some members."""
        failed = self.verdicts.failed
        found = []
        for (metric, n), part in failed.groupby(["metric", "n_cells"], sort=False):
            share = part["member"].nunique() / len(self.verdicts.means[n])
            found.append((MISSING, cells_of(n), "", "", self.split, metric, share))
        return as_rows(found)


def _ties(values):
    """Share of pairs that are equal."""
    _, counts = np.unique(values, return_counts=True)
    pairs = len(values) * (len(values) - 1) / 2
    return float((counts * (counts - 1) / 2).sum() / pairs)


def as_rows(found: list[tuple]) -> pd.DataFrame:
    """Rows of a table, from tuples in the order of its columns; none without a value."""
    columns = ["scenario", "mechanism", "model", "gene", "split", "metric", "value"]
    return pd.DataFrame(found, columns=columns).dropna(subset=["value"])


def in_order(keys) -> list[str]:
    """Keys of members: models as in all tables, then the zoo in its order."""
    from lib.score.court.zoo import ROWS

    return [
        *registry.order(k for k in keys if k in registry.BY_KEY),
        *(k for k in ROWS if k in keys),
    ]
