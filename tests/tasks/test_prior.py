import numpy as np
import pandas as pd
import pytest

from lib import dataset
from lib.tasks import prior


@pytest.fixture(scope="module")
def network():
    return dataset.grn.draw(60, 12, seed=3)


def pairs_of(network):
    names = np.asarray(network.genes).astype(str)
    return {frozenset(edge) for edge in zip(names[network.regulator], names[network.target])}


@pytest.mark.parametrize("fidelity", [0.0, 0.5, 1.0])
def test_the_stated_share_of_edges_is_true_and_the_number_is_the_networks(network, fidelity):
    edges = prior.graph(network, fidelity, seed=1)
    true, given = pairs_of(network), [frozenset(edge) for edge in edges.to_numpy()]
    assert list(edges) == ["gene_1", "gene_2"] and len(set(given)) == len(given) == len(true)
    assert abs(len(true & set(given)) / len(true) - fidelity) < 0.01


def test_the_order_of_an_undirected_edge_tells_nothing_and_a_directed_one_is_the_networks(network):
    edges = prior.graph(network, 1.0, seed=1)
    assert (edges["gene_1"] < edges["gene_2"]).all()
    directed = prior.graph(network, 1.0, seed=1, directed=True)
    names = np.asarray(network.genes).astype(str)
    true = set(zip(names[network.regulator], names[network.target]))
    assert set(directed.itertuples(index=False, name=None)) == true
    pd.testing.assert_frame_equal(edges, prior.graph(network, 1.0, seed=1))
    assert not edges.equals(prior.graph(network, 0.5, seed=1))


def test_the_embedding_factorises_what_netmf_says():
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(12)]
    edges = [
        (genes[i], genes[j]) for i in range(11) for j in range(i + 1, 11) if rng.random() < 0.3
    ]
    adjacency = np.zeros((12, 12))
    for first, second in edges:
        i, j = genes.index(first), genes.index(second)
        adjacency[i, j] = adjacency[j, i] = 1
    degree = adjacency.sum(axis=1)
    assert degree[11] == 0
    walk = np.array([row / max(1, row.sum()) for row in adjacency])
    total = walk + walk @ walk + walk @ walk @ walk
    inverse = np.array([1 / d if d else 0 for d in degree])
    target = np.log(np.maximum(degree.sum() / 3 * total * inverse, 1))
    vectors = prior.embedding(pd.DataFrame(edges), genes, n_dims=12)
    assert (vectors[11] == 0).all()
    # U sqrt(S): its Gram matrix is that of the positive square root of M M'
    values, basis = np.linalg.eigh(target @ target.T)
    root = (basis * np.sqrt(np.maximum(values, 0)) ** 1) @ basis.T
    np.testing.assert_allclose(vectors @ vectors.T, root, atol=1e-6)


def test_a_graph_without_edges_has_an_embedding_of_zeros():
    empty = pd.DataFrame({"gene_1": [], "gene_2": []})
    assert (prior.embedding(empty, ["a", "b", "c"]) == 0).all()


def test_noise_tells_nothing_of_who_regulates_many():
    network = dataset.grn.draw(300, 45, seed=4)
    edges = prior.graph(network, 0.0, seed=1)
    names = np.asarray(network.genes).astype(str)[network.regulators]
    degree = pd.Series(edges.to_numpy().ravel()).value_counts().reindex(names, fill_value=0)
    true = np.bincount(network.regulator, minlength=len(network.genes))[network.regulators]
    assert abs(np.corrcoef(degree, true)[0, 1]) < 0.3
