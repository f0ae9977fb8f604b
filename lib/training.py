"""One training loop for every network: minibatches, early stopping, and a stop at divergence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from lib import checks
from lib.neural.device import keep_freed_memory, load, pick_device, save, torch_generator
from lib.neural.minibatches import cells_of
from lib.neural.stack import _on, _One, _Stack, losses_of
from lib.seeds import stream

__all__ = [
    "DivergenceError", "Options", "fit", "fit_together", "keep_freed_memory", "load", "losses_of", "pick_device", "save",
    "torch_generator",
]  # fmt: skip


class DivergenceError(RuntimeError):
    """The loss is no longer finite. `epoch` says where; the network holds the last good weights."""

    def __init__(self, epoch: int, loss: float, which: str = ""):
        super().__init__(f"{which}training diverged at epoch {epoch}: loss = {loss}; the weights are those of epoch {epoch - 1}")
        self.epoch = epoch


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train; one line says what is wrong with an option.

    learning_rate : of AdamW, at the start
    validation_fraction : share of cells held out; with 0 the training loss takes its place
    patience, cuts : after `patience` epochs without a better validation loss the learning rate is
        cut to 0.3 of itself; when that would be due for the `cuts + 1`th time, training stops. At
        each of these points the best weights so far come back if they beat the present ones by
        more than a standard error over the validation cells: a smaller lead is chance, and weights
        trained for longer at a lower rate are then the better ones
    warmup : epochs in which the module's `warmed` rises from 0 to 1: for the VAE, the share of the KL
        term's weight, without which a latent variable may be lost before it is of use; for the
        dependency network, the time before its index may have squares and products. The best
        weights are looked for after it
    schedule : "plateau", as above; or "one_cycle": the learning rate rises to its own over the first tenth
        of `max_epochs` and falls to 0 at their end (Smith and Topin, arXiv 1708.07120), without early stopping
    betas : of AdamW, the memory of its averages of the gradient and of its square
    clip : largest norm of the gradient
    report : print a line every so many epochs; 0 for none
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
    report: int = 0

    def __post_init__(self):
        for name, low in (("max_epochs", 1), ("batch_size", 1), ("patience", 1), ("cuts", 0), ("report", 0)):
            checks.integer(name, getattr(self, name), low=low)
        checks.integer("warmup", self.warmup, low=0, high=self.max_epochs - 1)
        checks.choice("schedule", self.schedule, ("plateau", "one_cycle"))
        if len(checks.numbers("betas", self.betas, 0, 1 - 1e-9)) != 2:
            raise ValueError(f"betas = {self.betas!r}: must be two numbers")
        for name, low in (("learning_rate", 1e-12), ("weight_decay", 0), ("clip", 1e-12)):
            checks.number(name, getattr(self, name), low=low)
        checks.number("validation_fraction", self.validation_fraction, 0, 0.9)

    def rates(self, n_steps: int) -> list[float]:
        """The learning rate of each of so many steps of "one_cycle"."""
        rise = max(0.1, 2 / max(3, n_steps))  # at least a step up and one down: torch divides by 0 where the rise is none
        scratch = torch.optim.SGD([torch.zeros(())], lr=self.learning_rate)
        cycle = torch.optim.lr_scheduler.OneCycleLR(scratch, self.learning_rate, total_steps=max(3, n_steps), pct_start=rise, cycle_momentum=False)
        rates = []
        for _ in range(n_steps):
            rates += cycle.get_last_lr()
            scratch.step()
            cycle.step()
        return rates


def fit(module: nn.Module, counts: torch.Tensor, *, seed: int | tuple[int, ...] = 0, **options) -> pd.DataFrame:
    """Minimise `module.loss(batch, generator)`, a loss for each cell, over minibatches.

    counts : (n_cells, n_genes), a tensor on the module's device, or what needn't fit there: a sparse matrix, or
        `minibatches.OnDisk`
    options : those of `Options`

    Returns the history: epoch, train, validation (nats a cell), learning_rate. Raises DivergenceError where the loss isn't finite.
    """
    return _finished(_One(module, Options(**options)), [counts], [seed])[0]


def fit_together(modules: list[nn.Module], counts: list[torch.Tensor], *, seeds: Sequence, **options) -> list[pd.DataFrame]:
    """As `fit`, of several modules of one kind and size at once, each with counts and a seed of its own.

    Their weights are stacked (torch.func), so that a step of all costs about as many calls as a step of one. Each ends
    where its own `fit` would have ended it, but for what rounding does to the last digits, which can grow in training.

    modules : with `noise` and `loss_given`, as the VAE has them. counts : of as many cells each. options : of `Options`

    Returns their histories. Where one diverges the error says which, and all hold the last good weights.
    """
    if not modules or not len({id(module) for module in modules}) == len(counts) == len(seeds) == len(modules):
        raise ValueError(f"modules: {len(modules)}, with {len(counts)} counts and {len(seeds)} seeds; must be as many of each, at least one, and none twice")
    if len({str(module.config) for module in modules}) > 1 or not hasattr(modules[0], "loss_given"):
        raise ValueError("modules: must be of one configuration, and of a kind whose noise can be given")
    return _finished(_Stack(modules, Options(**options)), counts, seeds)


def _finished(models, counts, seeds):
    """Train; whatever ends it, the modules have the weights that they have come to, and are in evaluation mode."""
    try:
        return _fit(models, counts, seeds)
    finally:
        models.finish()


def _fit(models, counts, seeds):
    """The loop: `models` has one or several, each with cells, random streams and a course of its own."""
    options, device = models.options, models.device
    if device.type == "cpu":
        keep_freed_memory()
    cells = [cells_of(x) for x in counts]
    parts = [c.split(options.validation_fraction, stream(seed, "validation split")) for c, seed in zip(cells, seeds)]
    n_train, n_validation = len(parts[0][0]), len(parts[0][1])
    if any((len(train), len(validation)) != (n_train, n_validation) for train, validation in parts):
        raise ValueError(f"counts: of {sorted({len(train) for train, _ in parts})} cells to train on; must be as many for each module")
    if n_train == 0:
        raise ValueError(f"counts: {len(cells[0])} cells leave none to train on")
    shuffles = [stream(seed, "minibatches") for seed in seeds]
    noises = [torch_generator(seed, "training noise", device) for seed in seeds]
    courses = [_Course(options, models.state(i)) for i in range(len(seeds))]
    rates = options.rates(options.max_epochs * -(-n_train // options.batch_size)) if options.schedule == "one_cycle" else None
    running, step = list(range(len(seeds))), 0
    for epoch in range(1, options.max_epochs + 1):
        models.train(min(1.0, (epoch - 1) / options.warmup) if options.warmup else 1.0)
        total, norms, seen, started = 0.0, 0.0, 0, rates[step] if rates else None
        if not rates:
            models.set_rates([courses[i].rate for i in running])
        for batches in zip(*(_on(device, parts[i][0].minibatches(options.batch_size, shuffles[i])) for i in running), strict=True):
            if rates:
                models.set_rates([rates[step]] * len(running))
            losses, norm = models.step(batches, [noises[i] for i in running])
            total, norms, step, seen = total + losses * len(batches[0]), norms + norm, step + 1, seen + len(batches[0])
            if device.type == "cpu" and not torch.isfinite(losses + norm).all():
                break  # on a GPU, to look would be to wait for it
        train = (total / seen).tolist()
        finite = torch.isfinite(total + norms).tolist()
        if n_validation and all(finite):
            validation = models.losses([parts[i][1] for i in running], [seeds[i] for i in running])
        else:
            validation = [torch.tensor([t]) for t in train]
        scores = [losses.mean().item() for losses in validation]
        for place, score in enumerate(scores):
            if not finite[place] or not math.isfinite(score):
                for other, i in enumerate(running):
                    models.load(other, courses[i].good)
                which = f"model {running[place]}: " if len(seeds) > 1 else ""
                raise DivergenceError(epoch, score if finite[place] else train[place], which)
        stopped = []
        for place, i in enumerate(running):
            course, losses, score = courses[i], validation[place], scores[place]
            course.good = models.state(place)
            course.history.append((epoch, train[place], score if n_validation else math.nan, started if rates else course.rate))
            if options.report and (epoch % options.report == 0 or epoch == options.max_epochs):
                print(f"  epoch {epoch:3d}/{options.max_epochs}  train {train[place]:.4f}  validation {course.history[-1][2]:.4f} nats a cell", flush=True)
            if epoch <= options.warmup or rates:
                continue
            if course.best_again(losses, epoch == options.max_epochs):
                models.load(place, course.best)
            if course.ended:
                stopped.append(place)
        models.drop(stopped)
        running = [i for place, i in enumerate(running) if place not in stopped]
        if not running:
            break
    return [pd.DataFrame(course.history, columns=["epoch", "train", "validation", "learning_rate"]) for course in courses]


class _Course:
    """What one model's training has come to: its rate, its best weights, and whether it has ended."""

    def __init__(self, options, state):
        self.options, self.rate, self.waited, self.cuts_left = options, options.learning_rate, 0, options.cuts
        self.best, self.best_losses, self.good = state, torch.full((1,), math.inf), state
        self.history, self.ended = [], False

    def best_again(self, losses, last):
        """After an epoch with these losses of the validation cells: is it time for the best weights to come back?"""
        self.waited += 1
        if losses.mean() < self.best_losses.mean():
            self.best, self.best_losses, self.waited = self.good, losses, 0
        if self.waited < self.options.patience and not last:
            return False
        self.ended = self.cuts_left == 0
        self.cuts_left, self.waited, self.rate = self.cuts_left - 1, 0, self.rate * (1 if self.ended else 0.3)
        lead = losses - self.best_losses
        return len(losses) > 1 and bool(lead.mean() > lead.std() / math.sqrt(len(losses)))
