import numpy as np
import pytest
import torch

from lib import model
from tests.agreement import one_line
from tests.neural.small import counts, rng, scipy_log_pmf

torch.set_num_threads(1)


def test_loss_of_a_perceptron_is_that_of_the_genes_that_it_does_not_see():
    module, x = model.ZINBMLP(4, 16, inputs=[0, 1], hide=0.5, generator=rng()), counts()
    visible = module.visible(x, rng(3))
    log_p = scipy_log_pmf(x, *module(x, visible))
    expected = [-row[~seen].sum() for row, seen in zip(log_p, visible.bool().numpy())]
    assert (visible[:, 2:] == 0).all() and 0 < visible[:, :2].mean() < 1
    np.testing.assert_allclose(module.loss(x, rng(3)).detach(), expected, rtol=2e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(n_hidden=0), "n_hidden = 0"),
        (dict(hide=2.0), "hide = 2.0"),
        (dict(inputs=[]), "inputs = []"),
        (dict(hide=0.0), "inputs = "),
    ],
)
def test_bad_settings_of_a_perceptron_raise_one_line_that_names_them(options, named):
    with pytest.raises(ValueError) as error:
        model.ZINBMLP(**({"n_genes": 4} | options))
    one_line(error, named)
