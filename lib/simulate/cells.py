"""Cells drawn from known laws."""

from collections.abc import Callable
from pathlib import Path
from string import ascii_uppercase

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks
from lib.counts import (
    CONTROL,
    check_counts,
    pbmc_counts,
    read_counts,
    with_columns,
    with_counts,
    with_empty_column,
)
from lib.laws import ZINB, maximum_likelihood, zinb
from lib.seeds import stream
from lib.simulate import layout, regulated
from lib.simulate.layout import PARAMETERS, labels
from lib.simulate.mechanisms import MECHANISMS, resolve
from lib.simulate.truth import CellLaws, inputs, law_given, mu_and_theta

_CHUNK = 5_000_000  # counts drawn at a time: another number would draw other large data sets


def base_genes(
    n_cells: int,
    n_genes: int,
    target_zero_prob: float | None = 0.8,
    mu_range: tuple[float, float] = (1, 10),
    dispersion_range: tuple[float, float] = (0.5, 2.0),
    *,
    n_cell_types: int = 1,
    marker_fraction: float = 0.5,
    cell_type: str = "A",
    unreachable: str = "raise",
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """Cells of independent ZINB genes.

    n_cells: cells of each cell type
    target_zero_prob: share of zeros of every gene, reached through pi; None for no dropout
    mu_range: range in which mu is uniform
    dispersion_range: range in which 1 / theta is uniform
    n_cell_types: number of cell types, which are named A, B, C ...
    marker_fraction: share of genes whose law differs between the types
    cell_type: name of the type where there is only one, so that `concat` can join several calls
    unreachable: "raise", or "clip" to pi = 0 with a warning, where the negative binomial part
        alone has more zeros
    """
    n_cells = checks.integer("n_cells", n_cells, low=1)
    n_genes = checks.integer("n_genes", n_genes, low=1)
    n_cell_types = checks.integer("n_cell_types", n_cell_types, low=1, high=26)
    mu_range = checks.interval("mu_range", mu_range, low=1e-6)
    dispersion_range = checks.interval("dispersion_range", dispersion_range, low=1e-8)
    marker_fraction = checks.number("marker_fraction", marker_fraction, 0, 1)
    if target_zero_prob is not None:
        checks.number("target_zero_prob", target_zero_prob, 0, 1)

    types = [cell_type] if n_cell_types == 1 else list(ascii_uppercase[:n_cell_types])
    rng = stream(seed, "genes")
    is_marker = (rng.permutation(n_genes) < round(marker_fraction * n_genes)) & (n_cell_types > 1)

    def drawn():
        mu = rng.uniform(*mu_range, n_genes)
        return np.stack([mu, 1 / rng.uniform(*dispersion_range, n_genes)])

    shared, laws = drawn(), {}
    for name in types:
        mu, theta = np.where(is_marker, drawn(), shared)
        pi = np.zeros(n_genes)
        if target_zero_prob is not None:
            pi = zinb.solve_pi(mu, theta, target_zero_prob, unreachable)
        laws[name] = mu, theta, pi
    names = [f"gene_{i:0{len(str(n_genes - 1))}d}" for i in range(n_genes)]
    var = pd.DataFrame({"mechanistic": False}, index=pd.Index(names))
    return _cells_of(var, *layout.laid_out(laws), np.repeat(types, n_cells), seed)


def base_genes_from_counts(
    counts: ad.AnnData | str | Path | None = None,
    n_cells: int | None = None,
    *,
    cell_type_key: str | None = None,
    layer: str | None = None,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """Cells simulated from ZINB laws that were fitted, gene by gene, to real counts.

    counts: AnnData of raw counts, or a path as for `read_counts`; by default `pbmc_counts()`
    n_cells: cells of each type, by default as many as the real ones
    cell_type_key: column of `counts.obs` with the cell types, which are fitted apart; by default
        all cells are one type
    layer: the layer that holds the counts, or "raw" for `adata.raw`; by default X
    """
    if counts is None:
        counts = pbmc_counts()
    elif not isinstance(counts, ad.AnnData):
        counts, layer = read_counts(counts, layer), None
    matrix = check_counts(counts, layer=layer)
    if n_cells is not None:
        checks.integer("n_cells", n_cells, low=1)
    types = np.full(counts.n_obs, "A")
    if cell_type_key is not None:
        checks.choice("cell_type_key", cell_type_key, counts.obs.columns)
        types = labels(counts.obs, cell_type_key, f"cell_type_key = {cell_type_key!r}")
    laws, cells = {}, []
    for name in pd.unique(types):
        fitted = maximum_likelihood.fit(matrix[types == name])
        laws[name] = fitted.mu, fitted.theta, fitted.pi
        cells += [name] * (n_cells or (types == name).sum())
    var = pd.DataFrame({"mechanistic": False}, index=counts.var_names.astype(str))
    return _cells_of(var, *layout.laid_out(laws), np.array(cells), seed)


def get_mech_dataset(
    adata: ad.AnnData,
    mechanism: str = "linear",
    *,
    gene: str | None = None,
    parents: list[str] | None = None,
    parameters: dict | None = None,
    theta: float = 1000.0,
    theta_mechanism: str | None = None,
    theta_parameters: dict | None = None,
    target_zero_prob: float | None = 0.8,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """The data set with one gene more, whose mu is a function of other genes' counts.

    mechanism: linear, polynomial, interaction, hill, threshold, gate, or `package.module:function`
    gene: the new gene's name, by default `mech_<mechanism>`
    parents: genes that it depends on, mechanistic ones too; by default all that aren't mechanistic
    parameters: the mechanism's parameters; those of a built-in one are drawn at random by default
    theta: inverse dispersion, unless `theta_mechanism` makes it a function as well
    target_zero_prob: share of zeros over the cells of `adata`, None for no dropout. Random
        parameters are drawn again, 100 times at most, until it can be reached

    Raises ValueError where the share of zeros can't be reached.
    """
    adata = layout.with_true_counts(adata)
    gene = "mech_" + mechanism.replace(":", "_").replace(".", "_") if gene is None else str(gene)
    parents = _checked_parents(adata, gene, parents)
    checks.number("theta", theta, low=1e-4)
    if target_zero_prob is not None:
        checks.number("target_zero_prob", target_zero_prob, 0, 1)
    for name in filter(None, (mechanism, theta_mechanism)):
        resolve(name)

    x = inputs(adata.X, adata.var_names.get_indexer(parents))
    rng = stream(seed, f"mechanism of {gene}")
    is_drawn = parameters is None and mechanism in MECHANISMS
    for _ in range(100 if is_drawn else 1):
        mu = _drawn(mechanism, parameters, rng, x)
        entry = {"gene": gene, "parents": np.array(parents), "mu": mu}
        if theta_mechanism is not None:
            entry["theta"] = _drawn(theta_mechanism, theta_parameters, rng, x)
        zeros = float(np.mean(zinb.nb_zero_prob(*mu_and_theta(entry, x, theta))))
        if target_zero_prob is None or zeros <= target_zero_prob:
            break
    else:
        why = f"out of reach for {gene}, whose negative binomial part alone has {zeros:.3f} zeros"
        given = f"target_zero_prob = {target_zero_prob:g}"
        raise ValueError(f"{given}: {why}; allowed from there upwards")
    pi = 0.0 if target_zero_prob is None else (target_zero_prob - zeros) / (1 - zeros)
    del x  # `law_given` needs as much again
    return _with_gene(adata, entry, np.nan if "theta" in entry else theta, pi, seed)


def _checked_parents(adata, gene, parents):
    """The parents of a new gene, by default the base genes. Raises ValueError for a wrong name."""
    if parents is None:
        parents = list(adata.var_names[~adata.var["mechanistic"].to_numpy(dtype=bool)])
    if gene in parents:
        raise ValueError(f"parents = {gene!r}: a mechanism can't refer to its own gene")
    if gene in adata.var_names:
        raise ValueError(f"gene = {gene!r}: is in the data set already")
    return checks.genes("parents", parents, list(adata.var_names))


def fresh_cells(adata: ad.AnnData, n_cells: int, *, seed: int | tuple[int, ...]) -> ad.AnnData:
    """New control cells of the same genes and mechanisms, or of the same network.

    n_cells: cells of each cell type that `adata` has cells of
    """
    checks.integer("n_cells", n_cells, low=1)
    if regulated.is_regulated(adata):
        return regulated.fresh_cells(adata, n_cells, seed=seed)
    adata = layout.with_laws(adata)
    types = pd.unique(labels(adata.obs, "cell_type"))
    varm = {p: adata.varm[p] for p in PARAMETERS}
    uns = {key: adata.uns[key] for key in ("cell_types", "mechanisms") if key in adata.uns}
    return _cells_of(adata.var, varm, uns, np.repeat(types, n_cells), seed, "fresh ")


def _with_gene(adata, entry, theta, pi, seed):
    """The data set with one mechanistic gene more, whose counts are drawn."""
    gene = entry["gene"]
    var = adata.var.reindex([*adata.var_names, gene])
    var["mechanistic"] = [*adata.var["mechanistic"], True]
    row = np.ones(len(adata.uns["cell_types"]))
    values = zip(PARAMETERS, (np.nan, theta, pi))
    varm = {p: np.vstack([adata.varm[p], value * row]) for p, value in values}
    entries = [*layout.entries_of(adata).values(), entry]
    uns = dict(adata.uns) | {"mechanisms": layout.numbered(entries)}
    parts = {"var": var, "varm": varm, "uns": uns}
    parts["layers"] = {"do": with_empty_column(adata.layers["do"])}
    counts = ad.AnnData(with_empty_column(adata.X), obs=adata.obs.copy(), **parts)
    draws = law_given(counts, [gene], counts.X).sample(stream(seed, f"counts of {gene}"))
    return with_counts(counts, {gene: draws[:, 0]})


def _cells_of(var, varm: dict, uns: dict, types: np.ndarray, seed, kind: str = "") -> ad.AnnData:
    """Draw control cells: base genes first, then mechanistic ones after their parents.

    types: (n_cells,) cell types, the cells of one type together
    kind: a word before the names of the random streams
    """
    n_cells = len(types)
    base = np.flatnonzero(~var["mechanistic"].to_numpy(dtype=bool)).astype(np.int32)
    columns = {str(name): column for column, name in enumerate(uns["cell_types"])}
    laws = {}
    for name in pd.unique(types):
        laws[name] = ZINB(*(varm[p][base, columns[name]] for p in PARAMETERS))
    step = max(1, _CHUNK // len(var))
    chunks = (types[start : start + step] for start in range(0, n_cells, step))
    blocks = [(laws[name], (chunk == name).sum()) for chunk in chunks for name in pd.unique(chunk)]
    counts = zinb.sample_csr(blocks, stream(seed, f"{kind}cells"))
    if len(base) < len(var):
        parts = counts.data, base[counts.indices], counts.indptr
        counts = sparse.csr_matrix(parts, shape=(n_cells, len(var)))
    drugs = pd.Categorical([CONTROL] * n_cells)
    obs = {"cell_type": pd.Categorical(types), "drug": drugs, "dose": 0.0}
    obs = pd.DataFrame(obs, index=[f"cell_{i}" for i in range(n_cells)])
    varm = {parameter: table.copy() for parameter, table in varm.items()}
    layers = {"do": sparse.csr_matrix(counts.shape, dtype=np.int8)}
    adata = ad.AnnData(counts, obs=obs, var=var.copy(), varm=varm, uns=dict(uns), layers=layers)

    def draw(gene, law, free):
        return law.sample(stream(seed, f"{kind}counts of {gene}"))

    adata.X = redrawn(adata, list(layout.parents(adata)), draw)
    return adata


def redrawn(adata: ad.AnnData, genes: list[str], draw: Callable) -> sparse.csr_matrix:
    """The counts in X, mechanistic genes drawn anew from their present laws, one after the other.

    genes: names, parents first
    draw: function (gene, law, free) that returns a count from each law (n_free,), that of a cell
        in the mask `free`; counts that were set stay

    Only the columns of these genes and of their parents are held dense.
    """
    if not genes:
        return adata.X
    truth = CellLaws(adata)
    own = [truth.column[gene] for gene in genes]
    needed = {column for gene in genes for column in truth.parents(gene)}.union(own)
    place = {column: i for i, column in enumerate(sorted(needed))}
    # float32 as in X, so that a child sees its parent's count as it will be kept
    counts = inputs(adata.X, list(place), np.float32, "F")

    def inputs_of(columns):
        return inputs(counts, [place[column] for column in columns])

    for gene, column in zip(genes, own):
        law = truth.law([gene], inputs_of)
        free = ~np.isnan(law.mu[:, 0])
        counts[free, place[column]] = draw(gene, law[free, 0], free)
    return with_columns(adata.X, {c: counts[:, place[c]] for c in own}, np.float32)


def _drawn(mechanism, parameters, rng, x):
    """A mechanism's entry in uns, its parameters drawn at random unless they are given."""
    if parameters is None:
        parameters = MECHANISMS[mechanism][1](rng, x) if mechanism in MECHANISMS else {}
    return {"mechanism": mechanism, "parameters": parameters}
