import pytest
import torch

from lib import dataset
from lib.tasks import conditional


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


# a small leaderboard: fixtures of a test file by these names stand before them


@pytest.fixture(scope="session")
def train():
    return conditional.simulate(600, 5, 0.7, ["linear", "threshold"], seed=1)


@pytest.fixture(scope="session")
def base(train):
    return list(train.var_names[:5])


@pytest.fixture(scope="session")
def test(train):
    return dataset.fresh_cells(train, 120, seed=2)


@pytest.fixture(scope="session")
def reference(train):
    return dataset.fresh_cells(train, 8, seed=3)


@pytest.fixture(scope="session")
def asked(train, test, reference):
    return conditional.questions(train, test, reference, n_doses=12, seed=4)
