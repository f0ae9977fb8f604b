"""One training loop for every network: minibatches, early stopping, and a stop at divergence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pandas as pd
import torch

from lib import checks
from lib.neural.base import Stackable, Trainable
from lib.neural.checkpoint import load, save
from lib.neural.device import pick_device, torch_generator
from lib.neural.memory import keep_freed_memory
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
        where = f"{which}training diverged at epoch {epoch}: loss = {loss}"
        super().__init__(f"{where}; the weights are those of epoch {epoch - 1}")
        self.epoch = epoch


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train; one line says what is wrong with an option.

    max_epochs : epochs at most
    batch_size : cells of a step
    learning_rate : rate of AdamW, at the start
    weight_decay : AdamW's decay of the weights, in units of the rate
    validation_fraction : share of cells held out; with 0 the training loss takes its place
    patience : epochs without a better validation loss after which the learning rate is cut to 0.3
        of itself
    cuts : how often it is; when one more would be due, training stops. At each of these points the
        best weights so far come back if they beat the present ones by more than a standard error
        over the validation cells: a smaller lead is chance, and weights trained for longer at a
        lower rate are then the better ones
    warmup : epochs in which the module's `warmed` rises from 0 to 1: for the VAE, the share of the
        KL term's weight, without which a latent variable may be lost before it is of use; for the
        dependency network, the time before its index may have squares and products. The best
        weights are looked for after it
    schedule : "plateau", as above; or "one_cycle": the learning rate rises to its own over the
        first tenth of `max_epochs` and falls to 0 at their end (Smith and Topin, arXiv 1708.07120),
        without early stopping
    betas : memory of AdamW's averages of the gradient and of its square
    clip : largest norm of the gradient
    report : epochs from one printed line to the next; 0 for none
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
        whole = {"max_epochs": 1, "batch_size": 1, "patience": 1, "cuts": 0, "report": 0}
        for name, low in whole.items():
            checks.integer(name, getattr(self, name), low=low)
        checks.integer("warmup", self.warmup, low=0, high=self.max_epochs - 1)
        checks.choice("schedule", self.schedule, ("plateau", "one_cycle"))
        if len(checks.numbers("betas", self.betas, 0, 1 - 1e-9)) != 2:
            raise ValueError(f"betas = {self.betas!r}: must be two numbers")
        for name, low in {"learning_rate": 1e-12, "weight_decay": 0, "clip": 1e-12}.items():
            checks.number(name, getattr(self, name), low=low)
        checks.number("validation_fraction", self.validation_fraction, 0, 0.9)

    def rates(self, n_steps: int) -> list[float]:
        """The learning rate of each of so many steps of "one_cycle"."""
        total = max(3, n_steps)
        rise = max(0.1, 2 / total)  # a step up at least: torch divides by 0 without one
        top = self.learning_rate
        scratch = torch.optim.SGD([torch.zeros(())], lr=top)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            scratch, top, total_steps=total, pct_start=rise, cycle_momentum=False
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

    counts : (n_cells, n_genes), a tensor on the module's device, or what needn't fit there: a
        sparse matrix, or `minibatches.OnDisk`
    options : entries of `Options`

    Returns the history: epoch, train, validation (nats a cell), learning_rate. Raises
    DivergenceError where the loss isn't finite.
    """
    return _finished(One(module, Options(**options)), [counts], [seed])[0]


def fit_together(
    modules: list[Stackable], counts: list[torch.Tensor], *, seeds: Sequence, **options
) -> list[pd.DataFrame]:
    """As `fit`, of several modules of one kind and size at once, each with its own counts and seed.

    Their weights are stacked (torch.func), so that a step of all costs about as many calls as a
    step of one. Each ends where its own `fit` would have ended it, but for what rounding does to
    the last digits, which can grow in training.

    modules : networks of one configuration
    counts : counts of each, of as many cells each
    options : entries of `Options`

    Returns their histories. Where one diverges the error says which, and all hold the last good
    weights.
    """
    n_different = len({id(module) for module in modules})
    if not modules or not n_different == len(counts) == len(seeds) == len(modules):
        given = f"{len(modules)}, with {len(counts)} counts and {len(seeds)} seeds"
        raise ValueError(f"modules: {given}; must be as many of each, at least one, and none twice")
    unfit = [module for module in modules if not isinstance(module, Stackable)]
    if unfit or len({str(module.config) for module in modules}) > 1:
        allowed = "must be of one configuration, and of a kind whose noise can be given"
        raise ValueError(f"modules: {allowed}")
    return _finished(Stack(modules, Options(**options)), counts, seeds)


def _finished(models, counts, seeds):
    """Train; whatever ends it, the modules keep the weights come to, and are in evaluation mode."""
    try:
        return _fit(models, counts, seeds)
    finally:
        models.finish()


def _fit(models, counts, seeds):
    """Epoch after epoch, until the course of each model has ended."""
    options = models.options
    if models.device.type == "cpu":
        keep_freed_memory()
    courses = _courses(models, counts, seeds)
    n_steps = -(-len(courses[0].cells) // options.batch_size)
    is_cycle = options.schedule == "one_cycle"
    rates = options.rates(options.max_epochs * n_steps) if is_cycle else []
    running = courses
    for epoch in range(1, options.max_epochs + 1):
        models.train(min(1.0, (epoch - 1) / options.warmup) if options.warmup else 1.0)
        train, finite = _epoch(models, running, rates[(epoch - 1) * n_steps : epoch * n_steps])
        validation = _validation(models, running, train, finite)
        _check_divergence(models, running, epoch, train, finite, validation)
        for place, course in enumerate(running):
            course.note(epoch, train[place], validation[place], models.state(place))
            if epoch > options.warmup and not is_cycle and course.best_again():
                models.load(place, course.best)
        models.drop([place for place, course in enumerate(running) if course.ended])
        running = [course for course in running if not course.ended]
        if not running:
            break
    return [course.table() for course in courses]


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
    """One pass over the training cells.

    rates : learning rates of the steps, where they aren't the courses' own

    Returns the mean loss of each model, and whether all its losses and gradients were finite.
    """
    if rates:
        for course in running:
            course.rate = rates[0]
    models.set_rates([course.rate for course in running])
    size, noises = models.options.batch_size, [course.noise for course in running]
    each = (on_device(models.device, c.cells.minibatches(size, c.shuffle)) for c in running)
    total, norms, seen = 0.0, 0.0, 0
    for step, batches in enumerate(zip(*each, strict=True)):
        if rates:
            models.set_rates([rates[step]] * len(running))
        losses, norm = models.step(batches, noises)
        total = total + losses * len(batches[0])
        norms = norms + norm
        seen += len(batches[0])
        if models.device.type == "cpu" and not torch.isfinite(losses + norm).all():
            break  # on a GPU, to look would be to wait for it
    return (total / seen).tolist(), torch.isfinite(total + norms).tolist()


def _validation(models, running, train, finite):
    """The loss of each held-out cell for each model; without such cells, the training loss."""
    if len(running[0].held_out) and all(finite):
        return models.losses([c.held_out for c in running], [c.seed for c in running])
    return [torch.tensor([loss]) for loss in train]


def _check_divergence(models, running, epoch, train, finite, validation):
    """Give all models their last good weights and raise, if a loss or gradient isn't finite."""
    for place, course in enumerate(running):
        score = validation[place].mean().item()
        if finite[place] and math.isfinite(score):
            continue
        for other, its in enumerate(running):
            models.load(other, its.good)
        raise DivergenceError(epoch, score if finite[place] else train[place], course.name)


class _Course:
    """One model's training: its cells, its random streams, its rate, and what it has come to."""

    def __init__(self, name, cells, seed, state, models):
        self.name, self.seed, self.options = name, seed, models.options
        split = stream(seed, "validation split")
        self.cells, self.held_out = cells.split(self.options.validation_fraction, split)
        if len(self.cells) == 0:
            raise ValueError(f"counts: {len(cells)} cells leave none to train on")
        self.shuffle = stream(seed, "minibatches")
        self.noise = torch_generator(seed, "training noise", models.device)
        self.rate = self.options.learning_rate
        self.waited, self.cuts_left = 0, self.options.cuts
        self.good = self.best = state
        self.losses = self.best_losses = torch.full((1,), math.inf)
        self.history, self.ended = [], False

    def note(self, epoch, train, losses, state):
        """Keep what an epoch has come to: its weights, and the losses of the validation cells."""
        self.epoch, self.good, self.losses = epoch, state, losses
        validation = losses.mean().item() if len(self.held_out) else math.nan
        self.history.append((epoch, train, validation, self.rate))
        last, report = self.options.max_epochs, self.options.report
        if report and (epoch % report == 0 or epoch == last):
            where = f"epoch {epoch:3d}/{last}  train {train:.4f}"
            print(f"  {where}  validation {validation:.4f} nats a cell", flush=True)

    def best_again(self):
        """After an epoch: is it time for the best weights to come back?"""
        self.waited += 1
        if self.losses.mean() < self.best_losses.mean():
            self.best, self.best_losses, self.waited = self.good, self.losses, 0
        if self.waited < self.options.patience and self.epoch < self.options.max_epochs:
            return False
        self.ended = self.cuts_left == 0
        self.cuts_left, self.waited = self.cuts_left - 1, 0
        self.rate *= 1 if self.ended else 0.3
        lead = self.losses - self.best_losses
        return len(lead) > 1 and bool(lead.mean() > lead.std() / math.sqrt(len(lead)))

    def table(self):
        return pd.DataFrame(self.history, columns=["epoch", "train", "validation", "learning_rate"])
