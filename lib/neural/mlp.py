"""The perceptron with ZINB heads."""

import torch
from torch import Generator, Tensor, nn

from lib import checks
from lib.laws.likelihood import log_likelihood
from lib.neural.layers import MaskedNetwork, Parameters, apply_to_visible, hidden_layers, initialise
from lib.neural.linear import Linear


class ZINBMLP(MaskedNetwork):
    """Supervised regression of all genes at once: a perceptron of visible counts with ZINB heads.

    It is trained on the likelihood of the genes that it doesn't see. Settings as of `ZINBVAE`.
    """

    needed = "it a gene to see, and one to predict"

    def __init__(
        self, n_genes: int, n_hidden: int = 128, inputs: list[int] | None = None, hide: float = 0.1,
        *, generator: Generator | None = None,
    ):  # fmt: skip
        super().__init__(n_genes, inputs, hide, must_hide=True)
        n_genes = self.n_genes
        n_hidden = checks.integer("n_hidden", n_hidden, low=1)
        self.config = dict(n_genes=n_genes, n_hidden=n_hidden, inputs=self.inputs, hide=self.hide)
        with torch.random.fork_rng(devices=[]):  # torch initialises by the global generator
            self.body = nn.Sequential(*hidden_layers(2 * n_genes, n_hidden, 2, normalised=True))
            self.heads = Linear(n_hidden, 3 * n_genes)  # raw mu, log theta, logit pi
        initialise(self, generator or torch.Generator().manual_seed(0))

    def forward(self, x: Tensor, visible: Tensor, genes=slice(None)) -> Parameters:
        """mu, theta and the logit of pi of some genes, each (n_cells, n_genes)."""
        return self.parameters_of(apply_to_visible(self.body, x, visible), genes)

    def noise(self, x: Tensor, generator: Generator) -> tuple[Tensor]:
        """Which counts are visible."""
        return (self.visible(x, generator),)

    def loss_given(self, x: Tensor, visible: Tensor) -> Tensor:
        """Negative log-likelihood of the genes that it doesn't see in each cell, (n_cells,)."""
        return -(log_likelihood(x, *self.forward(x, visible)) * (1 - visible)).sum(-1)
