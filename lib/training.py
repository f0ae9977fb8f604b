"""One training loop for every network: minibatches, early stopping, and a stop at divergence."""

import dataclasses
import math
from collections.abc import Sequence
from contextlib import closing

import pandas as pd
import torch

from lib import checks
from lib.neural.base import Stackable, Trainable
from lib.neural.device import keep_freed_memory, load, pick_device, save, torch_generator
from lib.neural.minibatches import cells_of
from lib.neural.stack import One, Stack, losses_of, on_device
from lib.seeds import stream

__all__ = [
    "DivergenceError", "Options", "fit", "fit_together", "keep_freed_memory", "load", "losses_of",
    "pick_device", "save", "torch_generator",
]  # fmt: skip


class DivergenceError(RuntimeError):
    """The loss is no longer finite. `epoch` says where; the network holds the last good weights."""

    def __init__(self, epoch: int, loss: float, which: str = ""):
        its = f"loss = {loss}; the weights are those of epoch {epoch - 1}"
        super().__init__(f"{which}training diverged at epoch {epoch}: {its}")
        self.epoch = epoch


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train.

    learning_rate: rate of AdamW, at the start
    weight_decay: AdamW's, in units of the rate
    validation_fraction: share of cells held out; with 0 the training loss takes its place
    patience: epochs without a better validation loss after which the rate is cut to 0.3 of itself
    cuts: how often it is; when one more would be due, training stops. At each of these points the
        best weights so far come back if they beat the present ones by more than a standard error
        over the validation cells: a smaller lead is chance, and weights trained for longer at a
        lower rate are then the better ones
    warmup: epochs in which the module's `warmed` rises from 0 to 1: for the VAE, the share of the
        KL term's weight, without which a latent variable may be lost before it is of use; for the
        dependency network, the time before its index may have squares and products. The best
        weights are looked for after it
    schedule: "plateau", as above; or "one_cycle": the rate rises to its own over the first tenth of
        `max_epochs` and falls to 0 at their end (Smith and Topin, arXiv 1708.07120), without early
        stopping
    betas: memory of AdamW's averages of the gradient and of its square
    clip: largest norm of the gradient
    """

    max_epochs: int = 100
    batch_size: int = 512
    learning_rate: float = 1e-2
    weight_decay: float = 0.0
    validation_fraction: float = 0.05
    patience: int = 6
    cuts: int = 3
    warmup: int = 0
    schedule: str = "plateau"
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 10.0

    def __post_init__(self):
        for name, low in {"max_epochs": 1, "batch_size": 1, "patience": 1, "cuts": 0}.items():
            checks.integer(name, getattr(self, name), low=low)
        checks.integer("warmup", self.warmup, low=0, high=self.max_epochs - 1)
        checks.choice("schedule", self.schedule, ("plateau", "one_cycle"))
        if len(checks.numbers("betas", self.betas, 0, 1 - 1e-9)) != 2:
            raise ValueError(f"betas = {self.betas!r}: must be two numbers")
        for name, low in {"learning_rate": 1e-12, "weight_decay": 0, "clip": 1e-12}.items():
            checks.number(name, getattr(self, name), low=low)
        checks.number("validation_fraction", self.validation_fraction, 0, 0.9)

    def one_cycle(self, n_steps: int) -> list[float]:
        """The rate of each step of "one_cycle"."""
        total = max(3, n_steps)
        rise = max(0.1, 2 / total)  # a step up at least: torch divides by 0 without one
        top, scratch = self.learning_rate, torch.optim.SGD([torch.zeros(())])
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            scratch, top, total, pct_start=rise, cycle_momentum=False
        )
        rates = []
        for _ in range(n_steps):
            rates += cycle.get_last_lr()
            scratch.step()
            cycle.step()
        return rates


def fit(
    module: Trainable, counts: torch.Tensor, *, seed: int | tuple[int, ...] = 0, **options
) -> pd.DataFrame:
    """Minimise `module.loss(batch, generator)`, a loss for each cell, over minibatches.

    counts: (n_cells, n_genes), a tensor on the module's device, or what needn't fit there: a sparse
        matrix, or `minibatches.OnDisk`
    options: entries of `Options`

    Returns the history: epoch, train, validation (nats a cell), learning_rate. Whatever ends it,
    the module keeps the weights come to and is in evaluation mode. Raises DivergenceError where the
    loss isn't finite.
    """
    with closing(One(module, Options(**options))) as model:
        return _fit(model, [counts], [seed])[0]


def fit_together(
    modules: list[Stackable], counts: list, *, seeds: Sequence, **options
) -> list[pd.DataFrame]:
    """`fit` for several modules of one configuration at once, each with its own seed and as many
    counts.

    Their weights are stacked (torch.func), so that a step of all costs about as many calls as a
    step of one. Each ends where its own `fit` would have ended it, but for what rounding does to
    the last digits, which can grow in training.

    Returns their histories. Where one diverges the error says which, and all hold the last good
    weights.
    """
    n_different = len({id(module) for module in modules})
    if not modules or not n_different == len(counts) == len(seeds) == len(modules):
        given = f"{len(modules)}, with {len(counts)} counts and {len(seeds)} seeds"
        raise ValueError(f"modules: {given}; must be as many of each, at least one, and none twice")
    fit_for_it = all(isinstance(module, Stackable) for module in modules)
    if not fit_for_it or len({str(module.config) for module in modules}) > 1:
        raise ValueError(
            "modules: must be of one configuration, and of a kind whose noise can be given"
        )
    with closing(Stack(modules, Options(**options))) as models:
        return _fit(models, counts, seeds)


def _fit(models, counts, seeds):
    """Epoch after epoch, until the course of each model has ended."""
    options = models.options
    if models.device.type == "cpu":
        keep_freed_memory()
    courses = running = _courses(models, counts, seeds)
    n_steps = -(-len(courses[0].cells) // options.batch_size)
    cycle = (
        options.one_cycle(options.max_epochs * n_steps) if options.schedule == "one_cycle" else []
    )
    for epoch in range(1, options.max_epochs + 1):
        models.train(min(1.0, (epoch - 1) / options.warmup) if options.warmup else 1.0)
        steps = range((epoch - 1) * n_steps, epoch * n_steps)
        rates = [[cycle[step] if cycle else course.rate for course in running] for step in steps]
        train, finite = _epoch(models, running, rates)
        if len(running[0].held_out) and all(finite):
            losses = models.losses([c.held_out for c in running], [c.seed for c in running])
        else:
            losses = [torch.tensor([loss]) for loss in train]
        _check_divergence(models, running, epoch, train, finite, losses)
        for place, course in enumerate(running):
            course.good = models.state(place)
            validation = losses[place].mean().item() if len(course.held_out) else math.nan
            course.history.append((epoch, train[place], validation, rates[0][place]))
            if epoch > options.warmup and not cycle and course.best_again(epoch, losses[place]):
                models.load(place, course.best)
        models.drop([place for place, course in enumerate(running) if course.ended])
        running = [course for course in running if not course.ended]
        if not running:
            break
    return [
        pd.DataFrame(c.history, columns=["epoch", "train", "validation", "learning_rate"])
        for c in courses
    ]


def _courses(models, counts, seeds):
    """A course for each model, of as many cells each."""
    courses = []
    for i, seed in enumerate(seeds):
        name = f"model {i}: " if len(seeds) > 1 else ""
        courses.append(_Course(name, cells_of(counts[i]), seed, models.state(i), models))
    n_cells = sorted({len(course.cells) for course in courses})
    if len(n_cells) > 1 or len({len(course.held_out) for course in courses}) > 1:
        raise ValueError(f"counts: of {n_cells} cells to train on; must be as many for each module")
    return courses


def _epoch(models, running, rates):
    """One pass over the training cells, at the rates of each step.

    Returns the mean loss of each model, and whether all its losses and gradients were finite.
    """
    size, noises = models.options.batch_size, [course.noise for course in running]
    each = (on_device(models.device, c.cells.minibatches(size, c.shuffle)) for c in running)
    total, norms, seen = 0.0, 0.0, 0
    for batches, rates_now in zip(zip(*each, strict=True), rates):
        losses, norm = models.step(batches, noises, rates_now)
        total = total + losses * len(batches[0])
        norms = norms + norm
        seen += len(batches[0])
        if models.device.type == "cpu" and not torch.isfinite(losses + norm).all():
            break  # on a GPU, to look would be to wait for it
    return (total / seen).tolist(), torch.isfinite(total + norms).tolist()


def _check_divergence(models, running, epoch, train, finite, losses):
    """Give all models their last good weights and raise, if a loss or gradient isn't finite."""
    for place, course in enumerate(running):
        score = losses[place].mean().item()
        if not finite[place] or not math.isfinite(score):
            for other, its in enumerate(running):
                models.load(other, its.good)
            raise DivergenceError(epoch, score if finite[place] else train[place], course.name)


class _Course:
    """One model's training: its cells, its random streams, its rate, and what it has come to."""

    def __init__(self, name, cells, seed, state, models):
        self.name, self.seed, self.options = name, seed, models.options
        self.cells, self.held_out = cells.split(
            self.options.validation_fraction, stream(seed, "validation split")
        )
        if len(self.cells) == 0:
            raise ValueError(f"counts: {len(cells)} cells leave none to train on")
        self.shuffle = stream(seed, "minibatches")
        self.noise = torch_generator(seed, "training noise", models.device)
        self.rate = self.options.learning_rate
        self.waited, self.cuts_left = 0, self.options.cuts
        self.good = self.best = state
        self.best_losses = torch.full((1,), math.inf)
        self.history, self.ended = [], False

    def best_again(self, epoch, losses):
        """After an epoch: is it time for the best weights to come back?"""
        self.waited += 1
        if losses.mean() < self.best_losses.mean():
            self.best, self.best_losses, self.waited = self.good, losses, 0
        if self.waited < self.options.patience and epoch < self.options.max_epochs:
            return False
        self.ended = self.cuts_left == 0
        self.cuts_left, self.waited = self.cuts_left - 1, 0
        self.rate *= 1 if self.ended else 0.3
        lead = losses - self.best_losses
        return len(lead) > 1 and bool(lead.mean() > lead.std() / math.sqrt(len(lead)))
