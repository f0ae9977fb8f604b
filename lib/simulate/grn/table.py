"""A gene regulatory network from tables, as published ones are distributed."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib import checks
from lib.simulate.grn.network import GRN, OWN

EDGE = ("regulator", "target", "effect")
PUBLISHED = {"regulator": "source", "effect": "weight"}  # names in decoupler's networks
POWER = 2.0  # Hill coefficient of an edge that names none


def from_table(
    edges: pd.DataFrame | str | Path,
    genes: pd.DataFrame | None = None,
    *,
    base: float = 10.0,
    theta: float = 5.0,
    logic: str = "product",
    cell_types: list[str] | None = None,
    programs: pd.DataFrame | None = None,
    mechanisms: dict | None = None,
) -> GRN:
    """The network of a table of edges.

    edges: table, or path of a .csv or .tsv, with columns regulator (or source), target and effect
        (or weight; log2 of a fold), and optionally half (molecules; else the regulator's mean
        base), power (else 2) and cell_type (else, and where it is "", all of them)
    genes: table (or its path) with a row a gene, named by the index (or the first column), and
        optionally columns base and theta (or, a cell type each, "base <type>" and "theta <type>"),
        logic and module; by default the genes of `edges`, sorted
    base, theta, logic: those of genes for which `genes` has no column
    cell_types: names; by default those of the tables, or else "A"
    programs: loadings of hidden programs, a row a gene and a column a program, of which a cycle has
        two of the same name; by default there is none, and no shift that arms share
    mechanisms: as in `GRN`; these genes need no logic

    `GRN.edge_table()` and `GRN.gene_table()` give such tables, but for programs, mechanisms and the
    name of a single cell type. Raises ValueError in one line for edges in a cycle, of a gene that
    isn't in `genes`, or there twice, and for NaN.
    """
    table = _checked(edges)
    if genes is not None and not isinstance(genes, pd.DataFrame):
        genes = _read("genes", genes, {0: str})
        genes = genes.set_index(genes.columns[0])
    if genes is None:
        genes = pd.DataFrame(index=np.unique(table[["regulator", "target"]].to_numpy().ravel()))
    names = [str(gene) for gene in genes.index]
    _check_genes(table, names)
    types = [c.removeprefix("base ") for c in genes.columns if c.startswith("base ")]
    types = cell_types or types or [t for t in pd.unique(table["cell_type"]) if t] or ["A"]
    own = dict(mechanisms or {})

    def of_types(column, default):
        usual = _numbers(genes, column, default)
        columns = (f"{column} {t}" for t in types)
        return np.column_stack([_numbers(genes, c, 0) if c in genes else usual for c in columns])

    bases = of_types("base", base)
    logics = np.where(np.isin(names, list(own)), OWN, _of(genes, "logic", logic).astype(object))
    return GRN(
        **_edges(table, names, types, bases.mean(axis=1)),
        genes=names,
        cell_types=types,
        logic=logics,
        base=bases,
        theta=of_types("theta", theta),
        module=_numbers(genes, "module", 0),
        **_programs(programs, names),
        mechanisms=own,
    )


def _check_genes(table, names):
    for column in ("regulator", "target"):
        missing = ~table[column].isin(names)
        if missing.any():
            gene = table.loc[missing, column].iloc[0]
            raise ValueError(f"edges: {column} {gene!r} isn't in genes; must be a row there")


def _programs(table, names):
    """The fields of `GRN` that are about programs."""
    if table is None:
        return {"loadings": np.zeros((len(names), 0)), "programs": []}
    known = checks.genes("programs, its index", [str(gene) for gene in table.index], names)
    loadings = np.zeros((len(names), table.shape[1]))
    loadings[[names.index(gene) for gene in known]] = table.to_numpy(dtype=float)
    return {"loadings": loadings, "programs": [str(name) for name in table.columns]}


def _read(name, path, kinds):
    """A table of commas, or of tabs in a .tsv. Raises ValueError where there is none."""
    path = Path(checks.text(name, str(path), empty=False))
    if not path.is_file():
        raise ValueError(f"{name} = {str(path)!r}: no such file")
    tabs = path.suffix in (".tsv", ".txt")
    given = {"keep_default_na": False, "na_values": ["", "NA", "NaN", "nan"], "dtype": kinds}
    return pd.read_csv(path, sep="\t" if tabs else ",", **given)


def _of(genes, column, default):
    """A column of the table of genes, (n_genes,)."""
    return genes[column].to_numpy() if column in genes else np.full(len(genes), default)


def _numbers(genes, column, default):
    """The same of numbers. Raises ValueError for what is none."""
    values = _of(genes, column, default)
    found = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy()
    if column in genes and np.isnan(found).any():
        row = np.flatnonzero(np.isnan(found))[0]
        what = f"{column} of {genes.index[row]} = {checks.shown(values[row])}"
        raise ValueError(f"genes: {what}; must be a number")
    return found


def _checked(edges):
    """The table of edges, with all columns. Raises ValueError for what it may not hold."""
    table = edges
    if not isinstance(edges, pd.DataFrame):
        names = "regulator", "source", "target", "cell_type"
        table = _read("edges", edges, dict.fromkeys(names, str))  # "01" isn't 1
    lacking = [column for column in EDGE if column not in table]
    table = table.rename(columns={PUBLISHED.get(column): column for column in lacking})
    lacking = [column for column in EDGE if column not in table]
    if lacking:
        has = ", ".join(map(str, table.columns))
        raise ValueError(f"edges: has no column {lacking[0]!r}, but {has}")
    table = table.reset_index(drop=True).copy()
    for column in EDGE:
        if table[column].isna().any():
            row = int(np.flatnonzero(table[column].isna())[0])
            raise ValueError(f"edges: {column} is missing in row {row}; must be in none")
    for column in ("effect", "half", "power"):
        default = {"half": np.nan, "power": POWER}.get(column)
        values = table.get(column, pd.Series(default, table.index))
        table[column] = pd.to_numeric(values, errors="coerce")
        lost = table[column].isna() & values.notna()
        if lost.any():
            raise ValueError(f"edges: {column} = {values[lost].iloc[0]!r}: must be a number")
    table["power"] = table["power"].fillna(POWER)
    types = table.get("cell_type", pd.Series("", table.index)).fillna("")
    return table.assign(cell_type=types.astype(str)).astype({"regulator": str, "target": str})


def _edges(table, names, types, usual_half):
    """The fields of `GRN` that are about edges. Rows that differ in cell type alone are one edge.

    usual_half: (n_genes,) half of a regulator's edges that have none
    """
    places = {gene: place for place, gene in enumerate(names)}
    ends = [table[column].map(places).to_numpy(dtype=int) for column in ("regulator", "target")]
    half = np.where(table["half"].isna(), usual_half[ends[0]], table["half"])
    values = np.column_stack([*ends, table["effect"], half, table["power"]]).astype(float)
    once, first, edge = np.unique(values, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # as in the table
    edge = np.argsort(order)[edge.ravel()]
    acts = np.zeros((len(once), len(types)), dtype=int)
    for number, cell_type in zip(edge, table["cell_type"]):
        if cell_type:
            acts[number, types.index(checks.choice("cell_type of edges", cell_type, types))] += 1
        else:
            acts[number] += 1
    if (acts > 1).any():
        regulator, target = once[order][(acts > 1).any(axis=1)][0, :2].astype(int)
        pair = f"{names[regulator]} -> {names[target]}"
        raise ValueError(f"edges: {pair} is there twice; must be once in a cell type")
    regulator, target, effect, half, power = once[order].T
    fields = {"regulator": regulator.astype(int), "target": target.astype(int), "acts": acts > 0}
    return fields | {"effect": effect, "half": half, "power": power}
