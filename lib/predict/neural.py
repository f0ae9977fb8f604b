"""The networks as models of conditional questions."""

import copy
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import anndata as ad
import numpy as np
import pandas as pd
import torch

from lib import checks, model, training
from lib.laws import ZINB, Mixture
from lib.neural import dependency_terms, minibatches
from lib.predict.base import Conditional
from lib.seeds import key, stream

_SAMPLE = 8192  # cells of a file from which a network starts


class Network(Conditional):
    """What the networks share: fitting, and a file of weights.

    inputs: genes whose counts it may see, by default all
    module_options: arguments of the module
    training_options: arguments of `training.fit`
    device: "auto", "cpu" or "cuda"
    seed: whole number, or several
    """

    kind: type  # class of the module

    def __init__(
        self, inputs=None, *, module_options=None, training_options=None, device="auto", seed=0
    ):
        super().__init__(inputs)
        self.module_options = module_options or {}
        self.training_options = training_options or {}
        self.device = device
        self.seed = seed

    def fit(self, adata: ad.AnnData | minibatches.OnDisk):
        """Learn from counts in memory, or in a file that is read in minibatches. Returns itself."""
        device = training.pick_device(self.device)
        if isinstance(adata, minibatches.OnDisk):
            self.genes, cells = adata.genes, adata
            sample = adata.minibatches(_SAMPLE, stream(self.seed, "cells to start from"))
            start = next(sample).to(device)
        else:
            self.genes = list(adata.var_names)
            start = cells = model.to_tensor(adata.X, device)
        self.module, self.history = self.trained(start, self.seed, self.training_options, cells)
        return self

    def trained(
        self, counts: torch.Tensor, seed, options: dict, cells=None
    ) -> tuple[torch.nn.Module, pd.DataFrame]:
        """A new module, trained, and its history.

        counts: (n_cells, n_genes), where the module starts
        cells: data that it is trained on, by default `counts`
        """
        inputs = self.inputs
        if inputs is not None:
            inputs = [self.genes.index(g) for g in checks.genes("inputs", inputs, self.genes)]
        noise = training.torch_generator(seed, "initial weights")
        module = self.kind(len(self.genes), inputs=inputs, generator=noise, **self.module_options)
        module = module.to(counts.device)
        module.start_at(counts)
        cells = counts if cells is None else cells
        return module, training.fit(module, cells, seed=seed, **options)

    def counts_of(self, adata) -> torch.Tensor:
        """The cells' counts on the network's device. Raises ValueError for other genes."""
        checks.same_genes("adata", adata, self.genes)
        return model.to_tensor(adata.X, next(self.module.parameters()).device)

    def column(self, gene: str) -> int:
        """The place of a gene among those fitted."""
        return self.genes.index(*checks.genes("gene", gene, self.genes))

    def save(self, path):
        """Write settings and weights to a file that `load` reads."""
        training.save(self.module, path)

    def load(self, path, genes: list[str]):
        """Read what `save` wrote, in place of `fit`. Returns itself.

        genes: names of the genes that the model was fitted to
        """
        self.module = training.load(self.kind, path, self.device)
        self.genes = list(genes)
        n_genes = self.module.config["n_genes"]
        if n_genes != len(self.genes):
            found = f"a model of {n_genes} genes, not of {len(self.genes)}"
            raise ValueError(f"path = {str(path)!r}: {found}")
        return self


class VAE(Network):
    """The ZINB variational autoencoder as a model.

    Its encoder sees the inputs less the gene that it predicts. The prediction is the mixture of the
    decoded laws over draws from q(z | what it sees).

    leaky: whether the encoder also sees the count of the predicted gene. Then it is no prediction,
        and shows what the score of a leak is worth
    n_samples: draws of z a cell
    beta, n_latent, target: arguments of `model.ZINBVAE`
    vae_options: its other arguments
    training_options: arguments of `training.fit`
    """

    kind = model.ZINBVAE

    def __init__(
        self, inputs=None, *, leaky=False, n_samples=16, beta=1.0, n_latent=10, target="all",
        vae_options=None, training_options=None, device="auto", seed=0,
    ):  # fmt: skip
        hide = 0.0 if leaky else 0.1
        options = {"hide": hide, "beta": beta, "n_latent": n_latent, "target": target}
        super().__init__(
            None if leaky else inputs,
            module_options=options | (vae_options or {}),
            training_options=training_options,
            device=device,
            seed=seed,
        )
        self.leaky = leaky
        self.n_samples = checks.integer("n_samples", n_samples, low=1)

    @torch.no_grad()
    def law_of(self, cells, gene):
        counts = self.counts_of(cells)
        column = self.column(gene)
        noise = training.torch_generator(self.seed, f"posterior samples for {gene}", counts.device)
        parts = []
        for x in counts.split(4096):
            visible = self.module.visible(x).clone()
            if not self.leaky:
                visible[:, column] = 0
            mean, log_var = self.module.inference(x, visible)
            deviations = torch.randn(self.n_samples, *mean.shape, generator=noise, device=x.device)
            z = mean + torch.exp(0.5 * log_var) * deviations
            parts.append([p[..., 0] for p in self.module.generative(z, [column])])
        return _mixture(parts)

    @torch.no_grad()
    def reconstruct(self, adata) -> ZINB:
        """The law of every gene in every cell, (n_cells, n_genes), decoded at the posterior mean.

        The encoder sees every input, the gene itself too. So this is no prediction: it shows which
        parameters the VAE has learned.
        """
        parts = []
        for x in self.counts_of(adata).split(4096):
            mean, _ = self.module.inference(x, self.module.visible(x))
            parts.append(self.module.generative(mean))
        return model.to_law(*(torch.cat(p) for p in zip(*parts)))

    @torch.no_grad()
    def generate(self, n_cells: int, seed=0) -> np.ndarray:
        """Counts of new cells, (n_cells, n_genes), with z drawn from the prior."""
        shape = (checks.integer("n_cells", n_cells, low=1), self.module.n_latent)
        device = self.module.is_input.device
        noise = training.torch_generator(seed, "prior samples", device)
        z = torch.randn(shape, generator=noise, device=device)
        return model.to_law(*self.module.generative(z)).sample(stream(seed, "generated counts"))


class MLP(Network):
    """The supervised perceptron with ZINB heads, `model.ZINBMLP`, as a model."""

    kind = model.ZINBMLP

    @torch.no_grad()
    def law_of(self, cells, gene):
        counts = self.counts_of(cells)
        column = self.column(gene)
        visible = self.module.visible(counts).clone()
        visible[:, column] = 0
        return model.to_law(*self.module(counts, visible, [column]))[:, 0]


class DependencyNetworks(Network):
    """Three dependency networks (`model.DependencyNetwork`); each gene keeps the best for it.

    The likelihood has more than one peak, and genes share no parameters. So each gene keeps one of
    three networks, by the extended Bayesian information criterion:

    first: of first order for a third of its epochs. So a bent link says what it can, and squares,
        which extrapolate differently, don't say it
    weighed: the first, trained further after a line search for terms that it missed. The penalty
        of a term is weighed by how much the cells tell about it
    second: of second order from the start; must be better by `MARGIN` nats

    Two are trained at a time, unless the environment has CORES=1.

    n_steps: training steps from each of the two starts, whatever the number of cells
    network_options: arguments of `model.DependencyNetwork`
    training_options: arguments of `training.fit`
    """

    kind = model.DependencyNetwork
    MARGIN = 10.0
    TRAINING = {
        "batch_size": 1024,
        "learning_rate": 2e-2,
        "betas": (0.9, 0.99),
        "schedule": "one_cycle",
        "validation_fraction": 0.0,
    }

    def __init__(
        self,
        inputs=None,
        *,
        n_steps=1500,
        network_options=None,
        training_options=None,
        device="auto",
        seed=0,
    ):
        super().__init__(
            inputs,
            module_options=network_options,
            training_options=self.TRAINING | (training_options or {}),
            device=device,
            seed=seed,
        )
        self.n_steps = checks.integer("n_steps", n_steps, low=1)

    def fit(self, adata):
        if isinstance(adata, minibatches.OnDisk):
            must = "the dependency network must have all cells in memory"
            raise ValueError(f"adata: cells on disk; {must}")
        self.genes = list(adata.var_names)
        counts = model.to_tensor(adata.X, training.pick_device(self.device))
        seed = key(self.seed)
        options = self.training_options | {"max_epochs": self._epochs(adata.n_obs), "warmup": 0}
        # each network has random streams of its own, so their order in time changes nothing
        with ThreadPoolExecutor(1) as beside:
            waiting = beside.submit(self.trained, counts, (*seed, 2), options)
            if os.environ.get("CORES") == "1":
                waiting.result()
            first, weighed, *histories = self._first_and_weighed(counts, seed, options)
            second, last = waiting.result()
        self.module = first
        for rival, margin in ((weighed, 0.0), (second, self.MARGIN)):
            own = dependency_terms.criterion(first, counts)
            others = dependency_terms.criterion(rival, counts)
            dependency_terms.adopt(first, rival, others < own - margin)
        names = ["first", "weighed", "second"]
        history = pd.concat([*histories, last], keys=names, names=["network"])
        self.history = history.reset_index("network").reset_index(drop=True)
        noise = training.torch_generator(self.seed, "draws of the weights", counts.device)
        dependency_terms.settle(first, counts, noise)
        return self

    def _epochs(self, n_cells):
        """Epochs that take `n_steps` steps."""
        size = checks.integer("batch_size", self.training_options["batch_size"], low=1)
        steps = math.ceil(n_cells / size)
        return self.training_options.get("max_epochs", max(1, round(self.n_steps / steps)))

    def _first_and_weighed(self, counts, seed, options):
        """The first two networks, and their histories."""
        epochs = options["max_epochs"]
        first, before = self.trained(counts, (*seed, 0), options | {"warmup": epochs // 3})
        weighed = copy.deepcopy(first)
        dependency_terms.weigh(weighed, counts)
        dependency_terms.search(weighed, counts)
        shorter = options | {
            "max_epochs": max(1, round(0.4 * epochs)),
            "learning_rate": 0.5 * options["learning_rate"],
        }
        after = training.fit(weighed, counts, seed=(*seed, 1), **shorter)
        return first, weighed, before, after

    @torch.no_grad()
    def law_of(self, cells, gene):
        column = self.column(gene)
        return _mixture([self.module.drawn(x, column) for x in self.counts_of(cells).split(4096)])


class Ensemble(Conditional):
    """Several models that differ in their seed alone: the equal mixture of their laws.

    A deep ensemble (Lakshminarayanan et al. 2017, NeurIPS).

    make: function from a seed to an unfitted model
    n_members: models
    seed: whole number, or several; the members' seeds are (*seed, 0), (*seed, 1), ...
    """

    def __init__(self, make: Callable, n_members: int = 5, seed: int | tuple[int, ...] = 0):
        super().__init__()
        n_members = checks.integer("n_members", n_members, low=1)
        self.members = [make((*key(seed), member)) for member in range(n_members)]

    def fit(self, train):
        for member in self.members:
            member.fit(train)
        return self

    def law_of(self, cells, gene):
        return Mixture.of([member.law_of(cells, gene) for member in self.members])


def dependency_ensemble(
    inputs=None, *, n_steps=1500, n_members=5, device="auto", seed=0
) -> Ensemble:
    """An ensemble of `DependencyNetworks`."""

    def make(own):
        return DependencyNetworks(inputs, n_steps=n_steps, device=device, seed=own)

    return Ensemble(make, n_members, seed)


def _mixture(parts):
    """The mixture of laws, from parameters (n_components, n_cells) of each block of cells."""
    return Mixture(model.to_law(*(torch.cat(p, dim=1) for p in zip(*parts))))
