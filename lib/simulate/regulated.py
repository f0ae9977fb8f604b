"""Cells of a gene regulatory network: drawn, shown without what is hidden, and asked for their law.

Beside counts in X, an AnnData of such cells holds what its truth is computed from, all of it hidden
from models (`shown`):

- `uns["grn"]`, `uns["measurement"]`, `uns["screen"]`: the arrays of a `grn.GRN`, a
  `measurement.Measurement` and, where there are arms, an `arms.Screen`
- `uns["regulators"]`, `obsm["molecules"]`: names of the regulators, and their molecules
- `obsm["programs"]`, `obsm["capture"]`, `obsm["acting"]`: activities of hidden programs, capture
  times depth, and the guide that acts in the cell
"""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks
from lib.counts import counts_of, dense
from lib.laws import ZINB, inversion
from lib.seeds import key, stream
from lib.simulate import measurement as measuring
from lib.simulate.arms import NOTHING, Acting, Screen
from lib.simulate.grn import GRN
from lib.simulate.grn.molecules import Cells
from lib.simulate.grn.regulation import Regulation, draw_activities
from lib.simulate.layout import labels
from lib.simulate.measurement import Measurement

HIDDEN = {
    "uns": ("grn", "measurement", "screen", "regulators"),
    "obsm": ("molecules", "programs", "capture", "acting"),
}
_FRESH = int.from_bytes(b"fresh")  # ends seeds of new cells: one that no one else would take
_UNLIKELY = -50.0  # log of a probability
_CELLS = 20_000  # drawn at a time: another number would draw other cells
_GENES = 16  # whose means are computed at a time


@dataclass(frozen=True)
class World:
    """What the truth about cells is computed from, but for the cells themselves."""

    network: GRN
    measurement: Measurement
    screen: Screen | None = None

    @classmethod
    def of(cls, adata: ad.AnnData) -> World:
        """That of an AnnData. Raises ValueError where it has none."""
        for name in ("grn", "measurement"):
            if name not in adata.uns:
                why = "shown cells have no truth, and joined ones only by lib.dataset.concat"
                raise ValueError(f"adata: has no uns[{name!r}]; {why}")
        screen = Screen(**adata.uns["screen"]) if "screen" in adata.uns else None
        network = GRN.from_arrays(adata.uns["grn"])
        return cls(network, Measurement(**adata.uns["measurement"]), screen)

    def uns(self) -> dict:
        """What `uns` holds of it."""
        parts = {"grn": self.network, "measurement": self.measurement, "screen": self.screen}
        arrays = {name: part.as_arrays() for name, part in parts.items() if part is not None}
        return arrays | {"regulators": self.network.genes[self.network.regulators]}

    def cells(self, cell_type: int, state: State, regulation: Regulation) -> Cells:
        """Cells of one type in this hidden state, without molecules as yet."""
        change = None
        if self.screen is not None:
            change = Acting(self.network, self.screen, state.acting)
        return Cells(regulation, cell_type, state.programs, change)


@dataclass(frozen=True)
class State:
    """What is hidden of cells, but for their molecules.

    programs: (n_cells, n_columns) activities
    capture: (n_cells,) probability that a molecule is counted, but for factors of genes
    acting: (n_cells,) guides, as `Acting` takes them
    """

    programs: np.ndarray
    capture: np.ndarray
    acting: np.ndarray

    def __getitem__(self, rows) -> State:
        return State(self.programs[rows], self.capture[rows], self.acting[rows])


def is_regulated(adata: ad.AnnData) -> bool:
    """Whether these are cells of a gene regulatory network."""
    return "grn" in adata.uns


def grn_cells(
    network: GRN,
    n_cells: int | dict[str, int],
    *,
    measurement: Measurement | None = None,
    depth: float = 1.0,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """Cells of a gene regulatory network, which nothing has perturbed.

    n_cells: cells of each cell type, or cell type -> its cells
    measurement: how they are measured, as from `measurement.draw`; by default one batch with a
        median capture of 0.15
    depth: share of the reads; the same cells at a tenth of the reads have 0.1

    Returns counts in X, `obs` with cell_type, batch and total_counts, `var["regulator"]`, and what
    is hidden: see `lib.simulate.regulated`. Cells are in batches by turns.
    """
    numbers = of_types("n_cells", n_cells, network)
    types = np.repeat(np.arange(len(network.cell_types)), numbers)
    acting = np.full(len(types), NOTHING)
    world = World(network, checked(measurement, network))
    return drawn(world, types, acting, depth=depth, seed=seed)


def of_types(name: str, n_cells: int | dict[str, int], network: GRN) -> list[int]:
    """Numbers of cells of each type, from one for all or a dict, with no cells of those it lacks.

    name: the parameter's name in messages

    Raises ValueError in one line where there would be no cells, or for an unknown type.
    """
    if not isinstance(n_cells, dict):
        return [checks.integer(name, n_cells, low=1)] * len(network.cell_types)
    for cell_type, n in n_cells.items():
        network.type_of(cell_type, f"cell type in {name}")
        checks.integer(f"{name}[{cell_type!r}]", n, low=0)
    checks.integer(f"sum of {name}", sum(n_cells.values()), low=1)
    return [n_cells.get(str(cell_type), 0) for cell_type in network.cell_types]


def fresh_cells(adata: ad.AnnData, n_cells: int, *, seed) -> ad.AnnData:
    """New unperturbed cells of the same network, measured alike; see `grn_cells`.

    n_cells: cells of each cell type that `adata` has cells of
    """
    world = World.of(adata)
    names = np.unique(labels(adata.obs, "cell_type"))
    types = np.repeat(sorted(world.network.type_of(str(name)) for name in names), n_cells)
    unscreened = World(world.network, world.measurement)
    return drawn(unscreened, types, np.full(len(types), NOTHING), seed=(*key(seed), _FRESH))


def checked(measurement: Measurement | None, network: GRN) -> Measurement:
    """A measurement of the network's genes. Raises ValueError for one of other genes."""
    if measurement is None:
        return measuring.draw(network.genes)
    if list(measurement.genes) != list(network.genes):
        raise ValueError("measurement: its genes must be those of the network, in that order")
    return measurement


def drawn(
    world: World, types, acting, *, seed, depth=1.0, captures=None, batch=None, obs=None
) -> ad.AnnData:
    """Draw cells.

    types: (n_cells,) places of their types
    acting: (n_cells,) guides, as `Acting` takes them
    captures, batch: (n_cells,) captures, and places of batches; None: drawn, and by turns
    obs: columns of obs beside cell_type, batch and total_counts
    """
    network, measurement = world.network, world.measurement
    depth = checks.number("depth", depth, 1e-9, 1)
    n_cells = len(types)
    batch = np.arange(n_cells) % len(measurement.batches) if batch is None else batch
    programs = draw_activities(network, lambda i: stream(seed, f"program {i}").random(n_cells))
    if world.screen is not None and world.screen.program >= 0:
        shifts = world.screen.shift[world.screen.arm[np.maximum(acting, 0)]]
        programs[:, world.screen.program] += np.where(acting >= 0, shifts, 0)
    if captures is None:
        captures = measurement.captures(stream(seed, "capture").random(n_cells), batch)
    state = State(programs, captures, acting)
    molecules = np.zeros((n_cells, len(network.regulators)), dtype=np.int32)
    blocks, order = [], []
    regulation = Regulation(network)
    for cell_type, name in enumerate(network.cell_types):
        rows = np.flatnonzero(types == cell_type)
        if len(rows):
            cells = world.cells(cell_type, state[rows], regulation)
            cells.draw(lambda gene, name=name: stream(seed, f"molecules of {(gene, str(name))}"))
            molecules[rows] = cells.molecules.T
            rng = stream(seed, f"counts of type {name}")
            blocks += _counts(world, cells, captures[rows], batch[rows], rng)
            order.append(rows)
    counts = sparse.vstack(blocks, format="csr")
    if (np.diff(types) < 0).any():
        counts = counts[np.argsort(np.concatenate(order))]
    counts = measuring.thinned(counts, depth, stream(seed, "depth"))
    columns = {
        "cell_type": pd.Categorical.from_codes(types, list(map(str, network.cell_types))),
        "batch": pd.Categorical.from_codes(batch, list(map(str, measurement.batches))),
        **(obs or {}),
        "total_counts": np.asarray(counts.sum(axis=1), dtype=np.int64).ravel(),
    }
    is_regulator = np.isin(np.arange(len(network.genes)), network.regulators)
    hidden = {"molecules": molecules, "capture": depth * captures[:, None]}
    if programs.shape[1]:
        hidden["programs"] = programs
    if world.screen is not None:
        hidden["acting"] = acting.astype(np.int32)[:, None]
    return ad.AnnData(
        counts,
        obs=pd.DataFrame(columns, index=[f"cell_{i}" for i in range(n_cells)]),
        var=pd.DataFrame({"regulator": is_regulator}, index=list(map(str, network.genes))),
        obsm=hidden,
        uns=world.uns(),
    )


def _counts(world, cells, capture, batch, rng):
    """Counts of cells of one type, as CSR blocks of float32, (n_cells, n_genes) in all."""
    network, blocks = world.network, []
    others = np.setdiff1d(np.arange(len(network.genes)), network.regulators)
    factors, pi = world.measurement.factors, world.measurement.pi
    theta = network.theta[:, cells.cell_type]
    for start in range(0, len(capture), _CELLS):
        rows = slice(start, start + _CELLS)
        part, p = cells.part(rows), capture[rows]

        def captured(gene, p=p, batch=batch[rows]):
            return p * (factors[gene, 0] if factors.shape[1] == 1 else factors[gene, batch])

        found = [None] * len(network.genes)
        for row, gene in enumerate(network.regulators):
            found[gene] = inversion.binomial(part.molecules[row], captured(gene), rng)
        for genes in np.array_split(others, -(-len(others) // _GENES)):
            for gene, mu in zip(genes, part.means(genes)):
                mu *= captured(gene)
                found[gene] = inversion.negative_binomial(mu, theta[gene], rng)
        if pi.any():
            kept = [rng.random(len(its)) >= pi[gene] for gene, (its, _) in enumerate(found)]
            found = [(its[k], counts[k]) for (its, counts), k in zip(found, kept)]
        blocks.append(_as_csr(found, len(p)))
    return blocks


def _as_csr(found, n_cells):
    """Counts as CSR, from the cells and the counts of each gene."""
    ends = np.cumsum([0, *(len(its) for its, _ in found)])
    indices = np.concatenate([its for its, _ in found]).astype(np.int32)
    data = np.concatenate([counts for _, counts in found]).astype(np.float32)
    shape = n_cells, len(found)
    return sparse.csc_matrix((data, indices, ends.astype(np.int32)), shape=shape).tocsr()


def law(adata: ad.AnnData, genes: list[str]) -> ZINB:
    """The law of genes' counts in each cell given its molecules, (n_cells, n_genes).

    It is no joint law: a regulator's counts thin the very molecules that the laws of its targets
    are given. Raises ValueError where X doesn't hold whole counts (nor `layers["counts"]`), and
    where a regulator has more counts than molecules.
    """
    world = World.of(adata)
    network, measurement = world.network, world.measurement
    missing = [name for name in genes if name not in network.places]
    if missing:
        raise ValueError(f"gene = {missing[0]!r}: isn't in uns['grn']; it has no law")
    state, molecules = _state(adata, world)
    types, batch = labels(adata.obs, "cell_type"), measurement.batch_of(labels(adata.obs, "batch"))
    _check_thinned(adata, world, molecules, state.capture, batch)
    places = np.array([network.places[gene] for gene in genes])
    mu, theta = np.empty((2, adata.n_obs, len(genes)))
    regulation = Regulation(network)
    for name in np.unique(types):
        rows = np.flatnonzero(types == name)
        cell_type = network.type_of(name)
        cells = world.cells(cell_type, state[rows], regulation)
        cells.molecules = molecules[rows].T
        mu[rows] = cells.means(places).T
        theta[rows] = network.theta[places, cell_type]
    mu *= state.capture[:, None]
    mu *= measurement.factors[places][:, batch].T
    return ZINB(mu, theta, np.broadcast_to(measurement.pi[places], mu.shape))


def _state(adata, world):
    """The hidden state of cells, and their regulators' molecules, (n_cells, n_regulators)."""
    lacks = {"programs": not len(world.network.programs), "acting": world.screen is None}
    for name in (part for part in HIDDEN["obsm"] if not lacks.get(part)):
        if name not in adata.obsm:
            raise ValueError(f"adata: has no obsm[{name!r}]; molecules can't be told from counts")
    names, known = adata.uns.get("regulators", []), world.network.genes
    if list(names) != list(known[world.network.regulators]):
        raise ValueError("adata: uns['regulators'] must name the regulators of uns['grn']")
    molecules = np.asarray(adata.obsm["molecules"])
    if molecules.shape[1] != len(names):
        must = f"{len(names)} columns, those of uns['regulators']"
        raise ValueError(f"adata: obsm['molecules'] has {molecules.shape[1]}; must have {must}")
    whole = np.isfinite(molecules) & (molecules >= 0) & (molecules == np.floor(molecules))
    if not whole.all():
        given = molecules[~whole].flat[0]
        raise ValueError(
            f"adata: obsm['molecules'] holds {given:g}; must be molecules, whole numbers"
        )
    acting = np.full(adata.n_obs, NOTHING)
    if world.screen is not None:
        acting = np.asarray(adata.obsm["acting"])[:, 0].astype(int)
    programs = np.asarray(adata.obsm.get("programs", np.zeros((adata.n_obs, 0))))
    capture = np.asarray(adata.obsm["capture"])[:, 0]
    return State(programs, capture, acting), molecules.astype(np.int64)


def _check_thinned(adata, world, molecules, capture, batch):
    """Raise ValueError where regulators' counts can't be some of their molecules, or are all."""
    network, must = world.network, "obsm['molecules'] must hold molecules, not counts"
    counts = counts_of(adata, simulated=True)
    columns = adata.var_names.get_indexer(network.genes[network.regulators])
    there = np.flatnonzero(columns >= 0)
    counted, molecules = dense(counts[:, columns[there]]), molecules[:, there]
    more = counted > molecules
    if more.any():
        gene = network.genes[network.regulators[there[more.any(axis=0)][0]]]
        raise ValueError(f"adata: {gene} has more counts than molecules; {must}")
    if (counted == molecules).all():
        p = capture[:, None] * world.measurement.factors[network.regulators[there]][:, batch].T
        if (molecules * np.log(np.clip(p, 1e-300, 1))).sum() < _UNLIKELY:
            raise ValueError(f"adata: all molecules of regulators were counted; {must}")


def shown(adata: ad.AnnData) -> ad.AnnData:
    """A copy of cells of a network without anything that is hidden from models.

    Counts, layers, obs, `var["regulator"]` and what else a user has added stay. Raises ValueError
    for cells of another kind.
    """
    if "mechanistic" in adata.var:
        raise ValueError("adata: mechanistic cells; must be cells of a network")
    copy = adata.copy()
    for part, names in HIDDEN.items():
        for name in names:
            getattr(copy, part).pop(name, None)
    return copy
