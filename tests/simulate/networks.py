"""Small gene regulatory networks, made by hand."""

import numpy as np

from lib.simulate.grn import GRN

GENES = ["HLA-A/B", "b+", "c d", "d", "e", "é"]
TYPES = ["A", "CD4+/CD45RA+ T"]
# regulator, target, log2 of the fold, half, power, in which of the two types
EDGES = [
    ("HLA-A/B", "b+", 2.0, 9.0, 2.0, (True, True)),
    ("HLA-A/B", "c d", -1.5, 14.0, 1.3, (True, True)),
    ("b+", "d", 2.5, 7.0, 2.0, (True, True)),
    ("c d", "d", -2.0, 11.0, 1.5, (True, False)),
    ("d", "e", 1.5, 6.0, 1.0, (True, True)),
    ("é", "e", 3.0, 4.0, 2.5, (False, True)),
]


def six(**changes):
    """A cascade of four generations in two cell types, with a cycle and another program."""
    regulator, target, effect, half, power, acts = zip(*EDGES)
    fields = {
        "genes": GENES,
        "cell_types": TYPES,
        "regulator": [GENES.index(gene) for gene in regulator],
        "target": [GENES.index(gene) for gene in target],
        "effect": effect,
        "half": half,
        "power": power,
        "acts": acts,
        "logic": ["product", "product", "product", "sum", "or", "product"],
        "base": np.array([[10, 8, 12, 7, 5, 4], [12, 8, 9, 7, 9, 3.0]]).T,
        "theta": np.array([[4, 5, 3, 6, 2, 8], [4, 2.5, 3, 9, 5, 8.0]]).T,
        "module": [0, 0, 1, 1, 0, 1],
        "loadings": [[0, 0, 0.3], [0.4, 0.2, 0], [0, 0, 0], [0, 0, 0], [0.3, 0, -0.2], [0, 0, 0]],
        "programs": ["cell_cycle", "cell_cycle", "stress"],
        "mechanisms": {},
    }
    return GRN(**fields | changes)


def of_edges(edges, genes, **changes):
    """A network of one cell type, without programs.

    edges: triples of regulator, target and log2 of the fold
    genes: gene -> its base, which is the half of its edges too
    """
    names, base = list(genes), np.array(list(genes.values()), dtype=float)
    regulator = np.array([names.index(r) for r, _, _ in edges], dtype=int)
    fields = {
        "genes": names,
        "cell_types": ["A"],
        "regulator": regulator,
        "target": [names.index(t) for _, t, _ in edges],
        "effect": [effect for *_, effect in edges],
        "half": base[regulator],
        "power": [2.0] * len(edges),
        "acts": np.ones((len(edges), 1), dtype=bool),
        "logic": ["product"] * len(names),
        "base": base[:, None],
        "theta": np.full(len(names), 5.0),
        "module": np.zeros(len(names)),
        "loadings": np.zeros((len(names), 0)),
        "programs": [],
        "mechanisms": {},
    }
    return GRN(**fields | changes)


def hill(x, effect, half, power):
    """Fold of one edge, by the formula of its docstring."""
    h = 0.0 if x == 0 else x**power / (half**power + x**power)
    fold = 2.0**effect
    return (1 + (fold - 1) * h) / (1 + (fold - 1) / 2)
