"""Maximum likelihood: the ZINB law of each gene from its counts, all genes at once."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from lib.laws import ZINB, zinb

_HEAD = 32  # counts up to here are summed term by term
_AT_ONCE = 100_000  # terms of the genes that are fitted at once: what fits a cache


def fit(counts, zero_inflated: bool = True) -> ZINB:
    """Maximum-likelihood law of each gene, (n_genes,); of a gene without a count, mu = 0.

    counts: (n_cells, n_genes) whole numbers of at least 0, dense or sparse
    zero_inflated: False for a plain negative binomial, pi = 0

    Where the share P0 of zeros is above that of the negative binomial part, the likelihood splits
    into that of P0 and that of the non-zeros under the zero-truncated negative binomial: two
    parameters on the histogram of the gene's counts. Otherwise pi = 0 is on the boundary, and the
    plain negative binomial is fitted. No gene's law depends on the others. Raises ValueError for
    values that are no counts.
    """
    genes = _Histograms.of(counts)
    n_terms = np.cumsum(_HEAD + np.bincount(genes.gene, minlength=len(genes.mean)))
    ends = np.searchsorted(n_terms, np.arange(_AT_ONCE, n_terms[-1:].sum(), _AT_ONCE))
    blocks = np.split(np.arange(len(n_terms)), ends)
    fits = [_fit(genes.take(block), zero_inflated) for block in blocks]
    return ZINB(*np.concatenate(fits, axis=1))


def _fit(genes, zero_inflated):
    """ML mu, theta and pi of each gene, (3, n_genes)."""
    mean = genes.share * genes.mean
    found = np.array([mean, np.ones_like(mean), np.zeros_like(mean)])
    plain = genes.share > 0
    if zero_inflated:
        above = np.flatnonzero((genes.share < 1) & (genes.mean > 1))
        these = genes.take(above)
        x = np.exp(_fit_truncated(these))
        p0 = 1 - these.share
        nb0 = zinb.nb_zero_prob(*x)
        more = p0 > nb0
        found[:, above[more]] = np.array([*x, (p0 - nb0) / (1 - nb0)])[:, more]
        plain[above[more]] = False
    rest = np.flatnonzero(plain)
    found[1, rest] = np.exp(_fit_plain(genes.take(rest)))
    return found


@dataclass
class _Histograms:
    """Histograms of the genes' counts, for sums over a gene's non-zeros at any theta.

    share: (n_genes,) share of cells with a non-zero count
    mean, mean_square: (n_genes,) means over these cells
    beyond: (n_genes, _HEAD) share of these cells with a count above 0 ... _HEAD - 1
    gene, count, weight: (n_pairs,) each pair of a gene and a count above _HEAD, and the share of
        these cells with that count
    """

    share: np.ndarray
    mean: np.ndarray
    mean_square: np.ndarray
    beyond: np.ndarray
    gene: np.ndarray
    count: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, counts):
        """Histograms of (n_cells, n_genes) counts, by one pass over the non-zeros."""
        rows = scipy.sparse.csr_matrix(counts)
        if not rows.has_canonical_format:
            rows = rows.copy()
            rows.sum_duplicates()
        n_cells, n_genes = rows.shape
        if n_cells == 0:
            raise ValueError("counts has no cells")
        wrong = ~((rows.data >= 0) & (rows.data < np.inf) & (rows.data == np.floor(rows.data)))
        if wrong.any():
            gene = rows.indices[wrong].min()
            raise ValueError(f"counts of gene {gene} must be whole numbers of at least 0")
        width = _HEAD + 2  # counts 0 ... _HEAD, and all above
        head, high = np.zeros(n_genes * width), [np.empty(0, complex)]
        block = max(250_000, len(head))
        for start in range(0, rows.nnz, block):
            gene = rows.indices[start : start + block]
            count = rows.data[start : start + block]
            place = width * gene.astype(np.intp) + np.minimum(count, width - 1).astype(np.intp)
            head += np.bincount(place, minlength=len(head))
            above = count > _HEAD
            high.append(gene[above] + 1j * count[above].astype(float))
        pairs, n_each = np.unique(np.concatenate(high), return_counts=True)
        gene, count = pairs.real.astype(np.int64), pairs.imag

        head = head.reshape(n_genes, width)[:, 1:]
        n_beyond = np.cumsum(head[:, ::-1], axis=1)[:, ::-1]
        n_nonzero = np.maximum(n_beyond[:, 0], 1)

        def mean_power(p):
            low = (head[:, :-1] * np.arange(1.0, width - 1) ** p).sum(axis=1)
            return (low + np.bincount(gene, n_each * count**p, n_genes)) / n_nonzero

        return cls(
            share=n_beyond[:, 0] / n_cells,
            mean=mean_power(1),
            mean_square=mean_power(2),
            beyond=n_beyond[:, :-1] / n_nonzero[:, None],
            gene=gene,
            count=count,
            weight=n_each / n_nonzero[gene],
        )

    def take(self, index):
        """Histograms of the genes at `index`, which is sorted."""
        place = np.full(len(self.share), -1)
        place[index] = np.arange(len(index))
        of_gene = (a[index] for a in (self.share, self.mean, self.mean_square, self.beyond))
        kept = np.flatnonzero(place[self.gene] >= 0)
        return _Histograms(*of_gene, place[self.gene[kept]], self.count[kept], self.weight[kept])

    def rising(self, theta):
        """Mean over the non-zeros k of log Gamma(k + theta) - log Gamma(theta) - k log theta.

        It is computed as the sum over j < k of log(1 + j / theta), which loses no digits where
        theta is large. Terms above _HEAD are summed by the Euler-Maclaurin formula, which is good
        to 1e-13 there.

        Returns it and its first and second derivative in log theta, (n_genes,) each.
        """
        j, t = np.arange(1.0, _HEAD), theta[:, None]
        s = t + j
        terms = np.log1p(j / t), -j / s, j * t / s**2
        sums = [(self.beyond[:, 1:] * term).sum(axis=1) for term in terms]
        if len(self.gene):
            beyond = np.bincount(self.gene, self.weight, len(theta))
            to_head = _sums_to(_HEAD, theta)
            to_count = _sums_to(self.count, theta[self.gene])
            for i in range(3):
                high = np.bincount(self.gene, self.weight * to_count[i], len(theta))
                sums[i] += high - beyond * to_head[i]
        return sums


def _sums_to(k, theta):
    """Sum over j < k of log(1 + j / theta) but for a constant, and its derivatives in log theta."""
    s, log = theta + k, np.log1p(k / theta)
    p, q, r = theta / s, k / s, 1 / s**2  # p + q = 1
    value = s * log - k - log / 2 + (1 / 12 - (1 / 360 - r / 1260) * r) / s
    slope = theta * log - k + q / 2 - p * (1 / 12 - (1 / 120 - r / 252) * r) / s
    rest = (1 - 2 * p) / 12 - ((1 - 4 * p) / 120 - (1 - 6 * p) * r / 252) * r
    bend = theta * (log - q) - p * q / 2 - p * rest / s
    return value, slope, bend


def _fit_truncated(genes):
    """ML (log mu, log theta) of the zero-truncated negative binomial, (2, n_genes).

    Newton's method in a trust region, within bounds. It starts where pi explains the zeros; from a
    small theta, which explains them too, it came to the same end in each of 200,000 genes,
    simulated ones of all kinds and real ones.
    """
    low, high = np.log([[1e-8, 1e8], zinb.THETA_RANGE]).T[:, :, None]
    x = np.clip(np.log([genes.mean, np.full_like(genes.mean, 7.0)]), low, high)
    now = _truncated(genes, x)
    radius = np.ones(x.shape[1])
    active = np.arange(x.shape[1])
    found = np.empty_like(x)
    for _ in range(200):
        step, gain = _newton_step(now, radius, low - x, high - x)
        there = _truncated(genes, x + step)
        rounding = 1e-14 * (np.abs(now[0]) + genes.mean)  # must not refuse the last steps
        fall = now[0] - there[0] + rounding
        length = np.hypot(*step)
        wider = np.where(fall > 0.75 * gain, np.maximum(radius, 2 * length), radius)
        radius = np.where(fall < gain / 4, length / 4, wider)
        x = np.where(fall >= 0, x + step, x)
        now = np.where(fall >= 0, there, now)
        found[:, active] = x
        left = np.flatnonzero(~(gain < 1e-12))
        if not len(left):
            break
        if len(left) < len(active):
            genes = genes.take(left)
            x, now = x[:, left], now[:, left]
            radius, active = radius[left], active[left]
    return found


def _truncated(genes, x):
    """Negative log-likelihood a non-zero cell, with its derivatives, (6, n_genes).

    x: (2, n_genes) log mu and log theta

    The rows are the value, the 2 entries of the gradient and 3 of the Hessian: 00, 01 and 11.
    """
    mu, theta = np.exp(x)
    m = genes.mean
    value, slope, bend = genes.rising(theta)
    r, q = np.log1p(mu / theta), mu / (mu + theta)
    a = theta * r  # - log NB(0)
    w = -1 / np.expm1(-a)
    a_mu, a_theta = theta * q, theta * (r - q)
    spread, w_a = m * q * (1 - q), -np.exp(-a) * w**2
    gradient = m * (1 - q) - w * a_mu, slope + m * q - w * a_theta
    h00 = -spread - w_a * a_mu**2 - w * a_mu * (1 - q)
    h01 = spread - w_a * a_mu * a_theta - w * a_mu * q
    h11 = bend - spread - w_a * a_theta**2 - w * (a_theta - a_mu * q)
    return -np.array([value + m * (x[0] - r) - a + np.log(w), *gradient, h00, h01, h11])


def _newton_step(now, radius, low, high):
    """Newton's step, (2, n_genes), and the fall that it promises, (n_genes,).

    now: value and derivatives from `_truncated`
    radius: (n_genes,) greatest length of the step
    low, high: (2, n_genes) bounds of the step
    """
    _, g0, g1, h00, h01, h11 = now
    g = now[1:3]
    mean, half = (h00 + h11) / 2, np.hypot((h00 - h11) / 2, h01)
    shift = np.maximum(0, 2 * (half - mean))  # of a negative eigenvalue to its opposite
    h00, h11 = (h + shift + 1e-12 * half for h in (h00, h11))
    step = np.array([h01 * g1 - h11 * g0, h01 * g0 - h00 * g1])
    step /= np.maximum(h00 * h11 - h01**2, 1e-14 * h00 * h11)
    step *= np.minimum(1, radius / np.maximum(np.hypot(*step), 1e-300))
    # where a bound is crossed, it is kept to, and the other coordinate takes its own best place
    room = np.where(step < 0, low, high)
    reach = np.divide(room, step, out=np.full_like(step, np.inf), where=step != 0)
    for i, h in ((0, h11), (1, h00)):
        crossed = (reach[i] < 1) & ((reach[i] < reach[1 - i]) | (i == 0) & (reach[0] == reach[1]))
        within = np.maximum(low[1 - i], -radius), np.minimum(high[1 - i], radius)
        rest = np.clip(-(g[1 - i] + h01 * room[i]) / h, *within)
        step[i] = np.where(crossed, room[i], step[i])
        step[1 - i] = np.where(crossed, rest, step[1 - i])
    squares = (h00 * step[0] ** 2 + h11 * step[1] ** 2) / 2
    return step, -(g * step).sum(axis=0) - squares - h01 * step[0] * step[1]


def _fit_plain(genes):
    """ML log theta of the negative binomial, (n_genes,); its ML mean is the sample mean.

    Newton's method between bounds that close in. There is one maximum where the variance is above
    the mean (Levin and Reeds 1977, Annals of Statistics 5); otherwise the likelihood rises with
    theta.
    """
    mu = genes.share * genes.mean
    low, high = np.log(zinb.THETA_RANGE)[:, None] + np.zeros_like(mu)
    excess = genes.share * genes.mean_square - mu**2 - mu
    x = np.clip(np.log(mu**2 / np.maximum(excess, mu**2 * 1e-7)), low, high)
    for _ in range(100):
        theta = np.exp(x)
        u = mu / theta
        log = np.log1p(u)
        _, of_rising, its_slope = genes.rising(theta)
        # of the log-likelihood a non-zero cell, in log theta
        slope = of_rising + theta * (u - log) / genes.share
        bend = its_slope - theta * (log - u / (1 + u)) / genes.share
        low = np.where(slope > 0, x, low)
        high = np.where(slope > 0, high, x)
        there = x - slope / np.minimum(bend, -1e-300)
        there = np.where((low <= there) & (there <= high), there, (low + high) / 2)
        x, moved = there, np.abs(there - x)
        if (moved < 1e-9).all():
            break
    return np.where(excess > 0, x, np.log(zinb.THETA_RANGE[1]))
