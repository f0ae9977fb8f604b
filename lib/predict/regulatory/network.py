"""A mechanistic model of a screen: each gene given its regulators, knockdowns carried through.

Fitting finds who regulates whom, and how strongly; asked about an arm, the folds of its genes are
carried through that network, and the control cells' means are multiplied by what comes out:

1. counts over expected ones, for an exposure that biology moves little (`cells`)
2. covariances of regulators' responses and of genes, free of measurement noise; each arm's changes
   (`moments`)
3. hidden programs, told from regulators, and edges to genes that regulate none
   (`edges`); edges among regulators, over orders of them (`order`)
4. factors by which what is carried comes nearest to what arms show, and what all arms share

It has the form of the simulator's usual networks: Hill responses, spread as they are drawn there,
whose folds multiply. Numbers at the head of these files were chosen on screens of the seeds 1000 to
1003, which no table shows.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse
import scipy.special as special

from lib import checks
from lib.counts import CONTROL, SEPARATOR
from lib.predict.arms.answers import Means
from lib.predict.base import Query
from lib.predict.regulatory import edges as of_edges
from lib.predict.regulatory import order
from lib.predict.regulatory.cells import FOLDS, labelled, measured, untouched
from lib.predict.regulatory.edges import Prior
from lib.predict.regulatory.moments import likely_regulators, moments, with_arms
from lib.seeds import stream

GRAPHS = "none", "soft", "trusted"
_MOST_CELLS = 60_000
_ROUNDS = 30
_LOWEST = 0.02  # fold of a gene that is lost
_LOG_ODDS = np.log(0.03), np.log(0.05)  # of an edge to a gene that regulates none, and to others
_HUBS = 1.0  # weight of how many other genes a regulator has in its log odds
_DEVIATION = 0.3  # sd of logs of folds about what is carried, where that is wrong
_USUAL = 5.0  # precision of a factor of 1 for what is carried
_SEEN = 0.95  # of these factors where arms are new, which weren't fitted
_SAME = 0.1  # log of a fold up to which a gene counts as unchanged


class RegulatoryNetwork:
    """Mean counts in an arm, from a network of genes that is learned from a screen.

    graph: what becomes of `train.uns["prior_graph"]`: "none"; "soft", its edges are likelier, by
        odds that are learned; "trusted", there are no other edges, and columns regulator and target
        give their directions
    arms: whether perturbed cells are used; without, controls alone are
    capture: share of a cell's molecules that is counted, about; only its order matters
    candidates: most regulators where `train.var` has no column regulator
    seed: of the random streams
    """

    def __init__(
        self,
        graph: str = "soft",
        *,
        arms: bool = True,
        capture: float = 0.15,
        candidates: int = 100,
        seed: int | tuple[int, ...] = 0,
    ):
        self.graph = checks.choice("graph", graph, GRAPHS)
        self.arms = bool(arms)
        self.capture = checks.number("capture", capture, 1e-6, 1)
        self.candidates = checks.integer("candidates", candidates, low=1)
        self.seed = seed

    def fit(self, train: ad.AnnData) -> RegulatoryNetwork:
        """Learn from controls and arms. Raises ValueError where there are no controls."""
        arm, arms = labelled(train)
        kept = np.flatnonzero((arm < 0) | self.arms)
        if len(kept) > _MOST_CELLS:
            kept = _some(kept, arm[kept], _MOST_CELLS, self.seed)
        labels = _groups(train.obs)
        self.groups = {name: place for place, name in enumerate(dict.fromkeys(labels))}
        group = np.array([self.groups[name] for name in labels])
        arms = arms if self.arms else []
        cells = measured(train[kept], group[kept], arm[kept], arms)
        self.genes = list(cells.genes)
        self.means = cells.means
        self.untouched = untouched(cells, arms)
        regulators, can_be, known = self._who(train, cells)
        found = moments(cells, regulators, self.capture)
        in_all_arms = with_arms(found, cells, self.untouched)
        self.regulators, self.curves, self.at_rest = regulators, found.curves, found.at_rest
        self.effects, self.own = self._learned(found, can_be, known), {}
        self.scales = np.ones(2)
        changes = np.log(cells.folds) - in_all_arms
        self.scales = self._scales(found, changes, arms)
        self.shared = self._shared(found, cells, arms)
        self.own = self._own(found, changes, arms)
        return self

    def _who(self, train, cells):
        """Regulators, where there can be an edge, and which are known, (n_genes, n_regulators)."""
        n_genes = len(self.genes)
        edges = None if self.graph == "none" else train.uns.get("prior_graph")
        if self.graph == "trusted" and (edges is None or "regulator" not in edges):
            raise ValueError("graph = 'trusted': train.uns['prior_graph'] must name regulators")
        graph = np.zeros((n_genes, n_genes), dtype=bool)  # target, regulator
        if edges is not None:
            places = pd.Index(self.genes).get_indexer
            first, second = (places(edges.iloc[:, column]) for column in (0, 1))
            inside = (first >= 0) & (second >= 0)
            graph[second[inside], first[inside]] = True
            if "regulator" not in edges:
                graph |= graph.T
        if self.graph == "trusted":
            regulators = np.flatnonzero(graph.any(axis=0))
        elif "regulator" in train.var:
            regulators = np.flatnonzero(train.var["regulator"].to_numpy())
        else:
            regulators = likely_regulators(cells, self.candidates, self.capture)
        can_be = np.ones((n_genes, len(regulators)), dtype=bool)
        if self.graph == "trusted":
            can_be = graph[:, regulators]
        can_be[regulators, np.arange(len(regulators))] = False
        known = graph[:, regulators] if edges is not None else None
        return regulators, can_be, known

    def _learned(self, found, can_be, known):
        """Effects, (n_regulators, n_genes)."""
        rng = stream(self.seed, "edges of a regulatory network")
        trusted = self.graph == "trusted"
        sinks = np.setdiff1d(np.arange(len(self.genes)), self.regulators)
        effects = np.zeros((len(self.regulators), len(self.genes)))
        if not len(self.regulators):
            return effects

        def prior(genes, usual):
            odds = 2.0 if trusted else usual
            known_here = None if trusted or known is None else known[genes]
            return Prior(np.where(can_be[genes], odds, -np.inf), known_here, not trusted)

        of_sinks = prior(sinks, _LOG_ODDS[0])
        unknown = Prior(np.zeros((len(sinks), len(self.regulators))), of_sinks.known)
        loadings = None
        if len(sinks) > 20:
            loadings = of_edges.programs(found, sinks, unknown, rng)
        now = of_edges.given(found, loadings)
        if len(sinks):
            evidence = of_edges.evidence_of(found, now, sinks)
            selected = of_edges.select(evidence, of_sinks, rng, 80, 30)
            effects[:, sinks] = selected.mean.T
        if trusted:
            own = order.of_known(found, now, can_be[self.regulators].T)
        else:
            of_regulators = prior(self.regulators, _LOG_ODDS[1])
            if len(sinks):
                share = selected.included.sum(axis=0) / len(sinks)
                odds = of_regulators.log_odds + _HUBS * _relative(share)
                if known is not None:
                    gain = _gain(selected.included, known[sinks])
                    odds = odds + np.where(known[self.regulators], *gain)
                of_regulators = of_regulators._replace(log_odds=odds)
            own = order.among_regulators(found, now, of_regulators, rng)
        effects[:, self.regulators] = own
        most = order.STRONGEST
        return np.clip(effects, -most, most)

    def carried(self, folds: dict[int, float]) -> np.ndarray:
        """Logs of all genes' folds where some genes' means are multiplied, (n_genes,).

        folds: place of a gene -> fold of its mean
        """
        logs = np.zeros(len(self.genes))
        own = np.zeros(len(self.genes))
        for place, fold in folds.items():
            own[place] = np.log(max(fold, _LOWEST))
        for _ in range(_ROUNDS):
            before, logs = logs, own.copy()
            changed = np.flatnonzero(before[self.regulators])
            if len(changed):
                at = before[self.regulators[changed]]
                new = [np.interp(x, FOLDS, self.curves[row]) for x, row in zip(at, changed)]
                effects = self.effects[changed]
                above = np.maximum(1 + effects * np.array(new)[:, None], _LOWEST)
                below = np.maximum(1 + effects * self.at_rest[changed][:, None], _LOWEST)
                logs += np.log(above / below).sum(axis=0)
            logs = np.clip(logs, FOLDS[0], FOLDS[-1])
            if np.abs(logs - before).max() < 1e-4:
                break
        return logs

    def _unshared(self, key):
        """Folds of an arm's means but for what all arms share, (n_genes,).

        key: perturbation, type and strength
        """
        name, kind, strength = key
        genes = checks.genes("perturbation", name.split(SEPARATOR), self.genes)
        touched = 1 - self.untouched
        if kind == "knockout":
            touched, fold = touched * strength, _LOWEST
        elif kind == "activation":
            fold = strength
        else:
            fold = 1 - strength
        logs = self.carried({self.genes.index(gene): fold for gene in genes})
        places = [self.genes.index(gene) for gene in genes]
        logs *= np.where(
            np.isin(np.arange(len(logs)), places), 1, self.scales[(logs > 0).astype(int)]
        )
        folds = 1 - touched + touched * np.exp(logs)
        for gene in genes:
            if (gene, kind) in self.own:
                size, left = self.own[gene, kind]
                folds = folds * np.exp(min(abs(np.log(max(fold, _LOWEST))) / size, 1) * left)
        return folds

    def _scales(self, found, logs, arms):
        """Factors of what is carried, down and up, by least squares over the arms, (2,).

        logs: (n_arms, n_genes) of folds
        """
        if not arms:
            return self.scales
        carried = np.log([self._unshared(arm) for arm in arms])
        carried[found.is_target] = 0
        error = found.noise / found.arm_weights[:, None] / np.exp(carried)
        weights = carried / (error + _DEVIATION**2)
        scales = []
        for some in (carried < 0, carried > 0):
            above = (weights * logs)[some].sum() + _USUAL
            scales.append(above / ((weights * carried)[some].sum() + _USUAL))
        return _SEEN * np.clip(scales, 0.2, 2)

    def _own(self, found, logs, arms):
        """What an arm of one gene shows beyond what is carried, (gene, type) -> size and logs.

        logs: (n_arms, n_genes) of folds

        Deviations of genes that are thought to change are 0 or normal, in shares that are learned;
        each is the posterior mean. Others have none: that of an arm's noise is larger.
        """
        self.own, single = {}, [row for row, key in enumerate(arms) if SEPARATOR not in key[0]]
        if len(single) < 5:
            return {}
        carried = np.log([self._unshared(arms[row]) for row in single])
        error = found.noise / found.arm_weights[single][:, None] / np.exp(carried)
        left = logs[single] - carried
        changed = (np.abs(carried) > _SAME) & ~found.is_target[single]
        left[changed] = _shrunk(left[changed], error[changed])
        left[~changed] = 0
        own = {}
        for row, of_arm in zip(single, left):
            name, kind, strength = arms[row]
            fold = strength if kind == "activation" else max(1 - strength, _LOWEST)
            size = max(abs(np.log(fold)), 0.1)
            if size > own.get((name, kind), (0,))[0]:
                own[name, kind] = size, of_arm
        return own

    def folds(self, query: Query) -> np.ndarray:
        """Folds of the means of all genes of the training data in an arm, (n_genes,)."""
        what = query.perturbation
        folds = np.ones(len(self.genes))
        if what.name == CONTROL:
            return folds
        return self._unshared((what.name, what.perturbation_type, what.strength)) * self.shared

    def predict(self, query: Query) -> Means:
        """Mean count of each gene in the arm. Control cells of another type have their own."""
        if query.perturbation is None:
            raise NotImplementedError("RegulatoryNetwork: answers for an arm, not for cells")
        means = self._usual(query.cells) * self.folds(query)
        places = pd.Index(self.genes).get_indexer(query.genes)
        return Means(means[places])

    def _usual(self, controls):
        """Mean counts of control cells, from training where it had their type and batch."""
        labels = pd.Series(_groups(controls.obs))
        shares = labels.value_counts(normalize=True)
        own = np.asarray(sparse.csr_matrix(controls.X).mean(axis=0)).ravel()
        if not shares.index.isin(list(self.groups)).all():
            return own + 0.5 / controls.n_obs
        means = shares.to_numpy() @ self.means[[self.groups[name] for name in shares.index]]
        ratio = own.sum() / means.sum()
        return means if abs(np.log(max(ratio, 1e-9))) < _SAME else means * ratio

    def _shared(self, found, cells, arms):
        """Folds by which genes' means in arms differ from controls', whatever is perturbed."""
        if not arms:
            return np.ones(len(self.genes))
        counts, expected = np.zeros((2, len(self.genes)))
        exposure = np.zeros(len(self.genes))
        for arm, rows in cells.blocks():
            if arm < 0:
                continue
            fold = self._unshared(arms[arm])
            usable = (np.abs(np.log(fold)) < _SAME) & ~found.is_target[arm]
            usual = np.bincount(cells.group[rows], minlength=len(cells.means)) @ cells.means
            counts[usable] += cells.counts[rows].sum(axis=0, dtype=float)[usable]
            expected[usable] += (usual * fold)[usable]
            exposure[usable] += len(rows)
        logs = np.log((counts + 0.5) / (expected + 0.5))
        of_arms = found.noise / np.maximum(exposure, 1)
        of_controls = found.noise / max((cells.arm < 0).sum(), 1)
        size = max(np.mean(logs**2 - of_arms - of_controls), 0)
        return np.exp(logs * (of_controls + size) / (of_controls + size + of_arms))


def _some(cells, arm, n, seed):
    """About n of the cells, the same share of each arm and at least one, in order.

    arm: (n_cells,) of each cell
    """
    order = stream(seed, "cells of a regulatory network").permutation(len(cells))
    place = pd.Series(arm[order]).groupby(arm[order]).cumcount().to_numpy()
    most = np.ceil(np.bincount(arm + 1) * n / len(cells))
    return np.sort(cells[order[place < most[arm[order] + 1]]])


def _shrunk(values, variances):
    """Posterior means of values that are 0 or normal, whose share is learned."""
    wide, share = variances + _DEVIATION**2, 0.05
    evidence = (np.log(variances / wide) + values**2 * (1 / variances - 1 / wide)) / 2
    for _ in range(30):
        chance = special.expit(special.logit(share) + np.clip(evidence, -50, 50))
        share = float(np.clip(chance.mean() if len(chance) else 0, 1e-4, 0.9))
    return chance * values * _DEVIATION**2 / wide


def _relative(share):
    """Logs of regulators' shares of genes over the geometric mean, (n_regulators,)."""
    logs = np.log(share + 0.5 * share.mean() + 1e-4)
    return logs - logs.mean()


def _gain(included, known):
    """Log odds over the average of edges that a prior graph has, and of those that it lacks."""
    overall = included.mean() + 1e-4
    shares = [
        (included[edges].sum() + 1) / (edges.sum() + 1 / overall) for edges in (known, ~known)
    ]
    return special.logit(np.minimum(shares, 0.95)) - special.logit(min(overall, 0.95))


def _groups(obs):
    """Cell type and batch of each cell, as one label."""
    columns = [obs[name].astype(str) for name in ("cell_type", "batch") if name in obs]
    return list(zip(*columns)) if columns else [()] * len(obs)
