"""The law of a count: the zero-inflated negative binomial, and mixtures of it.

A count k of one gene in one cell follows

    P(k) = pi * [k = 0] + (1 - pi) * NB(k; mu, theta)

with mean ``mu`` of the negative binomial part, *inverse* dispersion ``theta``
(Var = mu + mu^2 / theta, as in scvi-tools), and probability ``pi`` of a structural zero.

Every law has ``log_prob(k)``, ``pmf(k)``, ``cdf(k)``, ``mean`` and ``sample(rng)``, all of which
broadcast, and indexes like an array, so that ``law[:, None].pmf(np.arange(50))`` is a table
of cells x counts.
"""

from __future__ import annotations

import itertools
import warnings
from collections import deque

import numpy as np
import scipy.sparse
import scipy.special as special

THETA_RANGE = (1e-4, 1e8)  # in which theta is looked for: beyond 1e8 the law is a Poisson to 8 digits
BLOCK = 16  # counts at a time in `pmf_blocks`
TINY = 1e-290  # below this a probability is at the end of what a float can be
_AT_ONCE = 100_000  # numbers that `sample_csr` works on at once: what fits a cache


class Law:
    """What every law can do, given ``log_prob`` and ``cdf``."""

    shape: tuple[int, ...]

    def pmf(self, k):
        """Probability of the count k. Broadcasts k against the law's shape."""
        return np.exp(self.log_prob(k))

    def pmf_blocks(self):
        """Probabilities of the counts 0, 1, ... without end, BLOCK of them at a time along a new first axis.

        What is yielded is overwritten by the next block.
        """
        for start in itertools.count(0, BLOCK):
            yield np.moveaxis(self[..., None].pmf(np.arange(start, start + BLOCK)), -1, 0)

    def pmf_table(self, n_counts: int):
        """Probabilities of the counts 0 ... n_counts - 1, along a new last axis."""
        table = np.empty((n_counts, *self.shape))
        for start, block in zip(range(0, n_counts, BLOCK), self.pmf_blocks()):
            table[start : start + BLOCK] = block[: n_counts - start]
        return np.moveaxis(table, 0, -1)

    def quantile(self, u):
        """Smallest count whose cdf is at least u, by bisection.

        u : array that broadcasts with the law, in [0, 1)
        """
        u = np.asarray(u, dtype=float)
        wrong = ~((u >= 0) & (u < 1))
        if wrong.any():
            raise ValueError(f"u = {u[wrong].flat[0]:g}: must be at least 0 and below 1")
        shape = np.broadcast_shapes(u.shape, self.shape)
        low, high = np.full(shape, -1.0), np.ones(shape)
        while (short := self.cdf(high) < u).any():
            low = np.where(short, high, low)
            high = np.where(short, 2 * high, high)
        while ((high - low) > 1).any():
            middle = np.floor((low + high) / 2)
            enough = self.cdf(middle) >= u
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return high.astype(np.int64)


class ZINB(Law):
    """Zero-inflated negative binomial law over arrays that broadcast.

    mu : array, mean of the negative binomial part, in counts, >= 0
    theta : array, inverse dispersion, > 0
    pi : array, probability of a structural zero, in [0, 1]

    An entry whose three parameters are all NaN has no law: so `dataset.law` marks a count that
    an intervention has set. Raises ValueError where a parameter is out of its range.

    >>> float(ZINB(mu=3.0, theta=2.0, pi=0.5).zero_prob)
    0.58
    """

    def __init__(self, mu, theta, pi):
        self.mu, self.theta, self.pi = (np.asarray(a, dtype=float) for a in (mu, theta, pi))
        self.shape = np.broadcast_shapes(self.mu.shape, self.theta.shape, self.pi.shape)
        for name, value, wrong, allowed in (
            ("mu", self.mu, (self.mu < 0) | np.isinf(self.mu), "finite and at least 0"),
            ("theta", self.theta, (self.theta <= 0) | np.isinf(self.theta), "finite and greater than 0"),
            ("pi", self.pi, (self.pi < 0) | (self.pi > 1), "from 0 to 1"),
        ):
            if wrong.any():
                raise ValueError(f"{name} = {value[wrong].flat[0]:g}: must be {allowed}")

    def __getitem__(self, index):
        return ZINB(*(np.broadcast_to(a, self.shape)[index] for a in (self.mu, self.theta, self.pi)))

    def __repr__(self):
        return f"ZINB(shape={self.shape})"

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
        return _mean_pmf_blocks(self[None])

    def cdf(self, k):
        """Probability of a count of at most k."""
        k = np.floor(np.asarray(k, dtype=float))
        # NB cdf as a regularised incomplete beta function of 1 - p = mu / (mu + theta)
        nb = special.betaincc(np.maximum(k, 0) + 1, self.theta, self.mu / (self.mu + self.theta))
        return np.where(k < 0, 0.0, self.pi + (1 - self.pi) * nb)

    @property
    def mean(self):
        """Mean count, dropout included: (1 - pi) mu."""
        return (1 - self.pi) * self.mu

    @property
    def variance(self):
        """Variance of the count, dropout included."""
        return (1 - self.pi) * self.mu * (1 + self.mu * (self.pi + 1 / self.theta))

    @property
    def zero_prob(self):
        """Probability of a zero, structural or sampled."""
        return self.pi + (1 - self.pi) * nb_zero_prob(self.mu, self.theta)

    def parameters(self) -> ZINB:
        """The law itself, as a Mixture has it: its mu, theta and pi, each of the law's shape."""
        return ZINB(*(np.broadcast_to(a, self.shape) for a in (self.mu, self.theta, self.pi)))

    def sample(self, rng: np.random.Generator, size=None):
        """Draw counts (int64) of shape `size`, the law's own by default.

        Only the entries that survive dropout are drawn, which is three times faster where
        most counts are zeros.
        """
        size = self.shape if size is None else size
        alive = rng.random(size) >= self.pi
        mu, theta = (np.broadcast_to(a, size)[alive] for a in (self.mu, self.theta))
        counts = np.zeros(size, dtype=np.int64)
        counts[alive] = rng.poisson(rng.gamma(theta, mu / theta))
        return counts


class Mixture(Law):
    """Equal mixture of the laws along the first axis of `components`.

    components : Law of shape (n_components, ...), such as one law a posterior sample
    """

    def __init__(self, components: Law):
        if len(components.shape) < 1 or components.shape[0] < 1:
            raise ValueError(f"components of shape {components.shape}: need at least one along the first axis")
        self.components = components
        self.shape = components.shape[1:]

    @classmethod
    def of(cls, laws: list[Law]) -> Mixture:
        """The equal mixture of ZINB laws, or of mixtures of these with as many components each.

        laws : all of one shape
        """
        parts = [law.components if isinstance(law, Mixture) else law[None] for law in laws]
        if len({part.shape for part in parts}) > 1:
            raise ValueError(f"laws: of shapes {[law.shape for law in laws]}; must be of one shape, with as many components each")
        full = [[np.broadcast_to(p, part.shape) for p in (part.mu, part.theta, part.pi)] for part in parts]
        return cls(ZINB(*(np.concatenate(p) for p in zip(*full))))

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        return Mixture(self.components[(slice(None), *index)])

    def log_prob(self, k):
        """Natural log of the pmf."""
        log_p = self._over_components(self.components.log_prob, k)
        return special.logsumexp(log_p, axis=0) - np.log(len(log_p))

    def pmf(self, k):
        """Probability of the count k."""
        return self._over_components(self.components.pmf, k).mean(axis=0)

    def pmf_blocks(self):
        if isinstance(self.components, ZINB):
            return _mean_pmf_blocks(self.components)
        return (block.mean(axis=1) for block in self.components.pmf_blocks())

    def cdf(self, k):
        """Probability of a count of at most k."""
        return self._over_components(self.components.cdf, k).mean(axis=0)

    def _over_components(self, function, k):
        k = np.asarray(k, dtype=float)
        if k.ndim > len(self.shape):  # the components' axis must stay in front of k's
            n_new = k.ndim - len(self.shape)
            index = (slice(None), *(None,) * n_new)
            function = getattr(self.components[index], function.__name__)
        return function(k)

    @property
    def mean(self):
        """Mean count."""
        return self.components.mean.mean(axis=0)

    @property
    def zero_prob(self):
        """Probability of a zero."""
        return self.components.zero_prob.mean(axis=0)

    def parameters(self) -> ZINB:
        """The ZINB with the components' mean mu, geometric mean theta and mean pi.

        A mixture has no mu, theta and pi of its own; these are its point estimates of them.
        """
        shape = self.components.shape
        mu, theta, pi = (np.broadcast_to(a, shape) for a in (self.components.mu, self.components.theta, self.components.pi))
        return ZINB(mu.mean(0), np.exp(np.log(theta).mean(0)), pi.mean(0))

    def sample(self, rng: np.random.Generator):
        """Draw one count an entry: first the component, then the count."""
        return np.take_along_axis(
            self.components.sample(rng), rng.integers(self.components.shape[0], size=(1, *self.shape)), axis=0
        )[0]


class Empirical(Law):
    """The law of draws: what a model that only samples is scored by.

    draws : (..., n_draws) counts; the law's shape is that of the leading axes
    """

    def __init__(self, draws):
        self.draws = np.sort(np.asarray(draws), axis=-1)
        if self.draws.ndim < 1 or self.draws.shape[-1] == 0:
            raise ValueError(f"draws of shape {self.draws.shape}: need at least one draw an entry")
        if not np.isfinite(self.draws).all() or (self.draws < 0).any():
            raise ValueError("draws must be finite and at least 0")
        self.shape = self.draws.shape[:-1]

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        return Empirical(self.draws[(*index, slice(None))])

    def log_prob(self, k):
        """Natural log of the pmf; -inf for a count that was never drawn."""
        with np.errstate(divide="ignore"):
            return np.log((self.draws == np.asarray(k)[..., None]).mean(-1))

    def pmf_blocks(self):
        n_draws, n_laws = self.draws.shape[-1], self.draws[..., 0].size
        order = np.argsort(self.draws, axis=None, kind="stable")
        draws, law = self.draws.ravel()[order], order // n_draws
        whole = draws == np.floor(draws)
        draws, law = draws[whole], law[whole]
        for start in itertools.count(0, BLOCK):
            now = slice(*np.searchsorted(draws, (start, start + BLOCK)))
            place = (draws[now] - start).astype(np.int64) * n_laws + law[now]
            yield np.bincount(place, minlength=BLOCK * n_laws).reshape(BLOCK, *self.shape) / n_draws

    def cdf(self, k):
        """Share of draws of at most k."""
        return (self.draws <= np.asarray(k)[..., None]).mean(-1)

    @property
    def mean(self):
        """Mean of the draws."""
        return self.draws.mean(-1)

    def sample(self, rng: np.random.Generator):
        """Draw one of the draws an entry."""
        pick = rng.integers(self.draws.shape[-1], size=(*self.shape, 1))
        return np.take_along_axis(self.draws, pick, axis=-1)[..., 0]


def nb_zero_prob(mu, theta):
    """Probability of a zero of the negative binomial part alone: (theta / (theta + mu))^theta."""
    return np.exp(-theta * np.log1p(np.asarray(mu) / theta))


def _mean_pmf_blocks(components):
    """`Law.pmf_blocks` of the equal mixture of the ZINB laws along the first axis of `components`.

    By the recurrence NB(k + 1) / NB(k) = (k + theta) / (k + 1) * mu / (mu + theta). Its division by k + 1 is the same
    for all laws and is made up for once a block, so that a count costs three passes over the components.
    """
    n_components, shape = components.shape[0], components.shape[1:]
    full = (np.broadcast_to(a, components.shape) for a in (components.mu, components.theta, components.pi))
    mu, theta, pi = (np.ascontiguousarray(a).reshape(n_components, -1) for a in full)
    q, first = mu / (mu + theta), nb_zero_prob(mu, theta)
    p, ratio = (1 - pi) * first, np.empty_like(q)
    asleep = first < TINY  # where the recurrence can't start from 0: in the block where the law begins to count
    p[asleep] = 0
    waking = _first_block(mu[asleep], theta[asleep])
    table = np.empty((BLOCK, p.shape[1]))
    for start in itertools.count(0, BLOCK):
        if (now := waking == start).any():
            those = tuple(i[now] for i in np.nonzero(asleep))
            p[those] = (1 - pi[those]) * np.exp(_nb_log_prob(start, mu[those], theta[those]))
        np.multiply(q, start + theta, out=ratio)
        for row in table:
            if n_components > 1:
                np.add.reduce(p, axis=0, out=row)
            else:
                row[:] = p[0]
            p *= ratio
            ratio += q
        left_out = np.cumprod(np.arange(start + 1.0, start + 1 + BLOCK))
        table[0] /= n_components
        table[1:] *= (1 / (n_components * left_out[:-1]))[:, None]
        p *= 1 / left_out[-1]
        if start == 0:
            table[0] += pi.mean(axis=0)
        yield table.reshape(BLOCK, *shape)


def _first_block(mu, theta):
    """The first multiple of BLOCK where the negative binomial is above TINY, for laws below it at 0, by bisection."""
    low, high = np.zeros_like(mu), np.floor(mu / BLOCK)
    while ((high - low) > 1).any():
        middle = np.floor((low + high) / 2)
        enough = _nb_log_prob(BLOCK * middle, mu, theta) >= np.log(TINY)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return BLOCK * high


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
    """Draw cells of independent genes without ever holding their zeros.

    blocks : (law of shape (n_genes,), number of cells) pairs, whose cells come one below the other

    Returns float32 counts, cells x genes: those of `law.sample(rng, (n_cells, n_genes))`, block by block.
    """
    n_genes, n_done, ends = blocks[0][0].shape[0], 0, [np.zeros(1, dtype=np.int64)]
    data, indices = np.empty(0, np.float32), np.empty(0, np.int32)
    at_once = max(1, _AT_ONCE // max(1, n_genes))  # rows whose numbers stay in a cache
    for law, n_cells in blocks:
        mu, theta, pi = (np.broadcast_to(p, n_genes) for p in (law.mu, law.theta, law.pi))
        scale, parts = mu / theta, deque()
        for start in range(0, n_cells, at_once):
            n_rows = min(at_once, n_cells - start)
            alive = np.flatnonzero(rng.random((n_rows, n_genes)) >= pi)
            gene = (alive % n_genes).astype(np.int32)
            parts.append([gene, np.searchsorted(alive, n_genes * np.arange(1, n_rows + 1))])
        for part in parts:
            gene = part[0]
            part.append(rng.standard_gamma(theta[gene]) * scale[gene])
        while parts:
            gene, row_ends, rate = parts.popleft()
            count = rng.poisson(rate)
            seen = np.flatnonzero(count)
            if n_done + len(seen) > len(data):
                room = max(n_done + len(seen), len(data) * 9 // 8)
                for array in (data, indices):  # in place and by little: the peak of memory is near the end
                    array.resize(room, refcheck=False)
            data[n_done : n_done + len(seen)] = count[seen]
            indices[n_done : n_done + len(seen)] = gene[seen]
            ends.append(n_done + np.searchsorted(seen, row_ends))
            n_done += len(seen)
    for array in (data, indices):
        array.resize(n_done, refcheck=False)
    return scipy.sparse.csr_matrix((data, indices, np.concatenate(ends)), shape=(sum(n for _, n in blocks), n_genes))


def solve_pi(mu, theta, target_zero_prob, unreachable: str = "raise"):
    """The pi that gives a ZINB the wanted share of zeros.

    mu, theta, target_zero_prob : arrays that broadcast
    unreachable : "raise", or "clip" to take pi = 0 with a warning where the negative binomial
        part alone has more zeros than wanted

    Returns pi, an array in [0, 1]. Raises ValueError, which says how many entries can't
    reach the target and what the lowest target is that all of them can.
    """
    target = np.asarray(target_zero_prob, dtype=float)
    wrong = ~((target >= 0) & (target <= 1))
    if wrong.any():
        raise ValueError(f"target_zero_prob = {target[wrong].flat[0]:g}: must be from 0 to 1")
    if unreachable not in ("raise", "clip"):
        raise ValueError(f"unreachable = {unreachable!r}: must be 'raise' or 'clip'")
    floor = np.clip(nb_zero_prob(mu, theta), 0.0, 1.0)
    missed = floor > target
    if missed.any():
        message = (
            f"target_zero_prob = {np.broadcast_to(target, missed.shape)[missed].min():g}: out of reach for "
            f"{missed.sum()} of {missed.size}, whose negative binomial part alone has up to "
            f"{floor.max():.3f} zeros; allowed from there upwards"
        )
        if unreachable == "raise":
            raise ValueError(message)
        warnings.warn(message + " (pi = 0 taken there)", stacklevel=2)
    return np.where(missed, 0.0, (target - floor) / np.maximum(1 - floor, np.finfo(float).tiny))
