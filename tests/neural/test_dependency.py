import numpy as np
import pytest
import torch

from lib import model, training
from lib.neural import dependency_terms
from tests.agreement import one_line
from tests.neural.small import (
    counts,
    dependency_network,
    link_by_hand,
    rng,
    scipy_log_pmf,
    terms_by_hand,
)

torch.set_num_threads(1)


@pytest.mark.parametrize(
    "options", [{}, {"inputs": [0, 2, 3]}, {"max_pairs": 7}, {"max_pairs": 0}], ids=str
)
def test_no_gene_is_in_its_own_index_and_every_input_is_in_the_others(options):
    module, x = dependency_network(**options), counts(n_genes=5)
    module.start_at(x)
    before = module.index(x)
    for gene in range(5):
        other = x.clone()
        other[:, gene] += 7
        after = module.index(other)
        assert torch.equal(before[:, gene], after[:, gene])
        others = [g for g in range(5) if g != gene]
        assert (before != after)[:, others].all() == (gene in module.inputs.tolist())


@pytest.mark.parametrize("options", [{}, {"inputs": [4, 1, 2]}, {"max_pairs": 6}], ids=str)
def test_index_is_a_sum_over_terms_in_units_of_their_spread(options):
    module, x = dependency_network(**options), counts(40, 5)
    module.start_at(x)
    values = np.array([[v.item() for _, v in terms_by_hand(module, cell)] for cell in x])
    spread, members = values.std(0, ddof=1), [m for m, _ in terms_by_hand(module, x[0])]
    expected = np.empty((40, 5))
    for gene in range(5):
        kept = [t for t, m in enumerate(members) if gene not in m]
        expected[:, gene] = module.bias[gene].item() + sum(
            module.weight[t, gene].item() * values[:, t] / spread[t] for t in kept
        )
    np.testing.assert_allclose(module.index(x).detach(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("max_pairs", "n_squares", "n_products"),
    [(400, 4, 6), (10, 4, 6), (6, 4, 2), (4, 4, 0), (3, 0, 0)],
)
def test_terms_are_inputs_squares_and_no_more_products_than_asked_for(
    max_pairs, n_squares, n_products
):
    module = dependency_network(6, inputs=[5, 0, 3, 2], max_pairs=max_pairs)
    module.start_at(counts(n_genes=6))
    pairs = [tuple(sorted(p)) for p in module.pairs.T.tolist()]
    assert len(set(pairs)) == len(pairs) == n_squares + n_products
    assert sum(a == b for a, b in pairs) == n_squares
    assert len(module.weight) == 4 + n_squares + n_products


def test_start_at_chooses_the_products_that_the_counts_of_other_genes_follow():
    draws = np.random.default_rng(3)
    x = draws.poisson(3, (1500, 10))
    x[:, 8], x[:, 9] = draws.poisson(x[:, 1] * x[:, 6]), draws.poisson(x[:, 2] * x[:, 3])
    module = model.DependencyNetwork(10, inputs=list(range(8)), max_pairs=10)
    module.start_at(torch.as_tensor(x, dtype=torch.float32))
    products = {tuple(p) for p in module.pairs.T.tolist() if p[0] != p[1]}
    assert products == {(1, 6), (2, 3)}


def test_a_network_starts_where_zeros_are_explained_by_pi_and_mu_is_about_the_mean_of_the_rest():
    module = model.DependencyNetwork(3, generator=rng())
    x = torch.tensor([[0.0, 2, 1], [0, 0, 1], [4, 0, 1], [8, 0, 2]])
    module.start_at(x)
    mu, theta, logit_pi = (p.detach().numpy() for p in module.link(module.index(x)))
    np.testing.assert_allclose(mu, np.tile([6, 2, 1.25], (4, 1)), rtol=0.1)
    np.testing.assert_allclose(theta, 7, rtol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit_pi)), [0.5, 0.75, 0], atol=2e-3)


def test_link_is_its_formula_for_some_genes_and_for_all():
    module, index = dependency_network(), torch.linspace(-3, 3, 50)
    module.start_at(counts(n_genes=5))
    with torch.no_grad():
        module.height.copy_(torch.randn(5, 4, generator=rng(8)))
    mu = module.link(index[:, None].expand(-1, 5))[0].detach()
    some = module.link(index[:, None].expand(-1, 2), [3, 1])
    torch.testing.assert_close(some[0], mu[:, [3, 1]])
    for gene in range(5):
        np.testing.assert_allclose(
            mu[:, gene], link_by_hand(module, index.double().numpy(), gene), rtol=1e-4
        )


def test_link_can_be_a_step():
    module = dependency_network(2, n_units=2)
    with torch.no_grad():
        module.slope.zero_()
        module.height.copy_(torch.tensor([[3.0, 0.0]]))
        module.place.fill_(0.5)
        module.log_steep.fill_(np.log(1e4))
    index = (
        torch.tensor([[-1e4], [0.0], [0.499], [0.501], [1.0], [1e4]])
        .expand(-1, 2)
        .clone()
        .requires_grad_()
    )
    mu = module.link(index)[0]
    np.testing.assert_allclose(mu[:3].detach(), np.log(2) / 10 + 0.05, rtol=1e-3)
    np.testing.assert_allclose(mu[3:].detach(), 3.05, rtol=1e-3)
    mu.sum().backward()
    assert index.grad.isfinite().all()


@pytest.mark.parametrize("sparsity", [0.0, 1.0, 2.5])
def test_loss_is_the_minimax_concave_penalty_less_the_log_likelihood(sparsity):
    module, x = dependency_network(sparsity=sparsity), counts(40, 5)
    module.start_at(x)
    with torch.no_grad():
        module.weight.mul_(
            torch.linspace(0, 2.5, len(module.weight))[:, None]
        )  # some of them beyond where they are free
    penalty, members = 0.0, [m for m, _ in terms_by_hand(module, x[0])]
    unit = sparsity * np.sqrt(2 * np.log(len(members)) / 40)
    for term, genes in enumerate(members):
        strength = unit * (0.35 if term < 5 else 0.6 if len(genes) == 1 else 0.85)
        for gene in set(range(5)) - genes:
            w = abs(module.weight[term, gene].item())
            if strength > 0:
                gamma = (
                    0.1 / strength
                )  # Zhang (2010), equation 2.1: free beyond gamma times the strength
                penalty += (
                    strength * w - w**2 / (2 * gamma)
                    if w <= gamma * strength
                    else gamma * strength**2 / 2
                )
    with torch.no_grad():
        module.slope.copy_(torch.tensor([1.0, -0.8, 0.0, 0.05, -0.2]))
    for size in (0.3, 0.3, 0.0, 0.05, 0.2):  # of the slope, free beyond 0.3
        penalty += unit * 0.85 * (size - size**2 / 0.6)
    log_p = scipy_log_pmf(x, *module.link(module.index(x))).sum(1)
    free = (module.weight.abs() > 0.1).float().mean()
    assert 0.2 < free < 0.8
    np.testing.assert_allclose(module.loss(x, rng()).detach(), penalty - log_p, rtol=1e-4)


def test_while_training_warms_up_the_index_is_of_first_order():
    module, x = dependency_network(), counts(30, 5)
    module.start_at(x)
    module.warmed = 0.5
    warming = module.loss(x, rng()).detach()
    with torch.no_grad():
        module.weight[5:] = 0
    module.warmed = 1.0
    np.testing.assert_allclose(warming, module.loss(x, rng()).detach(), rtol=1e-5)


def test_a_trained_network_follows_the_input_that_matters_and_hardly_any_other():
    draws = np.random.default_rng(5)
    x = draws.poisson(4, (1000, 4))
    x[:, 3] = draws.poisson(1 + 2 * x[:, 1])
    x = torch.as_tensor(x, dtype=torch.float32)
    module = model.DependencyNetwork(4, inputs=[0, 1, 2], generator=rng())
    module.start_at(x)
    training.fit(
        module,
        x,
        max_epochs=300,
        batch_size=1000,
        learning_rate=2e-2,
        schedule="one_cycle",
        validation_fraction=0.0,
    )
    dependency_terms.settle(module, x, rng())
    assert (module.weight[:, :3] == 0).all()
    alone, true = module.weight[:3, 3].abs(), module.weight[1, 3].item()
    assert true > 0 and alone[[0, 2]].max() < 0.1 * true
    at = torch.tensor([[4.0, 0, 4, 0], [4, 4, 4, 0], [0, 4, 8, 0], [4, 8, 4, 0]])
    np.testing.assert_allclose(
        module.link(module.index(at))[0][:, 3].detach(), [1, 9, 9, 17], rtol=0.1, atol=0.5
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(n_genes=0), "n_genes = 0"),
        (dict(n_genes=1), "inputs = [0]"),
        (dict(inputs=[]), "inputs = []"),
        (dict(inputs=[4]), "inputs = 4"),
        (dict(inputs=[-1]), "inputs = -1"),
        (dict(n_units=0), "n_units = 0"),
        (dict(sparsity=-0.5), "sparsity = -0.5"),
        (dict(sparsity=float("nan")), "sparsity = nan"),
        (dict(max_pairs=-1), "max_pairs = -1"),
        (dict(max_pairs=2.5), "max_pairs = 2.5"),
        (dict(n_draws=1), "n_draws = 1"),
    ],
)
def test_bad_settings_of_a_dependency_network_raise_one_line_that_names_them(options, named):
    with pytest.raises(ValueError) as error:
        model.DependencyNetwork(**({"n_genes": 4} | options))
    one_line(error, named)
