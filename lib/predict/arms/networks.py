"""Autoencoders of cells as models of arms: cells of an arm are drawn from what they decode."""

from typing import Self

import anndata as ad
import numpy as np
import torch

from lib import checks, model, training
from lib.counts import CONTROL, SEPARATOR
from lib.laws import ZINB
from lib.neural.conditional import ConditionalZINBVAE
from lib.predict import neural
from lib.predict.arms.answers import ArmCells
from lib.predict.arms.baselines import Effects, genes_of, own_log_fold
from lib.predict.arms.pseudobulk import ARM, Pseudobulk, labels_of
from lib.predict.arms.regressions import known, prior_of, refuse_other_strengths
from lib.predict.base import Query
from lib.seeds import stream

_TRAINING = {"max_epochs": 15, "schedule": "one_cycle", "learning_rate": 4e-3, "batch_size": 256}
_TRAINING |= {"warmup": 3, "validation_fraction": 0.0}
_DECAY = {"weight_decay": 0.1}  # against learning arms by heart


class LatentArithmetic:
    """scGen's latent arithmetic (Lotfollahi et al. 2019, Nature Methods 16) with a ZINB VAE.

    An arm's shift is the mean of q(z | cells of the arm) less that of q(z | controls of their cell
    type). It is added to z of each control cell in the query; of a pair the shifts are added, and
    an arm unseen in a cell type has the shift that it has in others. Cells are drawn from what is
    decoded.

    vae_options, training_options: arguments of `model.ZINBVAE` and of `training.fit`
    """

    def __init__(self, *, vae_options=None, training_options=None, device="auto", seed=0):
        self.vae = neural.VAE(
            vae_options={"hide": 0.0, "dispersion": "gene"} | (vae_options or {}),
            training_options=_TRAINING | (training_options or {}),
            device=device,
            seed=seed,
        )
        self.seed = seed

    def fit(self, train: ad.AnnData) -> Self:
        self.bulk = Pseudobulk.of(train)
        self.vae.fit(train)
        latent = self._posterior(train)[0].double().cpu().numpy()
        cells = labels_of(train)
        means = cells.assign(place=range(len(cells))).groupby(ARM)["place"]
        means = {key: latent[places].mean(axis=0) for key, places in means.apply(list).items()}
        before = {key[3]: mean for key, mean in means.items() if key[0] == CONTROL}
        arms = [tuple(row) for row in self.bulk.arms[ARM].itertuples(index=False)]
        shifts = np.array([means[arm] - before[arm[3]] for arm in arms])
        self.effects = Effects.of(self.bulk, shifts.reshape(len(arms), self.vae.module.n_latent))
        return self

    @torch.no_grad()
    def _posterior(self, cells):
        """Mean and log-variance of q(z | a cell), each (n_cells, n_latent)."""
        module, x = self.vae.module, self.vae.counts_of(cells)
        return module.inference(x, module.visible(x))

    @torch.no_grad()
    def predict(self, query: Query) -> ArmCells:
        what, cell_type = query.perturbation, query.cell_type
        refuse_other_strengths(self.bulk, what)
        shift = sum(self.effects.find(gene, what, cell_type) for gene in genes_of(what))
        mean, log_var = self._posterior(query.cells)
        z = sampled(mean, log_var, self.seed, what.name)
        z = z + torch.as_tensor(shift, dtype=z.dtype, device=z.device)
        law = model.to_law(*self.vae.module.generative(z))
        return drawn(law, query, stream(self.seed, f"counts of {what.name}"))


class ConditionalVAE:
    """A conditional VAE, told what was perturbed: `neural.conditional` has its formulas.

    Conditions of a cell are the prior embedding of what was perturbed, summed over its genes and
    multiplied by the log fold that the perturbation aims at, over that of a usual knockdown;
    whether anything was perturbed; and the cell type. Asked about an arm, it moves z of the control
    cells in the query as their prior moves, decodes it under the arm's conditions, and draws cells.

    vae_options, training_options: arguments of the module and of `training.fit`
    """

    def __init__(self, *, vae_options=None, training_options=None, device="auto", seed=0):
        self.vae_options = vae_options or {}
        self.training_options = _TRAINING | _DECAY | (training_options or {})
        self.device, self.seed = device, seed

    def fit(self, train: ad.AnnData) -> Self:
        prior = prior_of(train)
        self.prior = prior / max(np.sqrt((prior**2).sum(axis=1).mean()), 1e-12)
        self.genes = list(train.var_names)
        self.types = sorted(train.obs["cell_type"].astype(str).unique())
        code = labels_of(train)
        arm = code.groupby(ARM, sort=False).ngroup().to_numpy()
        rows = [self._condition(*row) for row in code.drop_duplicates().itertuples(index=False)]
        device = training.pick_device(self.device)
        counts = model.to_tensor(train.X, device)
        generator = training.torch_generator(self.seed, "initial weights")
        self.module = ConditionalZINBVAE(
            len(self.genes), len(rows[0]), generator=generator, **self.vae_options
        ).to(device)
        self.module.start_at(counts)
        given = torch.as_tensor(np.array(rows)[arm], dtype=torch.float32, device=device)
        cells = torch.cat([counts, given], dim=1)
        self.history = training.fit(self.module, cells, seed=self.seed, **self.training_options)
        return self

    def _condition(self, name, kind, strength, cell_type):
        """The numbers that tell an arm to the network."""
        if cell_type not in self.types:
            raise NotImplementedError(f"no cell of type {cell_type} was seen")
        of_type = np.isin(self.types, cell_type).astype(float)
        if name == CONTROL:
            return np.concatenate([np.zeros(self.prior.shape[1] + 1), of_type])
        places = [self.genes.index(gene) for gene in known(name.split(SEPARATOR), self.genes)]
        ratio = own_log_fold(kind, strength) / own_log_fold("knockdown", 0.8)
        return np.concatenate([ratio * self.prior[places].sum(axis=0), [1], of_type])

    @torch.no_grad()
    def predict(self, query: Query) -> ArmCells:
        checks.same_genes("control", query.cells, self.genes)
        what, cell_type, device = query.perturbation, query.cell_type, self.module.scale.device
        control = self._condition(CONTROL, "", 0, cell_type)
        arm = self._condition(what.name, what.perturbation_type, what.strength, cell_type)
        x = model.to_tensor(query.cells.X, device)
        before, after = (
            torch.as_tensor(c, dtype=torch.float32, device=device).expand(len(x), -1)
            for c in (control, arm)
        )
        mean, log_var = self.module.inference(x)
        z = sampled(mean, log_var, self.seed, what.name)
        z = z + self.module.centre(after) - self.module.centre(before)
        mu, theta, logit_pi = self.module.generative(z, after)
        law = model.to_law(mu, theta.expand_as(mu), logit_pi)
        return drawn(law, query, stream(self.seed, f"counts of {what.name}"))


def sampled(mean: torch.Tensor, log_var: torch.Tensor, seed, name: str) -> torch.Tensor:
    """z of cells from their normal posteriors, (n_cells, n_latent), by the stream of an arm."""
    noise = training.torch_generator(seed, f"cells of {name}", mean.device)
    normal = torch.randn(mean.shape, generator=noise, device=mean.device)
    return mean + torch.exp(0.5 * log_var) * normal


def drawn(law: ZINB, query: Query, rng: np.random.Generator) -> ArmCells:
    """Cells drawn from laws, whose sums are those expected: a gene's mean has no sampling noise.

    law: (n_cells, n_genes), of all genes
    """
    counts = np.ascontiguousarray(law.sample(rng).T)  # a row a gene
    means = np.ascontiguousarray(law.mean.T)
    n_more = np.round(means.sum(axis=1)).astype(np.int64) - counts.sum(axis=1)
    for its, mean, n in zip(counts, means, n_more):
        if n > 0:  # molecules for cells at random, by their means
            ends = mean.cumsum()
            np.add.at(its, np.searchsorted(ends, ends[-1] * rng.random(n), side="right"), 1)
        elif n < 0:  # molecules, each as likely as another, are taken away
            ends = its.cumsum()
            taken = rng.choice(ends[-1], -n, replace=False)
            np.subtract.at(its, np.searchsorted(ends, taken, side="right"), 1)
    return ArmCells(counts.T[:, query.cells.var_names.get_indexer(query.genes)].astype(float))
