"""The last digits of scores do not depend on the processor."""

import json
import os
import subprocess
import sys

import pytest
import threadpoolctl

from lib import dataset
from lib.predict import references
from lib.score import board
from lib.tasks import conditional

KINDS = ["linear", "polynomial", "interaction", "hill", "threshold", "gate"]
CODE = """
import json
from tests.score.test_machines import kernels, scores
print(json.dumps([kernels(), scores()]))
"""


def kernels():
    """The processors that the kernels of each OpenBLAS in this process were made for."""
    libraries = threadpoolctl.threadpool_info()
    return [one["architecture"] for one in libraries if one["internal_api"] == "openblas"]


def scores():
    """All bits of the scores of two references on a small leaderboard."""
    train = conditional.simulate(200, 8, 0.7, KINDS, seed=1)
    test = dataset.fresh_cells(train, 40, seed=2)
    reference = dataset.fresh_cells(train, 4, seed=3)
    asked = conditional.questions(train, test, reference, n_doses=8, seed=4)
    models = {"marginal": references.Marginal(), "no_change": references.NoChange(reference)}
    fitted = {name: model.fit(train) for name, model in models.items()}
    return [value.hex() for value in board.score(fitted, asked)["value"]]


def test_scores_of_references_have_the_same_bytes_whatever_the_kernels_of_the_blas():
    # Prescott: kernels without AVX, which round other sums than those of any later processor
    environment = os.environ | {"OPENBLAS_CORETYPE": "Prescott"}
    command = [sys.executable, "-c", CODE]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    other_kernels, other_scores = json.loads(run.stdout)
    if not kernels() or other_kernels == kernels():
        pytest.skip("needs an OpenBLAS with kernels for several processors")
    assert len(other_scores) > 300
    assert scores() == other_scores
