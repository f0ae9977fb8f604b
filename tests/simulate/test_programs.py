import numpy as np

from lib.simulate import programs


def test_programs_sizes_and_their_absence_are_found():
    rng = np.random.default_rng(1)
    base, size = rng.lognormal(0, 1, 80), rng.normal(0, 0.3, (400, 1))
    truth, z = rng.normal(0, 0.4, (80, 2)), rng.normal(size=(400, 2))
    counts = rng.poisson(base * np.exp(size + z @ truth.T - np.sum(truth**2, axis=1) / 2))
    log_mean = np.broadcast_to(np.log(base), counts.shape)
    loadings, means, shift = programs.fit(counts, log_mean, np.full(counts.shape, 1e4), 5)
    assert loadings.shape == (80, 5) and means.shape == (400, 5)
    # the two real programs span the plane of the true ones, and the others are as good as gone
    values = np.linalg.eigvalsh(loadings @ loadings.T)[::-1]
    expected = np.linalg.eigvalsh(truth @ truth.T)[::-1]
    assert np.allclose(values[:2], expected[:2], rtol=0.2)
    assert values[2] < 0.05 * values[1]
    fitted = np.linalg.lstsq(np.column_stack([means, np.ones(400)]), z, rcond=None)
    assert (fitted[1] / np.sum(z**2, axis=0) < 0.15).all()
    assert np.corrcoef(shift, size[:, 0])[0, 1] > 0.85
