"""Mixtures of laws."""

from __future__ import annotations

import numpy as np
import scipy.special as special

from lib.laws.base import Law
from lib.laws.zinb import ZINB, _mean_pmf_blocks


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
