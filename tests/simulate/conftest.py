import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def only_new_objects_are_collected():
    """`write` collects garbage after each chunk, which would look at all modules of the suite."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
