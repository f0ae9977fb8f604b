"""Modules to train: one as it is (`One`), or several stacked (`Stack`), by the same calls.

Both take and return lists with an entry for each module that is still trained; its number there is
its place.
"""

import copy
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from lib.neural.base import Stackable, Trainable
from lib.neural.device import torch_generator
from lib.neural.minibatches import cells_of


class One:
    """One module, trained as it is."""

    def __init__(self, module: Trainable, options):
        self.module, self.options = module, options
        self.weights = list(module.parameters())
        self.device = self.weights[0].device
        how = {"betas": tuple(options.betas), "weight_decay": options.weight_decay, "fused": True}
        self.optimiser = torch.optim.AdamW(self.weights, lr=options.learning_rate, **how)

    def train(self, warmed):
        """To be called before each epoch, with the share of the warm-up that is over."""
        self.module.train()
        self.module.warmed = warmed

    def step(self, batches, noises, rates):
        """One step of each module at its rate.

        Returns the loss of its batch and the norm of the gradient, each (n_modules,).
        """
        self.optimiser.param_groups[0]["lr"] = rates[0]
        loss = self.module.loss(batches[0], noises[0]).mean()
        for weight in self.weights:
            weight.grad = None
        loss.backward()
        norm = nn.utils.get_total_norm([w.grad for w in self.weights if w.grad is not None])
        # on a GPU, to look whether it must be clipped would be to wait for it
        if self.device.type != "cpu" or norm > self.options.clip:
            nn.utils.clip_grads_with_norm_(self.weights, self.options.clip, norm)
        self.optimiser.step()
        return loss.detach()[None], norm[None]

    def losses(self, cells, seeds):
        """The loss of each of its cells for each module, with the same noise at each call."""
        return [losses_of(self.module, cells[0], seeds[0])]

    def state(self, place):
        """A copy of a module's weights."""
        return copy.deepcopy(self.module.state_dict())

    def load(self, place, state):
        """Put weights back that `state` has copied."""
        self.module.load_state_dict(state)

    def drop(self, places):
        """Train some modules no longer. The others take their places."""

    def close(self):
        """Leave all modules with the weights come to, and in evaluation mode."""
        self.module.eval()


class Stack:
    """Several modules, their weights stacked along a first axis; the methods are those in `One`."""

    def __init__(self, modules: list[Stackable], options):
        self.modules, self.options = list(modules), options
        self.device = next(modules[0].parameters()).device
        for module in self.modules:
            module.train()
        parameters, buffers = torch.func.stack_module_state(self.modules)
        stacked = parameters | buffers
        self.weights = {name: w for name, w in stacked.items() if w.requires_grad}
        self.fixed = {name: w for name, w in stacked.items() if not w.requires_grad}
        self.first = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        self.second = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        self.n_steps = 0
        self.shared = copy.deepcopy(modules[0])
        self.all_losses = torch.func.vmap(self._losses_of_one)

    def train(self, warmed):
        self.shared.train()
        self.shared.warmed = warmed

    def step(self, batches, noises, rates):
        losses = self._losses(batches, noises).mean(1)
        gradients = torch.autograd.grad(losses.sum(), list(self.weights.values()))
        norm = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        rates = torch.tensor(rates, pin_memory=self.device.type == "cuda").to(
            self.device, non_blocking=True
        )
        self._update(gradients, (self.options.clip / (norm + 1e-6)).clamp(max=1), rates)
        return losses.detach(), norm

    @torch.no_grad()
    def _update(self, gradients, keep, rates):
        """AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2), with a rate a model.

        torch's has one rate a tensor, and with a group a model as many calls as models. Clipping
        leaves each model the share `keep` of its gradient.
        """
        self.n_steps += 1
        (b1, b2), decay = self.options.betas, self.options.weight_decay
        for (name, w), g in zip(self.weights.items(), gradients):
            keep_of_each, rate = (v.view(-1, *[1] * (w.ndim - 1)) for v in (keep, rates))
            g = g * keep_of_each
            first = self.first[name].lerp_(g, 1 - b1)
            second = self.second[name].mul_(b2).addcmul_(g, g, value=1 - b2)
            denominator = (second.sqrt() / math.sqrt(1 - b2**self.n_steps)).add_(1e-8)
            w.mul_(1 - rate * decay)
            w.sub_(rate / (1 - b1**self.n_steps) * (first / denominator))

    @torch.no_grad()
    def losses(self, cells, seeds):
        self.shared.eval()
        noises = [torch_generator(seed, "validation noise", self.device) for seed in seeds]
        each = zip(*(_in_order(self.device, c) for c in cells))
        losses = [self._losses(batches, noises) for batches in each]
        return list(torch.cat(losses, dim=1).double().cpu())

    def state(self, place):
        return {name: w[place].detach().clone() for name, w in (self.weights | self.fixed).items()}

    @torch.no_grad()
    def load(self, place, state):
        for name, w in (self.weights | self.fixed).items():
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
        for stacked in (self.weights, self.fixed, self.first, self.second):
            for name, w in stacked.items():
                stacked[name] = w[kept].requires_grad_(stacked is self.weights)

    def close(self):
        self.drop(list(range(len(self.modules))))

    def _losses(self, batches, noises):
        """The losses of all models, (n_models, n_cells)."""
        drawn = (self.shared.noise(x, generator) for x, generator in zip(batches, noises))
        noise = tuple(torch.stack(n) for n in zip(*drawn))
        return self.all_losses(self.weights, self.fixed, torch.stack(batches), noise)

    def _losses_of_one(self, weights, fixed, x, noise):
        named = {f"module.{name}": w for name, w in (weights | fixed).items()}
        return torch.func.functional_call(_Given(self.shared), (named,), (x, *noise))


class _Given(nn.Module):
    """A module's loss as a forward call, which is what torch.func calls."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return self.module.loss_given(*inputs)


@torch.no_grad()
def losses_of(module: Trainable, counts, seed: int | tuple[int, ...] = 0) -> Tensor:
    """The loss of each cell as in `training.fit`, (n_cells,) on the CPU, in double precision.

    The noise is the same at each call.
    """
    module.eval()
    device = next(module.parameters()).device
    noise = torch_generator(seed, "validation noise", device)
    losses = [module.loss(batch, noise) for batch in _in_order(device, cells_of(counts))]
    return torch.cat(losses).double().cpu()


def _in_order(device, cells):
    """All cells in order, so many at a time that their loss takes the memory of a minibatch."""
    return on_device(device, cells.minibatches(max(1, min(4096, 2**20 // cells.n_genes))))


def on_device(device: torch.device, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Batches on a device; those that are there already as they are."""
    return (batch.to(device, non_blocking=True) for batch in batches)
