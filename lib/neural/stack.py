"""Modules to train: one as it is, or several stacked."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from lib.neural.device import torch_generator
from lib.neural.minibatches import cells_of


class _One:
    """One module, trained as it is."""

    def __init__(self, module, options):
        self.module, self.options, self.device = module, options, next(module.parameters()).device
        self.optimiser = torch.optim.AdamW(
            module.parameters(), lr=options.learning_rate, betas=tuple(options.betas), weight_decay=options.weight_decay, fused=True
        )

    def train(self, warmed):
        self.module.train()
        self.module.warmed = warmed

    def set_rates(self, rates):
        self.optimiser.param_groups[0]["lr"] = rates[0]

    def step(self, batches, noises):
        loss = self.module.loss(batches[0], noises[0]).mean()
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.options.clip)
        self.optimiser.step()
        return loss.detach()[None], norm[None]

    def losses(self, cells, seeds):
        return [losses_of(self.module, cells[0], seeds[0])]

    def state(self, place):
        return copy.deepcopy(self.module.state_dict())

    def load(self, place, state):
        self.module.load_state_dict(state)

    def drop(self, places):
        pass

    def finish(self):
        self.module.eval()


class _Stack:
    """Several modules, their weights stacked along a first axis, with an AdamW whose rate differs between them."""

    def __init__(self, modules, options):
        self.modules, self.options, self.device = list(modules), options, next(modules[0].parameters()).device
        for module in self.modules:
            module.train()
        weights, buffers = torch.func.stack_module_state(self.modules)
        learned = {name for name, w in modules[0].named_parameters() if w.requires_grad}
        self.weights = {name: w.detach().requires_grad_() for name, w in weights.items() if name in learned}
        self.buffers = buffers | {name: w.detach() for name, w in weights.items() if name not in learned}
        self.first, self.second = ({name: torch.zeros_like(w) for name, w in self.weights.items()} for _ in range(2))
        self.shared, self.n_steps = copy.deepcopy(modules[0]), 0
        self.all_losses = torch.func.vmap(self._loss_of_one)

    def _loss_of_one(self, weights, buffers, x, noise):
        return torch.func.functional_call(_Given(self.shared), ({f"module.{k}": v for k, v in (weights | buffers).items()},), (x, *noise))

    def _losses(self, batches, noises):
        each = zip(*(self.shared.noise(x, generator) for x, generator in zip(batches, noises)))
        return self.all_losses(self.weights, self.buffers, torch.stack(batches), tuple(torch.stack(n) for n in each))

    def train(self, warmed):
        self.shared.train()
        self.shared.warmed = warmed

    def set_rates(self, rates):
        """One rate a model, on the device: a number of each step is moved there without waiting."""
        self.rates = torch.tensor(rates, pin_memory=self.device.type == "cuda").to(self.device, non_blocking=True)

    def step(self, batches, noises):
        losses = self._losses(batches, noises).mean(1)
        names, weights = zip(*self.weights.items())
        gradients = torch.autograd.grad(losses.sum(), weights)
        norm = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        keep = (self.options.clip / (norm + 1e-6)).clamp(max=1)
        self.n_steps += 1
        (b1, b2), decay = self.options.betas, self.options.weight_decay
        with torch.no_grad():
            for name, w, g in zip(names, weights, gradients):  # Loshchilov and Hutter (arXiv 1711.05101), algorithm 2
                of_each = lambda value, n=w.ndim: value.view(-1, *[1] * (n - 1))
                g = g * of_each(keep)
                first = self.first[name].lerp_(g, 1 - b1)
                second = self.second[name].mul_(b2).addcmul_(g, g, value=1 - b2)
                denominator = (second.sqrt() / math.sqrt(1 - b2**self.n_steps)).add_(1e-8)
                w.mul_(1 - of_each(self.rates) * decay).sub_(of_each(self.rates / (1 - b1**self.n_steps)) * (first / denominator))
        return losses.detach(), norm

    @torch.no_grad()
    def losses(self, cells, seeds):
        self.shared.eval()
        noises = [torch_generator(seed, "validation noise", self.device) for seed in seeds]
        each = zip(*(_in_order(self.device, c) for c in cells))
        return list(torch.cat([self._losses(batches, noises) for batches in each], dim=1).double().cpu())

    def state(self, place):
        return {name: w[place].detach().clone() for name, w in (self.weights | self.buffers).items()}

    @torch.no_grad()
    def load(self, place, state):
        for name, w in (self.weights | self.buffers).items():
            w[place] = state[name]

    @torch.no_grad()
    def drop(self, places):
        if not places:
            return
        for place in places:
            self.modules[place].load_state_dict(self.state(place))
            self.modules[place].eval()
        kept = [i for i in range(len(self.modules)) if i not in places]
        self.modules = [self.modules[i] for i in kept]
        for stacked in (self.weights, self.buffers, self.first, self.second):
            stacked.update({name: w[kept].requires_grad_(stacked is self.weights) for name, w in stacked.items()})

    def finish(self):
        self.drop(list(range(len(self.modules))))


class _Given(nn.Module):
    """A module's loss as a forward call, which is what torch.func calls."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return self.module.loss_given(*inputs)


@torch.no_grad()
def losses_of(module: nn.Module, counts: torch.Tensor, seed: int | tuple[int, ...] = 0) -> torch.Tensor:
    """The loss of each cell, (n_cells,) on the CPU, with the same noise at each call. counts : as in `fit`"""
    module.eval()
    device = next(module.parameters()).device
    noise = torch_generator(seed, "validation noise", device)
    return torch.cat([module.loss(batch, noise) for batch in _in_order(device, cells_of(counts))]).double().cpu()


def _in_order(device, cells):
    """All cells in order, on a device, so many at a time that what is computed of them doesn't outgrow that of minibatches."""
    return _on(device, cells.in_order(max(1, min(4096, 2**20 // cells.n_genes))))


def _on(device, batches):
    """Batches on a device; those that are there already as they are."""
    return (batch.to(device, non_blocking=True) for batch in batches)
