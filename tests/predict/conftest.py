import numpy as np
import pytest

from lib import dataset
from tests.predict.cells import PARENTS


@pytest.fixture(scope="session")
def linear():
    """A gene that is a weighted sum of three of four others."""
    base = dataset.base_genes(1000, 4, 0.4, mu_range=(4, 10), seed=1)
    weights = {"weights": np.array([1.5, 0.5, 1.0])}
    asked = {"gene": "mech", "parents": PARENTS, "parameters": weights, "target_zero_prob": 0.3}
    return dataset.get_mech_dataset(base, "linear", **asked, seed=1)


@pytest.fixture(scope="session")
def cells(linear):
    return dataset.fresh_cells(linear, 150, seed=2)
