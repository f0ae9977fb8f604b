"""Interventions: set a gene, combine genes, give a drug.

Each returns new cells in which the intervention's descendants are drawn afresh from their new laws, parents first, and
of which `dataset.law` gives the exact new truth. Cells whose X isn't whole counts give those of `layers["counts"]`, and
what is returned has raw counts in X alone.
"""

import itertools

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks
from lib.counts import CONTROL, counts_of, dense, with_columns, with_counts, with_matrix
from lib.laws import ZINB
from lib.seeds import stream
from lib.simulate import layout
from lib.simulate.layout import descendants, with_true_counts
from lib.simulate.truth import law_given

_BLOCK = 500_000  # counts drawn at a time, to bound memory


def do(
    adata: ad.AnnData,
    interventions: dict[str, float | np.ndarray],
    *,
    exogenous: np.ndarray | None = None,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """do(gene = value) for one gene or several: a copy, in which genes that aren't descendants keep their counts.

    interventions : gene -> the count that it is set to, one for all cells or one a cell
    exogenous : (n_cells, n_genes) noise from `exogenous_noise`. With it, each descendant is the quantile of its new law
        at its noise, so that two arms with the same noise are counterfactual pairs; without it, it is drawn anew
    """
    genes = checks.genes("interventions", list(interventions), list(adata.var_names))
    adata = with_true_counts(adata)
    values = {}
    for gene in genes:
        value = np.asarray(interventions[gene], dtype=float)
        if value.shape not in ((), (adata.n_obs,)):
            allowed = f"must be one value, or one a cell ({adata.n_obs},)"
            raise ValueError(f"interventions[{gene!r}]: shape {value.shape}; {allowed}")
        wrong = ~np.isfinite(value) | (value < 0) | (value != np.floor(value))
        if wrong.any():
            first = value[wrong].flat[0]
            raise ValueError(
                f"interventions[{gene!r}] = {first:g}: must be a whole number of at least 0"
            )
        values[gene] = np.broadcast_to(value, adata.n_obs)
    if exogenous is not None:
        _check_noise(adata, exogenous, descendants(adata, genes))
    after = with_counts(adata, values)
    flags = {after.var_names.get_loc(g): 1 for g in genes}
    after.layers["do"] = with_columns(after.layers["do"], flags, after.layers["do"].dtype)
    return _redraw(after, descendants(adata, genes), exogenous, seed)


def exogenous_noise(adata: ad.AnnData, *, seed: int | tuple[int, ...] = 0) -> np.ndarray:
    """Noise in [0, 1), (n_cells, n_genes), from which the cells' own laws give the cells' own counts.

    The abduction step of a counterfactual (Pearl, Causality, 2009, section 7.1): for a count k of a law with cdf F,
    uniform between F(k - 1) and F(k); NaN where an intervention set the count, and there is no law.
    `do(adata, {gene: count}, exogenous=exogenous_noise(adata))` is what those very cells would have been.
    """
    adata = with_true_counts(adata)
    truth, counts = law_given(adata, list(adata.var_names), adata.X), dense(adata.X)
    low, high = truth.cdf(counts - 1), truth.cdf(counts)
    noise = low + (high - low) * stream(seed, "exogenous noise").random(counts.shape)
    return np.minimum(noise, np.nextafter(high, 0))


def produce_perturbed_observations_1gene(
    adata: ad.AnnData,
    gene: str = "largest",
    mech_gene: str | None = None,
    *,
    doses: list[int] | np.ndarray = range(30),
    cells: list[int] | np.ndarray | None = None,
    exogenous: np.ndarray | None = None,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """`dose_series` of one gene, which `parent_to_perturb` picks."""
    gene = parent_to_perturb(adata, gene, mech_gene)
    return dose_series(adata, {gene: doses}, cells=cells, exogenous=exogenous, seed=seed)


def parent_to_perturb(
    adata: ad.AnnData, gene: str = "largest", mech_gene: str | None = None
) -> str:
    """A gene by its name, or the parent of "smallest" or "largest" weight in `mech_gene`, by default the first one."""
    if gene not in ("smallest", "largest"):
        return checks.genes("gene", gene, list(adata.var_names))[0]
    mechanistic = list(layout.parents(adata))
    if mech_gene is None and not mechanistic:
        raise ValueError(
            f"gene = {gene!r}: adata has no mechanistic gene; name the gene to perturb"
        )
    weights = layout.weights(adata, mechanistic[0] if mech_gene is None else mech_gene)
    return str(weights.idxmin() if gene == "smallest" else weights.idxmax())


def second_parent(adata: ad.AnnData, gene: str, mech_gene: str) -> str:
    """The parent of `mech_gene` to perturb with `gene`: the other of smallest weight, or the first without weights."""
    others = [g for g in layout.parents(adata)[mech_gene] if g != gene]
    if not others:
        raise ValueError(
            f"mech_gene = {mech_gene!r}: has no parent other than {gene}, and a pair needs two"
        )
    try:
        return str(layout.weights(adata, mech_gene)[others].idxmin())
    except ValueError:
        return others[0]


def doses_to_beyond(
    train: ad.AnnData, gene: str, n_doses: int = 30, percentile: float = 99.0
) -> tuple[np.ndarray, float]:
    """Doses that reach beyond the training range, and `end`, the 99th percentile, up to which they are interpolation.

    They are 0, 1, 2, ... or, if that ends short of twice the percentile, as many whole numbers spread up to there.
    """
    checks.integer("n_doses", n_doses, low=2)
    percentiles = [99, checks.number("percentile", percentile, 0, 100)]
    end, reached = (float(q) for q in np.percentile(dense(train[:, gene].X), percentiles))
    return np.unique(np.round(np.linspace(0, max(n_doses - 1, np.ceil(2 * reached)), n_doses))), end


def dose_series(
    adata: ad.AnnData,
    doses: dict[str, list[int] | np.ndarray],
    *,
    cells: list[int] | np.ndarray | None = None,
    exogenous: np.ndarray | None = None,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """Every combination of doses of one or several genes in every reference cell.

    doses : gene -> the counts it is set to
    cells : indices of the reference cells, by default the first
    exogenous : of `adata`, as in `do`

    Returns those of a reference cell together; `obs` has its name as `reference`, and the genes as `perturbed`.
    """
    genes = checks.genes("gene", list(doses), list(adata.var_names))
    adata, cells = with_true_counts(adata), np.atleast_1d([0] if cells is None else cells)
    if not adata.obs_names.is_unique:
        twice = adata.obs_names[adata.obs_names.duplicated()][0]
        raise ValueError(f"adata: cell {twice!r} is there twice; adata.obs_names_make_unique()")
    if cells.size == 0 or (cells < 0).any() or (cells >= adata.n_obs).any():
        raise ValueError(
            f"cells = {cells.tolist()[:5]}: must be indices from 0 to {adata.n_obs - 1}, at least one"
        )
    checked = [checks.numbers(f"doses of {g}", np.asarray(doses[g]), low=0) for g in genes]
    grid = np.array(list(itertools.product(*checked)))
    rows, combination = (
        part.ravel() for part in np.meshgrid(cells, np.arange(len(grid)), indexing="ij")
    )
    references = adata.obs_names[rows]
    obs = adata.obs.iloc[rows].assign(
        reference=pd.Categorical(references), perturbed="+".join(genes)
    )
    obs.index = [f"{r}_{i}" for r, i in zip(references, combination)]
    same = {"var": adata.var.copy(), "varm": dict(adata.varm), "uns": adata.uns}
    repeated = ad.AnnData(adata.X[rows], obs=obs, layers={"do": adata.layers["do"][rows]}, **same)
    noise = None if exogenous is None else exogenous[rows]
    return do(repeated, dict(zip(genes, grid[combination].T)), exogenous=noise, seed=seed)


def dose_of(cells: ad.AnnData, gene: str) -> np.ndarray:
    """The count that an intervention has set a gene to, (n_cells,). ValueError if none has."""
    name = checks.genes("gene", gene, list(cells.var_names))[0]
    place = [cells.var_names.get_loc(name)]
    was_set = "do" in cells.layers and dense(cells.layers["do"][:, place])[:, 0] != 0
    n_free = cells.n_obs - np.count_nonzero(was_set)
    if n_free:
        raise ValueError(
            f"gene = {name!r}: wasn't set in {n_free} of {cells.n_obs} cells; must be in all"
        )
    return dense(counts_of(cells)[:, place])[:, 0].astype(float)


def additive(adata: ad.AnnData, shift: float = 10.0, **options) -> ad.AnnData:
    """Cells under a drug that adds `shift * dose` counts to mu. `options` as in `treat`."""
    return treat(adata, "additive", shift, **options)


def fold_change(adata: ad.AnnData, fold: float = 2.0, **options) -> ad.AnnData:
    """Cells under a drug that multiplies mu by `fold ** dose`. `options` as in `treat`."""
    return treat(adata, "fold_change", checks.number("fold", fold, low=1e-6), **options)


def treat(
    adata: ad.AnnData,
    kind: str,
    effect: float,
    *,
    name: str | None = None,
    genes: list[str] | None = None,
    dose: float = 1.0,
    cell_type_factors: dict[str, float] | None = None,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """Cells under a drug, drawn from their treated laws: every count anew, since no cell is measured twice.

    kind : "additive", mu + effect * dose, or "fold_change", mu * effect ** dose
    name : by default the kind
    genes : targets, by default all; mechanistic genes then follow their parents too
    cell_type_factors : cell type -> factor on the dose there, by default 1
    """
    adata = with_true_counts(adata)
    entry = _drug_entry(adata, kind, effect, name, genes, cell_type_factors)
    dose = checks.number("dose", dose, low=0)
    if (layout.labels(adata.obs, "drug") != CONTROL).any():
        raise ValueError("adata: has treated cells; a drug is given to control cells")
    after = with_matrix(adata, adata.X)
    others = [
        drug
        for drug in layout.in_order(adata.uns.get("drugs", {}))
        if str(drug["name"]) != entry["name"]
    ]
    after.uns["drugs"] = layout.numbered([*others, entry])
    after.obs["drug"] = pd.Categorical([entry["name"]] * after.n_obs)
    after.obs["dose"] = dose
    mechanistic = list(layout.parents(after))
    after.X = _base_genes_drawn(after, mechanistic, stream(seed, f"cells under {entry['name']}"))
    return _redraw(after, mechanistic, None, seed)


def _drug_entry(adata, kind, effect, name, genes, cell_type_factors):
    """What `uns["drugs"]` has of a drug. Raises ValueError for one that can't be."""
    checks.choice("kind", kind, ("additive", "fold_change"))
    effect = checks.number("effect", effect, low=1e-6 if kind == "fold_change" else None)
    genes = checks.genes(
        "genes", list(adata.var_names) if genes is None else genes, list(adata.var_names)
    )
    factors = {}
    for cell_type, factor in (cell_type_factors or {}).items():
        checks.choice("cell_type_factors", cell_type, layout.cell_types(adata))
        factors[cell_type] = checks.number(f"cell_type_factors[{cell_type!r}]", factor)
    if name == CONTROL:
        raise ValueError(f"name = {name!r}: must be other than {CONTROL!r}, the name of no drug")
    types, values = (
        np.array(list(factors), dtype=object),
        np.array(list(factors.values()), dtype=float),
    )
    known = {
        "name": str(kind if name is None else name),
        "kind": kind,
        "effect": effect,
        "genes": np.array(genes),
    }
    return known | {"cell_types": types, "factors": values}


def _base_genes_drawn(adata, mechanistic, rng):
    """Counts in which base genes are drawn from their laws, some genes at a time, but where set."""
    by_gene, blocks, step = sparse.csr_matrix(adata.X.T), [], max(1, _BLOCK // max(1, adata.n_obs))
    for first in range(0, adata.n_vars, step):
        names = adata.var_names[first : first + step]
        counts = by_gene[first : first + step].toarray()
        base = np.flatnonzero(~names.isin(mechanistic))
        law = law_given(adata, list(names[base]), None)
        for i, gene in enumerate(base):
            free = np.flatnonzero(~np.isnan(law.mu[:, i]))
            counts[gene, free] = ZINB(*(p[:, i][free] for p in (law.mu, law.theta, law.pi))).sample(
                rng
            )
        blocks.append(sparse.csr_matrix(counts, dtype=np.float32).T.tocsr())
    return sparse.hstack(blocks, format="csr")


def _redraw(adata, genes, exogenous, seed):
    """Draw genes of `adata` from their present laws, one after the other, in place; counts that were set stay."""
    for gene in genes:
        new, column = law_given(adata, [gene], adata.X)[:, 0], adata.var_names.get_loc(gene)
        counts = dense(adata.X[:, [column]])[:, 0]
        free = ~np.isnan(new.mu)
        if exogenous is None:
            counts[free] = new[free].sample(stream(seed, f"counts of {gene} after an intervention"))
        else:
            counts[free] = new[free].quantile(exogenous[free, column])
        adata.X = with_columns(adata.X, {column: counts}, np.float32)
    return adata


def _check_noise(adata, exogenous, genes):
    if np.shape(exogenous) != adata.shape:
        raise ValueError(f"exogenous: shape {np.shape(exogenous)}; must be {adata.shape}")
    columns = adata.var_names.get_indexer(genes)
    free = dense(adata.layers["do"][:, columns]) == 0
    noise = exogenous[:, columns][free]
    wrong = ~((noise >= 0) & (noise < 1))
    if wrong.any():
        raise ValueError(f"exogenous = {noise[wrong][0]:g}: must be at least 0 and below 1")
