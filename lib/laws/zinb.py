"""The zero-inflated negative binomial law.

A count k of one gene in one cell follows

    P(k) = pi * [k = 0] + (1 - pi) * NB(k; mu, theta)

with mean `mu` of the negative binomial part, *inverse* dispersion `theta` (Var = mu + mu^2 / theta,
as in scvi-tools), and probability `pi` of a structural zero.
"""

import itertools
import warnings

import numpy as np
import scipy.sparse
import scipy.special as special

from lib.laws.base import BLOCK, TINY, Law, bisect

THETA_RANGE = 1e-4, 1e8  # of fits: beyond 1e8 the law is a Poisson to 8 digits
_AT_ONCE = 100_000  # numbers that `sample_csr` works on at once: what fits a cache


class ZINB(Law):
    """Zero-inflated negative binomial law.

    mu: mean of the negative binomial part, at least 0
    theta: inverse dispersion, above 0
    pi: probability of a structural zero, from 0 to 1

    The three are arrays that broadcast. NaN in all three is an entry without a law, by which
    `dataset.law` marks a count that an intervention has set. Raises ValueError for other values.
    """

    def __init__(self, mu, theta, pi):
        self.mu, self.theta, self.pi = (np.asarray(a, dtype=float) for a in (mu, theta, pi))
        self.shape = np.broadcast_shapes(self.mu.shape, self.theta.shape, self.pi.shape)
        _refuse("mu", self.mu, (self.mu < 0) | np.isinf(self.mu), "finite and at least 0")
        wrong = (self.theta <= 0) | np.isinf(self.theta)
        _refuse("theta", self.theta, wrong, "finite and greater than 0")
        _refuse("pi", self.pi, (self.pi < 0) | (self.pi > 1), "from 0 to 1")

    def __getitem__(self, index):
        arrays = (self.mu, self.theta, self.pi)
        return ZINB(*(np.broadcast_to(a, self.shape)[index] for a in arrays))

    def log_prob(self, k):
        """Natural log of the pmf; -inf where k is negative or not a whole number."""
        k = np.asarray(k, dtype=float)
        allowed = (k >= 0) & (k == np.floor(k))
        k = np.where(allowed, k, 0.0)
        with np.errstate(divide="ignore"):
            log_nb = np.log1p(-self.pi) + _nb_log_prob(k, self.mu, self.theta)
            log_zero = np.where(k == 0, np.log(self.pi), -np.inf)
        return np.where(allowed, np.logaddexp(log_zero, log_nb), -np.inf)

    def pmf_blocks(self):
        return self[None].mixed_pmf_blocks()

    def mixed_pmf_blocks(self, weights=None):
        """As `Law.mixed_pmf_blocks`, by a recurrence.

        NB(k + 1) / NB(k) = (k + theta) / (k + 1) * mu / (mu + theta). The division by k + 1 is the
        same for all laws and is made once a block, so that a count costs three passes over the
        components.
        """
        n_components, shape = self.shape[0], self.shape[1:]

        def flat(values):
            values = np.ascontiguousarray(np.broadcast_to(values, self.shape))
            return values.reshape(n_components, -1)

        mu, theta, pi = (flat(a) for a in (self.mu, self.theta, self.pi))
        weights = None if weights is None else flat(weights)
        total = n_components if weights is None else 1
        q, first = mu / (mu + theta), nb_zero_prob(mu, theta)
        p, ratio = (1 - pi) * first, np.empty_like(q)
        asleep = first < TINY  # they can't start from 0, but in the block where they begin to count
        p[asleep] = 0
        late = mu[asleep], theta[asleep]

        def counts(block):
            return _nb_log_prob(BLOCK * block, *late) >= np.log(TINY)

        waking = BLOCK * bisect(np.zeros_like(late[0]), np.floor(late[0] / BLOCK), counts)
        table = np.empty((BLOCK, p.shape[1]))
        for start in itertools.count(0, BLOCK):
            if (now := waking == start).any():
                those = tuple(i[now] for i in np.nonzero(asleep))
                p[those] = (1 - pi[those]) * np.exp(_nb_log_prob(start, mu[those], theta[those]))
            np.multiply(q, start + theta, out=ratio)
            for row in table:
                if weights is not None:
                    np.einsum("ij,ij->j", weights, p, out=row)
                elif n_components > 1:
                    np.add.reduce(p, axis=0, out=row)
                else:
                    row[:] = p[0]
                p *= ratio
                ratio += q
            left_out = np.cumprod(np.arange(start + 1.0, start + 1 + BLOCK))
            table[0] /= total
            table[1:] *= (1 / (total * left_out[:-1]))[:, None]
            p *= 1 / left_out[-1]
            if start == 0:
                table[0] += pi.mean(axis=0) if weights is None else (weights * pi).sum(axis=0)
            yield table.reshape(BLOCK, *shape)

    def cdf(self, k):
        k = np.floor(np.asarray(k, dtype=float))
        # NB cdf as a regularised incomplete beta function of 1 - p = mu / (mu + theta)
        nb = special.betaincc(np.maximum(k, 0) + 1, self.theta, self.mu / (self.mu + self.theta))
        return np.where(k < 0, 0.0, self.pi + (1 - self.pi) * nb)

    @property
    def mean(self):
        return (1 - self.pi) * self.mu

    @property
    def variance(self):
        """Variance of the count, dropout included."""
        return (1 - self.pi) * self.mu * (1 + self.mu * (self.pi + 1 / self.theta))

    def parameters(self):
        return ZINB(*(np.broadcast_to(a, self.shape) for a in (self.mu, self.theta, self.pi)))

    def reach(self, tail):
        # after Bernstein's inequality: the variance is mu (1 + mu / theta), and the tail falls
        # e-fold in about mu / theta counts
        folds, scale = -np.log(tail), self.mu / self.theta
        count = self.mu + np.sqrt(2 * folds * self.mu * (1 + scale)) + folds * scale
        return np.broadcast_to(count, self.shape)

    def decay(self, k):
        total = self.mu + self.theta
        return (self.theta - self.mu * np.maximum(self.theta - 1, 0) / k) / total

    def sample(self, rng: np.random.Generator, size=None):
        """Draw counts (int64).

        Only those that survive dropout are drawn: three times as fast where most are zeros.
        """
        size = self.shape if size is None else size
        alive = rng.random(size) >= self.pi
        mu, theta = (np.broadcast_to(a, size)[alive] for a in (self.mu, self.theta))
        counts = np.zeros(size, dtype=np.int64)
        counts[alive] = rng.poisson(rng.gamma(theta, mu / theta))
        return counts


def _refuse(name, value, wrong, allowed):
    if wrong.any():
        raise ValueError(f"{name} = {value[wrong].flat[0]:g}: must be {allowed}")


def nb_zero_prob(mu, theta):
    """Probability of a zero of the negative binomial part alone: (theta / (theta + mu))^theta."""
    return np.exp(-theta * np.log1p(np.asarray(mu) / theta))


def _nb_log_prob(k, mu, theta):
    log_choose = special.gammaln(k + theta) - special.gammaln(theta) - special.gammaln(k + 1)
    stirling = theta > 1e5  # where the difference of two log-gammas has lost its digits
    if np.any(stirling):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log1p(k / theta)
            large = (theta + k - 0.5) * ratio + k * (np.log(theta) - 1) - special.gammaln(k + 1)
            large += 1 / (12 * (theta + k)) - 1 / (12 * theta)
        log_choose = np.where(stirling, large, log_choose)
    return log_choose - theta * np.log1p(mu / theta) + special.xlogy(k, mu) - k * np.log(theta + mu)


def sample_csr(blocks, rng: np.random.Generator) -> scipy.sparse.csr_matrix:
    """Draw cells of independent genes, float32 counts, without ever holding their zeros.

    blocks: pairs of a law (n_genes,) and a number of cells

    The counts are those of `law.sample(rng, (n_cells, n_genes))`, block by block.
    """
    n_genes = blocks[0][0].shape[0]
    n_done, ends = 0, [np.zeros(1, dtype=np.int64)]
    data, indices = np.empty(0, np.float32), np.empty(0, np.int32)
    at_once = max(1, _AT_ONCE // max(1, n_genes))  # rows whose numbers stay in a cache
    for law, n_cells in blocks:
        mu, theta, pi = (np.broadcast_to(p, n_genes) for p in (law.mu, law.theta, law.pi))
        scale, parts = mu / theta, []
        for start in range(0, n_cells, at_once):
            n_rows = min(at_once, n_cells - start)
            alive = np.flatnonzero(rng.random((n_rows, n_genes)) >= pi)
            row_ends = np.searchsorted(alive, n_genes * np.arange(1, n_rows + 1))
            parts.append([(alive % n_genes).astype(np.int32), row_ends])
        for part in parts:
            part.append(rng.standard_gamma(theta[part[0]]) * scale[part[0]])
        while parts:
            gene, row_ends, rate = parts.pop(0)
            count = rng.poisson(rate)
            seen = np.flatnonzero(count)
            if n_done + len(seen) > len(data):
                room = max(n_done + len(seen), len(data) * 9 // 8)
                # in place and by little: the peak of memory is near the end
                data.resize(room, refcheck=False)
                indices.resize(room, refcheck=False)
            data[n_done : n_done + len(seen)] = count[seen]
            indices[n_done : n_done + len(seen)] = gene[seen]
            ends.append(n_done + np.searchsorted(seen, row_ends))
            n_done += len(seen)
    data.resize(n_done, refcheck=False)
    indices.resize(n_done, refcheck=False)
    shape = sum(n for _, n in blocks), n_genes
    return scipy.sparse.csr_matrix((data, indices, np.concatenate(ends)), shape=shape)


def solve_pi(mu, theta, target_zero_prob, unreachable: str = "raise"):
    """The pi that gives a ZINB the wanted share of zeros.

    mu, theta, target_zero_prob: arrays that broadcast
    unreachable: "raise" a ValueError where the negative binomial part alone has more zeros than
        wanted, or "clip": pi = 0 there, with a warning
    """
    target = np.asarray(target_zero_prob, dtype=float)
    wrong = ~((target >= 0) & (target <= 1))
    if wrong.any():
        raise ValueError(f"target_zero_prob = {target[wrong].flat[0]:g}: must be from 0 to 1")
    if unreachable not in ("raise", "clip"):
        raise ValueError(f"unreachable = {unreachable!r}: must be 'raise' or 'clip'")
    floor = nb_zero_prob(mu, theta)
    missed = floor > target
    if missed.any():
        lowest = np.broadcast_to(target, missed.shape)[missed].min()
        message = (
            f"target_zero_prob = {lowest:g}: out of reach for {missed.sum()} of {missed.size}, "
            f"whose negative binomial part alone has up to {floor.max():.3f} zeros; "
            "allowed from there upwards"
        )
        if unreachable == "raise":
            raise ValueError(message)
        warnings.warn(message + " (pi = 0 taken there)", stacklevel=2)
    return np.where(missed, 0.0, (target - floor) / np.maximum(1 - floor, np.finfo(float).tiny))
