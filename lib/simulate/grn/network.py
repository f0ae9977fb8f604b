"""Gene regulatory networks: who regulates whom, how strongly, and in which cell types.

An edge acts on molecules. With x molecules of the regulator, h = x^n / (half^n + x^n) and F =
2^effect, the target's mean is multiplied by

    (1 + (F - 1) h) / (1 + (F - 1) / 2),

which is 1 where the regulator has `half` molecules; F above 1 activates, below 1 represses. Several
regulators combine by the target's logic (`lib.simulate.grn.regulation`).
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.special as special

from lib import checks
from lib.simulate.arrays import Arrays
from lib.simulate.layout import in_order, numbered
from lib.simulate.mechanisms import resolve

LOGICS = ("product", "sum", "and", "or")
OWN = "mechanism"  # the logic of a gene whose mean is a mechanism of its regulators' molecules


@dataclass(frozen=True, eq=False)
class GRN(Arrays):
    """A gene regulatory network in plain arrays, which can't be written to.

    genes: (n_genes,) names
    cell_types: (n_types,) names
    regulator, target: (n_edges,) places in `genes`
    effect: (n_edges,) log2 of the fold between no and endless molecules of the regulator
    half: (n_edges,) molecules of the regulator at which the fold is 1
    power: (n_edges,) Hill coefficient
    acts: (n_edges, n_types) whether an edge is there in a cell type
    logic: (n_genes,) how a gene's regulators combine: product, sum, and, or; "mechanism": see below
    base: (n_genes, n_types) mean molecules where each regulator has `half`
    theta: (n_genes, n_types) inverse dispersion of molecules, given those of the regulators;
        (n_genes,) where it is the same in all types
    module: (n_genes,) number of the gene's module
    loadings: (n_genes, n_columns) log of the fold of a gene's mean for each unit of a program
    programs: (n_columns,) names of hidden programs, one twice in a row where it is a cycle: its
        activities are the cosine and sine of a phase, times the root of 2. Others are normal
    mechanisms: gene -> {"mechanism", "parameters"} for genes of that logic: a built-in mechanism or
        an import string, whose value at the molecules of the gene's regulators, in the order of the
        edges, multiplies `base`

    Raises ValueError in one line for edges in a cycle, which is named, and for what doesn't fit.
    """

    genes: np.ndarray
    cell_types: np.ndarray
    regulator: np.ndarray
    target: np.ndarray
    effect: np.ndarray
    half: np.ndarray
    power: np.ndarray
    acts: np.ndarray
    logic: np.ndarray
    base: np.ndarray
    theta: np.ndarray
    module: np.ndarray
    loadings: np.ndarray
    programs: np.ndarray
    mechanisms: dict

    def __post_init__(self):
        for field in fields(self)[:-1]:
            values = getattr(self, field.name)
            if field.name == "theta" and np.ndim(values) == 1:
                values = np.repeat(np.array(values)[:, None], len(self.cell_types), axis=1)
            self._keep(field.name, values, KINDS.get(field.name))
        _check(self)
        self.generations  # noqa: B018  a cycle is told now

    def replace(self, **changes) -> GRN:
        """The network with other values of some fields."""
        return GRN(**{field.name: getattr(self, field.name) for field in fields(self)} | changes)

    @cached_property
    def places(self) -> dict[str, int]:
        """Gene -> its place in `genes`."""
        return {str(gene): place for place, gene in enumerate(self.genes)}

    @cached_property
    def regulators(self) -> np.ndarray:
        """Places of the genes that regulate any, sorted."""
        return np.unique(self.regulator)

    @cached_property
    def generations(self) -> list[np.ndarray]:
        """Places of the genes, in groups whose regulators are all in groups before."""
        sorter = graphlib.TopologicalSorter(dict.fromkeys(range(len(self.genes)), ()))
        for regulator, target in zip(self.regulator.tolist(), self.target.tolist()):
            sorter.add(target, regulator)
        try:
            sorter.prepare()
        except graphlib.CycleError as error:
            cycle = " -> ".join(str(self.genes[place]) for place in error.args[1])
            raise ValueError(f"edges: have a cycle, {cycle}; must have none") from None
        found = []
        while sorter.is_active():
            ready = sorter.get_ready()
            found.append(np.sort(ready))
            sorter.done(*ready)
        return found

    @cached_property
    def program_columns(self) -> dict[str, list[int]]:
        """Program -> its columns of `loadings`: one, or two of a cycle."""
        found: dict[str, list[int]] = {}
        for column, name in enumerate(self.programs):
            found.setdefault(str(name), []).append(column)
        return found

    @cached_property
    def log_mean_fold(self) -> np.ndarray:
        """Log of the mean over cells of exp(loadings . activities), (n_genes,)."""
        log_mean = np.zeros(len(self.genes))
        for columns in self.program_columns.values():
            square = (self.loadings[:, columns] ** 2).sum(axis=1)
            if len(columns) == 1:
                log_mean += square / 2
            else:  # the mean of exp(length cos phase) is the Bessel function I0
                length = np.sqrt(2 * square)
                log_mean += np.log(special.i0e(length)) + length
        return log_mean

    def type_of(self, cell_type: str, name: str = "cell_type") -> int:
        """The place of a cell type. Raises ValueError for another one."""
        return list(self.cell_types).index(checks.choice(name, cell_type, self.cell_types))

    def edges_in(self, cell_type: int) -> np.ndarray:
        """Places of the edges that act in the cell type at this place."""
        return np.flatnonzero(self.acts[:, cell_type])

    def reached(self, genes: Iterable[str], cell_type: str | None = None) -> np.ndarray:
        """Whether each gene is downstream of any of `genes`, or one of them, (n_genes,).

        cell_type: in whose edges; None: in all
        """
        genes = checks.genes("genes", genes, list(self.places))
        starts = np.zeros(len(self.genes), dtype=bool)
        starts[[self.places[gene] for gene in genes]] = True
        return self.downstream(starts, None if cell_type is None else self.type_of(cell_type))

    def downstream(self, starts: np.ndarray, cell_type: int | None = None) -> np.ndarray:
        """`reached` from a mask of genes, (n_genes,), and the place of a cell type."""
        edges = slice(None) if cell_type is None else self.edges_in(cell_type)
        regulator, target = self.regulator[edges], self.target[edges]
        is_reached, n_before = starts.copy(), -1
        while (n_now := is_reached.sum()) > n_before:
            is_reached[target[is_reached[regulator]]] = True
            n_before = n_now
        return is_reached

    def edge_table(self) -> pd.DataFrame:
        """The edges, a row each: what `from_table` reads.

        Columns are regulator, target, effect, half, power and, where there are several cell types,
        cell_type: "" for an edge of all of them, else a row a type.
        """
        in_all = self.acts.all(axis=1)
        edge, kind = np.nonzero(self.acts & ~in_all[:, None])
        rows = np.concatenate([np.flatnonzero(in_all), edge])
        types = [*[""] * in_all.sum(), *self.cell_types[kind]]
        table = pd.DataFrame({
            "regulator": self.genes[self.regulator],
            "target": self.genes[self.target],
            "effect": self.effect,
            "half": self.half,
            "power": self.power,
        }).iloc[rows]  # fmt: skip
        table = table.assign(cell_type=types, place=rows).sort_values("place", kind="stable")
        unused = ["place"] if len(self.cell_types) > 1 else ["place", "cell_type"]
        return table.drop(columns=unused).reset_index(drop=True)

    def gene_table(self) -> pd.DataFrame:
        """The genes, a row each: regulator, module, depth, logic, base and theta.

        depth is the longest path to the gene from one without regulators. Where there are several
        cell types, base and theta are columns "base <type>" and "theta <type>".
        """
        depth = np.empty(len(self.genes), dtype=int)
        for number, places in enumerate(self.generations):
            depth[places] = number
        columns = {
            "regulator": np.isin(np.arange(len(self.genes)), self.regulators),
            "module": self.module,
            "depth": depth,
            "logic": self.logic,
        }
        for name, values in (("base", self.base), ("theta", self.theta)):
            for place, cell_type in enumerate(self.cell_types):
                several = len(self.cell_types) > 1
                columns[f"{name} {cell_type}" if several else name] = values[:, place]
        return pd.DataFrame(columns, index=pd.Index(self.genes, name="gene"))

    def digraph(self, cell_type: str | None = None):
        """The network as a networkx.DiGraph, genes and edges with their values as attributes.

        cell_type: in whose edges; None: in all, the last one where a pair has several
        """
        import networkx as nx

        which = range(len(self.effect))
        if cell_type is not None:
            which = self.edges_in(self.type_of(cell_type))
        graph = nx.DiGraph()
        for gene, row in self.gene_table().iterrows():
            graph.add_node(gene, **row.to_dict())
        for i in which:
            ends = str(self.genes[self.regulator[i]]), str(self.genes[self.target[i]])
            values = {name: float(getattr(self, name)[i]) for name in ("effect", "half", "power")}
            graph.add_edge(*ends, **values)
        return graph

    def as_arrays(self) -> dict:
        own = [{"gene": gene, **entry} for gene, entry in self.mechanisms.items()]
        return super().as_arrays() | {"mechanisms": numbered(own)}

    @classmethod
    def from_arrays(cls, arrays: dict) -> GRN:
        """The network whose `as_arrays` these are."""
        own = {str(e["gene"]): {k: v for k, v in e.items() if k != "gene"}
               for e in in_order(arrays["mechanisms"])}  # fmt: skip
        return cls(**{**arrays, "mechanisms": own})


LIMITS = {
    "effect": (-30, 30), "half": (1e-6, 1e12), "power": (1e-3, 100), "base": (0, 1e12),
    "theta": (1e-4, 1e8), "loadings": (-30, 30),
}  # fmt: skip
KINDS = {
    "genes": object, "cell_types": object, "logic": object, "programs": object,
    "regulator": np.int64, "target": np.int64, "module": np.int64, "acts": bool,
    "effect": float, "half": float, "power": float, "base": float, "theta": float,
    "loadings": float,
}  # fmt: skip


def _check(network):
    """Raise ValueError in one line where the arrays don't fit each other or hold wrong values."""
    n_genes, n_types, n_edges = (len(network.genes), len(network.cell_types), len(network.effect))
    network._check_shapes({
        "regulator": (n_edges,),
        "target": (n_edges,),
        "half": (n_edges,),
        "power": (n_edges,),
        "acts": (n_edges, n_types),
        "logic": (n_genes,),
        "base": (n_genes, n_types),
        "theta": (n_genes, n_types),
        "module": (n_genes,),
        "loadings": (n_genes, len(network.programs)),
    })  # fmt: skip
    for name in ("genes", "cell_types"):
        names = [str(value) for value in getattr(network, name)]
        if not names or len(set(names)) < len(names):
            twice = next((n for n in names if names.count(n) > 1), None)
            raise ValueError(f"{name}: {twice!r} is there twice" if twice else f"{name}: has none")
    for name, (low, high) in LIMITS.items():
        values = getattr(network, name)
        wrong = ~((values >= low) & (values <= high))
        if wrong.any():
            allowed = f"from {low:g} to {high:g}"
            raise ValueError(f"{name} = {values[wrong].flat[0]:g}: must be {allowed}")
    for name in ("regulator", "target"):
        values = getattr(network, name)
        if ((values < 0) | (values >= n_genes)).any():
            raise ValueError(f"{name}: must be places from 0 to {n_genes - 1}")
    pairs = network.regulator * n_genes + network.target
    for cell_type in range(n_types):
        here = network.edges_in(cell_type)
        places, counts = np.unique(pairs[here], return_counts=True)
        if (counts > 1).any():
            regulator, target = divmod(places[counts > 1][0], n_genes)
            ends = f"{network.genes[regulator]} -> {network.genes[target]}"
            raise ValueError(f"edges: {ends} is there twice; must be once in a cell type")
    for gene, logic in zip(network.genes, network.logic):
        checks.choice(f"logic of {gene}", logic, (*LOGICS, OWN))
        if (logic == OWN) != (gene in network.mechanisms):
            raise ValueError(f"logic of {gene} = {logic!r}: must be {OWN!r} where it has one")
    checks.listed("mechanisms", list(network.mechanisms), list(network.genes), least=0)
    for entry in network.mechanisms.values():
        resolve(str(entry["mechanism"]))
