"""Networks drawn at random, and baselines that give the means that are asked for."""

from __future__ import annotations

from string import ascii_uppercase

import numpy as np

from lib import checks
from lib.seeds import key, stream
from lib.simulate.grn.molecules import Cells
from lib.simulate.grn.network import GRN
from lib.simulate.grn.regulation import Regulation, draw_activities

GENERATIONS = np.array([0.4, 0.3, 0.2, 0.1])  # shares of regulators
N_REGULATORS = np.array([0.4, 0.3, 0.2, 0.1])  # chances of a gene of having 1, 2, 3 or 4
LOGIC = {"product": 0.7, "sum": 0.2, "and": 0.05, "or": 0.05}
HUBS = 1.6  # exponent of the Pareto law of out-degrees
WITHIN = 10.0  # times as likely is a regulator of the target's own module
PROGRAMS = {"cell_cycle": (2, 0.15, 0.4), "stress": (1, 0.3, 0.3)}  # columns, share of genes, sd
PILOT = 4000  # cells of each type from which baselines are set
MOST_CERTAIN = 1e-3  # least 1 / theta that is left to a gene whose regulators vary much


def draw(
    n_genes: int = 1000,
    n_regulators: int = 100,
    *,
    n_modules: int | None = None,
    n_cell_types: int = 1,
    divergence: float = 0.1,
    marker_fraction: float = 0.2,
    fold_range: tuple[float, float] = (1.5, 8.0),
    activating: float = 0.7,
    logic: dict[str, float] | None = None,
    mean: float = 4.0,
    regulator_mean: float = 20.0,
    mean_spread: float = 1.0,
    dispersion_range: tuple[float, float] = (0.05, 0.5),
    programs: bool = True,
    like=None,
    seed: int | tuple[int, ...] = 0,
) -> GRN:
    """A network with hubs, modules and cascades.

    Regulators stand in four generations (fewer where there are fewer regulators), each of them
    regulated by one of the generation before at least. Every gene but those of the first has 1 to
    4 regulators, those of its own module ten times as likely as others; out-degrees follow a
    Pareto law.

    n_genes, n_regulators: numbers; there are at least twice as many genes as regulators
    n_modules: modules of genes, by default one for each 50 genes
    n_cell_types: cell types, which are named A, B, C ...
    divergence: share of edges that have another regulator in each type but the first
    marker_fraction: share of genes whose mean differs between types
    fold_range: range of the fold between no and endless regulator, which is log-uniform
    activating: share of edges that activate
    logic: product, sum, and, or -> share of the genes of several regulators
    mean, regulator_mean: median of the genes' and of the regulators' mean molecules
    mean_spread: sd of their logs, which are normal
    dispersion_range: range in which 1 / theta is uniform
    programs: whether there are the hidden programs "cell_cycle", of a phase, and "stress"
    like: a `calibrate.Calibration` of real counts, which gives genes, cell types, means,
        dispersions and programs in place of n_genes, n_cell_types, marker_fraction, mean,
        regulator_mean, mean_spread, dispersion_range and programs; regulators are from the half of
        the genes that is expressed most

    Raises ValueError in one line for values that can't be.
    """
    n_genes = checks.integer("n_genes", n_genes if like is None else len(like.genes), low=2)
    n_regulators = checks.integer("n_regulators", n_regulators, 1, n_genes // 2)
    n_modules = checks.integer("n_modules", n_modules or max(1, n_genes // 50), 1, n_genes)
    n_cell_types = checks.integer("n_cell_types", n_cell_types, 1, 26)
    logic = LOGIC if logic is None else logic
    checks.listed("logic", list(logic), list(LOGIC))
    checks.numbers("shares of logic", list(logic.values()), 0, 1)
    divergence = checks.number("divergence", divergence, 0, 1)
    marker_fraction = checks.number("marker_fraction", marker_fraction, 0, 1)
    fold_range = checks.interval("fold_range", fold_range, 1.0, 1e6)
    activating = checks.number("activating", activating, 0, 1)
    mean = checks.number("mean", mean, 1e-3, 1e6)
    regulator_mean = checks.number("regulator_mean", regulator_mean, 1e-3, 1e6)
    mean_spread = checks.number("mean_spread", mean_spread, 0, 10)
    dispersion_range = checks.interval("dispersion_range", dispersion_range, 1e-6, 1e4)

    rng = stream(seed, "regulators")
    candidates = np.arange(n_genes)
    if like is not None:
        candidates = np.argsort(like.base.mean(axis=1))[n_genes // 2 :]
    regulators = np.sort(rng.permutation(candidates)[:n_regulators])
    choice = _Choice(rng, n_genes, regulators, n_modules)
    if like is None:
        medians = np.full(n_genes, mean)
        medians[regulators] = regulator_mean
        spreads = mean_spread, n_cell_types, marker_fraction
        means = _means(stream(seed, "means"), medians, *spreads)
        parts = _genes(n_genes, n_cell_types, dispersion_range, programs, seed)
    else:
        names = "genes", "cell_types", "theta", "programs", "loadings"
        parts = {name: getattr(like, name) for name in names}
        means = like.base
    ends = _ends(stream(seed, "edges"), choice)
    edges = _rewired(stream(seed, "rewiring"), choice, ends, means.shape[1], divergence)
    usual = means.mean(axis=1)[edges["regulator"]]
    edges |= _strengths(stream(seed, "effects"), usual, fold_range, activating)
    shares = np.array(list(logic.values())) / sum(logic.values())
    logics = stream(seed, "logic").choice(list(logic), n_genes, p=shares)
    own = {"base": means, "module": choice.module, "logic": logics, "mechanisms": {}}
    network = GRN(**parts, **edges, **own)
    return balanced(network, means, keep_dispersion=like is not None, seed=seed)


def balanced(
    network: GRN,
    means: np.ndarray,
    *,
    keep_dispersion: bool = False,
    seed: int | tuple[int, ...] = 0,
) -> GRN:
    """The network with the baselines that give these means, from simulated cells of each type.

    means: (n_genes, n_types) mean molecules over cells of a type that nothing has perturbed
    keep_dispersion: whether theta is raised where regulators vary, so that the variance given the
        programs is as before; what they add beyond it stays

    The means are met to the error of the mean over 4,000 cells.
    """
    base = np.broadcast_to(np.asarray(means, dtype=float), network.base.shape).copy()
    theta = network.theta.copy()
    unit = network.replace(base=np.ones_like(base))
    regulation, types = Regulation(unit), range(len(network.cell_types))

    def activities(cell_type):
        of_type = (*key(seed), cell_type)
        return draw_activities(
            network, lambda program: stream(of_type, f"pilot program {program}").random(PILOT)
        )

    pilots = [Cells(regulation, cell_type, activities(cell_type)) for cell_type in types]
    rows = {gene: row for row, gene in enumerate(network.regulators.tolist())}
    for genes in network.generations:
        relative = [cells.means(genes) for cells in pilots]
        base[genes] /= np.column_stack([folds.mean(axis=1) for folds in relative])
        if keep_dispersion:
            theta[genes] = _left(theta[genes], regulation, pilots, genes)
        for place, gene in enumerate(genes.tolist()):
            for cells, folds in zip(pilots, relative) if gene in rows else ():
                name = f"pilot molecules of {network.genes[gene]}"
                rng = stream((*key(seed), cells.cell_type), name)
                mu = folds[place] * base[gene, cells.cell_type]
                unit_rate = rng.standard_gamma(theta[gene], PILOT) / theta[gene]
                cells.molecules[rows[gene]] = rng.poisson(unit_rate * mu)
    return network.replace(base=base, theta=theta)


def _left(theta, regulation, pilots, genes):
    """theta of genes less the variance that their regulators bring, mean over types."""
    squares = []
    for cells in pilots:
        folds = regulation.folds(cells.cell_type, genes, cells.molecules)
        squares.append(folds.var(axis=1) / folds.mean(axis=1) ** 2)
    by_regulators = np.mean(squares, axis=0)
    left = (1 / theta - by_regulators) / (1 + by_regulators)
    return 1 / np.maximum(left, np.minimum(1 / theta, MOST_CERTAIN))


class _Choice:
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


def _ends(rng, choice):
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
    return (
        rng.choice(len(weights), n, replace=False, p=weights / weights.sum()).tolist() if n else []
    )


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


def _rewired(rng, choice, edges, n_types, divergence):
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


def _strengths(rng, usual, fold_range, activating):
    """Effect, half and power of each edge, whose regulators have `usual` molecules on average."""
    n_edges = len(usual)
    size = rng.uniform(*np.log2(fold_range), n_edges)
    effect = np.where(rng.random(n_edges) < activating, size, -size)
    half = usual * np.exp(rng.normal(0, 0.3, n_edges))
    return {"effect": effect, "half": half, "power": rng.uniform(1, 3, n_edges)}


def _genes(n_genes, n_cell_types, dispersion_range, programs, seed):
    """Fields of `GRN` that are about genes: names, types, dispersions and programs."""
    columns = [name for name, (n, _, _) in PROGRAMS.items() for _ in range(n)] * programs
    width = len(str(n_genes - 1))
    return {
        "genes": [f"gene_{place:0{width}d}" for place in range(n_genes)],
        "cell_types": list(ascii_uppercase[:n_cell_types]),
        "theta": 1 / stream(seed, "dispersions").uniform(*dispersion_range, n_genes),
        "programs": columns,
        "loadings": _loadings(stream(seed, "programs"), n_genes)[:, : len(columns)],
    }


def _loadings(rng, n_genes):
    """Loadings of the programs, (n_genes, n_columns)."""
    columns = []
    for n_columns, share, spread in PROGRAMS.values():
        takes_part = rng.random(n_genes) < share
        columns.append(rng.normal(0, spread, (n_genes, n_columns)) * takes_part[:, None])
    return np.hstack(columns)


def _means(rng, medians, spread, n_types, marker_fraction):
    """Mean molecules, (n_genes, n_types)."""
    logs = np.log(medians) + rng.normal(0, spread, len(medians))
    of_types = [logs]
    for _ in range(1, n_types):
        is_marker = rng.random(len(medians)) < marker_fraction
        of_types.append(logs + is_marker * rng.normal(0, 1, len(medians)))
    return np.exp(np.column_stack(of_types))
