import numpy as np
import torch

from lib import model, training
from lib.laws.likelihood import log_likelihood
from lib.neural import dependency_search
from tests.neural.small import counts, dependency_network, rng, scipy_log_pmf, terms_by_hand

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
    criterion = dependency_search.criterion(module, x)
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
    dependency_search.weigh(module, x)
    np.testing.assert_allclose(module.penalty_of, 0.7 * order * error * np.sqrt(2 * np.log(len(members))), rtol=2e-2, atol=1e-4)


def test_the_search_finds_a_term_that_silences_a_gene_where_the_gradient_finds_none():
    """Counts of gene 3 follow gene 0 but for cells with both 1 and 2, which are silent; dropout hides that from the gradient."""
    draws = np.random.default_rng(7)
    x = draws.poisson(4, (4000, 4)) * (draws.random((4000, 4)) < 0.4)
    silent = (x[:, 1] > 0) & (x[:, 2] > 0)
    x[:, 3] = draws.poisson(np.where(silent, 0.05, 8 + 2 * x[:, 0])) * (draws.random(4000) < 0.2)
    x = torch.as_tensor(x, dtype=torch.float32)
    module = model.DependencyNetwork(4, inputs=[0, 1, 2], generator=rng())
    module.start_at(x)
    product = 6 + int(torch.where((module.pairs[:, 3:] == torch.tensor([[1], [2]])).all(0))[0])
    options = dict(max_epochs=60, batch_size=1000, learning_rate=2e-2, schedule="one_cycle", validation_fraction=0.0)
    with torch.no_grad():
        module.weight[0, 3] = 0.3
    before = -log_likelihood(x, *module.link(module.index(x)))[:, 3].sum().item()
    weights = module.weight.detach().clone()
    assert dependency_search.search(module, x) > 0
    changed = (module.weight != weights).nonzero().tolist()
    assert [product, 3] in changed and {gene for _, gene in changed} == {3} and module.weight[product, 3] < 0
    after = -log_likelihood(x, *module.link(module.index(x)))[:, 3].sum().item()
    assert before - after > 0.5 * np.log(4000) * len(changed)
    training.fit(module, x, **options)
    with torch.no_grad():
        mu = module.link(module.index(x))[0][:, 3]
    assert mu[torch.as_tensor(silent)].mean() < 2 < 6 < mu[torch.as_tensor(~silent)].mean()
    assert dependency_search.search(module, x, n_steps=0) == 0


def test_adopting_takes_the_parameters_of_those_genes_alone():
    one, other = dependency_network(3, seed=1), dependency_network(3, seed=5)
    before = {name: p.clone() for name, p in one.named_parameters()}
    dependency_search.adopt(one, other, torch.tensor([False, True, False]))
    for name, parameter in one.named_parameters():
        source = dict(other.named_parameters())[name]
        for gene in range(3):
            column = (slice(None), gene) if name == "weight" else gene
            assert torch.equal(parameter[column], (source if gene == 1 else before[name])[column])
