"""Mixtures of laws."""

from __future__ import annotations

import numpy as np
import scipy.special as special

from lib.laws.base import Law
from lib.laws.zinb import ZINB


class Mixture(Law):
    """Mixture of the laws along the first axis of `components`.

    components: law of shape (n_components, ...), such as one law a posterior sample
    weights: (n_components,), or an array that broadcasts against the components, whose sum over
        the first axis is 1; None: all equal

    Raises ValueError for no components, and for weights that don't fit them or don't sum to 1.
    """

    def __init__(self, components: Law, weights=None):
        shape = components.shape
        if not shape or not shape[0]:
            raise ValueError(f"components of shape {shape}: need at least one along the first axis")
        self.components = components
        self.weights = None if weights is None else _checked(weights, shape)
        # whether all entries have the same weights
        self._is_shared = weights is None or self.weights.size == shape[0]
        self.n_components = shape[0]
        self.has_density = components.has_density
        self.shape = shape[1:]

    @classmethod
    def of(cls, laws: list[Law], weights=None) -> Mixture:
        """The mixture of several laws.

        laws: ZINB laws, or mixtures of these, all of one shape
        weights: (n_laws,) weights; None: all equal
        """
        parts, inner = zip(*(law.as_components() for law in laws))
        if len({part.shape[1:] for part in parts}) > 1:
            raise ValueError(f"laws: of shapes {[law.shape for law in laws]}; must be of one shape")
        points = [part.parameters() if part.n_components == 1 else None for part in parts]
        if any(point is None for point in points):
            raise ValueError("laws: must be ZINB laws, or mixtures of these")
        names = ("mu", "theta", "pi")
        joined = ZINB(*(np.concatenate([getattr(p, name) for p in points]) for name in names))
        alike = len({part.shape for part in parts}) == 1
        if weights is None and alike and all(own is None for own in inner):
            return cls(joined)
        inner = [_checked(own, part.shape) for part, own in zip(parts, inner)]
        trailing = np.broadcast_shapes(*(own.shape[1:] for own in inner))
        shares = _checked(weights, (len(laws),))
        inner = [np.broadcast_to(own, (len(own), *trailing)) for own in inner]
        return cls(joined, np.concatenate([share * own for share, own in zip(shares, inner)]))

    def __getitem__(self, index):
        index = (slice(None), *(index if isinstance(index, tuple) else (index,)))
        if self.weights is None:
            weights = None
        elif self._is_shared:
            weights = self.weights.ravel()
        else:
            weights = np.broadcast_to(self.weights, self.components.shape)[index]
        return Mixture(self.components[index], weights)

    def as_components(self):
        return self.components, self.weights

    def log_prob(self, k):
        k, law = self._facing(k)
        log_p = law.components.log_prob(k)
        if law.weights is None:
            return special.logsumexp(log_p, axis=0) - np.log(self.n_components)
        with np.errstate(divide="ignore"):
            return special.logsumexp(log_p + np.log(law.weights), axis=0)

    def pmf_blocks(self):
        return self.components.mixed_pmf_blocks(self.weights)

    def cdf(self, k):
        k, law = self._facing(k)
        return law._average(law.components.cdf(k))

    def _facing(self, k):
        """k, and the law with as many axes at least: the components' axis must stay in front."""
        k = np.asarray(k, dtype=float)
        n_new = k.ndim - len(self.shape)
        return k, self[(None,) * n_new] if n_new > 0 else self

    def _average(self, values):
        """The mean of `values` over the components, their first axis."""
        return values.mean(axis=0) if self.weights is None else (self.weights * values).sum(axis=0)

    @property
    def mean(self):
        return self._average(self.components.mean)

    def parameters(self) -> ZINB | None:
        """Point estimates, since a mixture has no parameters of its own.

        They are the components' mean mu, geometric mean theta and mean pi.
        """
        point = self.components.parameters()
        if point is None:
            return None
        theta = np.exp(self._average(np.log(point.theta)))
        return ZINB(self._average(point.mu), theta, self._average(point.pi))

    def decay(self, k):
        least = self.components.decay(k)
        if self.weights is not None:
            least = np.where(self.weights > 0, least, 1)
        return least.min(axis=0)

    def reach(self, tail):
        return self.components.reach(tail).max(0)

    def sample(self, rng: np.random.Generator, size=None):
        """Draw counts of shape `size`, the law's own by default: a component each, then a count."""
        size = self.shape if size is None else np.broadcast_shapes(size)
        if size == self.shape and self.weights is None:
            # a count from every component, and then one of them: so committed figures were drawn
            drawn = self.components.sample(rng)
            return np.take_along_axis(drawn, self._pick(rng, (1, *size)), axis=0)[0]
        return self.components.sample_rows(rng, self._pick(rng, size))

    def sample_cells(self, rng: np.random.Generator, n_cells: int):
        """Draw cells, (n_cells, n_genes), each from one component: its genes vary together."""
        if not self._is_shared:  # a component of each gene's own
            return super().sample_cells(rng, n_cells)
        return self.components[self._pick(rng, n_cells)].sample(rng)

    def _pick(self, rng, size):
        """Components drawn by their weights."""
        if self.weights is None:
            return rng.integers(self.n_components, size=size)
        u, rows = rng.random(size), np.zeros(size, dtype=np.int64)
        for below in np.cumsum(self.weights, axis=0)[:-1]:
            rows += u >= below
        return rows


def _checked(weights, shape):
    """Weights with as many axes as the components. Raises ValueError where they are no weights.

    weights: as in `Mixture`; None: all equal
    shape: shape of the components
    """
    equal = np.full(shape[0], 1 / shape[0])
    weights = equal if weights is None else np.asarray(weights, dtype=float)
    if weights.ndim == 1:
        weights = weights.reshape(-1, *[1] * (len(shape) - 1))
    fits = weights.ndim == len(shape) and len(weights) == shape[0]
    if not fits or any(n not in (1, m) for n, m in zip(weights.shape, shape)):
        raise ValueError(f"weights of shape {weights.shape}: must be ({shape[0]},) or fit {shape}")
    wrong = ~(weights >= 0)
    if wrong.any():
        raise ValueError(f"weights = {weights[wrong][0]:g}: must be at least 0")
    total = weights.sum(axis=0)
    if (wrong := abs(total - 1) > 1e-10).any():
        given = f"sum to {np.asarray(total)[wrong].flat[0]:.12g}"
        raise ValueError(f"weights: {given}; must sum to 1 over the first axis")
    return weights
