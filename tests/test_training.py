import contextlib
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from lib import training
from lib.laws import maximum_likelihood
from tests.agreement import one_line
from tests.neural.small import base_counts, same_weights, vae, weights_of

torch.set_num_threads(1)


class Scripted(nn.Module):
    """One weight w, a loss of (w - goal)^2 in every cell, and another goal in validation.

    At training call number `at`, or at validation call number `at` where `where` is "validation",
    the loss or its gradient is made `bad`. `seen` has w at each training call.
    """

    def __init__(self, goal=10.0, validation_goal=10.0, at=None, where="loss", bad=math.nan):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
        self.goal, self.validation_goal, self.at, self.where, self.bad = (
            goal,
            validation_goal,
            at,
            where,
            bad,
        )
        self.seen, self.n_validations = [], 0

    def loss(self, x, generator):
        if not self.training:
            self.n_validations += 1
            bad = self.where == "validation" and self.n_validations == self.at
            return ((self.w - self.validation_goal) ** 2).expand(len(x)) * (self.bad if bad else 1)
        self.seen.append(self.w.item())
        loss = ((self.w - self.goal) ** 2).expand(len(x))
        if len(self.seen) == self.at:
            if self.where == "loss":
                loss = loss * self.bad
            elif self.where == "gradient":
                loss = loss + torch.sqrt(self.w - self.w.detach())  # 0, with an infinite slope
                assert torch.isfinite(loss).all()
        return loss


CELLS = torch.zeros(100, 1)


def test_vae_finds_the_laws_of_base_genes_that_maximum_likelihood_finds():
    counts = base_counts(3000)
    module = vae(3)
    module.start_at(counts)
    history = training.fit(module, counts, max_epochs=30, batch_size=256)
    fitted = maximum_likelihood.fit(counts.numpy())
    with torch.no_grad():
        z = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
        mu, theta, logit_pi = (p.numpy() for p in module.generative(z))
    np.testing.assert_allclose(mu.mean(0), fitted.mu, rtol=0.1)
    np.testing.assert_allclose(np.log(theta).mean(0), np.log(fitted.theta), atol=0.4)
    np.testing.assert_allclose((1 / (1 + np.exp(-logit_pi))).mean(0), fitted.pi, atol=0.05)
    assert history["validation"].iloc[-1] < history["validation"].iloc[0]
    at_fit = -fitted.log_prob(counts.numpy()).sum(1).mean()
    assert history["train"].iloc[-1] == pytest.approx(at_fit, rel=0.02)


def test_training_takes_every_cell_once_an_epoch_and_none_of_the_validation_cells():
    class Recording(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.batches, self.validated = nn.Parameter(torch.zeros(())), [], []

        def loss(self, x, generator):
            (self.batches if self.training else self.validated).append(x[:, 0])
            return self.w + x[:, 0]

    module, cells = Recording(), torch.arange(103.0)[:, None]
    history = training.fit(module, cells, max_epochs=2, batch_size=10, validation_fraction=0.2)
    n_batches = len(module.batches) // 2
    first, second = (torch.cat(module.batches[i : i + n_batches]) for i in (0, n_batches))
    validated = module.validated[0]
    assert len(validated) == 21
    assert sorted(torch.cat([first, validated]).tolist()) == list(range(103))
    assert sorted(first.tolist()) == sorted(second.tolist())
    assert first.tolist() != second.tolist()  # shuffled anew
    assert history["train"][0] == pytest.approx(
        first.mean().item(), abs=0.2
    )  # weighted by cells, the short batch too


def test_the_rate_is_cut_so_often_and_then_training_stops_early():
    history = training.fit(
        Scripted(validation_goal=1.0), CELLS, max_epochs=1000, learning_rate=0.1, patience=4, cuts=3
    )
    rates = history["learning_rate"].unique()
    np.testing.assert_allclose(rates, 0.1 * 0.3 ** np.arange(4))
    assert len(history) < 200


def test_the_best_weights_come_back_after_overfitting():
    module = Scripted(validation_goal=1.0)
    history = training.fit(module, CELLS, max_epochs=1000, learning_rate=0.1, patience=8, cuts=2)
    assert max(module.seen) > 1.5  # it did run past the best weights
    assert module.w.item() == pytest.approx(1.0, abs=0.05)
    assert (module.w.item() - 1) ** 2 == pytest.approx(history["validation"].min(), abs=1e-6)


def test_best_weights_come_back_when_max_epochs_ends_training():
    module = Scripted(validation_goal=1.0)
    history = training.fit(module, CELLS, max_epochs=14, learning_rate=0.1, patience=100)
    assert len(history) == 14
    assert module.w.item() == pytest.approx(1.0, abs=0.05)


def test_a_lead_within_its_standard_error_does_not_bring_weights_back():
    class Noisy(Scripted):
        def loss(self, x, generator):
            # as w grows the mean loss does too, by 0.01: less than its standard error of 0.07
            return (
                super().loss(x, generator)
                if self.training
                else 5 + self.w * (x[:, 0] - x[:, 0].mean() + 0.01)
            )

    module = Noisy()
    cells = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    history = training.fit(
        module, cells, max_epochs=12, learning_rate=0.1, patience=3, validation_fraction=0.5
    )
    assert history["validation"].idxmin() == 0
    assert module.w.item() >= max(module.seen) > 0.5


def test_an_overfitting_regression_stops_long_before_max_epochs():
    class Regression(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(80))

        def loss(self, x, generator):
            return (x[:, 0] - x[:, 1:] @ self.w) ** 2

    cells = torch.randn(80, 81, generator=torch.Generator().manual_seed(0))  # nothing to be learned
    history = training.fit(
        Regression(), cells, max_epochs=2000, validation_fraction=0.3, learning_rate=0.02
    )
    assert len(history) < 300
    assert history["train"].iloc[-1] < history["train"].iloc[0]
    assert history["validation"].max() > history["validation"].min()


def test_without_validation_cells_the_training_loss_decides():
    module = Scripted(goal=1.0)
    history = training.fit(
        module, CELLS, max_epochs=1000, learning_rate=0.1, validation_fraction=0, patience=20
    )
    assert history["validation"].isna().all() and module.n_validations == 0
    assert len(history) < 1000 and history["learning_rate"].iloc[-1] < 0.1
    assert module.w.item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("where", "bad"),
    [
        ("loss", math.nan),
        ("loss", math.inf),
        ("gradient", None),
        ("validation", math.nan),
        ("validation", math.inf),
    ],
)
def test_divergence_says_the_epoch_and_leaves_the_last_good_weights(where, bad):
    # two batches an epoch: training call 8 is the second of epoch 4, after weights have moved
    at = 4 if where == "validation" else 8
    module = Scripted(at=at, where=where, bad=bad)
    with pytest.raises(training.DivergenceError, match="epoch 4") as error:
        # without validation cells, whose loss would show what a bad gradient has done
        training.fit(
            module,
            CELLS,
            batch_size=50,
            max_epochs=20,
            learning_rate=0.1,
            validation_fraction=0.1 * (where == "validation"),
        )
    assert error.value.epoch == 4
    assert "\n" not in str(error.value)
    assert module.seen[7] != module.seen[6]
    assert module.w.item() == module.seen[6]


def test_divergence_in_the_first_epoch_leaves_the_initial_weights():
    module = Scripted(at=1)
    with pytest.raises(training.DivergenceError, match="epoch 1") as error:
        training.fit(module, CELLS)
    assert error.value.epoch == 1 and module.w.item() == 0


def test_an_absurd_rate_diverges_and_leaves_finite_weights():
    module, counts = vae(3), base_counts(300)
    with pytest.raises(training.DivergenceError):
        training.fit(module, counts, learning_rate=1e37, max_epochs=30)
    assert all(torch.isfinite(w).all() for w in module.state_dict().values())


def test_one_seed_gives_one_training_and_the_global_state_is_left_alone():
    counts, trained = base_counts(300), {}
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        module = vae(3)
        training.fit(module, counts, max_epochs=2, seed=seed)
        trained[name] = weights_of(module)
    assert same_weights(trained["first"], trained["again"])
    assert not same_weights(trained["first"], trained["other"])
    module = vae(3)
    state = torch.get_rng_state()
    training.fit(module, counts, max_epochs=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_cycle_rises_falls_to_nothing_and_never_stops_early():
    module = Scripted(validation_goal=1.0)
    history = training.fit(
        module,
        CELLS,
        max_epochs=60,
        batch_size=50,
        learning_rate=0.5,
        schedule="one_cycle",
        patience=1,
        cuts=0,
    )
    rates = history["learning_rate"].to_numpy()
    top = rates.argmax()
    assert len(history) == 60 and len(module.seen) == 120
    assert 4 <= top <= 7 and rates[top] == pytest.approx(0.5, rel=0.05)
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top:]) < 0).all()
    assert rates[0] < 0.05 * 0.5 * 1.01 and rates[-1] < 1e-2 * 0.5
    assert module.w.item() == pytest.approx(
        10.0, abs=0.1
    )  # the last weights, not those that were best at 1


@pytest.mark.parametrize("max_epochs", [1, 2, 3, 10, 11])
def test_one_cycle_trains_however_few_steps_there_are(max_epochs):
    module = Scripted()
    history = training.fit(
        module,
        CELLS,
        max_epochs=max_epochs,
        batch_size=100,
        learning_rate=0.1,
        schedule="one_cycle",
        validation_fraction=0.0,
    )
    assert len(history) == len(module.seen) == max_epochs
    assert 1e-3 < module.w.item() <= 0.1 * max_epochs * 1.01


def test_an_unknown_schedule_raises_one_line():
    with pytest.raises(ValueError) as error:
        training.fit(Scripted(), CELLS, schedule="cosine")
    one_line(error, "schedule = 'cosine'", "plateau", "one_cycle")


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.7), (0.0, 0.99)])
def test_weights_follow_adam_with_the_betas_given(betas):
    module = Scripted()
    training.fit(
        module,
        CELLS,
        max_epochs=30,
        batch_size=100,
        learning_rate=0.5,
        validation_fraction=0.0,
        patience=100,
        betas=betas,
        clip=1e9,
    )
    w = first = second = 0.0
    for step in range(1, 30):  # Kingma and Ba (arXiv 1412.6980), algorithm 1
        gradient = 2 * (w - 10)
        first, second = (
            b * m + (1 - b) * g for b, m, g in zip(betas, (first, second), (gradient, gradient**2))
        )
        w -= (
            0.5
            * (first / (1 - betas[0] ** step))
            / (np.sqrt(second / (1 - betas[1] ** step)) + 1e-8)
        )
        assert module.seen[step] == pytest.approx(w, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    "option",
    [
        {"max_epochs": 0},
        {"max_epochs": 2.5},
        {"batch_size": -1},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"learning_rate": -1e-3},
        {"learning_rate": math.nan},
        {"weight_decay": -0.1},
        {"validation_fraction": 1.0},
        {"validation_fraction": -0.1},
        {"patience": 0},
        {"cuts": -1},
        {"clip": 0},
        {"clip": -1.0},
        {"betas": 0.9},
        {"betas": (0.9,)},
        {"betas": (0.9, 1.0)},
        {"seed": -1},
    ],
    ids=str,
)
def test_bad_options_raise_one_line_that_names_them_and_change_no_weight(option):
    module = Scripted()
    with pytest.raises(ValueError, match=next(iter(option))) as error:
        training.fit(module, CELLS, **{"max_epochs": 2} | option)
    assert "\n" not in str(error.value)
    assert module.w.item() == 0


def test_no_cell_to_train_on_raises():
    with pytest.raises(ValueError, match="0 cells"):
        training.fit(Scripted(), CELLS[:0])


def test_divergence_ends_an_epoch_at_once():
    module = Scripted(at=3)
    with pytest.raises(training.DivergenceError):
        training.fit(module, CELLS, batch_size=10, validation_fraction=0.1)
    assert len(module.seen) == 3 and module.n_validations == 0


@pytest.mark.parametrize("bad", [math.nan, -40.0])
def test_what_are_no_counts_diverges_and_does_not_crash(bad):
    counts = base_counts(100)
    counts[3, 1] = bad
    if math.isnan(bad):
        with pytest.raises(training.DivergenceError):
            training.fit(vae(3), counts, max_epochs=2)
    else:
        with contextlib.suppress(training.DivergenceError):
            training.fit(vae(3), counts, max_epochs=2)


@pytest.mark.parametrize("counts", [np.zeros((5, 3)), [[1.0]], None])
def test_counts_of_another_kind_are_refused(counts):
    with pytest.raises(ValueError) as error:
        training.fit(vae(3), counts)
    one_line(error, "counts: a ", "must be a tensor")


def test_an_option_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="epochs"):
        training.fit(Scripted(), CELLS, epochs=3)


@pytest.mark.gpu
def test_training_on_cuda_gives_finite_losses_close_to_those_on_the_cpu():
    final = {}
    for device in ("cpu", "cuda"):
        counts = base_counts(500).to(device)
        module = vae(3).to(device)
        module.start_at(counts)
        final[device] = training.fit(module, counts, max_epochs=5)["validation"].iloc[-1]
    assert np.isfinite(final["cuda"])
    assert final["cuda"] == pytest.approx(final["cpu"], rel=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("one", [True, False], ids=["alone", "together"])
def test_an_epoch_waits_for_the_gpu_a_few_times_whatever_its_number_of_batches(one):
    waits = []
    fit = (
        training.fit
        if one
        else lambda module, x, **how: training.fit_together([module], [x], seeds=[0], **how)
    )
    for batch_size in (500, 10):
        counts, module = base_counts(500).cuda(), vae(3).cuda()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                fit(module, counts, max_epochs=3, batch_size=batch_size)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchroniz" in str(w.message) for w in caught))
    assert waits[1] <= waits[0] + 3
