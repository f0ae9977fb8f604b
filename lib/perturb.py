"""Interventions: set a gene, combine genes, give a drug, screen a network.

Each returns new cells in which the descendants of what was intervened on are drawn anew from their
new laws, parents first; `dataset.law` gives the exact truth about them. Where X doesn't hold whole
counts, those of `layers["counts"]` are taken. The new cells have raw counts in X, and no others.
"""

import itertools

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks
from lib.counts import CONTROL, counts_of, dense, with_columns, with_counts, with_matrix
from lib.seeds import stream
from lib.simulate import layout
from lib.simulate.cells import redrawn
from lib.simulate.layout import descendants, with_true_counts
from lib.simulate.screen import arm_cells, screen
from lib.simulate.truth import CellLaws, law_given

__all__ = [
    "additive", "arm_cells", "do", "dose_of", "dose_series", "doses_to_beyond", "exogenous_noise",
    "fold_change", "parent_to_perturb", "produce_perturbed_observations_1gene", "screen",
    "second_parent", "treat",
]  # fmt: skip

_BLOCK = 500_000  # counts drawn at a time, to bound memory


def do(
    adata: ad.AnnData,
    interventions: dict[str, float | np.ndarray],
    *,
    exogenous: np.ndarray | None = None,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """do(gene = value) for one gene or several.

    interventions: gene -> the count that it is set to, one for all cells or one a cell
    exogenous: (n_cells, n_genes) noise from `exogenous_noise`. With it, each descendant is the
        quantile of its new law at its noise, so that two arms with the same noise are
        counterfactual pairs; without it, it is drawn anew

    Returns a copy in which genes that are neither set nor descendants keep their counts.
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
            given = f"interventions[{gene!r}] = {value[wrong].flat[0]:g}"
            raise ValueError(f"{given}: must be a whole number of at least 0")
        values[gene] = np.broadcast_to(value, adata.n_obs)
    if exogenous is not None:
        _check_noise(adata, exogenous, descendants(adata, genes))
    after = with_counts(adata, values)
    flags = {after.var_names.get_loc(g): 1 for g in genes}
    was_set = after.layers["do"]
    after.layers["do"] = with_columns(was_set, flags, was_set.dtype)
    return _redraw(after, descendants(adata, genes), exogenous, seed)


def exogenous_noise(adata: ad.AnnData, *, seed: int | tuple[int, ...] = 0) -> np.ndarray:
    """Noise, (n_cells, n_genes) in [0, 1), from which the cells' own laws give their own counts.

    The abduction step of a counterfactual (Pearl, Causality, 2009, section 7.1): for a count k of
    a law with cdf F, noise is uniform between F(k - 1) and F(k). It is NaN where an intervention
    set the count, which then has no law. `do(adata, {gene: count}, exogenous=noise)` gives what
    those very cells would have been.
    """
    adata = with_true_counts(adata)
    truth = law_given(adata, list(adata.var_names), adata.X)
    counts = dense(adata.X)
    low = truth.cdf(counts - 1)
    high = truth.cdf(counts)
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
    """`dose_series` of the one gene that `parent_to_perturb` picks."""
    gene = parent_to_perturb(adata, gene, mech_gene)
    return dose_series(adata, {gene: doses}, cells=cells, exogenous=exogenous, seed=seed)


def parent_to_perturb(
    adata: ad.AnnData, gene: str = "largest", mech_gene: str | None = None
) -> str:
    """The gene to perturb.

    gene: its name, or "smallest" or "largest": the parent with that weight in `mech_gene`
    mech_gene: a mechanistic gene, by default the first one
    """
    if gene not in ("smallest", "largest"):
        return checks.genes("gene", gene, list(adata.var_names))[0]
    mechanistic = list(layout.parents(adata))
    if mech_gene is None and not mechanistic:
        why = "adata has no mechanistic gene"
        raise ValueError(f"gene = {gene!r}: {why}; name the gene to perturb")
    weights = layout.weights(adata, mechanistic[0] if mech_gene is None else mech_gene)
    return str(weights.idxmin() if gene == "smallest" else weights.idxmax())


def second_parent(adata: ad.AnnData, gene: str, mech_gene: str) -> str:
    """The parent of `mech_gene` to perturb together with `gene`.

    It is the one of smallest weight among the others; the first of them if there are no weights.
    """
    others = [g for g in layout.parents(adata)[mech_gene] if g != gene]
    if not others:
        why = f"has no parent other than {gene}"
        raise ValueError(f"mech_gene = {mech_gene!r}: {why}, and a pair needs two")
    try:
        return str(layout.weights(adata, mech_gene)[others].idxmin())
    except ValueError:
        return others[0]


def doses_to_beyond(
    train: ad.AnnData, gene: str, n_doses: int = 30, percentile: float = 99.0
) -> tuple[np.ndarray, float]:
    """Doses of a gene that reach beyond its range in training.

    n_doses: number of doses, some of which may coincide
    percentile: percentile of the gene's counts in `train`; the doses reach at least twice as far

    Returns the doses, 0, 1, 2, ... or whole numbers spread up to that end if it lies beyond, and
    the 99th percentile, up to which they are interpolation.
    """
    checks.integer("n_doses", n_doses, low=2)
    percentiles = [99, checks.number("percentile", percentile, 0, 100)]
    end, reached = (float(q) for q in np.percentile(dense(train[:, gene].X), percentiles))
    highest = max(n_doses - 1, np.ceil(2 * reached))
    return np.unique(np.round(np.linspace(0, highest, n_doses))), end


def dose_series(
    adata: ad.AnnData,
    doses: dict[str, list[int] | np.ndarray],
    *,
    cells: list[int] | np.ndarray | None = None,
    exogenous: np.ndarray | None = None,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """Every combination of doses of one or several genes in every reference cell.

    doses: gene -> the counts that it is set to
    cells: indices of the reference cells, by default the first cell alone
    exogenous: (n_cells, n_genes) noise of the cells of `adata`, as in `do`

    Returns new cells, those of one reference cell together; `obs["reference"]` has its name, and
    `obs["perturbed"]` the genes.
    """
    genes = checks.genes("gene", list(doses), list(adata.var_names))
    adata = with_true_counts(adata)
    cells = np.atleast_1d([0] if cells is None else cells)
    if not adata.obs_names.is_unique:
        twice = adata.obs_names[adata.obs_names.duplicated()][0]
        raise ValueError(f"adata: cell {twice!r} is there twice; adata.obs_names_make_unique()")
    if cells.size == 0 or (cells < 0).any() or (cells >= adata.n_obs).any():
        allowed = f"indices from 0 to {adata.n_obs - 1}, at least one"
        raise ValueError(f"cells = {cells.tolist()[:5]}: must be {allowed}")
    checked = [checks.numbers(f"doses of {g}", np.asarray(doses[g]), low=0) for g in genes]
    grid = np.array(list(itertools.product(*checked)))
    rows = np.repeat(cells, len(grid))
    combination = np.tile(np.arange(len(grid)), cells.size)
    references = adata.obs_names[rows]
    labels = {"reference": pd.Categorical(references), "perturbed": "+".join(genes)}
    obs = adata.obs.iloc[rows].assign(**labels)
    obs.index = [f"{r}_{i}" for r, i in zip(references, combination)]
    same = {"var": adata.var.copy(), "varm": dict(adata.varm), "uns": adata.uns}
    repeated = ad.AnnData(adata.X[rows], obs=obs, layers={"do": adata.layers["do"][rows]}, **same)
    noise = None if exogenous is None else exogenous[rows]
    return do(repeated, dict(zip(genes, grid[combination].T)), exogenous=noise, seed=seed)


def dose_of(cells: ad.AnnData, gene: str) -> np.ndarray:
    """The count that an intervention has set a gene to, (n_cells,).

    Raises ValueError where it wasn't set in every cell.
    """
    name = checks.genes("gene", gene, list(cells.var_names))[0]
    place = [cells.var_names.get_loc(name)]
    was_set = "do" in cells.layers and dense(cells.layers["do"][:, place])[:, 0] != 0
    n_free = cells.n_obs - np.count_nonzero(was_set)
    if n_free:
        where = f"wasn't set in {n_free} of {cells.n_obs} cells"
        raise ValueError(f"gene = {name!r}: {where}; must be in all")
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
    """New cells under a drug, every count drawn from the treated laws: no cell is measured twice.

    kind: "additive", mu + effect * dose, or "fold_change", mu * effect ** dose
    effect: shift in counts, or fold
    name: the drug's name, by default its kind
    genes: targets, by default all genes; mechanistic ones follow their parents besides
    dose: dose of every cell
    cell_type_factors: cell type -> factor on the dose there, by default 1
    """
    adata = with_true_counts(adata)
    entry = _drug_entry(adata, kind, effect, name, genes, cell_type_factors)
    dose = checks.number("dose", dose, low=0)
    if (layout.labels(adata.obs, "drug") != CONTROL).any():
        raise ValueError("adata: has treated cells; a drug is given to control cells")
    after = with_matrix(adata, adata.X)
    known = layout.in_order(adata.uns.get("drugs", {}))
    others = [drug for drug in known if str(drug["name"]) != entry["name"]]
    after.uns["drugs"] = layout.numbered([*others, entry])
    after.obs["drug"] = pd.Categorical([entry["name"]] * after.n_obs)
    after.obs["dose"] = dose
    mechanistic = list(layout.parents(after))
    after.X = _base_genes_drawn(after, mechanistic, stream(seed, f"cells under {entry['name']}"))
    return _redraw(after, mechanistic, None, seed)


def _drug_entry(adata, kind, effect, name, genes, cell_type_factors):
    """The entry of a drug in `uns["drugs"]`. Raises ValueError for one that can't be."""
    checks.choice("kind", kind, ("additive", "fold_change"))
    effect = checks.number("effect", effect, low=1e-6 if kind == "fold_change" else None)
    all_genes = list(adata.var_names)
    genes = checks.genes("genes", all_genes if genes is None else genes, all_genes)
    factors = {}
    for cell_type, factor in (cell_type_factors or {}).items():
        checks.choice("cell_type_factors", cell_type, layout.cell_types(adata))
        factors[cell_type] = checks.number(f"cell_type_factors[{cell_type!r}]", factor)
    if name == CONTROL:
        raise ValueError(f"name = {name!r}: must be other than {CONTROL!r}, the name of no drug")
    return {
        "name": str(kind if name is None else name),
        "kind": kind,
        "effect": effect,
        "genes": np.array(genes),
        "cell_types": np.array(list(factors), dtype=object),
        "factors": np.array(list(factors.values()), dtype=float),
    }


def _base_genes_drawn(adata, mechanistic, rng):
    """Counts in which base genes are drawn from their laws, save counts that were set."""
    by_gene, blocks, truth = sparse.csr_matrix(adata.X.T), [], CellLaws(adata)
    step = max(1, _BLOCK // max(1, adata.n_obs))
    for first in range(0, adata.n_vars, step):
        names = adata.var_names[first : first + step]
        counts = by_gene[first : first + step].toarray()
        base = np.flatnonzero(~names.isin(mechanistic))
        law = truth.law(list(names[base]), None)
        for i, gene in enumerate(base):
            free = np.flatnonzero(~np.isnan(law.mu[:, i]))
            counts[gene, free] = law[free, i].sample(rng)
        blocks.append(sparse.csr_matrix(counts, dtype=np.float32).T.tocsr())
    return sparse.hstack(blocks, format="csr")


def _redraw(adata, genes, exogenous, seed):
    """Draw genes of `adata` from their present laws, one after the other and in place."""

    def draw(gene, law, free):
        if exogenous is None:
            return law.sample(stream(seed, f"counts of {gene} after an intervention"))
        return law.quantile(exogenous[free, adata.var_names.get_loc(gene)])

    adata.X = redrawn(adata, genes, draw)
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
