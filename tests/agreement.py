"""Do counts follow the ZINB laws that they should?

By scipy and mpmath alone, so that lib can't vouch for itself.
"""

import mpmath
import numpy as np
import scipy.stats


def zinb_cdf(k, mu, theta, pi):
    """P(count <= k) of a ZINB."""
    mu, theta, pi = np.asarray(mu), np.asarray(theta), np.asarray(pi)
    nb = scipy.stats.nbinom.cdf(k, theta, theta / (theta + mu))
    return np.where(np.asarray(k) < 0, 0.0, pi + (1 - pi) * nb)


def scipy_pmf(k, mu, theta, pi):
    """P(count = k) of a ZINB."""
    nb = scipy.stats.nbinom.pmf(k, theta, theta / (theta + mu))
    return pi * (np.asarray(k) == 0) + (1 - pi) * nb


def exact_log_prob(k, mu, theta):
    """log NB(k; mu, theta) with 60 digits."""
    with mpmath.workdps(60):
        k, mu, theta = (mpmath.mpf(float(a)) for a in (k, mu, theta))
        log_choose = mpmath.loggamma(k + theta) - mpmath.loggamma(theta) - mpmath.loggamma(k + 1)
        failures = theta * mpmath.log(theta / (theta + mu))
        successes = k * mpmath.log(mu / (theta + mu))
        return float(log_choose + failures + successes)


def pit_p_value(counts, mu, theta, pi, seed=0):
    """Kolmogorov-Smirnov p-value of counts that may each have a law of their own.

    The randomised probability integral transform of a count is uniform under its own law
    (Czado, Gneiting and Held 2009, Biometrics 65).
    """
    counts = np.asarray(counts, dtype=float)
    low, high = zinb_cdf(counts - 1, mu, theta, pi), zinb_cdf(counts, mu, theta, pi)
    uniform = low + (high - low) * np.random.default_rng(seed).random(counts.shape)
    return scipy.stats.kstest(uniform.ravel(), "uniform").pvalue


def one_line(error, *parts):
    """Assert that an error is one line with all the parts: parameter, value, what is allowed."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
