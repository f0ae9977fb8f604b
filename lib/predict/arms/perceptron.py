"""A perceptron of an arm's effect."""

import copy

import numpy as np
import torch
from torch import nn

from lib import checks
from lib.neural.layers import initialise
from lib.predict.arms.regressions import FOLDS, OfLogs, known, mean_change, prior_of
from lib.seeds import stream
from lib.training import torch_generator

_MOST_STEPS, _PATIENCE = 1000, 30


class Perceptron(OfLogs):
    """A perceptron from the summed prior embedding of what is perturbed to the change of all genes.

    Changes, less their mean over arms, are those along their first principal components. It starts
    at no change from the mean, and training stops when arms that are held out are predicted no
    better. Prediction is the mean of five perceptrons, each with another fifth of the arms held
    out.

    n_hidden, n_components: hidden units; principal components
    weight_decay, learning_rate: of AdamW
    seed: of initial weights and the arms held out
    """

    def __init__(
        self, *, n_hidden: int = 64, n_components: int = 50, weight_decay: float = 0.1,
        learning_rate: float = 1e-3, seed=0,
    ):  # fmt: skip
        self.n_hidden = checks.integer("n_hidden", n_hidden, 1)
        self.n_components = checks.integer("n_components", n_components, 1)
        self.weight_decay = checks.number("weight_decay", weight_decay, 0)
        self.learning_rate = checks.number("learning_rate", learning_rate, 1e-9)
        self.seed = seed

    def learn(self, train):
        bulk, prior = self.bulk, prior_of(train)
        self.prior = prior / max(np.sqrt((prior**2).mean()), 1e-12)
        inputs = np.array([self._input(known(genes, bulk.genes)) for genes in bulk.arms["genes"]])
        if len(inputs) < FOLDS:
            raise ValueError(f"train: must have at least {FOLDS} arms")
        before = np.array([bulk.control_logs[name] for name in bulk.arms["cell_type"]])
        self.mean = mean_change(bulk)
        away = np.where(bulk.own(), 0, bulk.logs - before - self.mean)
        left, values, axes = np.linalg.svd(away, full_matrices=False)
        self.axes = axes[: self.n_components]
        targets = (left * values)[:, : self.n_components]
        self.unit = max(targets.std(), 1e-12)
        self.networks = self._trained(*map(_tensor, (inputs, targets / self.unit)))

    def _trained(self, inputs, targets):
        """A perceptron for each part of the arms that is held out."""
        order = stream(self.seed, "arms left out").permutation(len(inputs))
        networks = []
        for part in range(FOLDS):
            generator = torch_generator(self.seed, f"perceptron {part}")
            network = _perceptron(inputs.shape[1], self.n_hidden, targets.shape[1], generator)
            out = torch.as_tensor(np.isin(np.arange(len(order)), order[part::FOLDS]))
            rates = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
            _stop_early(
                network,
                torch.optim.AdamW(network.parameters(), **rates),
                (inputs[~out], targets[~out]),
                (inputs[out], targets[out]),
            )
            networks.append(network)
        return networks

    def _input(self, genes):
        return self.prior[[self.bulk.genes.index(gene) for gene in genes]].sum(axis=0)

    @torch.no_grad()
    def change(self, genes):
        given = _tensor(self._input(genes))
        found = torch.stack([network(given) for network in self.networks]).mean(dim=0)
        return self.mean + self.unit * found.double().numpy() @ self.axes


def _perceptron(n_inputs, n_hidden, n_outputs, generator):
    """A perceptron of one hidden layer, whose outputs are 0 at first."""
    with torch.random.fork_rng(devices=[]):  # torch initialises by the global generator
        layers = [nn.Linear(n_inputs, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_outputs)]
    network = nn.Sequential(*layers)
    initialise(network, generator)
    nn.init.zeros_(layers[-1].weight)
    return network


def _stop_early(network, optimiser, train, held_out):
    """Train until what is held out is predicted no better; keep the weights that do it best."""
    best, kept, waited = np.inf, None, 0
    for _ in range(_MOST_STEPS):
        with torch.no_grad():
            loss = float(((network(held_out[0]) - held_out[1]) ** 2).mean())
        waited += 1
        if loss < best:
            best, kept, waited = loss, copy.deepcopy(network.state_dict()), 0
        if waited > _PATIENCE:
            break
        optimiser.zero_grad()
        ((network(train[0]) - train[1]) ** 2).mean().backward()
        optimiser.step()
    network.load_state_dict(kept)


def _tensor(values):
    return torch.as_tensor(values, dtype=torch.float32)
