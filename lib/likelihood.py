"""The ZINB log-likelihood for training, in torch: differentiable, and finite at the extremes.

`log_likelihood` computes value and gradient together, in closed form, and treats zeros apart, which need no log-gamma.
`plain_log_likelihood` is the same formula for every entry, with torch's own gradient: slower, shorter, and what tests the
other one.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def log_likelihood(counts: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor, logit_pi: torch.Tensor) -> torch.Tensor:
    """ZINB log-likelihood for training: differentiable, once, in mu, theta and the logit of pi.

    counts : whole numbers of at least 0
    mu, theta, logit_pi : tensors that broadcast with the counts and each other, in one float type. Where theta or pi are
        constants of a gene, hand them over as (n_genes,): what depends on them alone is then computed once a gene

    Returns a tensor of log-probabilities in nats. Both it and its gradients are finite for mu
    from 1e-6 to 1e6, theta from 1e-4 to 1e8, a logit from -80 and counts up to 1e6, in float32 too: the log-gammas
    are written as Stirling's formula plus a small rest, so that the large terms cancel on paper
    and not in the floats.
    """
    return _LogLikelihood.apply(counts.to(mu.dtype), mu, theta, logit_pi, torch.is_grad_enabled())[0]


def plain_log_likelihood(counts: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor, logit_pi: torch.Tensor) -> torch.Tensor:
    """As `log_likelihood`, by the one formula for zeros and counts alike, with torch's own gradient."""
    a, b = torch.log1p(counts / theta), torch.log1p(mu / theta)
    near = torch.log1p(((counts - mu) / (theta + mu)).clamp(min=-0.6))  # a - b, to more digits
    k1 = counts + 1
    log_nb = (
        (counts + theta) * torch.where(2 * counts >= mu, near, a - b)
        - 0.5 * a
        + counts * (torch.log(mu) - torch.log(k1))
        - 0.5 * torch.log(k1)
        + (1 - _HALF_LOG_2PI)
        + _plain_rest(theta + counts)
        - _plain_rest(theta)
        - _plain_rest(k1)
    )
    log_pi, log_not_pi = -F.softplus(-logit_pi), -F.softplus(logit_pi)
    return torch.where(counts == 0, torch.logaddexp(log_pi, log_not_pi + log_nb), log_not_pi + log_nb)


class _LogLikelihood(torch.autograd.Function):
    """The log-likelihood, and its derivatives with respect to mu, theta and the logit of pi, which backward only scales."""

    @staticmethod
    def forward(counts, mu, theta, logit_pi, with_gradient):
        shape = torch.broadcast_shapes(counts.shape, mu.shape, theta.shape, logit_pi.shape)
        # every entry as if it were a zero
        pi, pi_not = torch.sigmoid(logit_pi), torch.sigmoid(-logit_pi)
        odds = mu / theta
        ratio = torch.log1p(odds)
        nb_zero = (ratio * -theta).exp_()
        zero = torch.addcmul(pi, pi_not, nb_zero).clamp_(min=torch.finfo(pi.dtype).tiny)
        value = torch.log(zero).expand(shape).contiguous()
        gradient = ()
        if with_gradient:
            odds_of_not = pi_not / zero
            share = odds_of_not * nb_zero  # of zeros that the negative binomial part brings
            part = (odds + 1).reciprocal_()  # theta / (theta + mu)
            full = (part * -share, (-torch.expm1(-ratio)).sub_(ratio) * share, (1 - nb_zero) * pi * odds_of_not)
            gradient = tuple(g.expand(shape).contiguous() for g in full)

        chosen = _where_counts(counts.expand(shape))  # and then the counts

        def at(tensor):
            return tensor if chosen is None else tensor.expand(shape).reshape(-1).index_select(0, chosen)

        def put(whole, of_counts):
            if chosen is None:
                return torch.where(counts == 0, whole, of_counts)
            whole.view(-1).index_copy_(0, chosen, of_counts)
            return whole

        once = theta.numel() < counts.numel()  # a gene, not an entry
        rests = tuple(at(r) for r in _rests(theta)) if once else _rests(at(theta))
        log_nb, g_mu, g_theta = _of_counts(at(counts), at(mu), at(theta), at(ratio), rests)
        logit_pi = at(logit_pi)
        value = put(value, log_nb - F.softplus(logit_pi, threshold=40))
        if with_gradient:
            gradient = tuple(put(g, at_counts) for g, at_counts in zip(gradient, (g_mu, g_theta, -torch.sigmoid(logit_pi))))
        return value, *gradient

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.shapes = tuple(p.shape for p in inputs[1:4])
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])

    @staticmethod
    def backward(ctx, upstream, *_):
        if torch.is_grad_enabled():  # torch would differentiate the scaling alone, which is silently wrong
            raise RuntimeError("log_likelihood: differentiable once; for second derivatives take plain_log_likelihood")
        needed = ctx.needs_input_grad[1:4]
        each = zip(needed, ctx.saved_tensors, ctx.shapes)
        return None, *((upstream * g).sum_to_size(shape) if wanted else None for wanted, g, shape in each), None

    @staticmethod
    def vmap(info, in_dims, *inputs):
        """Stacked models: their axis goes first, and the others are lined up behind it."""
        tensors = [t if d is None else t.movedim(d, 0) for t, d in zip(inputs[:4], in_dims)]
        width = max(t.ndim - (d is not None) for t, d in zip(tensors, in_dims))
        lined_up = [
            t if d is None else t.reshape(len(t), *[1] * (width + 1 - t.ndim), *t.shape[1:]) for t, d in zip(tensors, in_dims)
        ]
        output = _LogLikelihood.apply(*lined_up, inputs[4])
        return output, (0,) * len(output)


def _where_counts(counts):
    """Places of the non-zeros; None on a GPU, which would have to be waited for: there every entry is computed as both."""
    return None if counts.is_cuda else torch.from_numpy(np.flatnonzero((counts != 0).numpy()))  # numpy's is the faster one


def _of_counts(counts, mu, theta, ratio, rests_of_theta):
    """Log of the negative binomial pmf, and its derivatives with respect to mu and theta.

    ratio : log(1 + mu / theta); rests_of_theta : `_rests(theta)`
    """
    above, rests = (counts - mu) / (theta + mu), _rests(theta + counts)
    to_counts = torch.log1p(counts / theta)
    near = torch.where(2 * counts >= mu, torch.log1p(above.clamp(min=-0.6)), to_counts - ratio)  # log((theta + k) / (theta + mu))
    k1 = counts + 1
    log_k1 = torch.log(k1)
    stirling = (theta + counts) * near - 0.5 * to_counts + counts * (torch.log(mu) - log_k1) - 0.5 * log_k1 + (1 - _HALF_LOG_2PI)
    log_nb = stirling + (rests[0] - rests_of_theta[0]) - _factorial_rest(k1)
    return log_nb, above * theta / mu, near - above + (rests[1] - rests_of_theta[1])


def _rests(x):
    """log Gamma(x) less Stirling's (x - 1/2) log x - x + log(2 pi) / 2; and digamma(x) less log x.

    By the asymptotic series at 8 or more (Abramowitz and Stegun 1972, 6.1.41 and 6.3.18), where a smaller x is
    taken by the recurrence of Gamma: x (x + 1) ... (x + 7) = u (u + 6) (u + 10) (u + 12) with u = x (x + 7).
    """
    is_small = (x < 8).to(x.dtype)
    y = (x + 8 * is_small).reciprocal()
    square = y * y
    of_log = y * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    of_digamma = -y * (0.5 + y * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240))))
    x = x.clamp(max=8.0)
    u = x * (x + 7)
    factors, ratio = (u, u + 6, u + 10, u + 12), torch.log1p(8 / x)
    log_product = torch.log(factors[0] * factors[1] * factors[2] * factors[3])
    harmonic = (2 * x + 7) * sum(f.reciprocal() for f in factors)
    of_log += is_small * ((x - 0.5) * ratio + 8 * torch.log(x + 8) - 8 - log_product)
    return of_log, of_digamma + is_small * (ratio - harmonic)


def _factorial_rest(k1):
    """log Gamma(k + 1) less Stirling's formula, as in `_rests`, for k + 1 = 1, 2, 3 ..."""
    y = k1.reciprocal()
    square = y * y
    series = y * (1 / 12 - square * (1 / 360 - square / 1260))
    table = _factorial_rests(k1.dtype, k1.device)
    return series * (k1 > 31) + table[k1.clamp(1, 32).nan_to_num(32.0).int()]


@functools.lru_cache
def _factorial_rests(dtype, device):
    k1 = torch.arange(1, 32, dtype=torch.float64)
    rest = torch.lgamma(k1) - (k1 - 0.5) * torch.log(k1) + k1 - _HALF_LOG_2PI
    return F.pad(rest, (1, 1)).to(device, dtype)  # of 1 ... 31, where the series isn't exact


def _plain_rest(x: torch.Tensor) -> torch.Tensor:
    """log Gamma(x) less Stirling's (x - 1/2) log x - x + log(2 pi) / 2."""
    small, large = x.clamp(max=8.0), x.clamp(min=8.0)
    inverse = 1 / large
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square / 1260))
    direct = torch.lgamma(small) - (small - 0.5) * torch.log(small) + small - _HALF_LOG_2PI
    return torch.where(x > 8.0, series, direct)
