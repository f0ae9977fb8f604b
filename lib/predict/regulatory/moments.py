"""Moments of regulators' responses and of genes, and the evidence of a screen's arms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as special

from lib.predict.regulatory.cells import FOLDS, Cells, residuals, response

_LEAST_VARIANCE = 0.03  # of a regulator's molecules over their squared mean
_QUANTILES = (np.arange(40) + 0.5) / 40
_MISFIT = 0.05  # sd of an arm's relative changes about what a right network says
_LEAST_CORRELATION = 0.02  # smallest eigenvalue of a matrix of correlations
_SHARE = 0.1  # of arms in which a regulator that isn't perturbed changes
_CHANGE = 0.3  # sd of the log of its fold then


@dataclass
class Moments:
    """What is known of edges, regulators first. Sums over cells are divided by `weight`.

    regulators: (n_regulators,) places of genes
    observed: (n_regulators, n_regulators) covariance of estimated responses
    reliability: (n_regulators,) its diagonal over that of the responses themselves
    responses: (n_regulators, n_regulators) covariance of the responses themselves
    effects: (n_regulators, n_genes) covariance of responses and genes
    genes: (n_genes, n_genes) covariance of genes, with a diagonal of 0
    noise: (n_genes,) variance of a relative count at an exposure of 1
    weight: sum of exposures
    curves: (n_regulators, n_folds) mean response where a regulator is multiplied by exp(FOLDS)
    changes: (n_arms, n_regulators) changes of mean responses in arms
    arm_weights: (n_arms,) sums of exposures
    arm_effects: (n_arms, n_genes) relative changes of genes, of perturbed ones 0
    is_target: (n_arms, n_genes)
    """

    regulators: np.ndarray
    observed: np.ndarray
    reliability: np.ndarray
    responses: np.ndarray
    effects: np.ndarray
    genes: np.ndarray
    noise: np.ndarray
    weight: float
    curves: np.ndarray
    changes: np.ndarray = None
    arm_weights: np.ndarray = None
    arm_effects: np.ndarray = None
    is_target: np.ndarray = None

    @property
    def arm_precision(self) -> np.ndarray:
        """Precision of an arm's relative change of each gene for a unit of weight, (n_genes,)."""
        usual = np.median(self.arm_weights) if len(self.arm_weights) else 1.0
        return 1 / (self.noise + _MISFIT**2 * usual)

    @property
    def at_rest(self) -> np.ndarray:
        """Mean response of each regulator where nothing changes, (n_regulators,)."""
        return np.array([np.interp(0, FOLDS, curve) for curve in self.curves])

    def of_arms(self, gene: int | None = None) -> np.ndarray:
        """Sum over arms of products of changes, (n_regulators, n_regulators).

        gene: whose own arms are left out
        """
        weights = self.arm_weights if gene is None else self.arm_weights * ~self.is_target[:, gene]
        return (self.changes * weights[:, None]).T @ self.changes

    def arm_scores(self) -> np.ndarray:
        """Sum over arms of changes times genes' relative changes, (n_genes, n_regulators)."""
        scores = (self.arm_effects * self.arm_weights[:, None]).T @ self.changes
        return scores * self.arm_precision[:, None]


def moments(cells: Cells, regulators: np.ndarray, capture: float) -> Moments:
    """Moments over cells, each about its arm's mean.

    regulators: (n_regulators,) places of genes
    capture: share of the molecules that is counted, at an exposure of 1
    """
    estimated, variances, curves = _estimated(cells, regulators, capture)
    exposure = cells.exposure
    for arm, rows in cells.blocks():
        weights = exposure[rows] / exposure[rows].sum()
        estimated[rows] -= (weights @ estimated[rows]).astype(np.float32)
        if arm >= 0:
            own = np.flatnonzero(np.isin(regulators, cells.targets[arm]))
            estimated[np.ix_(rows, own)] = 0
    left = residuals(cells)
    weight = float(exposure.sum())
    weighted = estimated * exposure[:, None].astype(np.float32)
    observed = (weighted.T @ estimated).astype(float) / weight
    used = exposure @ (estimated != 0) / weight
    reliability = np.clip(np.diag(observed) / np.maximum(used, 1e-9) / variances, 0.02, 0.98)
    responses = observed / np.outer(reliability, reliability)
    np.fill_diagonal(responses, np.diag(observed) / reliability)
    effects = (estimated.T @ left).astype(float) / weight / reliability[:, None]
    squares = float((exposure**2).sum())
    genes = (left.T @ left).astype(float)
    noise = np.maximum(np.diag(genes) / weight, 1e-6)
    genes /= squares
    # counts of a gene are in the exposure too, which takes from its covariances with others
    own = cells.weights * np.diag(genes)
    genes += own[:, None] + own[None, :] - cells.weights @ own
    np.fill_diagonal(genes, 0)
    return Moments(
        regulators, observed, reliability, responses, effects, genes, noise, weight, curves
    )


def _estimated(cells, regulators, capture):
    """Mean responses given counts (n_cells, n_regulators), variances of responses, and curves.

    A regulator's molecules are gamma-Poisson in cells of a group, and a count thins them, so that
    those not counted are Poisson with the gamma's posterior.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights /= weights.sum()
    exposure = cells.exposure
    estimated = np.zeros((len(exposure), len(regulators)), dtype=np.float32)
    variances, curves = np.zeros(len(regulators)), np.zeros((len(regulators), len(FOLDS)))
    share = np.clip(capture * exposure, 1e-4, 0.9)
    is_control = cells.arm < 0
    for column, gene in enumerate(regulators):
        counts = cells.counts[:, gene].astype(float)
        usual = cells.means[cells.group, gene]
        expected = exposure * usual
        own, mean = counts[is_control], expected[is_control]
        excess = ((own - mean) ** 2 - own).sum() / (mean**2).sum()
        shape = 1 / max(excess, _LEAST_VARIANCE)
        rate = (shape + counts) / (shape + expected) * usual / capture
        missed = (1 - share) * rate
        molecules = counts + missed
        variance = missed + missed**2 / (shape + counts)
        shape_left = molecules**2 / np.maximum(variance, 1e-9)
        middle = np.log(molecules * capture / usual) - 0.5 / shape_left - 1 / 12 / shape_left**2
        spread = np.sqrt(1 / shape_left + 0.5 / shape_left**2)
        for node, of_node in zip(nodes, weights):
            estimated[:, column] += of_node * response(middle + spread * node)
        square = 1 / shape + capture / cells.means[:, gene].mean()
        logs = np.log(np.maximum(special.gammaincinv(1 / square, _QUANTILES) * square, 1e-4))
        variances[column] = response(logs).var()
        curves[column] = response(FOLDS[:, None] + logs).mean(axis=1)
    return estimated, variances, curves


def with_arms(found: Moments, cells: Cells, untouched: float) -> np.ndarray:
    """Put the evidence of the arms into moments. Returns the shared part of it, (n_arms, n_genes).

    untouched: share of an arm's cells in which nothing is perturbed

    What all arms share, up to an amplitude of each, is taken off the logs of their folds.
    """
    found.is_target = is_target = cells.is_target
    found.arm_weights = weights = cells.exposures
    errors = np.sqrt(found.noise / np.maximum(weights, 1e-9)[:, None])
    logs = np.log(cells.folds)
    shared = _shared(logs, errors, is_target)
    found.arm_effects = np.where(is_target, 0, np.exp(logs - shared) - 1)
    found.changes = np.zeros((len(weights), len(found.regulators)))
    at_rest = found.at_rest
    for column, gene in enumerate(found.regulators):
        own = is_target[:, gene]
        change = logs[:, gene] - shared[:, gene]
        variance = errors[:, gene] ** 2 + 1e-4
        wide = variance + _CHANGE**2
        evidence = (np.log(variance / wide) + change**2 * (1 / variance - 1 / wide)) / 2
        odds = np.log(_SHARE / (1 - _SHARE)) + np.clip(evidence, -50, 50)
        change = special.expit(odds) * change * _CHANGE**2 / wide
        curve = found.curves[column]
        found.changes[:, column] = np.interp(change, FOLDS, curve) - at_rest[column]
        acting = np.log(np.clip((cells.folds[own, gene] - untouched) / (1 - untouched), 0.02, 50))
        strong = np.interp(acting, FOLDS, curve) - at_rest[column]
        found.changes[own, column] = (1 - untouched) * strong
    return shared


def _shared(logs, errors, is_target):
    """The direction that arms share times each one's amplitude, (n_arms, n_genes)."""
    n_arms = len(logs)
    if n_arms < 8:
        return np.zeros(logs.shape)
    direction = np.median(np.where(is_target, 0, logs), axis=0)
    noise = 1.57 * (errors**2).mean(axis=0) / n_arms
    size = max((direction**2 - noise).mean(), 0)
    direction = direction * size / (size + noise)
    weights = np.where(is_target, 0, 1 / (errors**2 + 0.05))
    amplitude = np.ones(n_arms)
    scale = np.maximum((weights * direction**2).sum(axis=1), 1e-9)
    for _ in range(3):
        distance = (logs - amplitude[:, None] * direction) / np.sqrt(errors**2 + 0.01)
        robust = weights / (1 + (distance / 2.5) ** 2)
        below = np.maximum((robust * direction**2).sum(axis=1), 1e-9)
        amplitude = (robust * direction * logs).sum(axis=1) / below
    spread = max(amplitude.var() - (1 / scale).mean(), 0)
    middle = amplitude.mean()
    amplitude = middle + (amplitude - middle) * spread / (spread + 1 / scale)
    return amplitude[:, None] * direction


def definite(matrix: np.ndarray) -> np.ndarray:
    """The nearest covariance whose correlations have no eigenvalue near 0 or below."""
    scale = np.sqrt(np.diag(matrix))
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    fixed = (vectors * np.maximum(values, _LEAST_CORRELATION)) @ vectors.T
    scale = scale / np.sqrt(np.diag(fixed))
    return fixed * np.outer(scale, scale)


def likely_regulators(cells: Cells, n_most: int, capture: float) -> np.ndarray:
    """Genes that many others vary with, beyond what their other partners explain, as places."""
    n_genes = len(cells.genes)
    everyone = np.arange(n_genes)
    if n_genes <= n_most:
        return everyone
    found = moments(cells, everyone, capture)
    errors = np.sqrt(np.outer(np.diag(found.observed), found.noise) / found.weight)
    errors /= found.reliability[:, None]
    strength = np.abs(found.effects) / errors
    np.fill_diagonal(strength, 0)
    votes = np.zeros(n_genes)
    for gene in everyone:
        strongest = np.argsort(-strength[:, gene])[:3]
        votes[strongest] += np.maximum(strength[strongest, gene] - 3, 0)
    return np.sort(np.argsort(-votes, kind="stable")[:n_most])
