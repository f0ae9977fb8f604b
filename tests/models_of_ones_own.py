"""Models that a user might write, good and bad, named by import strings in the tests."""

import numpy as np
import scipy.stats
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import NearestNeighbors

from lib import dataset
from lib.laws import ZINB, Empirical, Law, Mixture, maximum_likelihood


class MyModel:
    """Counts of a gene in the 50 training cells that are most like a cell in the other genes."""

    def __init__(self, inputs=None):  # the genes that it may look at
        self.inputs = inputs

    def fit(self, adata):
        self.train = adata.copy()
        return self

    def predict(self, adata, gene):
        # never the gene itself
        others = [g for g in self.inputs or self.train.var_names if g != gene]
        nearest = NearestNeighbors(n_neighbors=50).fit(np.log1p(self.train[:, others].X.toarray()))
        rows = nearest.kneighbors(np.log1p(adata[:, others].X.toarray()), return_distance=False)
        return self.train[:, gene].X.toarray()[:, 0][rows]  # (cells, 50): draws


class _Own:
    """What the others share. Its constructor takes no inputs."""

    def fit(self, adata):
        self.train = adata.copy()
        return self

    def counts(self, gene):
        return _counts(self.train, gene)


class Means(_Own):
    """Least squares on the other genes: one mean a cell."""

    def predict(self, adata, gene):
        others = [g for g in self.train.var_names if g != gene]
        regression = LinearRegression().fit(self.train[:, others].X.toarray(), self.counts(gene))
        return regression.predict(adata[:, others].X.toarray()).clip(min=0)


class ALaw(Means):
    """The same means, with the theta and pi of the gene around them."""

    def predict(self, adata, gene):
        law = maximum_likelihood.fit(self.train[:, gene].X)
        means = np.maximum(super().predict(adata, gene), 0.01)
        return ZINB(means / (1 - law.pi), law.theta, law.pi)


class Sampler(_Own):
    """Training counts drawn anew at every call, without a seed: no leak."""

    def predict(self, adata, gene):
        return np.random.default_rng().choice(self.counts(gene), (adata.n_obs, 20))


class LeakySampler(Sampler):
    """As that one, but 4 of its 20 draws are the count that it should predict."""

    def predict(self, adata, gene):
        draws = super().predict(adata, gene)
        draws[:, :4] = _counts(adata, gene)[:, None]
        return draws


class OneSampleForAll(_Own):
    """One resample of the training counts a call, for all cells, without a seed: no leak."""

    def predict(self, adata, gene):
        draws = np.random.default_rng().choice(self.counts(gene), 20)
        return np.repeat(draws[None], adata.n_obs, axis=0)


class SinglePrecision(_Own):
    """A weighted sum of all counts less the gene's own, in 32 bits: no leak but of rounding."""

    def predict(self, adata, gene):
        x = adata.X.toarray().astype(np.float32)
        own = list(adata.var_names).index(gene)
        weights = np.linspace(0.1, 1.7, x.shape[1], dtype=np.float32)
        mean = x @ weights - x[:, own] * weights[own]
        return ZINB(np.maximum(mean, 0.5).astype(float), 2.0, 0.5)


class ReadsTheTruth(_Own):
    """Looks up what the simulator wrote down beside the counts."""

    def predict(self, adata, gene):
        return dataset.law(adata, [gene])[:, 0]


class TellsItsSeed(_Own):
    def __init__(self, inputs=None, seed=0):
        self.inputs, self.seed = inputs, seed

    def predict(self, adata, gene):
        return np.full(adata.n_obs, self.seed)


class DeclinesAll(_Own):
    def predict(self, adata, gene):
        raise NotImplementedError


class APoisson(Law):
    """A law of one's own: what the base class asks for, and no more."""

    def __init__(self, rate):
        self.rate, self.shape = np.asarray(rate, dtype=float), np.shape(rate)

    def __getitem__(self, index):
        return APoisson(self.rate[index])

    def log_prob(self, k):
        return scipy.stats.poisson.logpmf(k, self.rate)

    def cdf(self, k):
        return scipy.stats.poisson.cdf(k, self.rate)

    @property
    def mean(self):
        return self.rate

    def sample(self, rng, size=None):
        return rng.poisson(self.rate, size)


class ALawOfItsOwn(Means):
    def predict(self, adata, gene):
        return APoisson(np.maximum(super().predict(adata, gene), 0.01))


class DrugCells:
    """A model of a drug that returns treated cells of any type, whatever the control."""

    def __init__(self, seed):
        self.seed = seed

    def fit(self, adata):
        self.treated = adata[(adata.obs["drug"].astype(str) != "control").to_numpy()].X.toarray()
        return self

    def predict(self, control):
        return self.treated[np.random.default_rng(self.seed).integers(len(self.treated), size=50)]


class DrugMeans(DrugCells):
    """The means of these: no law and no cells."""

    def predict(self, control):
        return super().predict(control).mean(0)


class Declines(_Own):
    """Has no answer to cells that nothing was done to."""

    def predict(self, adata, gene):
        if "perturbed" not in adata.obs:
            raise NotImplementedError
        return np.ones(adata.n_obs)


class TakesAnything(_Own):
    """Whatever it is made with is what it predicts."""

    def __init__(self, prediction=None):
        self.prediction = prediction

    def predict(self, adata, gene):
        return self.prediction


class WrongShape(_Own):
    def predict(self, adata, gene):
        return np.ones((20, adata.n_obs))


class OneLawForAll(_Own):
    def predict(self, adata, gene):
        return ZINB(3.0, 1.0, 0.5)


class ReturnsNaN(_Own):
    def predict(self, adata, gene):
        return np.where(np.arange(adata.n_obs) == 1, np.nan, 2.0)


class NaNLaw(_Own):
    def predict(self, adata, gene):
        return ZINB(np.where(np.arange(adata.n_obs) == 1, np.nan, 2.0), 1.0, 0.5)


class NaNMixture(_Own):
    def predict(self, adata, gene):
        return Mixture(ZINB(np.ones((2, adata.n_obs)), np.array([[1.0], [np.nan]]), 0.5))


class Negative(_Own):
    def predict(self, adata, gene):
        return np.full((adata.n_obs, 5), -2)


class Fractional(_Own):
    def predict(self, adata, gene):
        return np.full((adata.n_obs, 5), 2.5)


class FractionalLaw(_Own):
    def predict(self, adata, gene):
        return Empirical(np.full((adata.n_obs, 5), 2.5))


class Infinite(_Own):
    def predict(self, adata, gene):
        return np.full(adata.n_obs, np.inf)


class Text(_Own):
    def predict(self, adata, gene):
        return "about three"


class Nothing(_Own):
    def predict(self, adata, gene):
        return None


class Leaky(_Own):
    """Copies the count that it should predict."""

    def predict(self, adata, gene):
        return np.repeat(_counts(adata, gene)[:, None], 3, axis=1)


class LeakyThroughTotal(MyModel):
    """Divides by the cell's total count, as is usual, and the hidden count is part of it."""

    def predict(self, adata, gene):
        total = adata.X.toarray().sum(1)
        return super().predict(adata, gene).mean(1) * total / self.train.X.toarray().sum(1).mean()


class LeakyZeros(_Own):
    """Knows of the hidden count only whether it is 0."""

    def predict(self, adata, gene):
        return (_counts(adata, gene) > 0).astype(float)


class LeakyAverage(_Own):
    """Knows the mean of the hidden counts alone."""

    def predict(self, adata, gene):
        return np.full(adata.n_obs, _counts(adata, gene).mean())


class ChangesItsCells(Means):
    """Transforms what it is given in place, as scanpy's `pp.log1p(adata)` does."""

    def fit(self, adata):
        adata.X.data = np.log1p(adata.X.data)
        return super().fit(adata)

    def predict(self, adata, gene):
        adata.X.data = np.log1p(adata.X.data)
        return super().predict(adata, gene)


class NeedsMore(_Own):
    def __init__(self, inputs, n_neighbours):
        self.inputs, self.n_neighbours = inputs, n_neighbours

    def predict(self, adata, gene):
        return np.ones(adata.n_obs)


class WithoutPredict:
    def fit(self, adata):
        return self


def a_function(adata):
    return adata


def _counts(adata, gene):
    return adata.X[:, [adata.var_names.get_loc(gene)]].toarray()[:, 0]  # faster than a view
