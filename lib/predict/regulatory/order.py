"""Who regulates whom among regulators: parent sets of each, and orders of them all."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from lib.predict.regulatory.edges import SLAB, Evidence, Given, Prior, select
from lib.predict.regulatory.moments import Moments

_TEMPER = 0.03  # weight of covariances in scores, which can't tell cause from effect, against arms
_MOST_CANDIDATES, _MOST_PARENTS = 9, 4
_LOG_ODDS = np.log(0.05)
_STEPS, _BURN, _EVERY = 4000, 2000, 50
_CHAINS = 4  # each from another order, since one alone stays near where it settles
_DAMPED = 0.85  # of effects among regulators: a wrong way costs more than a right one gains
_HOTTEST = 30.0
STRONGEST = 0.95  # largest effect


class Parents(NamedTuple):
    """The parent sets of a regulator.

    candidates: (n_candidates,) rows of regulators
    member: (n_sets, n_candidates) whether a set has a candidate
    score: (n_sets,) log of their likelihood and prior
    effects: (n_sets, n_candidates) posterior means
    """

    candidates: np.ndarray
    member: np.ndarray
    score: np.ndarray
    effects: np.ndarray

    def allowed(self, position: np.ndarray, own: float) -> np.ndarray:
        """Scores, -inf where a parent comes after the regulator itself."""
        later = position[self.candidates] > own
        return np.where((self.member & later).any(axis=1), -np.inf, self.score)


def neighbours(moments: Moments, given: Given, prior: Prior, rng) -> np.ndarray:
    """How likely two regulators are neighbours, (n_regulators, n_regulators), from regressions."""
    regulators = moments.regulators
    factor = 0.3 * np.median(moments.reliability) * moments.weight / moments.noise[regulators]
    parts, factors = [given.responses], [factor]
    scores = given.effects[:, regulators].T * factor[:, None]
    if len(moments.arm_weights):
        parts.append(moments.of_arms())
        factors.append(moments.arm_precision[regulators])
        scores = scores + moments.arm_scores()[regulators]
    included = select(Evidence(parts, factors, scores), prior, rng, 60, 20).included
    return np.maximum(included, included.T)


def parents(
    moments: Moments,
    given: Given,
    row: int,
    candidates: np.ndarray,
    log_odds: np.ndarray,
    temper: float | None = None,
    most: int = _MOST_PARENTS,
) -> Parents:
    """Scores of all sets of at most so many candidates as the parents of a regulator.

    row: the regulator's
    log_odds: (n_candidates,) of being a parent

    Only the moments of the parents themselves are used: a regulator's children are no instruments.
    """
    n = len(candidates)
    sets = [s for k in range(min(most, n) + 1) for s in itertools.combinations(range(n), k)]
    sizes = np.array([len(s) for s in sets])
    member = np.zeros((len(sets), n), dtype=bool)
    score, effects = np.zeros(len(sets)), np.zeros((len(sets), n))
    gene = moments.regulators[row]
    factor = (_TEMPER if temper is None else temper) * moments.weight / moments.noise[gene]
    of_arms, arm_scores = 0 * given.responses, np.zeros(len(given.responses))
    if len(moments.arm_weights):
        of_arms = moments.arm_precision[gene] * moments.of_arms(gene)
        arm_scores = moments.arm_scores()[gene]
    for size in range(1, min(most, n) + 1):
        which = np.flatnonzero(sizes == size)
        local = np.array([sets[i] for i in which])
        rows = candidates[local]
        square = rows[:, :, None], rows[:, None, :]
        gain = np.linalg.solve(given.errors[square], given.responses[square])
        precision = np.swapaxes(given.responses[square], 1, 2) @ gain * factor
        precision = precision + of_arms[square] + np.eye(size) / SLAB**2
        right = np.einsum("nij,ni->nj", gain, given.effects[rows, gene]) * factor + arm_scores[rows]
        middle = np.linalg.solve(precision, right[..., None])[..., 0]
        _, log_det = np.linalg.slogdet(precision * SLAB**2)
        score[which] = ((middle * right).sum(axis=1) - log_det) / 2 + log_odds[local].sum(axis=1)
        effects[which[:, None], local] = np.clip(middle, -STRONGEST, STRONGEST)
        member[which[:, None], local] = True
    return Parents(candidates, member, score, effects)


def averaged(found: Parents, scores: np.ndarray) -> np.ndarray:
    """Effects of the candidates, averaged over parent sets, (n_candidates,)."""
    weights = np.exp(scores - scores.max())
    return weights @ found.effects / weights.sum()


def among_regulators(moments: Moments, given: Given, prior: Prior, rng) -> np.ndarray:
    """Effects of regulators (rows) on regulators (columns), averaged over orders.

    prior: log odds (n_regulators, n_regulators), rows the targets

    Orders are drawn by Metropolis' rule, cooled to their posterior, as in order MCMC (Friedman &
    Koller 2003, Machine Learning 50, 95), in several chains.
    """
    n = len(moments.regulators)
    near = neighbours(moments, given, prior, rng)
    sets = []
    for row in range(n):
        order = np.argsort(-near[row], kind="stable")
        likely = order[(near[row][order] > 0.02) & np.isfinite(prior.log_odds[row][order])]
        candidates = likely[likely != row][:_MOST_CANDIDATES]
        sets.append(parents(moments, given, row, candidates, prior.log_odds[row][candidates]))
    effects, drawn = np.zeros((n, n)), 0
    for position in itertools.chain.from_iterable(_orders(sets, rng) for _ in range(_CHAINS)):
        drawn += 1
        for row, found in enumerate(sets):
            effects[found.candidates, row] += averaged(
                found, found.allowed(position, position[row])
            )
    return _DAMPED * effects / drawn


def _orders(sets, rng):
    """Yield positions of regulators, draws from the posterior of their order."""
    n = len(sets)
    has_candidate = [[] for _ in range(n)]
    for row, found in enumerate(sets):
        for candidate in found.candidates:
            has_candidate[candidate].append(row)
    position = rng.permutation(n).astype(float)

    def fit(row):
        scores = sets[row].allowed(position, position[row])
        most = scores.max()
        return most + np.log(np.exp(scores - most).sum())

    now = np.array([fit(row) for row in range(n)])
    for step in range(_STEPS):
        temperature = max(1.0, _HOTTEST * (1 - step / (0.7 * _BURN)))
        row = int(rng.integers(n))
        before = position[row]
        near = sets[row].candidates
        if len(near) and rng.random() < 0.5:
            position[row] = position[rng.choice(near)] + rng.uniform(-1e-6, 1e-6)
        else:
            position[row] = rng.uniform(-1, n)
        touched = [row, *has_candidate[row]]
        new = np.array([fit(r) for r in touched])
        if np.log(rng.random()) < (new.sum() - now[touched].sum()) / temperature:
            now[touched] = new
        else:
            position[row] = before
        if step >= _BURN and step % _EVERY == 0:
            yield position


def of_known(moments: Moments, given: Given, can_be: np.ndarray) -> np.ndarray:
    """Effects of regulators on regulators where the graph is known.

    can_be: (n_regulators, n_regulators) whether a row's regulator regulates a column's
    """
    effects = np.zeros(can_be.shape)
    for column in range(len(can_be)):
        rows = np.flatnonzero(can_be[:, column])
        if len(rows) > 6:
            strongest = np.argsort(-np.abs(given.effects[rows, moments.regulators[column]]))
            rows = np.sort(rows[strongest[:6]])
        found = parents(moments, given, column, rows, np.full(len(rows), 3.0), 1.0, len(rows))
        effects[rows, column] = averaged(found, found.score)
    return effects
