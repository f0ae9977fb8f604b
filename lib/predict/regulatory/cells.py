"""What the cells of a screen say about a network of genes, as moments without measurement noise.

A regulator acts by its molecules, of which a cell shows few. Its count is replaced by the mean of a
response to molecules given that count (regression calibration), and what this loses is put back in
the moments by its reliability (Carroll et al. 2006, Measurement Error in Nonlinear Models, ch. 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import anndata as ad
import numpy as np
import scipy.sparse as sparse

from lib import checks
from lib.counts import CONTROL, SEPARATOR

ESCAPERS = 0.12  # share of an arm's cells in which nothing is perturbed, where arms can't tell
FOLDS = np.linspace(np.log(0.01), np.log(20), 80)  # logs of folds at which responses are tabulated
_LEAST_CELLS = 20  # controls from which a group's means are taken
_SPREAD = 0.3  # sd of the log of the molecules at half response over their usual number
_POWERS = 1.0, 3.0  # range of Hill coefficients
_FACTORS = 15  # leading directions that weights of genes for the exposure keep clear of


def _averaged(log_x):
    """2h - 1 for Hill's h, averaged over where its half lies and over its power."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    powers, of_powers = np.polynomial.legendre.leggauss(4)
    low, high = _POWERS
    powers = (high + low) / 2 + (high - low) / 2 * powers
    value = np.zeros_like(log_x)
    for node, weight in zip(nodes, weights / weights.sum()):
        for power, of_power in zip(powers, of_powers / 2):
            value += weight * of_power * np.tanh(power / 2 * (log_x - _SPREAD * node))
    return value


_LOGS = np.linspace(-8, 5, 600)
_RESPONSES = _averaged(_LOGS)


def response(log_x: np.ndarray) -> np.ndarray:
    """The response of a target to the log of a regulator's molecules over their usual number.

    It goes from -1 to 1, and 1 + a times it is the target's fold for an edge of effect a.
    """
    return np.interp(log_x, _LOGS, _RESPONSES)


@dataclass
class Cells:
    """Cells of a screen, measured by expected counts.

    genes: (n_genes,) names
    counts: (n_cells, n_genes) float32
    group: (n_cells,) place of the cell type and batch
    means: (n_groups, n_genes) mean counts of a group's controls
    arm: (n_cells,) place of the arm; -1 for controls
    targets: places of each arm's genes
    exposure: (n_cells,) measured over expected counts, whatever the cell's biology
    folds: (n_arms, n_genes) mean counts over expected ones
    exposures: (n_arms,) sum of exposures of an arm's cells
    """

    genes: np.ndarray
    counts: np.ndarray
    group: np.ndarray
    means: np.ndarray
    arm: np.ndarray
    targets: list[list[int]]
    exposure: np.ndarray = field(default=None)
    weights: np.ndarray = field(default=None)
    folds: np.ndarray = field(default=None)
    exposures: np.ndarray = field(default=None)

    @property
    def is_target(self) -> np.ndarray:
        """Whether an arm perturbs a gene, (n_arms, n_genes)."""
        is_target = np.zeros((len(self.targets), len(self.genes)), dtype=bool)
        for row, places in zip(is_target, self.targets):
            row[places] = True
        return is_target

    def blocks(self):
        """Yield (place of the arm, -1 for controls, and its cells' rows)."""
        order = np.argsort(self.arm, kind="stable")
        ends = np.searchsorted(self.arm[order], np.arange(-1, len(self.targets) + 1))
        for arm, (start, stop) in enumerate(zip(ends[:-1], ends[1:]), -1):
            if stop > start:
                yield arm, order[start:stop]


def labelled(train: ad.AnnData):
    """The arm of each cell, -1 for controls, and arms as (perturbation, type, strength)."""
    for column in ("perturbation", "perturbation_type", "strength"):
        if column not in train.obs:
            raise ValueError(f"train: has no obs[{column!r}]; must be cells of a screen")
    columns = [train.obs["perturbation"].astype(str), train.obs["perturbation_type"].astype(str)]
    keys = list(zip(*columns, train.obs["strength"].astype(float)))
    arms = [key for key in dict.fromkeys(keys) if key[0] != CONTROL]
    places = {key: place for place, key in enumerate(arms)}
    return np.array([places.get(key, -1) for key in keys]), arms


def measured(train: ad.AnnData, group: np.ndarray, arm: np.ndarray, arms: list) -> Cells:
    """The cells with their exposures, and the arms' folds.

    group, arm: (n_cells,) as in `Cells`
    arms: (perturbation, type, strength) of each arm

    Raises ValueError for an arm of an unknown gene, or where there is no control.
    """
    if not (arm < 0).any():
        raise ValueError(f"train: has no {CONTROL} cells in obs['perturbation']")
    genes = np.asarray(train.var_names)
    targets = [checks.genes("obs['perturbation']", key[0].split(SEPARATOR), genes) for key in arms]
    places = {gene: place for place, gene in enumerate(genes)}
    targets = [[places[gene] for gene in of_arm] for of_arm in targets]
    counts = sparse.csr_matrix(train.X).toarray().astype(np.float32)
    means = np.ones((group.max() + 1, len(genes)))
    for place in range(len(means)):
        of_control = (group == place) & (arm < 0)
        some = of_control if of_control.sum() >= _LEAST_CELLS else group == place
        means[place] = counts[some].mean(axis=0) + 0.5 / some.sum()
    cells = Cells(genes, counts, group, means, arm, targets)
    cells.weights = np.full(len(genes), 1 / len(genes))
    total = counts.sum(axis=1) / means.sum(axis=1)[group]
    cells.exposure = np.ones(len(arm))
    _set_folds(cells)
    cells.weights, clear = _weights(cells)
    if clear:
        exposure = np.einsum("ij,ij->i", counts, (cells.weights / means)[group])
        cells.exposure = np.clip(exposure, 0.3 * total, 3 * total)
    else:
        cells.exposure = total
    cells.exposure = np.maximum(cells.exposure, 0.02)
    cells.exposure /= cells.exposure[arm < 0].mean()
    _set_folds(cells)
    return cells


def _set_folds(cells):
    """Set folds and exposures of the arms, each scaled so that most genes don't change."""
    n_genes = len(cells.genes)
    cells.folds = np.ones((len(cells.targets), n_genes))
    cells.exposures = np.zeros(len(cells.targets))
    usual = cells.means.mean(axis=0)
    for arm, rows in cells.blocks():
        if arm < 0:
            continue
        exposure = cells.exposure[rows]
        shares = np.bincount(cells.group[rows], exposure, len(cells.means))
        expected = shares @ cells.means
        found = cells.counts[rows].sum(axis=0, dtype=float)
        logs = np.log((found + 0.5) / (expected + 0.5)) + 0.5 / np.maximum(expected, 1)
        scale = np.exp(np.median(logs[usual >= np.median(usual)]))
        cells.folds[arm] = (found + 0.5) / (expected + 0.5) / scale
        cells.exposures[arm] = exposure.sum() * scale
        cells.exposure[rows] = exposure * scale


def residuals(cells: Cells) -> np.ndarray:
    """Counts less what group, exposure and arm make expected, over means, (n_cells, n_genes).

    A gene that an arm perturbs has 0 there.
    """
    least = np.maximum(cells.means, 0.25 * cells.means.mean(axis=0))
    left = cells.counts / least[cells.group].astype(np.float32)
    relative = cells.means / least
    for arm, rows in cells.blocks():
        fold = cells.folds[arm] if arm >= 0 else 1.0
        expected = (relative * fold).astype(np.float32)[cells.group[rows]]
        left[rows] -= cells.exposure[rows, None].astype(np.float32) * expected
        if arm >= 0:
            left[np.ix_(rows, cells.targets[arm])] = 0
    return left


def _weights(cells):
    """Weights of genes whose weighted relative counts measure the exposure and little else.

    Generalised least squares of a constant, under the genes' covariance as a few leading
    directions and noise: genes that hubs and programs move together get little. Returns weights of
    sum 1, and whether the covariance could be told from noise.
    """
    left = residuals(cells)
    n_cells, n_genes = left.shape
    covariance = (left.T @ left).astype(float) / n_cells
    variance = np.diag(covariance).copy()
    pairs = np.triu_indices(n_genes, 1)
    precise = 1 / np.sqrt(np.outer(variance, variance)[pairs])
    of_capture = _mode(covariance[pairs][precise >= np.quantile(precise, 0.7)])
    if of_capture <= 0:
        return np.full(n_genes, 1 / n_genes), False
    covariance = (covariance + 1) / (1 + of_capture) - 1
    noise = np.maximum(variance - of_capture, 0.2)
    scaled = covariance / np.sqrt(np.outer(noise, noise))
    np.fill_diagonal(scaled, 0)
    values, vectors = np.linalg.eigh(scaled)
    leading = np.arange(n_genes)[-_FACTORS:]
    leading = leading[values[leading] > 2 * np.sqrt(n_genes / n_cells)]
    factors = vectors[:, leading] * np.sqrt(values[leading])
    ones = 1 / np.sqrt(noise)
    inner = np.eye(len(leading)) + factors.T @ factors
    weights = (ones - factors @ np.linalg.solve(inner, factors.T @ ones)) / np.sqrt(noise)
    return weights / weights.sum(), True


def _mode(values):
    """The mode: the middle of the closest half, of the closest half of that, and so on."""
    values, least = np.sort(values), max(10, len(values) // 20)
    while len(values) > least:
        half = len(values) // 2
        start = np.argmin(values[half:] - values[: len(values) - half])
        values = values[start : start + half + 1]
    return float(np.median(values))


def untouched(cells: Cells, arms: list) -> float:
    """Share of an arm's cells in which its guide does nothing, from the arms' own genes."""
    above, below = 100 * ESCAPERS, 100.0
    for arm, (_, kind, strength) in enumerate(arms):
        if kind == "activation" or strength < 0.3:
            continue
        expected = cells.exposures[arm] * cells.means.mean(axis=0)[cells.targets[arm]]
        folds = cells.folds[arm, cells.targets[arm]]
        weights = np.minimum(expected, 100) * strength**2 / 10
        above += (weights * (folds - 1 + strength) / strength).sum()
        below += weights.sum()
    return float(np.clip(above / below, 0, 0.6))
