import numpy as np
import pytest
from scipy import integrate, stats

from lib.simulate import dispersions


def test_the_likelihood_is_that_of_scipy_integrated_over_the_program():
    counts, mean, square = np.array([[0], [3], [7]]), np.array([[0.5], [2.0], [3.0]]), 0.3
    found = dispersions._likelihoods(counts, mean, np.array([square]))[:, 0]
    for theta, value in list(zip(dispersions._GRID, found))[6::6]:

        def density(z, k, m, theta=theta):
            mu = m * np.exp(np.sqrt(square) * z - square / 2)
            return stats.nbinom.pmf(k, theta, theta / (theta + mu)) * stats.norm.pdf(z)

        cells = zip(counts[:, 0], mean[:, 0])
        expected = sum(np.log(integrate.quad(density, -8, 8, args=cell)[0]) for cell in cells)
        # factorials of counts are left out, since theta does not change them
        left_out = np.sum([np.sum(np.log(np.arange(1, k + 1))) for k in counts[:, 0]])
        assert value == pytest.approx(expected + left_out, abs=0.01)


def test_theta_of_each_type_is_found_and_rare_genes_follow_the_trend():
    rng = np.random.default_rng(1)
    types = np.repeat([0, 1], 800)
    mean = np.geomspace(0.02, 20, 60) * rng.lognormal(0, 0.2, (1600, 1))
    theta = np.where(types[:, None] == 0, 1.0, 8.0) * np.ones(60)
    counts = rng.poisson(rng.gamma(theta, mean / theta))
    found = dispersions.fit(counts, mean, types, 2, np.zeros(60))
    assert found.shape == (60, 2)
    assert np.median(found[40:, 0]) == pytest.approx(1, rel=0.15)
    assert np.median(found[40:, 1]) == pytest.approx(8, rel=0.25)
    rare = found[:10]
    assert ((rare > 0.3) & (rare < 20)).all()  # by maximum likelihood some would be infinite
