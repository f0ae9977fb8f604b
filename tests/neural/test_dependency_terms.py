import numpy as np
import scipy.stats
import torch

from lib import model, training
from lib.laws import maximum_likelihood
from lib.laws.likelihood import log_likelihood
from lib.neural import dependency_terms
from tests.agreement import scipy_pmf
from tests.neural.small import (
    counts,
    dependency_network,
    link_by_hand,
    rng,
    scipy_log_pmf,
    terms_by_hand,
)

torch.set_num_threads(1)


def test_criterion_is_the_extended_bic_of_the_weights_that_are_kept():
    module, x = dependency_network(4), counts(50, 4)
    module.start_at(x)
    members = [m for m, _ in terms_by_hand(module, x[0])]
    with torch.no_grad():
        module.weight.mul_((torch.rand(module.weight.shape, generator=rng(9)) < 0.5).float())
        module.weight[0, 1] = 0.005  # too small to be kept
        kept = module.weight.clone()
        kept[0, 1] = 0
    expected = []
    for gene in range(4):
        terms = [m for term, m in enumerate(members) if kept[term, gene] != 0 and gene not in m]
        n_products = 4 * 3 // 2  # of four inputs, however many were kept
        choices = [np.log(n_products if len(m) == 2 else 4) for m in terms]
        expected.append(len(terms) * 0.5 * np.log(50) + sum(choices))
    criterion = dependency_terms.criterion(module, x)
    with torch.no_grad():
        module.weight.copy_(kept)
    log_p = scipy_log_pmf(x, *module.link(module.index(x))).sum(0)
    np.testing.assert_allclose(criterion, np.array(expected) - log_p, rtol=1e-4)


def test_weighing_sets_the_penalty_by_the_standard_error_of_each_score():
    module, x = dependency_network(4, sparsity=0.7), counts(60, 4)
    module.start_at(x)
    step = 1e-3
    with torch.no_grad():
        index = module.index(x).double()
        up, down = (scipy_log_pmf(x, *module.link(index.float() + s)) for s in (step, -step))
    score = (up - down) / (2 * step)
    terms = module.terms(x).numpy()
    error = np.sqrt((terms[:, :, None] ** 2 * score[:, None, :] ** 2).mean(0) / 60)
    members = [m for m, _ in terms_by_hand(module, x[0])]
    order = np.array([0.5 if term < 4 else 1.0 for term in range(len(members))])[:, None]
    dependency_terms.weigh(module, x)
    np.testing.assert_allclose(
        module.penalty_of,
        0.7 * order * error * np.sqrt(2 * np.log(len(members))),
        rtol=2e-2,
        atol=1e-4,
    )


def test_the_search_finds_a_term_that_silences_a_gene_where_the_gradient_finds_none():
    """Gene 3 follows gene 0, and is silent in cells with both 1 and 2.

    Dropout hides that from the gradient.
    """
    draws = np.random.default_rng(7)
    x = draws.poisson(4, (4000, 4)) * (draws.random((4000, 4)) < 0.4)
    silent = (x[:, 1] > 0) & (x[:, 2] > 0)
    x[:, 3] = draws.poisson(np.where(silent, 0.05, 8 + 2 * x[:, 0])) * (draws.random(4000) < 0.2)
    x = torch.as_tensor(x, dtype=torch.float32)
    module = model.DependencyNetwork(4, inputs=[0, 1, 2], generator=rng())
    module.start_at(x)
    product = 6 + int(torch.where((module.pairs[:, 3:] == torch.tensor([[1], [2]])).all(0))[0])
    options = dict(
        max_epochs=60,
        batch_size=1000,
        learning_rate=2e-2,
        schedule="one_cycle",
        validation_fraction=0.0,
    )
    with torch.no_grad():
        module.weight[0, 3] = 0.3
    before = -log_likelihood(x, *module.link(module.index(x)))[:, 3].sum().item()
    weights = module.weight.detach().clone()
    assert dependency_terms.search(module, x) > 0
    changed = (module.weight != weights).nonzero().tolist()
    assert (
        [product, 3] in changed
        and {gene for _, gene in changed} == {3}
        and module.weight[product, 3] < 0
    )
    after = -log_likelihood(x, *module.link(module.index(x)))[:, 3].sum().item()
    assert before - after > 0.5 * np.log(4000) * len(changed)
    training.fit(module, x, **options)
    with torch.no_grad():
        mu = module.link(module.index(x))[0][:, 3]
    assert mu[torch.as_tensor(silent)].mean() < 2 < 6 < mu[torch.as_tensor(~silent)].mean()
    assert dependency_terms.search(module, x, n_steps=0) == 0


def test_adopting_takes_the_parameters_of_those_genes_alone():
    one, other = dependency_network(3, seed=1), dependency_network(3, seed=5)
    before = {name: p.clone() for name, p in one.named_parameters()}
    dependency_terms.adopt(one, other, torch.tensor([False, True, False]))
    for name, parameter in one.named_parameters():
        source = dict(other.named_parameters())[name]
        for gene in range(3):
            column = (slice(None), gene) if name == "weight" else gene
            assert torch.equal(parameter[column], (source if gene == 1 else before[name])[column])


def straight(slopes, n_cells, seed, n_draws=2):
    """Counts of an input and of genes with mu = 8 + slope * input, and the network of that law."""
    draws = np.random.default_rng(seed)
    first = draws.poisson(4, n_cells)
    mu = np.maximum(8 + np.outer(first, slopes), 0.1)
    x = np.column_stack(
        [first, draws.poisson(draws.gamma(20, mu / 20)) * (draws.random(mu.shape) > 0.2)]
    )
    x = torch.as_tensor(x, dtype=torch.float32)
    module = model.DependencyNetwork(x.shape[1], inputs=[0], n_draws=n_draws, n_units=1)
    module.start_at(x)
    with torch.no_grad():
        for parameter, value in (
            (module.height, 0),
            (module.log_floor, -20),
            (module.log_sharp, 5),
            (module.log_theta, np.log(20)),
        ):
            parameter.fill_(value)
        module.logit_pi.fill_(np.log(0.2 / 0.8))
        module.bias[1:] = 8 / module.scale[1:]
        module.weight[0, 1:] = torch.as_tensor(slopes) * module.spread[0] / module.scale[1:]
    return module, x


def test_settle_keeps_the_genes_whose_index_is_worth_its_parameters_by_bic():
    slopes = np.array([0.0, 0.06, 0.14, 0.2, 0.26, 0.32, 0.4, 0.8])
    module, x = straight(slopes, 1500, seed=2)
    fitted = maximum_likelihood.fit(x.numpy())
    each = zip(x.numpy().T, fitted.mu, fitted.theta, fitted.pi)
    constant = [np.log(scipy_pmf(*of_gene)).sum() for of_gene in each]
    gain = scipy_log_pmf(x, *module.link(module.index(x))).sum(0) - constant
    n_weights = (module.weight.abs() > 0.01).sum(0).numpy()
    worth = gain > 0.5 * np.log(1500) * (n_weights + 1 + 3)
    assert worth[-1] and not worth[1] and 1 < worth.sum() < 7  # of 8 that could depend on the input
    dependency_terms.settle(module, x, rng())
    np.testing.assert_array_equal((module.weight != 0).any(0), worth)


def test_settle_gives_genes_that_depend_on_nothing_the_maximum_likelihood_law():
    module, x = straight(np.array([0.0, 0.0, 3.0]), 800, seed=2)
    with torch.no_grad():
        module.height[:3] = 0.3  # so that the law isn't the right one before
        module.log_theta[:3] = 1.0
    dependency_terms.settle(module, x, rng())
    fitted = maximum_likelihood.fit(x.numpy())
    mu, theta, logit_pi = (p.detach().double().numpy() for p in module.link(module.index(x)))
    np.testing.assert_allclose(mu[:, :3], np.tile(fitted.mu[:3], (800, 1)), rtol=1e-5)
    np.testing.assert_allclose(np.log(theta[:3]), np.log(fitted.theta[:3]), atol=1e-4)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-logit_pi[:3])), fitted.pi[:3], rtol=1e-4, atol=1e-10
    )
    assert (module.weight != 0).any(0).tolist() == [False, False, False, True]
    for gene in range(3):  # under every draw
        np.testing.assert_allclose(module.drawn(x, gene)[0].detach(), fitted.mu[gene], rtol=1e-5)


def test_draws_scatter_around_the_estimate_as_the_information_in_the_cells_says():
    module, x = straight(np.array([1.5]), 500, seed=3, n_draws=8000)
    dependency_terms.settle(module, x, rng())
    assert (module.weight[:, 1] != 0).tolist() == [True, False]  # the input, not its square
    estimate = np.array([module.weight[0, 1].item(), module.bias[1].item()])
    draws = module.draws[:, [0, 2], 1].double().numpy()
    np.testing.assert_allclose(
        draws[:4000] + draws[4000:], np.tile(2 * estimate, (4000, 1)), atol=1e-5
    )
    assert (module.draws[:, 1] == 0).all() and (module.draws[:, :2, 0] == 0).all()
    first, own = x.double().numpy().T

    def log_p(w):
        mu = link_by_hand(module, w[0] * first / first.std(ddof=1) + w[1], 1)
        return np.log(0.8 * scipy.stats.nbinom.pmf(own, 20, 20 / (20 + mu)) + 0.2 * (own == 0))

    scores = np.array(
        [(log_p(estimate + h) - log_p(estimate - h)) / 2e-5 for h in 1e-5 * np.eye(2)]
    )
    expected = np.linalg.inv(scores @ scores.T + np.eye(2))  # with a prior of spread 1
    standard_error = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / 4000)
    np.testing.assert_array_less(np.abs(np.cov(draws[:4000].T) - expected), 5 * standard_error)


def test_a_law_drawn_is_the_link_of_the_index_under_the_drawn_weights():
    module, x = straight(np.array([1.5, -0.8]), 300, seed=4, n_draws=6)
    dependency_terms.settle(module, x, rng())
    mu, theta, logit_pi = (p.detach() for p in module.drawn(x, 2))
    assert mu.shape == theta.shape == logit_pi.shape == (6, 300)
    for draw in range(6):
        weight, square, bias = module.draws[draw, :, 2].double().numpy()
        assert square == 0
        first = x[:, 0].double().numpy()
        np.testing.assert_allclose(
            mu[draw], link_by_hand(module, weight * first / first.std(ddof=1) + bias, 2), rtol=1e-4
        )
