"""The networks as models of conditional questions."""

import copy
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
    """What the networks share: fitting, and a file of weights."""

    kind: type  # of the module

    def __init__(
        self, inputs=None, *, module_options=None, training_options=None, device="auto", seed=0
    ):
        super().__init__(inputs)
        self.module_options, self.training_options = module_options or {}, training_options or {}
        self.device, self.seed = device, seed

    def fit(self, adata: ad.AnnData | minibatches.OnDisk):
        """Learn from counts in memory, or from those of a file that is never held in memory. Returns itself."""
        device = training.pick_device(self.device)
        if isinstance(adata, minibatches.OnDisk):
            self.genes, cells = adata.genes, adata
            start = next(adata.minibatches(_SAMPLE, stream(self.seed, "cells to start from"))).to(
                device
            )
        else:
            self.genes = list(adata.var_names)
            start = cells = model.to_tensor(adata.X, device)
        self.module, self.history = self.trained(start, self.seed, self.training_options, cells)
        return self

    def trained(
        self, counts: torch.Tensor, seed, options: dict, cells=None
    ) -> tuple[torch.nn.Module, pd.DataFrame]:
        """A new module that starts at `counts`, trained on them or on `cells`, and its history."""
        inputs = (
            None
            if self.inputs is None
            else [self.genes.index(g) for g in checks.genes("inputs", self.inputs, self.genes)]
        )
        start = training.torch_generator(seed, "initial weights")
        module = self.kind(
            len(self.genes), inputs=inputs, generator=start, **self.module_options
        ).to(counts.device)
        module.start_at(counts)
        return module, training.fit(
            module, counts if cells is None else cells, seed=seed, **options
        )

    def counts_of(self, adata) -> torch.Tensor:
        """The cells' counts on the network's device, their genes checked."""
        checks.same_genes("adata", adata, self.genes)
        return model.to_tensor(adata.X, next(self.module.parameters()).device)

    def column(self, gene: str) -> int:
        """The place of a gene among those fitted."""
        return self.genes.index(*checks.genes("gene", gene, self.genes))

    def save(self, path):
        """Write settings and weights, to be read by `load`."""
        training.save(self.module, path)

    def load(self, path, genes: list[str]):
        """Read what `save` wrote, of a model fitted to `genes`, in place of `fit`."""
        self.module, self.genes = training.load(self.kind, path, self.device), list(genes)
        n_genes = self.module.config["n_genes"]
        if n_genes != len(self.genes):
            raise ValueError(
                f"path = {str(path)!r}: a model of {n_genes} genes, not of {len(self.genes)}"
            )
        return self


class VAE(Network):
    """The ZINB variational autoencoder as a model.

    Its encoder sees the inputs less the gene that it predicts; the prediction is the mixture of the decoded laws over
    `n_samples` draws from q(z | what it sees).

    leaky : leave the count of the predicted gene in the encoder's input. Not a prediction: it shows what such a score
        is worth
    vae_options, training_options : others of `model.ZINBVAE`, and those of `training.fit`
    """

    kind = model.ZINBVAE

    def __init__(
        self, inputs=None, *, leaky=False, n_samples=16, beta=1.0, n_latent=10, target="all",
        vae_options=None, training_options=None, device="auto", seed=0,
    ):  # fmt: skip
        options = {
            "hide": 0.0 if leaky else 0.1,
            "beta": beta,
            "n_latent": n_latent,
            "target": target,
        }
        super().__init__(
            None if leaky else inputs, module_options=options | (vae_options or {}),
            training_options=training_options, device=device, seed=seed,
        )  # fmt: skip
        self.leaky, self.n_samples = leaky, checks.integer("n_samples", n_samples, low=1)

    @torch.no_grad()
    def law_of(self, cells, gene):
        counts, column = self.counts_of(cells), self.column(gene)
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
        return Mixture(model.to_law(*(torch.cat(p, dim=1) for p in zip(*parts))))

    @torch.no_grad()
    def reconstruct(self, adata) -> ZINB:
        """The law of every gene in every cell, (n_cells, n_genes), decoded at the posterior mean.

        The encoder sees every input, the gene itself too: what parameters the VAE has learned, no prediction.
        """
        vae = self.module
        parts = [
            vae.generative(vae.inference(x, vae.visible(x))[0])
            for x in self.counts_of(adata).split(4096)
        ]
        return model.to_law(*(torch.cat(p) for p in zip(*parts)))

    @torch.no_grad()
    def generate(self, n_cells: int, seed=0) -> np.ndarray:
        """Counts of new cells, (n_cells, n_genes), with z drawn from the prior."""
        device = self.module.is_input.device
        noise = training.torch_generator(seed, "prior samples", device)
        z = torch.randn(
            checks.integer("n_cells", n_cells, low=1),
            self.module.n_latent,
            generator=noise,
            device=device,
        )
        return model.to_law(*self.module.generative(z)).sample(stream(seed, "generated counts"))


class MLP(Network):
    """The supervised perceptron with ZINB heads as a model. `module_options` as of `model.ZINBMLP`."""

    kind = model.ZINBMLP

    @torch.no_grad()
    def law_of(self, cells, gene):
        counts, column = self.counts_of(cells), self.column(gene)
        visible = self.module.visible(counts).clone()
        visible[:, column] = 0
        return model.to_law(*self.module(counts, visible, [column]))[:, 0]


class DependencyNetworks(Network):
    """Three dependency networks (`model.DependencyNetwork`), of which each gene keeps the one that fits it best.

    The likelihood has more than one peak, and genes share no parameters. So each gene keeps one of three, by the
    extended Bayesian information criterion: one that is of first order for a third of its epochs, so that what a bent link can
    say isn't said by squares, which extrapolate otherwise; that one, trained on after a line search for terms that it
    missed, with a penalty weighed by what the cells tell of each term; and one of second order from the start, which
    must be better by `MARGIN` nats. Two are trained at a time, unless the environment has CORES=1.

    n_steps : steps of training from each of two starts, whatever the number of cells
    network_options, training_options : of `model.DependencyNetwork` and `training.fit`
    """

    kind = model.DependencyNetwork
    MARGIN = 10.0

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
        options = {
            "batch_size": 1024,
            "learning_rate": 2e-2,
            "betas": (0.9, 0.99),
            "schedule": "one_cycle",
        }
        options |= {"validation_fraction": 0.0} | (training_options or {})
        super().__init__(
            inputs,
            module_options=network_options,
            training_options=options,
            device=device,
            seed=seed,
        )
        self.n_steps = checks.integer("n_steps", n_steps, low=1)

    def fit(self, adata):
        if isinstance(adata, minibatches.OnDisk):
            raise ValueError(
                "adata: cells on disk; the dependency network must have all cells in memory"
            )
        self.genes = list(adata.var_names)
        counts, seed = model.to_tensor(adata.X, training.pick_device(self.device)), key(self.seed)
        steps_an_epoch = -(
            -adata.n_obs // checks.integer("batch_size", self.training_options["batch_size"], low=1)
        )
        epochs = self.training_options.get(
            "max_epochs", max(1, round(self.n_steps / steps_an_epoch))
        )
        options = self.training_options | {"max_epochs": epochs, "warmup": 0}

        def first_order_first():
            module, history = self.trained(counts, (*seed, 0), options | {"warmup": epochs // 3})
            weighed = copy.deepcopy(module)
            dependency_terms.weigh(weighed, counts)
            dependency_terms.search(weighed, counts)
            shorter = {
                "max_epochs": max(1, round(0.4 * epochs)),
                "learning_rate": 0.5 * options["learning_rate"],
            }
            return (
                module,
                history,
                weighed,
                training.fit(weighed, counts, seed=(*seed, 1), **(options | shorter)),
            )

        with ThreadPoolExecutor(
            1
        ) as beside:  # each has random streams of its own: the order in time is of no matter
            waiting = beside.submit(self.trained, counts, (*seed, 2), options)
            if os.environ.get("CORES") == "1":
                waiting.result()
            self.module, first, weighed, second = first_order_first()
            other, third = waiting.result()
        for rival, margin in ((weighed, 0.0), (other, self.MARGIN)):
            own, its = (dependency_terms.criterion(m, counts) for m in (self.module, rival))
            dependency_terms.adopt(self.module, rival, its < own - margin)
        history = pd.concat(
            [first, second, third], keys=["first", "weighed", "second"], names=["network"]
        )
        self.history = history.reset_index("network").reset_index(drop=True)
        noise = training.torch_generator(self.seed, "draws of the weights", counts.device)
        dependency_terms.settle(self.module, counts, noise)
        return self

    @torch.no_grad()
    def law_of(self, cells, gene):
        counts, column = self.counts_of(cells), self.column(gene)
        parts = [self.module.drawn(x, column) for x in counts.split(4096)]
        return Mixture(model.to_law(*(torch.cat(p, dim=1) for p in zip(*parts))))


class Ensemble(Conditional):
    """Several models that differ in their seed alone: the equal mixture of their laws.

    A deep ensemble (Lakshminarayanan et al. 2017) of `make(seed)`, with the seeds (*seed, 0), (*seed, 1), ...
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
    return Ensemble(
        lambda own: DependencyNetworks(inputs, n_steps=n_steps, device=device, seed=own),
        n_members,
        seed,
    )
