"""Prior knowledge of a network, as published models need it: a gene graph, its embedding."""

import numpy as np
import pandas as pd

from lib.seeds import stream

N_DIMS = 32
WINDOW = 3
UNDIRECTED = ["gene_1", "gene_2"]
DIRECTED = ["regulator", "target"]


def graph(network, fidelity: float, *, seed, directed: bool = False) -> pd.DataFrame:
    """A gene graph, a row an edge: some of the network's edges, the rest false.

    network: GRN, all of whose cell types' edges count
    fidelity: share of the true edges that are kept. Each edge that isn't gives way to a false one,
        so that the graph has as many edges as the network, of which this share is true; 0: noise.
        A false edge has any regulator and any target, but for those of an edge that is there
    directed: whether the columns are regulator and target; else gene_1 and gene_2, in an order that
        tells nothing
    """
    rng = stream(seed, "prior graph")
    true = np.unique(np.column_stack([network.regulator, network.target]), axis=0)
    there = {frozenset(edge) for edge in true.tolist()}
    kept = rng.permutation(len(true)) < round(fidelity * len(true))
    edges = true.copy()
    for place in np.flatnonzero(~kept):
        while True:
            edge = int(rng.choice(network.regulators)), int(rng.integers(len(network.genes)))
            if edge[0] != edge[1] and frozenset(edge) not in there:
                break
        there.add(frozenset(edge))
        edges[place] = edge
    if not directed:
        edges = np.sort(edges, axis=1)
    edges = edges[np.lexsort(edges.T[::-1])]
    names = np.asarray(network.genes).astype(str)
    return pd.DataFrame(names[edges], columns=DIRECTED if directed else UNDIRECTED)


def embedding(edges: pd.DataFrame, genes: list[str], n_dims: int = N_DIMS) -> np.ndarray:
    """NetMF of an undirected graph, (n_genes, n_dims); a gene without an edge has zeros.

    It is what DeepWalk does, as a factorisation (Qiu et al. 2018, WSDM, doi
    10.1145/3159652.3159706,
    algorithm 3): a truncated singular value decomposition of

        log max(1, vol / (window * negative) * sum_{r = 1..window} (D^-1 A)^r D^-1)

    with window 3 and one negative sample. Each dimension has the sign of its largest value.

    edges: two columns of genes
    """
    places = {gene: place for place, gene in enumerate(genes)}
    ends = np.array([[places[gene] for gene in row] for row in edges.to_numpy()], dtype=np.int64)
    ends = ends.reshape(-1, 2)
    adjacency = np.zeros((len(genes), len(genes)))
    adjacency[ends[:, 0], ends[:, 1]] = adjacency[ends[:, 1], ends[:, 0]] = 1
    degree = adjacency.sum(axis=1)
    inverse = np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)
    step = inverse[:, None] * adjacency
    power, total = np.eye(len(genes)), np.zeros_like(step)
    for _ in range(WINDOW):
        power = power @ step
        total += power
    found = np.log(np.maximum(degree.sum() / WINDOW * total * inverse, 1))
    left, values, _ = np.linalg.svd(found)
    n_dims = min(n_dims, len(genes))
    left = left[:, :n_dims] * np.sqrt(values[:n_dims])
    largest = left[np.abs(left).argmax(axis=0), np.arange(n_dims)]
    return left * np.where(largest < 0, -1, 1)
