"""Published models beside ours, behind the same interfaces: scVI and scGen, as their authors' packages have them.

Their packages are in an environment of their own, `./run_all.sh peers`, and are imported when one is fitted.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import random
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import torch

from lib import checks, dataset, model, predictors, response, training, zinb
from lib.seeds import stream

_QUIET = {"enable_progress_bar": False, "enable_model_summary": False}  # of lightning's trainer
_CELLS = 1024  # cells at a time, to bound memory


class ScVI(predictors.Predictor):
    """scVI (Lopez et al. 2018, Nature Methods 15) with the ZINB likelihood, as in scvi-tools.

    Every cell has the size factor 1, as in the simulation, so that mu is in counts. scVI has no mask:
    in training its encoder sees every gene, in prediction the gene that is predicted and those that
    aren't `inputs` are hidden. Zeros or means in their place would be cells such as it never saw;
    instead they are imputed by the model itself, by pseudo-Gibbs sampling (Rezende et al. 2014,
    arXiv 1401.4082, appendix F): hidden counts start as those of random training cells, then
    z ~ q(z | visible, hidden) and hidden ~ p(hidden | z) take turns. The prediction is the mixture of
    the laws decoded at the last z of `n_samples` such chains.

    n_steps : times that z is drawn in each chain
    max_epochs : of training, over the first 10 of which the weight of the KL term rises to 1
    model_options, training_options : of `scvi.model.SCVI` and its `train`; otherwise their defaults
    """

    def __init__(
        self, inputs=None, *, n_samples=16, n_steps=10, max_epochs=100, model_options=None, training_options=None, device="auto", seed=0
    ):
        super().__init__(inputs)
        self.n_samples, self.n_steps = checks.integer("n_samples", n_samples, low=1), checks.integer("n_steps", n_steps, low=1)
        self.max_epochs = checks.integer("max_epochs", max_epochs, low=1)
        self.model_options, self.training_options, self.device, self.seed = model_options or {}, training_options or {}, device, seed

    def fit(self, adata):
        scvi = _package("scvi")
        self.genes = list(adata.var_names)
        checks.genes("inputs", self.genes if self.inputs is None else self.inputs, self.genes)
        accelerator = {"cuda": "gpu"}.get(training.pick_device(self.device).type, "cpu")
        self.counts = dataset.dense(adata.X).astype(np.float32)
        cells = ad.AnnData(self.counts, obs=pd.DataFrame({"size_factor": 1.0}, index=adata.obs_names), var=pd.DataFrame(index=self.genes))
        with _apart(self.seed, "scVI"):
            scvi.model.SCVI.setup_anndata(cells, size_factor_key="size_factor")
            self.scvi = scvi.model.SCVI(cells, gene_likelihood="zinb", **self.model_options)
            plan = {"n_epochs_kl_warmup": 10} | self.training_options.get("plan_kwargs", {})
            self.scvi.train(
                max_epochs=self.max_epochs, accelerator=accelerator, devices=1, **(_QUIET | self.training_options | {"plan_kwargs": plan})
            )
        self.scvi.module.eval()
        self.history = pd.concat(self.scvi.history.values(), axis=1).astype(float)
        return self

    @torch.no_grad()
    def predict(self, adata, gene):
        checks.same_genes("adata", adata, self.genes)
        column = self.genes.index(*checks.genes("gene", gene, self.genes))
        hidden = [i for i, g in enumerate(self.genes) if i == column or (self.inputs is not None and g not in self.inputs)]
        rng = stream(self.seed, f"hidden counts for {gene}")
        noise = training.torch_generator(self.seed, f"posterior samples of scVI for {gene}", self.scvi.module.device)
        parts, at = [], hidden.index(column)
        with _apart(self.seed, "scVI's own draws, not used"):
            for first in range(0, adata.n_obs, _CELLS):
                x = np.repeat(dataset.dense(adata.X[first : first + _CELLS]).astype(np.float32)[None], self.n_samples, axis=0)
                x[..., hidden] = self.counts[rng.integers(len(self.counts), size=x.shape[:2])][..., hidden]
                law = self._decoded(x, noise)[..., hidden]
                for _ in range(self.n_steps - 1):
                    x[..., hidden] = law.sample(rng)
                    law = self._decoded(x, noise)[..., hidden]
                parts.append(law[..., at])
        return zinb.Mixture(zinb.ZINB(*(np.concatenate([getattr(law, p) for law in parts], axis=1) for p in ("mu", "theta", "pi"))))

    def _decoded(self, x, noise):
        """The law at one z ~ q(z | x) for each row of counts x (..., n_genes)."""
        module, rows = self.scvi.module, model.to_tensor(x.reshape(-1, x.shape[-1]), self.scvi.module.device)
        zero = torch.zeros(len(rows), 1, device=rows.device)  # the logarithm of the size factor; and the only batch
        q = module.inference(x=rows, batch_index=zero)["qz"]
        z = q.loc + q.scale * torch.randn(q.loc.shape, generator=noise, device=rows.device)
        px = module.generative(z=z, library=zero, batch_index=zero, size_factor=zero, y=zero)["px"]
        law = model.to_law(px.mu, px.theta.expand_as(px.mu), px.zi_logits)
        return zinb.ZINB(*(p.reshape(x.shape) for p in (law.mu, law.theta, law.pi)))


class ScGen:
    """scGen (Lotfollahi et al. 2019, Nature Methods 16), as in pertpy: `fit`, `predict` as in `lib.response`.

    It predicts no law but cells, one for each control cell: log1p expression decoded at the latent
    position of the control cell plus the effect. Score it by `excess_crps` and the mean; a count
    that was never drawn makes the KL infinite.

    The effect is the mean of the latent treated less that of the control cells, over the cell types seen
    both ways, each with the same weight. pertpy's own `predict` takes the mean over cells drawn with a
    generator that can't be seeded; this is what that mean estimates, with `restrict_arithmetic_to` these types.

    normalise : divide each cell's counts by their sum, times the median sum, before log1p, as scGen's
        authors recommend for sequenced cells; the predicted cell is given the control cell's sum. Off,
        since simulated cells have no library size, and what a drug does to the sum would be lost
    max_epochs : of training
    model_options, training_options : of `pertpy.tools.Scgen` and its `train`; otherwise their defaults
    """

    def __init__(self, *, normalise=False, max_epochs=100, model_options=None, training_options=None, seed=0):
        self.normalise, self.max_epochs = normalise, checks.integer("max_epochs", max_epochs, low=1)
        self.model_options, self.training_options, self.seed = model_options or {}, training_options or {}, seed

    def fit(self, adata):
        response._means(adata, np.zeros((adata.n_obs, 1)))  # says at once where there is no effect to learn
        scgen = _package("pertpy.tools").Scgen
        self.genes = list(adata.var_names)
        self.median_sum = float(np.median(dataset.dense(adata.X).sum(1)))
        with _apart(self.seed, "scGen"):
            cells = self._expression(adata)
            scgen.setup_anndata(cells, batch_key="drug", labels_key="cell_type")
            self.scgen = scgen(cells, **self.model_options)
            self.scgen.train(max_epochs=self.max_epochs, **(_QUIET | self.training_options))
            self.history = pd.concat(self.scgen.history.values(), axis=1).astype(float)
        self.effect = np.mean([after - before for before, after in response._means(adata, self.latent(adata))], axis=0)
        return self

    def latent(self, adata: ad.AnnData) -> np.ndarray:
        """Posterior mean of each cell, (n_cells, n_latent)."""
        checks.same_genes("control", adata, self.genes)
        with _apart(self.seed, "scGen's own draws, not used"):
            return np.asarray(self.scgen.get_latent_representation(self._expression(adata)), dtype=float)

    def predict(self, control):
        z = (self.latent(control) + self.effect).astype(np.float32)
        counts = np.expm1(np.asarray(self.scgen.module.as_bound().generative(z)["px"], dtype=float)) * self._scale(control)
        counts = np.maximum(counts, 0)
        # laws are of whole counts: rounded up or down at random, which leaves the mean where it is
        up = stream(self.seed, "scGen's counts rounded").random(counts.shape) < counts % 1
        return response.Cells(np.floor(counts) + up)

    def _expression(self, adata):
        """log1p expression, with the labels that scGen asks for."""
        labels = adata.obs[["drug", "cell_type"]].astype(str).astype("category")
        x = np.log1p(dataset.dense(adata.X) / self._scale(adata)).astype(np.float32)
        return ad.AnnData(x, obs=labels, var=pd.DataFrame(index=self.genes))

    def _scale(self, adata):
        sums = dataset.dense(adata.X).sum(1, keepdims=True)
        return np.where(sums > 0, sums, self.median_sum) / self.median_sum if self.normalise else np.ones_like(sums)


def peers(inputs: list[str] | None = None, **options) -> dict[str, predictors.Predictor]:
    """The published predictors of a gene, by the keys of the tables. `options` as of `ScVI`."""
    return {"scvi": ScVI(inputs, **options)}


def _package(name):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(f"{name.partition('.')[0]} can't be imported ({error}); ./run_all.sh peers installs what it needs") from None


@contextlib.contextmanager
def _apart(seed, purpose):
    """Run scvi-tools, which knows only global seeds, under one of its own, and leave all global state as it was."""
    settings = _package("scvi").settings
    was = random.getstate(), np.random.get_state(), settings.seed, os.environ.copy()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    loggers = {name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric", "scvi")}
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            for name in loggers:
                logging.getLogger(name).setLevel(logging.ERROR)
            settings.seed = int(stream(seed, purpose).integers(2**31))
            yield
    finally:
        random.setstate(was[0])
        np.random.set_state(was[1])
        settings._seed = was[2]  # its setter would seed everything again
        for name in ("XLA_FLAGS", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            os.environ.pop(name, None)
            if name in was[3]:
                os.environ[name] = was[3][name]
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)
