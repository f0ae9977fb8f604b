import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from lib import model, training
from lib.neural import minibatches
from tests.agreement import one_line
from tests.neural.small import base_counts, rng, same_weights, several, vae, weights_of

torch.set_num_threads(1)


def test_validation_noise_is_the_same_at_each_epoch():
    module, counts = vae(3), base_counts(200)
    assert torch.equal(training.losses_of(module, counts, 3), training.losses_of(module, counts, 3))
    assert not torch.equal(
        training.losses_of(module, counts, 3), training.losses_of(module, counts, 4)
    )


def test_validation_of_many_genes_goes_by_few_cells_at_a_time():
    class Recording(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.sizes = nn.Parameter(torch.zeros(())), []

        def loss(self, x, generator):
            self.sizes.append(len(x))
            return self.w + x[:, 0]

    for n_genes, largest in ((20, 4096), (2000, 524), (3_000_000, 1)):
        module = Recording()
        assert len(
            training.losses_of(
                module,
                torch.zeros(5, 1).expand(5, n_genes)
                if n_genes > 1e6
                else torch.zeros(5000, n_genes),
            )
        ) in (5, 5000)
        assert max(module.sizes) == largest


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hide": 0.5},
        {"target": "hidden", "hide": 0.5},
        {"dispersion": "gene", "n_layers": 1, "beta": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"schedule": "one_cycle", "validation_fraction": 0.0},
        {"warmup": 3, "weight_decay": 0.1, "clip": 1.0},
    ],
    ids=str,
)
def test_models_trained_together_are_those_trained_alone(options, how):
    how = {"max_epochs": 5, "batch_size": 64} | how
    modules, counts = several(**options)
    alone = copy.deepcopy(modules)
    histories = training.fit_together(modules, counts, seeds=[5, 6, (7, 1)], **how)
    for module, one, x, seed, history in zip(modules, alone, counts, [5, 6, (7, 1)], histories):
        of_one = training.fit(one, x, seed=seed, **how)
        np.testing.assert_allclose(history, of_one, rtol=1e-4)
        for name, w in weights_of(one).items():
            np.testing.assert_allclose(weights_of(module)[name], w, rtol=1e-3, atol=1e-3)
        assert not module.training


def test_perceptrons_trained_together_are_those_trained_alone():
    modules = [model.ZINBMLP(3, 16, hide=0.5, generator=rng(seed)) for seed in range(2)]
    counts = [base_counts(400, seed=seed) for seed in range(2)]
    alone, how = copy.deepcopy(modules), {"max_epochs": 4, "batch_size": 64}
    histories = training.fit_together(modules, counts, seeds=[1, 2], **how)
    for one, x, seed, history in zip(alone, counts, (1, 2), histories):
        np.testing.assert_allclose(history, training.fit(one, x, seed=seed, **how), rtol=1e-4)


def test_models_trained_together_that_are_exchanged_are_exchanged():
    modules, counts = several(2)
    histories = training.fit_together(modules, counts, seeds=[1, 2], max_epochs=3)
    again, _ = several(2)
    other = training.fit_together(again[::-1], counts[::-1], seeds=[2, 1], max_epochs=3)
    for history, its in zip(histories, other[::-1]):
        np.testing.assert_allclose(history, its, rtol=1e-4)


def test_each_of_the_models_trained_together_ends_in_its_own_time():
    modules, counts = several()
    counts = [x[:120] for x in counts]  # so few that they are soon learned by heart
    alone = copy.deepcopy(modules)
    how = {
        "max_epochs": 60,
        "patience": 2,
        "cuts": 1,
        "learning_rate": 0.02,
        "validation_fraction": 0.3,
    }
    histories = training.fit_together(modules, counts, seeds=[1, 2, 3], **how)
    lengths = [len(h) for h in histories]
    assert len(set(lengths)) > 1 and max(lengths) < 60
    assert lengths == [
        len(training.fit(one, x, seed=seed, **how))
        for one, x, seed in zip(alone, counts, (1, 2, 3))
    ]
    for module, one, x in zip(modules, alone, counts):  # with the weights that it had when it ended
        np.testing.assert_allclose(
            training.losses_of(module, x), training.losses_of(one, x), rtol=1e-2
        )


def test_divergence_of_one_of_several_models_is_told_by_its_number():
    modules, counts = several()
    with torch.no_grad():
        modules[1].heads.bias[0] = math.nan
    with pytest.raises(
        training.DivergenceError, match="^model 1: training diverged at epoch 1"
    ) as error:
        training.fit_together(modules, counts, seeds=[1, 2, 3], max_epochs=3)
    assert error.value.epoch == 1 and "\n" not in str(error.value)
    fresh, _ = several()
    assert same_weights(weights_of(modules[0]), weights_of(fresh[0]))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda m, x, s: ([], [], []), ["modules", "at least one"]),
        (lambda m, x, s: (m, x, s[:2]), ["3 counts and 2 seeds"]),
        (lambda m, x, s: ([m[0], m[1], m[0]], x, s), ["none twice"]),
        (lambda m, x, s: ([*m[:2], vae(3, beta=0.5)], x, s), ["of one configuration"]),
        (lambda m, x, s: (m, [*x[:2], x[2][:100]], s), ["[95, 380] cells"]),
        (lambda m, x, s: ([model.DependencyNetwork(3) for _ in m], x, s), ["noise can be given"]),
        (lambda m, x, s: ([nn.Linear(3, 3) for _ in m], x, s), ["noise can be given"]),
    ],
)
def test_what_cannot_be_trained_together_raises_one_line(change, parts):
    modules, counts = several()
    modules, counts, seeds = change(modules, counts, [1, 2, 3])
    with pytest.raises(ValueError) as error:
        training.fit_together(modules, counts, seeds=seeds)
    one_line(error, *parts)


def test_models_trained_before_and_weights_that_are_held_fast_are_trained_together_as_alone():
    modules, counts = several(dispersion="gene")
    training.fit(modules[0], counts[0], max_epochs=1)
    for module in modules:
        module.log_theta.requires_grad_(False)
    alone, before = copy.deepcopy(modules), [m.log_theta.clone() for m in modules]
    training.fit_together(modules, counts, seeds=[1, 2, 3], max_epochs=3)
    for module, one, x, seed, theta in zip(modules, alone, counts, (1, 2, 3), before):
        training.fit(one, x, seed=seed, max_epochs=3)
        assert torch.equal(module.log_theta, theta)
        np.testing.assert_allclose(
            module.heads.weight.detach(), one.heads.weight.detach(), rtol=1e-3, atol=1e-3
        )


def test_a_training_that_is_interrupted_leaves_the_weights_come_to():
    modules, counts = several()
    fresh, _ = several()

    class Interrupted(minibatches.Dense):
        def split(self, fraction, rng):
            return type(self)(self.counts), minibatches.Dense(self.counts[:0])

        def minibatches(self, size, rng):
            yield self.counts[:200]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.fit_together(modules, [Interrupted(x) for x in counts], seeds=[1, 2, 3])
    for module, was in zip(modules, fresh):
        assert not module.training and not same_weights(weights_of(module), weights_of(was))


@pytest.mark.gpu
def test_models_trained_together_on_a_gpu_are_those_trained_alone():
    modules, counts = several()
    modules, counts = [m.cuda() for m in modules], [x.cuda() for x in counts]
    alone = copy.deepcopy(modules)
    histories = training.fit_together(modules, counts, seeds=[1, 2, 3], max_epochs=5)
    for one, x, seed, history in zip(alone, counts, (1, 2, 3), histories):
        np.testing.assert_allclose(
            history, training.fit(one, x, seed=seed, max_epochs=5), rtol=1e-3
        )
