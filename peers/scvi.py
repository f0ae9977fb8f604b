"""scVI as a model of conditional questions."""

import anndata as ad
import numpy as np
import pandas as pd
import torch

from lib import checks, model, training
from lib.counts import dense
from lib.laws import ZINB, Mixture
from lib.predict.base import Conditional
from lib.seeds import stream
from peers.environment import QUIET, apart, package

_CELLS = 1024  # at a time, to bound memory


class ScVI(Conditional):
    """scVI (Lopez et al. 2018, Nature Methods 15) with the ZINB likelihood, as in scvi-tools.

    Every cell has the size factor 1, as in the simulation, so that mu is in counts. scVI has no
    mask: in training its encoder sees every gene. In prediction the gene that is predicted and the
    genes that aren't `inputs` are hidden. Zeros or means in their place would be cells such as it
    never saw. Instead the model itself imputes them, by pseudo-Gibbs sampling (Rezende et al. 2014,
    arXiv 1401.4082, appendix F): hidden counts start as those of random training cells, then
    z ~ q(z | visible, hidden) and hidden ~ p(hidden | z) take turns. The prediction is the mixture
    of the laws decoded at the last z of each chain.

    inputs: genes whose counts it may see, by default all
    n_samples: chains a cell
    n_steps: draws of z in each chain
    max_epochs: epochs of training; over the first 10 the weight of the KL term rises to 1
    model_options, training_options: arguments of `scvi.model.SCVI` and of its `train`
    """

    def __init__(
        self,
        inputs=None,
        *,
        n_samples=16,
        n_steps=10,
        max_epochs=100,
        model_options=None,
        training_options=None,
        device="auto",
        seed=0,
    ):
        super().__init__(inputs)
        self.n_samples = checks.integer("n_samples", n_samples, low=1)
        self.n_steps = checks.integer("n_steps", n_steps, low=1)
        self.max_epochs = checks.integer("max_epochs", max_epochs, low=1)
        self.model_options = model_options or {}
        self.training_options = training_options or {}
        self.device = device
        self.seed = seed

    def fit(self, adata):
        scvi = package("scvi")
        self.genes = list(adata.var_names)
        checks.genes("inputs", self.genes if self.inputs is None else self.inputs, self.genes)
        accelerator = {"cuda": "gpu"}.get(training.pick_device(self.device).type, "cpu")
        self.counts = dense(adata.X).astype(np.float32)
        obs = pd.DataFrame({"size_factor": 1.0}, index=adata.obs_names)
        cells = ad.AnnData(self.counts, obs=obs, var=pd.DataFrame(index=self.genes))
        with apart(self.seed, "scVI"):
            scvi.model.SCVI.setup_anndata(cells, size_factor_key="size_factor")
            self.scvi = scvi.model.SCVI(cells, gene_likelihood="zinb", **self.model_options)
            plan = {"n_epochs_kl_warmup": 10} | self.training_options.get("plan_kwargs", {})
            self.scvi.train(
                max_epochs=self.max_epochs,
                accelerator=accelerator,
                devices=1,
                **(QUIET | self.training_options | {"plan_kwargs": plan}),
            )
        self.scvi.module.eval()
        self.history = pd.concat(self.scvi.history.values(), axis=1).astype(float)
        return self

    @torch.no_grad()
    def law_of(self, adata, gene):
        checks.same_genes("adata", adata, self.genes)
        checks.genes("gene", gene, self.genes)
        shown = {*(self.genes if self.inputs is None else self.inputs)} - {gene}
        hidden = [i for i, g in enumerate(self.genes) if g not in shown]
        place = hidden.index(self.genes.index(gene))
        rng = stream(self.seed, f"hidden counts for {gene}")
        purpose = f"posterior samples of scVI for {gene}"
        noise = training.torch_generator(self.seed, purpose, self.scvi.module.device)
        parts = []
        with apart(self.seed, "scVI's own draws, not used"):
            for first in range(0, adata.n_obs, _CELLS):
                block = dense(adata.X[first : first + _CELLS]).astype(np.float32)
                x = np.repeat(block[None], self.n_samples, axis=0)
                start = self.counts[rng.integers(len(self.counts), size=x.shape[:2])]
                x[..., hidden] = start[..., hidden]
                law = self._decoded(x, noise)[..., hidden]
                for _ in range(self.n_steps - 1):
                    x[..., hidden] = law.sample(rng)
                    law = self._decoded(x, noise)[..., hidden]
                law = law[..., place]
                parts.append((law.mu, law.theta, law.pi))
        return Mixture(ZINB(*(np.concatenate(p, axis=1) for p in zip(*parts))))

    def _decoded(self, x, noise):
        """The law at one z ~ q(z | x) for each row of counts x (..., n_genes)."""
        module = self.scvi.module
        rows = model.to_tensor(x.reshape(-1, x.shape[-1]), module.device)
        # the logarithm of the size factor, and the only batch
        zero = torch.zeros(len(rows), 1, device=rows.device)
        q = module.inference(x=rows, batch_index=zero)["qz"]
        z = q.loc + q.scale * torch.randn(q.loc.shape, generator=noise, device=rows.device)
        px = module.generative(z=z, library=zero, batch_index=zero, size_factor=zero, y=zero)["px"]
        law = model.to_law(px.mu, px.theta.expand_as(px.mu), px.zi_logits)
        return ZINB(*(p.reshape(x.shape) for p in (law.mu, law.theta, law.pi)))
