"""One training loop for every network: minibatches, early stopping, and a stop at divergence."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from lib import checks
from lib.seeds import stream


class DivergenceError(RuntimeError):
    """The loss is no longer finite. `epoch` says where; the network holds the last good weights."""

    def __init__(self, epoch: int, loss: float):
        super().__init__(f"training diverged at epoch {epoch}: loss = {loss}; the weights are those of epoch {epoch - 1}")
        self.epoch = epoch


def pick_device(device: str = "auto") -> torch.device:
    """"auto" takes CUDA if there is one. Raises ValueError for CUDA where there is none."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device = {device!r}: must be auto, cpu or cuda") from None
    if picked.type not in ("cpu", "cuda"):
        raise ValueError(f"device = {device!r}: must be auto, cpu or cuda")
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device = {device!r}: this machine has no CUDA device; allowed are auto and cpu")
    return picked


def torch_generator(seed: int | tuple[int, ...], purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator with a stream of its own for each purpose."""
    return torch.Generator(device=device).manual_seed(int(stream(seed, purpose).integers(2**62)))


def fit(
    module: nn.Module,
    counts: torch.Tensor,
    *,
    max_epochs: int = 100,
    batch_size: int = 512,
    learning_rate: float = 1e-2,
    weight_decay: float = 0.0,
    validation_fraction: float = 0.05,
    patience: int = 6,
    cuts: int = 3,
    warmup: int = 0,
    schedule: str = "plateau",
    betas: tuple[float, float] = (0.9, 0.999),
    clip: float = 10.0,
    seed: int | tuple[int, ...] = 0,
    report: int = 0,
) -> pd.DataFrame:
    """Minimise `module.loss(batch, generator)`, a loss for each cell, over minibatches.

    counts : (n_cells, n_genes), on the module's device
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

    Returns the history: epoch, train, validation (nats a cell), learning_rate. Raises DivergenceError where the loss isn't finite.
    """
    checks.integer("max_epochs", max_epochs, low=1)
    checks.integer("batch_size", batch_size, low=1)
    checks.integer("patience", patience, low=1)
    checks.integer("cuts", cuts, low=0)
    checks.integer("warmup", warmup, low=0, high=max_epochs - 1)
    checks.choice("schedule", schedule, ("plateau", "one_cycle"))
    if len(checks.numbers("betas", betas, 0, 1 - 1e-9)) != 2:
        raise ValueError(f"betas = {betas!r}: must be two numbers")
    checks.number("learning_rate", learning_rate, low=1e-12)
    checks.number("weight_decay", weight_decay, low=0)
    checks.number("clip", clip, low=1e-12)
    checks.number("validation_fraction", validation_fraction, 0, 0.9)
    device = counts.device
    order = torch.as_tensor(stream(seed, "validation split").permutation(len(counts)), device=device)
    n_validation = round(validation_fraction * len(counts))
    validation, train = counts[order[:n_validation]], counts[order[n_validation:]]
    if len(train) == 0:
        raise ValueError(f"counts: {len(counts)} cells leave none to train on")

    noise = torch_generator(seed, "training noise", device)
    shuffle = stream(seed, "minibatches")
    optimiser = torch.optim.AdamW(module.parameters(), lr=learning_rate, betas=tuple(betas), weight_decay=weight_decay)
    one_cycle = None
    if schedule == "one_cycle":
        n_steps = max(3, max_epochs * -(-len(train) // batch_size))
        rise = max(0.1, 2 / n_steps)  # at least a step up and one down: torch divides by 0 where the rise is none
        one_cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=n_steps, pct_start=rise, cycle_momentum=False)
    history, waited, cuts_left = [], 0, cuts
    best = good = copy.deepcopy(module.state_dict())
    best_losses = torch.full((max(n_validation, 1),), math.inf)
    for epoch in range(1, max_epochs + 1):
        module.train()
        module.warmed = min(1.0, (epoch - 1) / warmup) if warmup else 1.0
        total, rate = torch.zeros((), device=device), optimiser.param_groups[0]["lr"]
        for rows in torch.as_tensor(shuffle.permutation(len(train)), device=device).split(batch_size):
            loss = module.loss(train[rows], noise).mean()
            optimiser.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(module.parameters(), clip)
            if not torch.isfinite(norm + loss):  # a bad step must not reach the weights
                module.load_state_dict(good)
                raise DivergenceError(epoch, loss.item())
            optimiser.step()
            if one_cycle:
                one_cycle.step()
            total += loss.detach() * len(rows)
        train_loss = total.item() / len(train)
        losses = losses_of(module, validation, seed) if n_validation else torch.tensor([train_loss])
        score = losses.mean().item()
        if not math.isfinite(score):
            module.load_state_dict(good)
            raise DivergenceError(epoch, score)
        good = copy.deepcopy(module.state_dict())
        history.append((epoch, train_loss, score if n_validation else math.nan, rate))
        if report and (epoch % report == 0 or epoch == max_epochs):
            print(f"  epoch {epoch:3d}/{max_epochs}  train {train_loss:.4f}  validation {history[-1][2]:.4f} nats a cell", flush=True)
        if epoch <= warmup or one_cycle:
            continue
        waited += 1
        if score < best_losses.mean().item():
            best, best_losses, waited = good, losses, 0
        if waited < patience and epoch < max_epochs:
            continue
        lead = losses - best_losses
        if n_validation > 1 and lead.mean() > lead.std() / math.sqrt(n_validation):
            module.load_state_dict(best)
        if cuts_left == 0:
            break
        cuts_left, waited = cuts_left - 1, 0
        optimiser.param_groups[0]["lr"] *= 0.3
    module.eval()
    return pd.DataFrame(history, columns=["epoch", "train", "validation", "learning_rate"])


@torch.no_grad()
def losses_of(module: nn.Module, counts: torch.Tensor, seed: int | tuple[int, ...] = 0) -> torch.Tensor:
    """The loss of each cell, (n_cells,) on the CPU, with the same noise at each call."""
    module.eval()
    noise = torch_generator(seed, "validation noise", counts.device)
    return torch.cat([module.loss(batch, noise) for batch in counts.split(4096)]).double().cpu()


def save(module: nn.Module, path: str | Path) -> None:
    """Write a network's settings and weights, nothing else; a whole file or none."""
    scratch = Path(f"{path}.part")
    torch.save({"config": module.config, "weights": module.state_dict()}, scratch)
    os.replace(scratch, path)


def load(kind: type[nn.Module], path: str | Path, device: str = "auto") -> nn.Module:
    """Read what `save` wrote. Only tensors and plain values are unpickled.

    kind : the network's class, such as `ZINBVAE`. Raises ValueError for a file that isn't one.
    """
    picked = pick_device(device)
    try:
        saved = torch.load(path, map_location=picked, weights_only=True)
        module = kind(**saved["config"])
        module.load_state_dict(saved["weights"])
    except FileNotFoundError:
        raise ValueError(f"path = {str(path)!r}: no such file") from None
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"path = {str(path)!r}: no readable checkpoint of {kind.__name__} ({reason})") from None
    return module.to(picked).eval()
