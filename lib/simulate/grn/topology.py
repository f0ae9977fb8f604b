"""Who regulates whom: hubs, modules and cascades, drawn at random."""

import numpy as np

GENERATIONS = np.array([0.4, 0.3, 0.2, 0.1])  # shares of regulators
N_REGULATORS = np.array([0.4, 0.3, 0.2, 0.1])  # chances of a gene of having 1, 2, 3 or 4
HUBS = 1.6  # exponent of the Pareto law of out-degrees
WITHIN = 10.0  # times as likely is a regulator of the target's own module


class Choice:
    """Who may regulate a gene, and how likely.

    regulators: places, (n_regulators,)
    generation: (n_genes,) generation of a regulator, one more than the last for other genes
    module: (n_genes,) numbers
    hubs: (n_regulators,) how likely a regulator is, but for the target's module
    """

    def __init__(self, rng, n_genes, regulators, n_modules):
        self.regulators = regulators
        self.module = rng.integers(n_modules, size=n_genes)
        self.module[regulators] = rng.permutation(np.arange(len(regulators)) % n_modules)
        n_generations = min(len(GENERATIONS), len(regulators))
        shares = GENERATIONS[:n_generations] / GENERATIONS[:n_generations].sum()
        numbers = 1 + np.floor(shares * (len(regulators) - n_generations)).astype(int)
        numbers[0] += len(regulators) - numbers.sum()
        self.generation = np.full(n_genes, n_generations)
        self.generation[regulators] = rng.permutation(np.repeat(np.arange(n_generations), numbers))
        self.hubs = rng.pareto(HUBS, len(regulators)) + 0.1

    def weights(self, target):
        """How likely each regulator is for a gene, (n_regulators,)."""
        same = self.module[self.regulators] == self.module[target]
        earlier = self.generation[self.regulators] < self.generation[target]
        return self.hubs * np.where(same, WITHIN, 1.0) * earlier


def ends(rng, choice):
    """Regulator and target of each edge, (n_edges, 2) places of genes."""
    edges = []
    idle = set(choice.regulators.tolist())
    for target in np.flatnonzero(choice.generation > 0):
        weights = choice.weights(target)
        most = min(len(N_REGULATORS), np.count_nonzero(weights))
        n_own = min(most, rng.choice(len(N_REGULATORS), p=N_REGULATORS) + 1)
        own = []
        if target in choice.regulators:  # one of the generation before, so that cascades are deep
            before = choice.generation[choice.regulators] == choice.generation[target] - 1
            own.append(_drawn(rng, weights * before, 1)[0])
            weights[own] = 0
            n_own -= 1
        own += _drawn(rng, weights, n_own)
        edges += [(choice.regulators[i], target) for i in own]
        idle -= {int(choice.regulators[i]) for i in own}
    return _with_idle(rng, choice, np.array(edges), sorted(idle))


def _drawn(rng, weights, n):
    if not n:
        return []
    return rng.choice(len(weights), n, replace=False, p=weights / weights.sum()).tolist()


def _with_idle(rng, choice, edges, idle):
    """The edges, with one for each regulator that had none: it takes the place of a busy one."""
    for regulator in idle:
        busy = np.bincount(edges[:, 0], minlength=len(choice.module))[edges[:, 0]] > 1
        later = choice.generation[edges[:, 1]] > choice.generation[regulator]
        deep = choice.generation[edges[:, 1]] < len(np.unique(choice.generation)) - 1
        free = np.flatnonzero(busy & later & ~deep)
        if len(free):
            near = choice.module[edges[free, 1]] == choice.module[regulator]
            weights = np.where(near, WITHIN, 1.0)
            edges[free[_drawn(rng, weights, 1)[0]], 0] = regulator
    return edges


def rewired(rng, choice, edges, n_types, divergence):
    """Fields of `GRN`: the edges of all types, and in which of them each one acts."""
    known = {tuple(edge): np.ones(n_types, dtype=bool) for edge in edges.tolist()}
    n_rewired = round(divergence * len(edges))
    for cell_type in range(1, n_types):
        for edge in edges[rng.permutation(len(edges))[:n_rewired]].tolist():
            target = edge[1]
            taken = [r for r, t in known if t == target]
            weights = choice.weights(target) * ~np.isin(choice.regulators, taken)
            if not weights.any():
                continue
            other = int(choice.regulators[_drawn(rng, weights, 1)[0]])
            known[tuple(edge)][cell_type] = False
            known[other, target] = np.arange(n_types) == cell_type
    ends = np.array(list(known))
    return {"regulator": ends[:, 0], "target": ends[:, 1], "acts": np.array(list(known.values()))}
