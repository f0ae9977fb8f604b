"""The ZINB log-likelihood for training, in torch: differentiable, and finite at the extremes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def log_likelihood(counts: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor, logit_pi: torch.Tensor) -> torch.Tensor:
    """ZINB log-likelihood for training: differentiable in mu, theta and the logit of pi.

    counts, mu, theta, logit_pi : tensors that broadcast, in one float type

    Returns a tensor of log-probabilities in nats. Both it and its gradients are finite for mu
    from 1e-6 to 1e6, theta from 1e-4 to 1e8 and counts up to 1e6, in float32 too: the log-gammas
    are written as Stirling's formula plus a small rest, so that the large terms cancel on paper
    and not in the floats.
    """
    a, b = torch.log1p(counts / theta), torch.log1p(mu / theta)
    near = torch.log1p(((counts - mu) / (theta + mu)).clamp(min=-0.6))  # a - b, to more digits
    k1 = counts + 1
    log_nb = (
        (counts + theta) * torch.where(2 * counts >= mu, near, a - b)
        - 0.5 * a
        + counts * (torch.log(mu) - torch.log(k1))
        - 0.5 * torch.log(k1)
        + (1 - _HALF_LOG_2PI)
        + _stirling_rest(theta + counts)
        - _stirling_rest(theta)
        - _stirling_rest(k1)
    )
    log_pi, log_not_pi = -F.softplus(-logit_pi), -F.softplus(logit_pi)
    return torch.where(counts == 0, torch.logaddexp(log_pi, log_not_pi + log_nb), log_not_pi + log_nb)


def _stirling_rest(x: torch.Tensor) -> torch.Tensor:
    """log Gamma(x) less Stirling's (x - 1/2) log x - x + log(2 pi) / 2."""
    small, large = x.clamp(max=8.0), x.clamp(min=8.0)
    inverse = 1 / large
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square / 1260))
    direct = torch.lgamma(small) - (small - 0.5) * torch.log(small) + small - _HALF_LOG_2PI
    return torch.where(x > 8.0, series, direct)
