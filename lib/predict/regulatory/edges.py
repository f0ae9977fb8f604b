"""Edges of a network of genes from moments: regulators of each gene, hubs, and hidden programs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse.linalg as sparse_linalg
import scipy.special as special

from lib.predict.regulatory.moments import Moments, definite

SLAB = 0.5  # sd of an edge's effect, which is between -1 and 1
_DOUBT = 0.004  # sd of moments' errors that don't fall with the number of cells
_DOUBT_OF_PROGRAMS = 0.1  # relative error of loadings
_SCHEDULE = -200, -200, -120, -60, -30, -15, -8  # log odds of an edge while programs are sought
_HUB = -4.0  # those of a hub's edges meanwhile
_PROGRAM = 1.2  # least eigenvalue of a program in the genes' covariance over their noise
_MOST_PROGRAMS = 6
_ALONE = 0.85  # share of the variance in its direction that a hub explains at least
_DIRECTIONS = 12
_MAINLY = 0.75  # the same if its arm shows that
_CAUSAL, _TELLING = 0.6, 30.0  # share that makes a hub; precision of a share that is one
_NOTABLE = 0.4  # variance of genes over their noise that a hub explains at least
_LEFT = 0.25  # least share of a response's variance that programs leave


class Given(NamedTuple):
    """Moments given the activities of hidden programs, and what they say of effects.

    responses, effects: as in `Moments`
    errors: (n_regulators, n_regulators) covariance of errors of `effects`, noise and weight 1
    precision: (n_regulators, n_regulators) of effects on a gene of noise 1
    scores: (n_genes, n_regulators) precision times estimates of effects, for each gene's noise
    """

    responses: np.ndarray
    effects: np.ndarray
    errors: np.ndarray
    precision: np.ndarray
    scores: np.ndarray


def given(moments: Moments, loadings: tuple[np.ndarray, np.ndarray] | None) -> Given:
    """Moments without what programs add, whose loadings are on responses and on genes."""
    responses, effects = moments.responses, moments.effects
    doubt = np.full(len(responses), _DOUBT**2)
    if loadings is not None:
        of_responses, of_genes = loadings
        before = np.diag(responses)
        responses = responses - of_responses @ of_responses.T
        np.fill_diagonal(responses, np.maximum(np.diag(responses), _LEFT * before))
        effects = effects - of_responses @ of_genes.T
        doubt = doubt + _DOUBT_OF_PROGRAMS**2 * (of_responses**2).sum(axis=1) * np.mean(
            (of_genes**2).sum(axis=1)
        )
    responses = definite(responses)
    errors = moments.observed / np.outer(moments.reliability, moments.reliability)
    errors += np.diag(doubt) * moments.weight / np.median(moments.noise)
    gain = np.linalg.solve(errors, responses)
    precision = responses @ gain * moments.weight
    scores = effects.T @ gain * (moments.weight / moments.noise)[:, None]
    return Given(responses, effects, errors, precision, scores)


class Selected(NamedTuple):
    """Effects (n_genes, n_regulators), mean and share of draws in which they aren't 0."""

    mean: np.ndarray
    included: np.ndarray


class Evidence(NamedTuple):
    """Precisions of effects on each gene, as sums of parts times a number a gene, and scores.

    parts: list of (n_regulators, n_regulators)
    factors: list of (n_genes,)
    scores: (n_genes, n_regulators)
    """

    parts: list[np.ndarray]
    factors: list[np.ndarray]
    scores: np.ndarray


class Prior(NamedTuple):
    """What is believed of edges before.

    log_odds: (n_genes, n_regulators), -inf where there can't be one
    known: (n_genes, n_regulators) whether a prior graph has the edge, or None
    learned: whether each regulator's share of genes, and the odds of known edges, are learned
    """

    log_odds: np.ndarray
    known: np.ndarray | None = None
    learned: bool = False


def select(evidence: Evidence, prior: Prior, rng, sweeps: int, burn: int) -> Selected:
    """Spike and slab: each effect is 0 or normal; Gibbs over the regulators of all genes at once.

    (George & McCulloch 1993, JASA 88, 881.) A mean is that of its conditional ones.
    """
    n_genes, n_regulators = evidence.scores.shape
    effects = np.zeros((n_genes, n_regulators))
    mean, included = np.zeros_like(effects), np.zeros_like(effects)
    left = evidence.scores.copy()  # scores less what effects explain
    log_odds, can_be = prior.log_odds, np.isfinite(prior.log_odds)
    own = [np.diag(part) for part in evidence.parts]
    for sweep in range(sweeps):
        for column in rng.permutation(n_regulators):
            precision = sum(f * d[column] for f, d in zip(evidence.factors, own))
            below = precision + 1 / SLAB**2
            middle = (left[:, column] + effects[:, column] * precision) / below
            bayes = (middle**2 * below - np.log(below * SLAB**2)) / 2
            chance = special.expit(np.clip(log_odds[:, column] + bayes, -40, 40))
            chance = np.where(can_be[:, column], chance, 0)
            is_on = rng.random(n_genes) < chance
            drawn = middle + rng.standard_normal(n_genes) / np.sqrt(below)
            new = np.where(is_on, drawn, 0)
            if sweep >= burn:
                mean[:, column] += chance * middle
                included[:, column] += chance
            moved = np.flatnonzero((new != 0) | (effects[:, column] != 0))
            if len(moved):
                step = new[moved] - effects[moved, column]
                for factor, part in zip(evidence.factors, evidence.parts):
                    left[moved] -= (step * factor[moved])[:, None] * part[column]
                effects[moved, column] = new[moved]
        if prior.learned and sweep >= 5:
            log_odds = _learned(effects != 0, can_be, prior, rng)
    return Selected(mean / (sweeps - burn), included / (sweeps - burn))


def _learned(is_on, can_be, prior, rng):
    """Log odds: regulators differ in how many genes they have, known edges from others."""
    n_on, n_all = is_on.sum(axis=0), can_be.sum(axis=0)
    overall = max(n_on.sum(), 1) / max(n_all.sum(), 1)
    overall = min(overall, 0.9)
    weight = 0.5 * (1 - overall) / overall  # half an edge of an average regulator
    share = np.clip(rng.beta(n_on + 0.5, np.maximum(n_all - n_on, 0) + weight), 1e-4, 0.9)
    log_odds = np.broadcast_to(special.logit(share), is_on.shape)
    if prior.known is not None:
        for edges in (prior.known & can_be, ~prior.known & can_be):
            among = (is_on[edges].sum() + 0.5) / (edges.sum() + 1 / overall)
            gain = special.logit(min(among, 0.95)) - special.logit(overall)
            log_odds = log_odds + np.where(edges, gain, 0)
    return log_odds


def evidence_of(moments: Moments, given: Given, genes: np.ndarray) -> Evidence:
    """What covariances and arms say of effects on genes that regulate none."""
    parts, factors = [given.precision], [1 / moments.noise[genes]]
    scores = given.scores[genes]
    if len(moments.arm_weights):
        parts.append(moments.of_arms())
        factors.append(moments.arm_precision[genes])
        scores = scores + moments.arm_scores()[genes]
    return Evidence(parts, factors, scores)


def programs(moments: Moments, sinks: np.ndarray, prior: Prior, rng):
    """Loadings of hidden programs on responses and on genes, or None where there is none.

    sinks: places of genes that regulate none
    prior: of edges to them

    Edges and factors explain the same covariance. Edges start dear and get cheaper in steps, so
    that what moves many genes at once is a program, save for what moves with one regulator alone.
    """
    is_hub = np.zeros(len(moments.regulators), dtype=bool)
    is_hub[hubs(moments, sinks)] = True
    loadings, n_programs, values = None, 0, None
    for log_odds in _SCHEDULE:
        now = given(moments, loadings)
        odds = np.where(is_hub, _HUB, float(log_odds)) + np.zeros(prior.log_odds.shape)
        if prior.known is not None:
            odds = np.where(prior.known, odds / 3, odds)
        odds = np.where(np.isfinite(prior.log_odds), odds, -np.inf)
        found = select(evidence_of(moments, now, sinks), Prior(odds), rng, 16, 8)
        effects = np.where(found.included > 0.5, found.mean, 0).T
        if values is None:
            values = _factored(moments, now, effects, sinks, 1)[1]
        n_programs = max(n_programs, min(_MOST_PROGRAMS, int((values > _PROGRAM).sum())))
        if n_programs:
            loadings, values = _factored(moments, now, effects, sinks, n_programs)
    if loadings is None:
        return None
    of_responses, of_genes = loadings
    weights = 1 / moments.noise[sinks]
    for row, gene in zip(range(len(of_responses)), moments.regulators):
        own = moments.effects[row, sinks]
        slope = (weights * own) @ moments.genes[gene, sinks] / max((weights * own) @ own, 1e-12)
        of_genes[gene] = slope * of_responses[row]
    return of_responses, of_genes


def _factored(moments, now, effects, sinks, n_factors):
    """Loadings of factors that explain what edges leave, and the leading eigenvalues of that."""
    scale = np.sqrt(moments.noise[sinks])
    left = moments.genes[np.ix_(sinks, sinks)] - effects.T @ now.responses @ effects
    left = left / np.outer(scale, scale)
    np.fill_diagonal(left, 0)
    of_sinks = np.zeros((len(sinks), n_factors))
    for _ in range(8):
        np.fill_diagonal(left, (of_sinks**2).sum(axis=1))
        values, vectors = _leading(left, _MOST_PROGRAMS + 2)
        of_sinks = vectors[:, :n_factors] * np.sqrt(np.maximum(values[:n_factors], 0))
    of_sinks = of_sinks * scale[:, None]
    weighted = of_sinks / moments.noise[sinks][:, None]
    unexplained = moments.effects[:, sinks] - now.responses @ effects
    inner = weighted.T @ of_sinks + 1e-6 * np.eye(n_factors)
    of_responses = unexplained @ weighted @ np.linalg.inv(inner)
    of_genes = np.zeros((len(moments.noise), n_factors))
    of_genes[sinks] = of_sinks
    return (of_responses, of_genes), values


def _leading(matrix, n):
    """Eigenvalues from the largest down, and their vectors."""
    values = None
    if len(matrix) > 4 * n:
        try:
            start = np.ones(len(matrix))
            values, vectors = sparse_linalg.eigsh(matrix, k=n, which="LA", v0=start)
        except sparse_linalg.ArpackError:  # as with a matrix of hardly any rank
            values = None
    if values is None:
        values, vectors = np.linalg.eigh(matrix)
    order = np.argsort(-values)[:n]
    return values[order], vectors[:, order]


def causal_shares(moments: Moments, sinks: np.ndarray) -> np.ndarray:
    """Share of a regulator's covariance with genes that its own arm bears out, (n_regulators,).

    It is about 1 where others follow the regulator and 0 where it and they follow something else;
    NaN where no arm perturbs the regulator alone, or where the arm can't tell.
    """
    shares = np.full(len(moments.regulators), np.nan)
    alone = moments.is_target.sum(axis=1) == 1
    for row, gene in enumerate(moments.regulators):
        arms = np.flatnonzero(alone & moments.is_target[:, gene])
        if not len(arms):
            continue
        expected = moments.effects[row, sinks] / moments.responses[row, row]
        expected = moments.changes[arms, row][:, None] * expected
        weights = moments.arm_weights[arms, None] / moments.noise[sinks]
        precision = (weights * expected**2).sum()
        if precision > _TELLING:
            found = moments.arm_effects[np.ix_(arms, sinks)]
            shares[row] = (weights * expected * found).sum() / precision
    return shares


def hubs(moments: Moments, sinks: np.ndarray) -> list[int]:
    """Rows of regulators that many genes follow, and that follow no program themselves.

    Where a regulator has an arm, it tells; others are hubs if they alone explain the variance of
    genes in their direction, since what only follows a program leaves much of it unexplained. The
    strongest is taken first, and off the rest before the next.
    """
    scale = np.sqrt(moments.noise[sinks])
    genes = moments.genes[np.ix_(sinks, sinks)] / np.outer(scale, scale)
    effects, responses = moments.effects[:, sinks] / scale, moments.responses.copy()
    shares = causal_shares(moments, sinks)
    found = []
    for _ in range(min(15, len(responses))):
        _, vectors = _leading(genes, min(_DIRECTIONS, len(genes)))
        along = effects @ vectors @ vectors.T
        along /= np.linalg.norm(along, axis=1)[:, None] + 1e-9
        variance = np.einsum("ij,ij->i", along @ genes, along)
        explained = np.einsum("ij,ij->i", along, effects) ** 2
        explained = explained / np.maximum(np.diag(responses), 1e-3)
        alone = explained / np.maximum(variance, 0.3)
        is_one = np.where(np.isnan(shares), alone > _ALONE, (shares > _CAUSAL) & (alone > _MAINLY))
        is_one &= explained > _NOTABLE
        is_one[found] = False
        if not is_one.any():
            break
        found.append(int(np.argmax(np.where(is_one, explained, 0))))
        genes, effects, responses = _without(found[-1], genes, effects, responses)
    return found


def _without(hub, genes, effects, responses):
    """Moments of what is left when a hub's response is taken off."""
    own, covariance, variance = effects[hub], responses[:, hub], max(responses[hub, hub], 1e-3)
    genes = genes - np.outer(own, own) / variance
    effects = effects - np.outer(covariance, own) / variance
    responses = responses - np.outer(covariance, covariance) / variance
    np.fill_diagonal(responses, np.maximum(np.diag(responses), 1e-3))
    return genes, effects, responses
