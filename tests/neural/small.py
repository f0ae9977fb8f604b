"""Small networks, counts to train them on, and their laws computed by other means."""

import numpy as np
import scipy.stats
import torch

from lib import dataset, model


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def counts(n_cells=30, n_genes=4, seed=0):
    draws = np.random.default_rng(seed)
    return torch.as_tensor(
        draws.negative_binomial(2, 0.3, (n_cells, n_genes))
        * draws.integers(0, 2, (n_cells, n_genes)),
        dtype=torch.float32,
    )


def scipy_log_pmf(x, mu, theta, logit_pi):
    x, mu, theta, logit_pi = (t.detach().double().numpy() for t in (x, mu, theta, logit_pi))
    pi = 1 / (1 + np.exp(-logit_pi))
    nb = scipy.stats.nbinom.pmf(x, theta, theta / (theta + mu))
    return np.log((1 - pi) * nb + pi * (x == 0))


def vae(n_genes=4, seed=0, *, n_latent=2, n_hidden=16, **options):
    return model.ZINBVAE(n_genes, n_latent, n_hidden, generator=rng(seed), **options)


def dependency_network(n_genes=5, *, seed=0, **options):
    """A dependency network with weights at random, those that a gene may not have among them."""
    module = model.DependencyNetwork(n_genes, generator=rng(seed), **options)
    with torch.no_grad():
        module.weight.copy_(0.1 * torch.randn(module.weight.shape, generator=rng(seed + 1)))
        module.bias.copy_(torch.randn(n_genes, generator=rng(seed + 2)))
    return module


def terms_by_hand(module, cell):
    """(genes in a term, its value in a cell) for each term, by a loop."""
    inputs = module.inputs.tolist()
    alone = [({g}, cell[g]) for g in inputs]
    return alone + [
        ({inputs[a], inputs[b]}, cell[inputs[a]] * cell[inputs[b]])
        for a, b in module.pairs.T.tolist()
    ]


def link_by_hand(module, index, gene):
    """mu of one gene from its index, in double precision."""
    p = {
        k: v[gene].detach().double().numpy()
        for k, v in module.named_parameters()
        if k not in ("weight", "bias")
    }
    steps = 1 / (1 + np.exp(-np.exp(p["log_steep"]) * (index[:, None] - p["place"])))
    level, sharp = p["slope"] * index + steps @ p["height"], np.exp(p["log_sharp"])
    return (
        module.scale[gene].item()
        * (np.logaddexp(0, level * sharp) / sharp + np.exp(p["log_floor"]))
        + 1e-6
    )


def base_counts(n_cells=1500, n_genes=3, **options):
    return model.to_tensor(dataset.base_genes(n_cells, n_genes, 0.5, mu_range=(3, 10), **options).X)


def several(n=3, **options):
    """Networks of different initial weights, each with counts of its own genes."""
    counts = [base_counts(400, seed=seed) for seed in range(n)]
    modules = [vae(3, seed, **options) for seed in range(n)]
    for module, x in zip(modules, counts):
        module.start_at(x)
    return modules, counts


def weights_of(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same_weights(one, other):
    return all(torch.equal(one[k], other[k]) for k in one)
