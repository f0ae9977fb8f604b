"""scVI as a model of conditional questions."""

from __future__ import annotations

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

_CELLS = 1024  # cells at a time, to bound memory


class ScVI(Conditional):
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
        self.n_samples, self.n_steps = (
            checks.integer("n_samples", n_samples, low=1),
            checks.integer("n_steps", n_steps, low=1),
        )
        self.max_epochs = checks.integer("max_epochs", max_epochs, low=1)
        self.model_options, self.training_options, self.device, self.seed = (
            model_options or {},
            training_options or {},
            device,
            seed,
        )

    def fit(self, adata):
        scvi = package("scvi")
        self.genes = list(adata.var_names)
        checks.genes("inputs", self.genes if self.inputs is None else self.inputs, self.genes)
        accelerator = {"cuda": "gpu"}.get(training.pick_device(self.device).type, "cpu")
        self.counts = dense(adata.X).astype(np.float32)
        cells = ad.AnnData(
            self.counts,
            obs=pd.DataFrame({"size_factor": 1.0}, index=adata.obs_names),
            var=pd.DataFrame(index=self.genes),
        )
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
        column = self.genes.index(*checks.genes("gene", gene, self.genes))
        hidden = [
            i
            for i, g in enumerate(self.genes)
            if i == column or (self.inputs is not None and g not in self.inputs)
        ]
        rng = stream(self.seed, f"hidden counts for {gene}")
        noise = training.torch_generator(
            self.seed, f"posterior samples of scVI for {gene}", self.scvi.module.device
        )
        parts, at = [], hidden.index(column)
        with apart(self.seed, "scVI's own draws, not used"):
            for first in range(0, adata.n_obs, _CELLS):
                x = np.repeat(
                    dense(adata.X[first : first + _CELLS]).astype(np.float32)[None],
                    self.n_samples,
                    axis=0,
                )
                x[..., hidden] = self.counts[rng.integers(len(self.counts), size=x.shape[:2])][
                    ..., hidden
                ]
                law = self._decoded(x, noise)[..., hidden]
                for _ in range(self.n_steps - 1):
                    x[..., hidden] = law.sample(rng)
                    law = self._decoded(x, noise)[..., hidden]
                parts.append(law[..., at])
        return Mixture(
            ZINB(
                *(
                    np.concatenate([getattr(law, p) for law in parts], axis=1)
                    for p in ("mu", "theta", "pi")
                )
            )
        )

    def _decoded(self, x, noise):
        """The law at one z ~ q(z | x) for each row of counts x (..., n_genes)."""
        module, rows = (
            self.scvi.module,
            model.to_tensor(x.reshape(-1, x.shape[-1]), self.scvi.module.device),
        )
        zero = torch.zeros(
            len(rows), 1, device=rows.device
        )  # the logarithm of the size factor; and the only batch
        q = module.inference(x=rows, batch_index=zero)["qz"]
        z = q.loc + q.scale * torch.randn(q.loc.shape, generator=noise, device=rows.device)
        px = module.generative(z=z, library=zero, batch_index=zero, size_factor=zero, y=zero)["px"]
        law = model.to_law(px.mu, px.theta.expand_as(px.mu), px.zi_logits)
        return ZINB(*(p.reshape(x.shape) for p in (law.mu, law.theta, law.pi)))
