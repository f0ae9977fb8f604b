"""Networks drawn at random, and baselines that give the means that are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase

import numpy as np

from lib import checks
from lib.seeds import key, stream
from lib.simulate.grn import topology
from lib.simulate.grn.molecules import Cells
from lib.simulate.grn.network import GRN
from lib.simulate.grn.regulation import Regulation, draw_activities
from lib.simulate.grn.topology import Choice

LOGIC = {"product": 0.7, "sum": 0.2, "and": 0.05, "or": 0.05}
PROGRAMS = {"cell_cycle": (2, 0.15, 0.4), "stress": (1, 0.3, 0.3)}  # columns, share of genes, sd
OF_GENES = (
    "marker_fraction",
    "mean",
    "regulator_mean",
    "mean_spread",
    "dispersion_range",
    "programs",
)
PILOT = 4000  # cells of each type from which baselines are set
MOST_CERTAIN = 1e-3  # least 1 / theta that is left to a gene whose regulators vary much


@dataclass(frozen=True)
class Options:
    """What a drawn network is like, beside its numbers of genes, regulators and cell types.

    n_modules: modules of genes; None: one for each 50 genes
    marker_fraction: share of genes whose mean differs between cell types
    fold_range: range of the fold between no and endless regulator, which is log-uniform
    activating: share of edges that activate
    half_spread: sd of the log of the molecules at half response over the regulator's usual number
    power_range: range in which the Hill coefficient is uniform
    logic: product, sum, and, or -> share of the genes of several regulators
    mean, regulator_mean: median of the genes' and of the regulators' mean molecules
    mean_spread: sd of their logs, which are normal
    dispersion_range: range in which 1 / theta is uniform
    programs: whether there are the hidden programs "cell_cycle", of a phase, and "stress"

    Raises ValueError in one line for values that can't be.
    """

    n_modules: int | None = None
    marker_fraction: float = 0.2
    fold_range: tuple[float, float] = (1.5, 8.0)
    activating: float = 0.7
    half_spread: float = 0.3
    power_range: tuple[float, float] = (1.0, 3.0)
    logic: Mapping[str, float] = field(default_factory=lambda: dict(LOGIC))
    mean: float = 4.0
    regulator_mean: float = 20.0
    mean_spread: float = 1.0
    dispersion_range: tuple[float, float] = (0.05, 0.5)
    programs: bool = True

    def __post_init__(self):
        if self.n_modules is not None:
            checks.integer("n_modules", self.n_modules, low=1)
        checks.number("marker_fraction", self.marker_fraction, 0, 1)
        checks.interval("fold_range", self.fold_range, 1.0, 1e6)
        checks.number("activating", self.activating, 0, 1)
        checks.number("half_spread", self.half_spread, 0, 10)
        checks.interval("power_range", self.power_range, 0.1, 100)
        if not isinstance(self.logic, Mapping):
            raise ValueError(f"logic = {checks.shown(self.logic)}: must be a dict of shares")
        checks.listed("logic", list(self.logic), list(LOGIC))
        shares = checks.numbers("shares of logic", list(self.logic.values()), 0)
        checks.number("sum of the shares of logic", sum(shares), 1e-9)
        checks.number("mean", self.mean, 1e-3, 1e6)
        checks.number("regulator_mean", self.regulator_mean, 1e-3, 1e6)
        checks.number("mean_spread", self.mean_spread, 0, 10)
        checks.interval("dispersion_range", self.dispersion_range, 1e-6, 1e4)
        if not isinstance(self.programs, bool):
            raise ValueError(f"programs = {checks.shown(self.programs)}: must be True or False")


def draw(
    n_genes: int = 1000,
    n_regulators: int = 100,
    *,
    n_cell_types: int = 1,
    divergence: float = 0.1,
    like=None,
    seed: int | tuple[int, ...] = 0,
    **options,
) -> GRN:
    """A network with hubs, modules and cascades.

    Regulators stand in four generations (fewer where there are fewer regulators), each of them
    regulated by one of the generation before at least. Every gene but those of the first has 1 to
    4 regulators, those of its own module ten times as likely as others; out-degrees follow a
    Pareto law.

    n_genes, n_regulators: numbers; there are at least twice as many genes as regulators
    n_cell_types: cell types, which are named A, B, C ...
    divergence: share of edges that have another regulator in each type but the first
    like: a `calibrate.Calibration` of real counts, which gives genes, cell types, means,
        dispersions and programs, in place of n_genes, n_cell_types and what `Options` says of
        these; regulators are from the half of the genes that most types express most
    options: fields of `Options`

    Raises ValueError in one line for values that can't be.
    """
    n_genes = checks.integer("n_genes", n_genes if like is None else len(like.genes), low=2)
    n_regulators = checks.integer("n_regulators", n_regulators, 1, n_genes // 2)
    n_cell_types = checks.integer("n_cell_types", n_cell_types, 1, 26)
    divergence = checks.number("divergence", divergence, 0, 1)
    in_both = [name for name in options if name in OF_GENES]
    in_both += ["n_cell_types"] * (n_cell_types > 1)
    if like is not None and in_both:
        raise ValueError(f"{in_both[0]}: must not be given beside like, which has it")
    options = _checked(options)
    candidates = np.arange(n_genes)
    if like is not None:
        candidates = np.argsort(np.log1p(like.base).mean(axis=1))[n_genes // 2 :]
    rng = stream(seed, "regulators")
    regulators = np.sort(rng.permutation(candidates)[:n_regulators])
    n_modules = max(1, n_genes // 50) if options.n_modules is None else options.n_modules
    choice = Choice(rng, n_genes, regulators, n_modules)
    if like is None:
        means, parts = _genes(n_genes, regulators, n_cell_types, options, seed)
    else:
        names = "genes", "cell_types", "theta", "loadings"
        means, parts = like.base, {name: getattr(like, name) for name in names}
        parts["programs"] = [f"program_{i + 1}" for i in range(like.loadings.shape[1])]
    ends = topology.ends(stream(seed, "edges"), choice)
    n_types = means.shape[1]
    edges = topology.rewired(stream(seed, "rewiring"), choice, ends, n_types, divergence)
    usual = means.mean(axis=1)[edges["regulator"]]
    edges |= _strengths(stream(seed, "effects"), usual, options)
    shares = np.array(list(options.logic.values())) / sum(options.logic.values())
    logic = stream(seed, "logic").choice(list(options.logic), n_genes, p=shares)
    own = {"base": means, "module": choice.module, "logic": logic, "mechanisms": {}}
    network = GRN(**parts, **edges, **own)
    return balanced(network, means, keep_dispersion=like is not None, seed=seed)


def _checked(options):
    unknown = [name for name in options if name not in Options.__dataclass_fields__]
    if unknown:
        raise ValueError(f"{unknown[0]}: no such option; {', '.join(Options.__dataclass_fields__)}")
    return Options(**options)


def balanced(
    network: GRN,
    means: np.ndarray,
    *,
    keep_dispersion: bool = False,
    seed: int | tuple[int, ...] = 0,
) -> GRN:
    """The network with the baselines that give these means, from simulated cells of each type.

    means: (n_genes, n_types) mean molecules over cells of a type that nothing has perturbed
    keep_dispersion: whether theta is raised where folds vary, so that a gene's variance about what
        its own loadings do is as theta had it; what folds add beyond that stays

    The means are met to the error of the mean over 4,000 cells.
    """
    base = np.array(means, dtype=float)
    if base.shape != network.base.shape:
        raise ValueError(f"means: shape {base.shape}; must be {network.base.shape}")
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
        usual = np.column_stack([folds.mean(axis=1) for folds in relative])
        if not usual.all():
            gene = network.genes[genes[np.flatnonzero((usual == 0).any(axis=1))[0]]]
            raise ValueError(f"means: {gene} has a fold of 0 in all cells; no baseline has a mean")
        base[genes] /= usual
        if keep_dispersion:
            theta[genes] = _left(theta[genes], regulation, pilots, genes)
        for place, gene in enumerate(genes.tolist()):
            for cells, folds in zip(pilots, relative) if gene in rows else ():
                name = f"pilot molecules of {network.genes[gene]}"
                rng = stream((*key(seed), cells.cell_type), name)
                mu = folds[place] * base[gene, cells.cell_type]
                its_theta = theta[gene, cells.cell_type]
                unit_rate = rng.standard_gamma(its_theta, PILOT) / its_theta
                cells.molecules[rows[gene]] = rng.poisson(unit_rate * mu)
    return network.replace(base=base, theta=theta)


def _left(theta, regulation, pilots, genes):
    """theta of genes in each type, less the variance that their regulators bring."""
    squares = []
    for cells in pilots:
        folds = regulation.folds(cells.cell_type, genes, cells.molecules)
        squares.append(folds.var(axis=1) / folds.mean(axis=1) ** 2)
    by_regulators = np.column_stack(squares)
    left = (1 / theta - by_regulators) / (1 + by_regulators)
    return 1 / np.maximum(left, np.minimum(1 / theta, MOST_CERTAIN))


def _strengths(rng, usual, options):
    """Effect, half and power of each edge, whose regulators have `usual` molecules on average."""
    n_edges = len(usual)
    size = rng.uniform(*np.log2(options.fold_range), n_edges)
    effect = np.where(rng.random(n_edges) < options.activating, size, -size)
    half = usual * np.exp(rng.normal(0, options.half_spread, n_edges))
    return {"effect": effect, "half": half, "power": rng.uniform(*options.power_range, n_edges)}


def _genes(n_genes, regulators, n_cell_types, options, seed):
    """Mean molecules, (n_genes, n_types), and fields of `GRN` that are about genes."""
    columns = [name for name, (n, _, _) in PROGRAMS.items() for _ in range(n)] * options.programs
    width = len(str(n_genes - 1))
    medians = np.full(n_genes, options.mean)
    medians[regulators] = options.regulator_mean
    means = _means(stream(seed, "means"), medians, n_cell_types, options)
    return means, {
        "genes": [f"gene_{place:0{width}d}" for place in range(n_genes)],
        "cell_types": list(ascii_uppercase[:n_cell_types]),
        "theta": 1 / stream(seed, "dispersions").uniform(*options.dispersion_range, n_genes),
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


def _means(rng, medians, n_types, options):
    logs = np.log(medians) + rng.normal(0, options.mean_spread, len(medians))
    of_types = [logs]
    for _ in range(1, n_types):
        is_marker = rng.random(len(medians)) < options.marker_fraction
        of_types.append(logs + is_marker * rng.normal(0, 1, len(medians)))
    return np.exp(np.column_stack(of_types))
