import contextlib
import copy
import math
import os
import pickle
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lib import dataset, model, training
from lib.laws import maximum_likelihood
from lib.neural import minibatches
from tests.agreement import one_line

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]


class Scripted(nn.Module):
    """One weight w, a loss of (w - goal)^2 in every cell, and another goal in validation.

    At training call number `at`, or at validation call number `at` where `where` is "validation",
    the loss or its gradient is made `bad`. `seen` has w at each training call.
    """

    def __init__(self, goal=10.0, validation_goal=10.0, at=None, where="loss", bad=math.nan):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
        self.goal, self.validation_goal, self.at, self.where, self.bad = goal, validation_goal, at, where, bad
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


def small_vae(n_genes, seed=0, **options):
    return model.ZINBVAE(n_genes, 2, 16, generator=torch.Generator().manual_seed(seed), **options)


def base_counts(n_cells=1500, n_genes=3, **options):
    return model.to_tensor(dataset.base_genes(n_cells, n_genes, 0.5, mu_range=(3, 10), **options).X)


def weights_of(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same_weights(one, other):
    return all(torch.equal(one[k], other[k]) for k in one)


def test_vae_finds_the_laws_of_base_genes_that_maximum_likelihood_finds():
    counts = base_counts(3000)
    module = small_vae(3)
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
    assert history["train"][0] == pytest.approx(first.mean().item(), abs=0.2)  # weighted by cells, the short batch too


def test_the_rate_is_cut_so_often_and_then_training_stops_early():
    history = training.fit(Scripted(validation_goal=1.0), CELLS, max_epochs=1000, learning_rate=0.1, patience=4, cuts=3)
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
            # as w grows the mean loss does too, by 0.01, its standard error over 200 cells being 0.07
            return super().loss(x, generator) if self.training else 5 + self.w * (x[:, 0] - x[:, 0].mean() + 0.01)

    module = Noisy()
    cells = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    history = training.fit(module, cells, max_epochs=12, learning_rate=0.1, patience=3, validation_fraction=0.5)
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
    history = training.fit(Regression(), cells, max_epochs=2000, validation_fraction=0.3, learning_rate=0.02)
    assert len(history) < 300
    assert history["train"].iloc[-1] < history["train"].iloc[0]
    assert history["validation"].max() > history["validation"].min()


def test_without_validation_cells_the_training_loss_decides():
    module = Scripted(goal=1.0)
    history = training.fit(module, CELLS, max_epochs=1000, learning_rate=0.1, validation_fraction=0, patience=20)
    assert history["validation"].isna().all() and module.n_validations == 0
    assert len(history) < 1000 and history["learning_rate"].iloc[-1] < 0.1
    assert module.w.item() == pytest.approx(1.0, abs=0.05)


def test_validation_noise_is_the_same_at_each_epoch():
    module, counts = small_vae(3), base_counts(200)
    assert torch.equal(training.losses_of(module, counts, 3), training.losses_of(module, counts, 3))
    assert not torch.equal(training.losses_of(module, counts, 3), training.losses_of(module, counts, 4))


@pytest.mark.parametrize(
    ("where", "bad"), [("loss", math.nan), ("loss", math.inf), ("gradient", None), ("validation", math.nan), ("validation", math.inf)]
)
def test_divergence_says_the_epoch_and_leaves_the_last_good_weights(where, bad):
    # two batches an epoch: training call 8 is the second of epoch 4, whose first has moved the weights
    at = 4 if where == "validation" else 8
    module = Scripted(at=at, where=where, bad=bad)
    with pytest.raises(training.DivergenceError, match="epoch 4") as error:
        # without validation cells, whose loss would show what a bad gradient has done
        training.fit(module, CELLS, batch_size=50, max_epochs=20, learning_rate=0.1, validation_fraction=0.1 * (where == "validation"))
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
    module, counts = small_vae(3), base_counts(300)
    with pytest.raises(training.DivergenceError):
        training.fit(module, counts, learning_rate=1e37, max_epochs=30)
    assert all(torch.isfinite(w).all() for w in module.state_dict().values())


def test_one_seed_gives_one_training_and_the_global_state_is_left_alone():
    counts, trained = base_counts(300), {}
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        module = small_vae(3)
        training.fit(module, counts, max_epochs=2, seed=seed)
        trained[name] = weights_of(module)
    assert same_weights(trained["first"], trained["again"])
    assert not same_weights(trained["first"], trained["other"])
    module = small_vae(3)
    state = torch.get_rng_state()
    training.fit(module, counts, max_epochs=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_cycle_rises_falls_to_nothing_and_never_stops_early():
    module = Scripted(validation_goal=1.0)
    history = training.fit(module, CELLS, max_epochs=60, batch_size=50, learning_rate=0.5, schedule="one_cycle", patience=1, cuts=0)
    rates = history["learning_rate"].to_numpy()
    top = rates.argmax()
    assert len(history) == 60 and len(module.seen) == 120
    assert 4 <= top <= 7 and rates[top] == pytest.approx(0.5, rel=0.05)
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top:]) < 0).all()
    assert rates[0] < 0.05 * 0.5 * 1.01 and rates[-1] < 1e-2 * 0.5
    assert module.w.item() == pytest.approx(10.0, abs=0.1)  # the last weights, not those that were best at 1


@pytest.mark.parametrize("max_epochs", [1, 2, 3, 10, 11])
def test_one_cycle_trains_however_few_steps_there_are(max_epochs):
    module = Scripted()
    history = training.fit(module, CELLS, max_epochs=max_epochs, batch_size=100, learning_rate=0.1, schedule="one_cycle", validation_fraction=0.0)
    assert len(history) == len(module.seen) == max_epochs
    assert 1e-3 < module.w.item() <= 0.1 * max_epochs * 1.01


def test_an_unknown_schedule_raises_one_line():
    with pytest.raises(ValueError) as error:
        training.fit(Scripted(), CELLS, schedule="cosine")
    one_line(error, "schedule = 'cosine'", "plateau", "one_cycle")


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.7), (0.0, 0.99)])
def test_weights_follow_adam_with_the_betas_given(betas):
    module = Scripted()
    training.fit(module, CELLS, max_epochs=30, batch_size=100, learning_rate=0.5, validation_fraction=0.0, patience=100, betas=betas, clip=1e9)
    w = first = second = 0.0
    for step in range(1, 30):  # Kingma and Ba (arXiv 1412.6980), algorithm 1
        gradient = 2 * (w - 10)
        first, second = (b * m + (1 - b) * g for b, m, g in zip(betas, (first, second), (gradient, gradient**2)))
        w -= 0.5 * (first / (1 - betas[0] ** step)) / (np.sqrt(second / (1 - betas[1] ** step)) + 1e-8)
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


def several(n=3, **options):
    """Networks of different initial weights, each with counts of its own genes."""
    counts = [base_counts(400, seed=seed) for seed in range(n)]
    modules = [small_vae(3, seed, **options) for seed in range(n)]
    for module, x in zip(modules, counts):
        module.start_at(x)
    return modules, counts


@pytest.mark.parametrize("options", [{}, {"hide": 0.5}, {"target": "hidden", "hide": 0.5}, {"dispersion": "gene", "n_layers": 1, "beta": 0.5}], ids=str)
@pytest.mark.parametrize("how", [{}, {"schedule": "one_cycle", "validation_fraction": 0.0}, {"warmup": 3, "weight_decay": 0.1, "clip": 1.0}], ids=str)
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
    how = {"max_epochs": 60, "patience": 2, "cuts": 1, "learning_rate": 0.02, "validation_fraction": 0.3}
    histories = training.fit_together(modules, counts, seeds=[1, 2, 3], **how)
    lengths = [len(h) for h in histories]
    assert len(set(lengths)) > 1 and max(lengths) < 60
    assert lengths == [len(training.fit(one, x, seed=seed, **how)) for one, x, seed in zip(alone, counts, (1, 2, 3))]
    for module, one, x in zip(modules, alone, counts):  # with the weights that it had when it ended
        np.testing.assert_allclose(training.losses_of(module, x), training.losses_of(one, x), rtol=1e-2)


def test_divergence_of_one_of_several_models_is_told_by_its_number():
    modules, counts = several()
    with torch.no_grad():
        modules[1].heads.bias[0] = math.nan
    with pytest.raises(training.DivergenceError, match="^model 1: training diverged at epoch 1") as error:
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
        (lambda m, x, s: ([*m[:2], small_vae(3, beta=0.5)], x, s), ["of one configuration"]),
        (lambda m, x, s: (m, [*x[:2], x[2][:100]], s), ["[95, 380] cells"]),
        (lambda m, x, s: ([model.DependencyNetwork(3) for _ in m], x, s), ["noise can be given"]),
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
        np.testing.assert_allclose(module.heads.weight.detach(), one.heads.weight.detach(), rtol=1e-3, atol=1e-3)


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
        assert len(training.losses_of(module, torch.zeros(5, 1).expand(5, n_genes) if n_genes > 1e6 else torch.zeros(5000, n_genes))) in (5, 5000)
        assert max(module.sizes) == largest


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
            training.fit(small_vae(3), counts, max_epochs=2)
    else:
        with contextlib.suppress(training.DivergenceError):
            training.fit(small_vae(3), counts, max_epochs=2)


@pytest.mark.parametrize("counts", [np.zeros((5, 3)), [[1.0]], None])
def test_counts_of_another_kind_are_refused(counts):
    with pytest.raises(ValueError) as error:
        training.fit(small_vae(3), counts)
    one_line(error, "counts: a ", "must be a tensor")


def test_an_option_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="epochs"):
        training.fit(Scripted(), CELLS, epochs=3)


def test_saved_and_loaded_network_is_the_same_network(tmp_path):
    module, counts = small_vae(3, beta=0.5, inputs=[0, 2], hide=0.2), base_counts(50)
    module.start_at(counts)
    training.save(module, tmp_path / "vae.pt")
    state = torch.get_rng_state()
    loaded = training.load(model.ZINBVAE, tmp_path / "vae.pt", "cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.config == module.config and not loaded.training
    assert same_weights(weights_of(module), weights_of(loaded))
    losses = [m.loss(counts, torch.Generator().manual_seed(0)) for m in (module, loaded)]
    assert torch.equal(*losses)
    assert os.listdir(tmp_path) == ["vae.pt"]


def test_a_checkpoint_has_weights_and_plain_values_only(tmp_path):
    training.save(small_vae(3), tmp_path / "vae.pt")
    saved = torch.load(tmp_path / "vae.pt", weights_only=True)
    assert all(isinstance(t, torch.Tensor) for t in saved["weights"].values())
    assert saved["config"]["n_genes"] == 3


def test_settings_given_as_numpy_numbers_survive_saving(tmp_path):
    module = model.ZINBVAE(np.int64(3), np.int64(2), 16, beta=np.float64(0.5), generator=torch.Generator().manual_seed(0))
    training.save(module, tmp_path / "vae.pt")
    assert training.load(model.ZINBVAE, tmp_path / "vae.pt", "cpu").beta == 0.5


def test_a_failed_save_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    module, path = small_vae(3), tmp_path / "vae.pt"
    training.save(module, path)

    def half_written(value, file):
        with open(file, "wb") as out:
            out.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        training.save(small_vae(3, seed=1), path)
    assert same_weights(weights_of(training.load(model.ZINBVAE, path, "cpu")), weights_of(module))


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dump", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))], ids=["torch", "pickle"])
def test_a_pickle_of_anything_else_is_refused_and_not_run(tmp_path, dump):
    path = tmp_path / "evil.pt"
    module = small_vae(3)
    dump({"config": module.config, "weights": module.state_dict(), "more": Payload(tmp_path / "ran")}, path)
    with pytest.raises(ValueError, match="evil.pt") as error:
        training.load(model.ZINBVAE, path, "cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "vae.pt"
    training.save(small_vae(3), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="vae.pt") as error:
        training.load(model.ZINBVAE, path, "cpu")
    assert "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"config": {"n_genes": 5}, "weights": small_vae(3).state_dict()}, tmp_path / "wrong_size.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    for name in ("list.pt", "wrong_size.pt", "text.pt", "missing.pt"):
        with pytest.raises(ValueError, match=name) as error:
            training.load(model.ZINBVAE, tmp_path / name, "cpu")
        assert "\n" not in str(error.value)


def test_a_bad_device_at_loading_is_blamed_on_the_device(tmp_path):
    training.save(small_vae(3), tmp_path / "vae.pt")
    with pytest.raises(ValueError, match="^device = 'nonsense'"):
        training.load(model.ZINBVAE, tmp_path / "vae.pt", "nonsense")


def test_auto_takes_cuda_where_there_is_one():
    assert training.pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert training.pick_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_cuda_raises_one_line(device):
    with pytest.raises(ValueError, match=f"device = '{device}'.*no CUDA") as error:
        training.pick_device(device)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["nonsense", "meta", "", None])
def test_a_device_that_it_cannot_train_on_raises_one_line(device):
    with pytest.raises(ValueError, match="device = ") as error:
        training.pick_device(device)
    assert "\n" not in str(error.value)


@pytest.mark.gpu
def test_training_on_cuda_gives_finite_losses_close_to_those_on_the_cpu():
    final = {}
    for device in ("cpu", "cuda"):
        counts = base_counts(500).to(device)
        module = small_vae(3).to(device)
        module.start_at(counts)
        final[device] = training.fit(module, counts, max_epochs=5)["validation"].iloc[-1]
    assert np.isfinite(final["cuda"])
    assert final["cuda"] == pytest.approx(final["cpu"], rel=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("one", [True, False], ids=["alone", "together"])
def test_an_epoch_waits_for_the_gpu_a_few_times_whatever_its_number_of_batches(one):
    waits = []
    fit = training.fit if one else lambda module, x, **how: training.fit_together([module], [x], seeds=[0], **how)
    for batch_size in (500, 10):
        counts, module = base_counts(500).cuda(), small_vae(3).cuda()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                fit(module, counts, max_epochs=3, batch_size=batch_size)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchroniz" in str(w.message) for w in caught))
    assert waits[1] <= waits[0] + 3


@pytest.mark.gpu
def test_models_trained_together_on_a_gpu_are_those_trained_alone():
    modules, counts = several()
    modules, counts = [m.cuda() for m in modules], [x.cuda() for x in counts]
    alone = copy.deepcopy(modules)
    histories = training.fit_together(modules, counts, seeds=[1, 2, 3], max_epochs=5)
    for one, x, seed, history in zip(alone, counts, (1, 2, 3), histories):
        np.testing.assert_allclose(history, training.fit(one, x, seed=seed, max_epochs=5), rtol=1e-3)


PAGES_OF_A_STEP = """
import resource, torch
from lib import model, training
torch.set_num_threads(1)
counts = torch.poisson(torch.full((600, 2000), 2.0), generator=torch.Generator().manual_seed(0))
vae = model.ZINBVAE(2000, n_layers=1)
pages = []
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    training.fit(vae, counts, max_epochs=4, batch_size=300, validation_fraction=0)
    pages.append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 8)
print(training.keep_freed_memory(), pages[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no mallopt")
@pytest.mark.parametrize("kept", [True, False])
def test_memory_of_a_step_is_kept_for_the_next_unless_settings_of_the_user_say_otherwise(kept):
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    own |= {"MALLOC_ARENA_MAX": "4"} if kept else {"MALLOC_TRIM_THRESHOLD_": "131072"}
    done = subprocess.run([sys.executable, "-c", PAGES_OF_A_STEP], cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    said, pages = done.stdout.split()
    assert said == str(kept)
    assert (int(pages) < 5000) == kept  # of 4 KB: about 100, against 20,000 or more
