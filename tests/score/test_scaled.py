import numpy as np

from lib.score import distances
from lib.score.scaled import Scaled
from tests.screens import scores, truth


def test_distances_are_those_that_are_summed_count_by_count():
    law = scores().helper("A").law
    tables = [exact.table for exact in truth()]
    folds = np.exp(np.random.default_rng(0).normal(0, 0.6, (len(tables), law.shape[0])))
    folds[0, :4] = 1e-3, 0.05, 30.0, 900.0  # beyond the points
    kl, crps = Scaled(tables, law).distances(folds)
    for arm, table in enumerate(tables):
        summed = distances.between(table, law.scaled(folds[arm]))
        np.testing.assert_allclose(kl[arm], summed["kl_nats"], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(crps[arm], summed["excess_crps"], rtol=1e-4, atol=1e-6)
