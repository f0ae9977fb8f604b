"""One interface for every model: `fit(adata)`, then `predict(adata, gene)` gives one law a cell.

A predictor sees the counts of its `inputs`, by default all genes, and never that of the gene
that it predicts. One's own needs those two methods, no base class.
"""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import torch

from lib import checks, dataset, model, training, zinb
from lib.seeds import stream


class Predictor:
    """What the predictors share: which genes they may see."""

    def __init__(self, inputs: list[str] | None = None):
        self.inputs = inputs

    def fit(self, adata: ad.AnnData) -> Predictor:
        """Learn from the counts of `adata`. Returns itself."""
        raise NotImplementedError

    def predict(self, adata: ad.AnnData, gene: str) -> zinb.Law:
        """The law of `gene` in each cell, (n_cells,), from the other genes' counts."""
        raise NotImplementedError

    def features(self, adata: ad.AnnData, gene: str) -> np.ndarray:
        """Counts of the inputs other than `gene`, (n_cells, n_inputs), in the order of the training cells."""
        inputs = checks.genes("inputs", self.genes if self.inputs is None else self.inputs, list(adata.var_names))
        return dataset.dense(adata[:, [g for g in inputs if g != gene]].X).astype(float)


class Oracle(Predictor):
    """The true law: the floor of every distance."""

    def fit(self, adata):
        return self

    def predict(self, adata, gene):
        return dataset.law(adata, [gene])[:, 0]


class Marginal(Predictor):
    """The one constant law fitted to the gene in the training cells: skill 0."""

    def fit(self, adata):
        self.laws = dict(zip(adata.var_names, zinb.fit(adata.X)))
        return self

    def predict(self, adata, gene):
        checks.genes("gene", gene, list(self.laws))
        return zinb.ZINB(*(np.full(adata.n_obs, p) for p in (self.laws[gene].mu, self.laws[gene].theta, self.laws[gene].pi)))


class GeneByGene(Predictor):
    """A predictor that fits one regression a gene, when the gene is first asked for."""

    def fit(self, adata):
        self.train, self.genes, self.fitted = adata.copy(), list(adata.var_names), {}
        return self

    def predict(self, adata, gene):
        if gene not in self.fitted:
            checks.genes("gene", gene, self.genes)
            self.fitted[gene] = self.fit_gene(self.features(self.train, gene), _counts_of(self.train, gene))
        return self.fitted[gene](self.features(adata, gene))

    def fit_gene(self, x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], zinb.Law]:
        """From counts x (n_cells, n_inputs) and y (n_cells,), a function from counts x to laws."""
        raise NotImplementedError


class MeanRegression(GeneByGene):
    """A regression of the mean count from scikit-learn, with a ZINB law put around it.

    What such a regression estimates is the mean (1 - pi) mu, not mu. Constant theta and pi, and a
    floor of the mean, are then fitted by maximum likelihood to means predicted out of fold, since
    those of the fit itself are too close to the counts. `regressor` makes the estimator.
    """

    n_folds = 3

    def __init__(self, regressor: Callable, inputs: list[str] | None = None):
        super().__init__(inputs)
        self.regressor = regressor

    def fit_gene(self, x, y):
        from sklearn.model_selection import KFold, cross_val_predict

        folds = KFold(self.n_folds, shuffle=True, random_state=0)
        floor, theta, pi = law_around_mean(cross_val_predict(self.regressor(), x, y, cv=folds), y)
        fitted = self.regressor().fit(x, y)
        return lambda x: zinb.ZINB(np.maximum(fitted.predict(x), floor) / (1 - pi), theta, pi)


def ridge(inputs: list[str] | None = None) -> MeanRegression:
    """Ridge regression on counts, its penalty chosen by leave-one-out error."""
    from sklearn.linear_model import RidgeCV

    return MeanRegression(lambda: RidgeCV(np.logspace(-2, 4, 13)), inputs)


def neighbours(inputs: list[str] | None = None, n_neighbours: int = 50) -> MeanRegression:
    """Mean of the nearest training cells, by Euclidean distance of log1p counts."""
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    def regressor():
        return make_pipeline(FunctionTransformer(np.log1p), KNeighborsRegressor(n_neighbours, algorithm="brute"))

    return MeanRegression(regressor, inputs)


def boosting(inputs: list[str] | None = None) -> MeanRegression:
    """Gradient-boosted trees with Poisson loss, stopped early on held-out cells."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    def regressor():
        return HistGradientBoostingRegressor(
            loss="poisson", learning_rate=0.1, max_iter=300, max_leaf_nodes=15, early_stopping=True,
            n_iter_no_change=10, random_state=0,
        )  # fmt: skip

    return MeanRegression(regressor, inputs)


class ZINBRegression(GeneByGene):
    """Maximum likelihood of a ZINB with identity link: mu = max(floor, b + sum_i w_i x_i).

    theta and pi are constants of the gene. With a log link such a regression explodes on a truth
    that is linear.
    """

    def fit_gene(self, x, y):
        x, y = torch.as_tensor(x), torch.as_tensor(y)
        scale = x.std(0).clamp(min=1e-6)
        start = torch.zeros(x.shape[1] + 4, dtype=torch.float64)
        start[:4] = _basin(y)

        def mu_of(p, x):
            return torch.maximum(p[0] + x @ (p[4:] / scale), p[3].exp())

        p = maximise(lambda p: zinb.log_likelihood(y, mu_of(p, x), _theta(p[1]), p[2]).mean(), start, max_iter=120)
        return lambda x: model.to_law(mu_of(p, torch.as_tensor(x)), _theta(p[1]), p[2])


class VAE(Predictor):
    """The ZINB variational autoencoder as a predictor.

    Its encoder sees the inputs less the gene that it predicts; the prediction is the mixture of
    the decoded laws over `n_samples` draws from q(z | what it sees).

    leaky : leave the count of the predicted gene in the encoder's input, in training and in
        prediction. Not a prediction: it shows what such a score is worth
    vae_options, training_options : of `model.ZINBVAE` and `training.fit`
    """

    def __init__(self, inputs=None, *, leaky=False, n_samples=16, vae_options=None, training_options=None, device="auto", seed=0):
        super().__init__(inputs)
        self.leaky, self.n_samples = leaky, checks.integer("n_samples", n_samples, low=1)
        self.vae_options = {"hide": 0.0 if leaky else 0.1} | (vae_options or {})
        self.training_options, self.device, self.seed = training_options or {}, device, seed

    def fit(self, adata):
        self.genes = list(adata.var_names)
        inputs = None if self.leaky or self.inputs is None else [self.genes.index(g) for g in checks.genes("inputs", self.inputs, self.genes)]
        device = training.pick_device(self.device)
        start = training.torch_generator(self.seed, "initial weights")
        counts = model.to_tensor(adata.X, device)
        self.module = model.ZINBVAE(adata.n_vars, inputs=inputs, generator=start, **self.vae_options).to(device)
        self.module.start_at(counts)
        self.history = training.fit(self.module, counts, seed=self.seed, **self.training_options)
        return self

    @torch.no_grad()
    def predict(self, adata, gene):
        checks.same_genes("adata", adata, self.genes)
        column, device = self.genes.index(*checks.genes("gene", gene, self.genes)), self.module.is_input.device
        noise = training.torch_generator(self.seed, f"posterior samples for {gene}", device)
        parts = []
        for x in model.to_tensor(adata.X, device).split(4096):
            visible = self.module.visible(x).clone()
            if not self.leaky:
                visible[:, column] = 0
            mean, log_var = self.module.inference(x, visible)
            z = mean + torch.exp(0.5 * log_var) * torch.randn(self.n_samples, *mean.shape, generator=noise, device=device)
            parts.append([p[..., 0] for p in self.module.generative(z, [column])])
        return zinb.Mixture(model.to_law(*(torch.cat(p, dim=1) for p in zip(*parts))))

    @torch.no_grad()
    def reconstruct(self, adata) -> zinb.ZINB:
        """The law of every gene in every cell, (n_cells, n_genes), decoded at the posterior mean.

        The encoder sees every input, the gene itself too: what parameters the VAE has learned, no
        prediction.
        """
        checks.same_genes("adata", adata, self.genes)
        x = model.to_tensor(adata.X, self.module.is_input.device)
        parts = [self.module.generative(self.module.inference(b, self.module.visible(b))[0]) for b in x.split(4096)]
        return model.to_law(*(torch.cat(p) for p in zip(*parts)))

    @torch.no_grad()
    def generate(self, n_cells: int, seed=0) -> np.ndarray:
        """Counts of new cells, (n_cells, n_genes), with z drawn from the prior."""
        device = self.module.is_input.device
        noise = training.torch_generator(seed, "prior samples", device)
        z = torch.randn(checks.integer("n_cells", n_cells, low=1), self.module.n_latent, generator=noise, device=device)
        return model.to_law(*self.module.generative(z)).sample(stream(seed, "generated counts"))

    def save(self, path):
        """Write settings and weights, to be read by `load`."""
        training.save(self.module, path)

    def load(self, path, genes: list[str]) -> VAE:
        """Read what `save` wrote, of a model fitted to `genes`, in place of `fit`."""
        self.module, self.genes = training.load(model.ZINBVAE, path, self.device), list(genes)
        if self.module.config["n_genes"] != len(self.genes):
            raise ValueError(f"path = {str(path)!r}: a model of {self.module.config['n_genes']} genes, not of {len(self.genes)}")
        return self


def simple(inputs: list[str] | None = None) -> dict[str, Predictor]:
    """The oracle, the marginal and the simple baselines, by the keys of the tables."""
    return {
        "oracle": Oracle(inputs),
        "marginal": Marginal(inputs),
        "ridge": ridge(inputs),
        "neighbours": neighbours(inputs),
        "zinb_regression": ZINBRegression(inputs),
        "boosting": boosting(inputs),
    }


def variational(inputs: list[str] | None = None, *, leaky: bool = False, **options) -> dict[str, VAE]:
    """The VAE and its variants, by the keys of the tables. `options` as of `VAE`.

    vae : beta 1, the true ELBO
    vae_copying : beta 0.02, that of the proof of concept
    vae_conditional : trained on the masked genes given the others alone
    vae_leaky : as vae_copying, with the hidden count left in; only where `leaky`
    """
    variants = {
        "vae": VAE(inputs, vae_options={"beta": 1.0}, **options),
        "vae_copying": VAE(inputs, vae_options={"beta": 0.02}, **options),
        "vae_conditional": VAE(inputs, vae_options={"target": "hidden"}, **options),
    }
    return variants | ({"vae_leaky": VAE(inputs, leaky=True, vae_options={"beta": 0.02}, **options)} if leaky else {})


def law_around_mean(mean: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """The most likely (floor, theta, pi) of counts ~ ZINB(max(mean, floor) / (1 - pi), theta, pi).

    mean, counts : (n_cells,), the means predicted without having seen these counts
    """
    m, y = torch.as_tensor(np.asarray(mean, dtype=float)), torch.as_tensor(np.asarray(counts, dtype=float))
    start = _basin(y)[1:]
    start[2] = torch.log(0.1 * y.mean().clamp(min=1e-3))

    def log_likelihood(p):
        mu = torch.maximum(m, p[2].exp()) * (1 + torch.exp(p[1].clamp(max=12)))  # 1 / (1 - pi)
        return zinb.log_likelihood(y, mu, _theta(p[0]), p[1]).mean()

    p = maximise(log_likelihood, start, max_iter=50)
    return float(p[2].exp()), float(_theta(p[0])), float(torch.sigmoid(p[1].clamp(max=12)))


def maximise(function: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, max_iter: int = 200) -> torch.Tensor:
    """The parameters at which a differentiable function is largest, by L-BFGS from `start`."""
    p = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([p], max_iter=max_iter, tolerance_change=1e-9, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = -function(p)
        loss.backward()
        return loss

    optimiser.step(closure)
    return p.detach()


def _basin(y: torch.Tensor) -> torch.Tensor:
    """mu, log theta, logit pi, log floor from which a fit finds dropout rather than a small theta."""
    positive = y > 0
    mean = y.sum() / positive.sum().clamp(min=1)
    rate = (1 - positive.double().mean()).clamp(1e-3, 1 - 1e-3)
    return torch.stack([mean, torch.tensor(model.START_THETA, dtype=torch.float64).log(), torch.logit(rate), torch.log(0.1 * mean.clamp(min=1e-3))])


def _theta(log_theta: torch.Tensor) -> torch.Tensor:
    return torch.exp(log_theta.clamp(*model.LOG_THETA_RANGE))


def _counts_of(adata: ad.AnnData, gene: str) -> np.ndarray:
    return dataset.dense(adata[:, [gene]].X)[:, 0].astype(float)
