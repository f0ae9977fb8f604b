"""Simulated cells whose true law is known, and stays known.

A data set is a plain AnnData of counts (CSR) that carries what makes its truth computable:

- `var`: `mu_<cell type>`, `theta_<cell type>`, `pi_<cell type>` of each gene, and `mechanistic`
- `uns["mechanisms"]`: kind, parents and parameters of each mechanistic gene, parents first
- `uns["drugs"]`: what each drug in `obs["drug"]` does, at the dose in `obs["dose"]`
- `layers["do"]`: 1 where a count was set by an intervention

`law(adata)` computes the true law from these and from the cells' own counts, so it can't go
stale. All of it survives `write_h5ad` and `read_h5ad`.
"""

from __future__ import annotations

import copy
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks, maximum_likelihood, mechanisms, zinb
from lib.seeds import stream

CONTROL = "control"  # obs["drug"] of an untreated cell
_CHUNK = 5_000_000  # counts drawn at a time; another number would change the random numbers of large data sets
_BLOCK = 100_000  # counts moved at a time: what fits a cache


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

    n_cells : cells of each cell type
    target_zero_prob : share of zeros of every gene, reached through pi; None for no dropout
    mu_range, dispersion_range : mu and 1 / theta are uniform in these
    n_cell_types : the types are named A, B, C ...
    marker_fraction : share of genes whose law differs between the types
    cell_type : name of the type where there is one; types made by separate calls are joined
        by `concat`
    unreachable : "raise", or "clip" to go without dropout, with a warning, where the negative
        binomial part alone has more zeros than wanted

    Returns AnnData (n_cells * n_cell_types) x n_genes. Raises ValueError for a parameter out of
    range. Streams: gene parameters and cells are drawn from separate ones of `seed`.
    """
    n_cells = checks.integer("n_cells", n_cells, low=1)
    n_genes = checks.integer("n_genes", n_genes, low=1)
    n_cell_types = checks.integer("n_cell_types", n_cell_types, low=1, high=26)
    mu_range = checks.interval("mu_range", mu_range, low=1e-6)
    dispersion_range = checks.interval("dispersion_range", dispersion_range, low=1e-8)
    marker_fraction = checks.number("marker_fraction", marker_fraction, 0, 1)
    if target_zero_prob is not None:
        checks.number("target_zero_prob", target_zero_prob, 0, 1)

    types = [cell_type] if n_cell_types == 1 else [chr(ord("A") + i) for i in range(n_cell_types)]
    rng = stream(seed, "genes")
    var = pd.DataFrame(index=pd.Index([f"gene_{i:0{len(str(n_genes - 1))}d}" for i in range(n_genes)]))
    marker = rng.permutation(n_genes) < round(marker_fraction * n_genes)
    shared = rng.uniform(*mu_range, n_genes), 1 / rng.uniform(*dispersion_range, n_genes)
    for name in types:
        own = rng.uniform(*mu_range, n_genes), 1 / rng.uniform(*dispersion_range, n_genes)
        mu, theta = (np.where(marker, o, s) if n_cell_types > 1 else s for o, s in zip(own, shared))
        pi = np.zeros(n_genes) if target_zero_prob is None else zinb.solve_pi(mu, theta, target_zero_prob, unreachable)
        var[f"mu_{name}"], var[f"theta_{name}"], var[f"pi_{name}"] = mu, theta, pi
    var["mechanistic"] = False
    return _cells_of(var, {}, np.repeat(types, n_cells), seed)


def base_genes_from_counts(
    counts: ad.AnnData | str | Path | None = None,
    n_cells: int | None = None,
    *,
    cell_type_key: str | None = None,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """Cells simulated from the ZINB laws fitted, gene by gene, to real counts.

    counts : AnnData of raw counts, or the path of such an .h5ad; by default `pbmc_counts()`
    n_cells : cells of each type; by default as many as the real ones
    cell_type_key : column of `counts.obs` with the cell types, fitted apart; by default all
        cells are one type
    """
    real = pbmc_counts() if counts is None else counts if isinstance(counts, ad.AnnData) else read_counts(counts)
    check_counts(real)
    if n_cells is not None:
        checks.integer("n_cells", n_cells, low=1)
    if cell_type_key is not None:
        checks.choice("cell_type_key", cell_type_key, list(real.obs.columns))
        labels = real.obs[cell_type_key].astype(str).to_numpy()
    else:
        labels = np.full(real.n_obs, "A")
    var = pd.DataFrame(index=real.var_names.astype(str))
    cells = []
    for name in pd.unique(labels):
        fitted = maximum_likelihood.fit(real.X[labels == name])
        var[f"mu_{name}"], var[f"theta_{name}"], var[f"pi_{name}"] = fitted.mu, fitted.theta, fitted.pi
        cells += [name] * (n_cells or (labels == name).sum())
    var["mechanistic"] = False
    return _cells_of(var, {}, np.array(cells), seed)


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
    """Add a gene whose mu is a function of other genes' counts.

    mechanism : linear, polynomial, interaction, hill, threshold, gate, or `package.module:function`
    gene : its name, by default `mech_<mechanism>`
    parents : genes that it depends on, mechanistic ones too; by default all that aren't
    parameters : of the mechanism; drawn at random for the built-in ones by default
    theta : inverse dispersion, where `theta_mechanism` doesn't make it a function as well
    target_zero_prob : share of zeros over the cells of `adata`; random parameters are drawn
        again (100 times at most) until it can be reached. None for no dropout

    Returns a new AnnData with one gene more, its counts drawn. Raises ValueError for a gene that
    isn't there, a mechanism that refers to itself, or one that returns NaN or less than 0.
    """
    if gene is None:
        gene = "mech_" + mechanism.replace(":", "_").replace(".", "_")
    known = list(adata.var_names)
    if parents is None:
        parents = list(adata.var_names[~adata.var["mechanistic"]])
    if gene in parents:
        raise ValueError(f"parents = {gene!r}: a mechanism can't refer to its own gene")
    if gene in known:
        raise ValueError(f"gene = {gene!r}: is in the data set already")
    parents = checks.genes("parents", parents, known)
    checks.number("theta", theta, low=1e-4)
    if target_zero_prob is not None:
        checks.number("target_zero_prob", target_zero_prob, 0, 1)
    for name in filter(None, (mechanism, theta_mechanism)):
        mechanisms.resolve(name)

    x, rng = _inputs(adata, parents), stream(seed, f"mechanism of {gene}")
    for attempt in range(100):
        entry = {
            "gene": gene,
            "parents": np.array(parents),
            "mu": _kind_and_parameters(mechanism, parameters, rng, x),
        }
        if theta_mechanism is not None:
            entry["theta"] = _kind_and_parameters(theta_mechanism, theta_parameters, rng, x)
        mu = _value(entry["mu"], x)
        theta_x = np.maximum(_value(entry["theta"], x), zinb.THETA_RANGE[0]) if "theta" in entry else theta
        zeros = float(np.mean(zinb.nb_zero_prob(mu, theta_x)))
        if target_zero_prob is None or zeros <= target_zero_prob:
            break
        fixed = parameters is not None or mechanism not in mechanisms.MECHANISMS
        if fixed or attempt == 99:
            raise ValueError(
                f"target_zero_prob = {target_zero_prob:g}: out of reach for {gene}, whose negative binomial part "
                f"alone has {zeros:.3f} zeros; allowed from there upwards"
            )
    pi = 0.0 if target_zero_prob is None else (target_zero_prob - zeros) / (1 - zeros)
    del x  # `law` needs as much again

    var = adata.var.copy()
    row = {c: np.nan if c.startswith("mu_") else pi if c.startswith("pi_") else theta for c in _law_columns(var)}
    if "theta" in entry:
        row |= {c: np.nan for c in row if c.startswith("theta_")}
    var.loc[gene] = row | {"mechanistic": True}
    var["mechanistic"] = var["mechanistic"].astype(bool)
    known_mechanisms = dict(adata.uns.get("mechanisms", {}))
    known_mechanisms[f"{len(known_mechanisms):03d}"] = entry
    counts = ad.AnnData(
        _with_empty_column(adata.X),
        obs=adata.obs.copy(),
        var=var,
        uns=dict(adata.uns) | {"mechanisms": known_mechanisms},
        layers={"do": _with_empty_column(adata.layers["do"])},
    )
    draws = law(counts, [gene]).sample(stream(seed, f"counts of {gene}"))
    return with_counts(counts, {gene: draws[:, 0]})


def fresh_cells(adata: ad.AnnData, n_cells: int, *, seed: int | tuple[int, ...]) -> ad.AnnData:
    """New control cells of the same genes and mechanisms, `n_cells` of each cell type of `adata`."""
    checks.integer("n_cells", n_cells, low=1)
    if "cell_type" not in adata.obs or not _law_columns(adata.var):
        raise ValueError("adata: has no laws (obs['cell_type'] and var['mu_...']); new cells can be drawn of simulated ones alone")
    types = pd.unique(adata.obs["cell_type"].astype(str))
    uns = {"mechanisms": adata.uns["mechanisms"]} if "mechanisms" in adata.uns else {}
    return _cells_of(adata.var, uns, np.repeat(types, n_cells), seed, "fresh ")


def concat(adatas: list[ad.AnnData]) -> ad.AnnData:
    """Data sets one below the other, with all that `law` needs; cells are named anew."""
    joined = ad.concat(adatas, merge="unique", index_unique="-")
    for key in ("mechanisms", "drugs"):
        together: dict = {}
        for adata in adatas:
            for name, entry in adata.uns.get(key, {}).items():
                if not _same(together.setdefault(name, entry), entry):
                    raise ValueError(f"adatas: {key} {name!r} differ between them; what is joined must agree on it")
        if together:
            joined.uns[key] = together
    joined.obs_names = [f"cell_{i}" for i in range(joined.n_obs)]
    joined.obs["cell_type"] = joined.obs["cell_type"].astype("category")
    joined.obs["drug"] = joined.obs["drug"].astype("category")
    return joined


def law(adata: ad.AnnData, genes: list[str] | str | None = None) -> zinb.ZINB:
    """The true law of each of the cells' genes, given the counts of the genes' parents.

    genes : which ones, by default all

    Returns a ZINB of shape (n_cells, n_genes), with NaN parameters where an intervention has
    set the count. Raises ValueError where `adata` lacks what the law depends on.
    """
    names = checks.genes("genes", list(adata.var_names) if genes is None else genes, list(adata.var_names))
    var, types = adata.var.loc[names], adata.obs["cell_type"].astype(str).to_numpy()
    missing = [t for t in pd.unique(types) if f"mu_{t}" not in var]
    if missing:
        raise ValueError(f"cell_type = {missing[0]!r}: adata.var has no column mu_{missing[0]}")
    mu, theta, pi = (np.empty((adata.n_obs, len(names))) for _ in range(3))
    for name in pd.unique(types):
        for array, parameter in ((mu, "mu"), (theta, "theta"), (pi, "pi")):
            array[types == name] = var[f"{parameter}_{name}"].to_numpy(dtype=float)

    entries = _mechanisms(adata)
    for column in np.flatnonzero(var["mechanistic"].to_numpy(dtype=bool)):
        gene = names[column]
        if gene not in entries:
            raise ValueError(f"gene = {gene!r}: mechanistic, but adata.uns['mechanisms'] hasn't got it (join with lib.dataset.concat)")
        x = _inputs(adata, checks.genes(f"parents of {gene}", entries[gene]["parents"], adata.var_names))
        mu[:, column] = _value(entries[gene]["mu"], x)
        if "theta" in entries[gene]:
            theta[:, column] = np.maximum(_value(entries[gene]["theta"], x), zinb.THETA_RANGE[0])

    mu = _after_drugs(adata, names, types, mu)
    if "do" in adata.layers and adata.layers["do"].nnz:
        was_set = dense(adata[:, names].layers["do"]).astype(bool)
        mu[was_set] = theta[was_set] = pi[was_set] = np.nan
    return zinb.ZINB(mu, theta, pi)


def cell_types(adata: ad.AnnData) -> list[str]:
    """The cell types whose laws `adata.var` holds, whether or not `adata` has cells of them."""
    return [c.removeprefix("mu_") for c in adata.var.columns if c.startswith("mu_")]


def parents(adata: ad.AnnData) -> dict[str, list[str]]:
    """The parents of each mechanistic gene, in an order in which parents come first."""
    return {gene: [str(p) for p in entry["parents"]] for gene, entry in _mechanisms(adata).items()}


def kinds(adata: ad.AnnData) -> dict[str, str]:
    """The mechanism of each mechanistic gene's mu: a name, or an import string."""
    return {gene: str(entry["mu"]["mechanism"]) for gene, entry in _mechanisms(adata).items()}


def descendants(adata: ad.AnnData, genes: list[str]) -> list[str]:
    """The mechanistic genes that depend on any of `genes`, however indirectly, parents first."""
    reached: list[str] = []
    for gene, its_parents in parents(adata).items():
        if gene not in genes and (set(its_parents) & (set(genes) | set(reached))):
            reached.append(gene)
    return reached


def weights(adata: ad.AnnData, gene: str) -> pd.Series:
    """The weight of each parent in a mechanistic gene's mu. Raises ValueError if it has none."""
    entry = _mechanisms(adata).get(gene)
    if entry is None:
        raise ValueError(f"gene = {gene!r}: must be a mechanistic gene: {', '.join(parents(adata)) or 'there is none'}")
    if "weights" not in entry["mu"]["parameters"]:
        raise ValueError(f"gene = {gene!r}: its mechanism has no weights; name the parent to perturb")
    return pd.Series(np.asarray(entry["mu"]["parameters"]["weights"]), index=[str(p) for p in entry["parents"]])


def with_counts(adata: ad.AnnData, columns: dict[str, np.ndarray]) -> ad.AnnData:
    """A copy with other counts, one a cell, for some genes."""
    places = {adata.var_names.get_loc(gene): counts for gene, counts in columns.items()}
    return with_matrix(adata, with_columns(adata.X, places, np.float32))


def with_matrix(adata: ad.AnnData, matrix) -> ad.AnnData:
    """A copy whose counts are `matrix`, without ever copying those of `adata`."""
    parts = {name: getattr(adata, name).copy() for name in ("obs", "var", "obsm", "varm", "obsp", "varp", "layers")}
    raw = {} if adata.raw is None else {"raw": adata.raw.copy()}
    return ad.AnnData(matrix, uns=copy.deepcopy(dict(adata.uns)), **parts, **raw)


def with_columns(matrix, columns: dict[int, np.ndarray], dtype) -> sparse.csr_matrix:
    """A matrix with other values in some columns, as CSR with sorted indices: one pass, a block of rows at a time.

    columns : place of the column -> (n_rows,) values, or one for all rows; zeros are left out
    """
    old = sparse.csr_matrix(matrix)
    if not old.has_canonical_format:
        old = old.copy()
        old.sum_duplicates()
    n_rows, n_columns = old.shape
    places = np.array(sorted(columns), dtype=np.int64)
    values = [np.broadcast_to(np.asarray(columns[place], dtype=dtype), n_rows) for place in places]
    stays = np.ones(n_columns, dtype=bool)
    stays[places] = False
    n_left = np.count_nonzero(stays[old.indices]) + sum(map(np.count_nonzero, values))
    data, indices = np.empty(n_left, dtype), np.empty(n_left, old.indices.dtype)
    indptr = np.zeros(n_rows + 1, dtype=np.int64)
    at_once = max(1, _BLOCK * n_rows // (old.nnz + n_rows * (len(places) + 1) + 1))
    for first in range(0, n_rows, at_once):
        rows = slice(first, min(first + at_once, n_rows))
        span = slice(old.indptr[rows.start], old.indptr[rows.stop])
        kept = np.flatnonzero(stays[old.indices[span]])
        row = np.repeat(np.arange(rows.stop - first), np.diff(old.indptr[first : rows.stop + 1]))[kept]  # in the block
        column = old.indices[span][kept]
        block = np.array([value[rows] for value in values], dtype=dtype).reshape(len(places), rows.stop - first).T
        new_row, new = np.nonzero(block)
        before = np.searchsorted(row * n_columns + column, new_row * n_columns + places[new])
        is_new = np.zeros(len(kept) + len(new), dtype=bool)
        is_new[before + np.arange(len(new))] = True
        n_each = np.bincount(row, minlength=rows.stop - first) + np.bincount(new_row, minlength=rows.stop - first)
        indptr[first + 1 : rows.stop + 1] = indptr[first] + np.cumsum(n_each)
        target = slice(indptr[first], indptr[rows.stop])
        data[target][is_new], data[target][~is_new] = block[new_row, new], old.data[span][kept]
        indices[target][is_new], indices[target][~is_new] = places[new], column
    return sparse.csr_matrix((data, indices, indptr), shape=old.shape)


def dense(matrix) -> np.ndarray:
    """A sparse or dense matrix as a NumPy array."""
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def pbmc_counts() -> ad.AnnData:
    """Raw counts of 700 peripheral blood cells x 765 genes that come with scanpy (10x, 68k PBMC).

    scanpy ships log1p of counts per 10,000; expm1 of it times the cell's total gives the counts
    back to within 0.1 %. `obs["bulk_labels"]` has the cell types.
    """
    import scanpy as sc

    pbmc = sc.datasets.pbmc68k_reduced()
    normalised = pbmc.raw.X.copy()
    scale = pbmc.obs["n_counts"].to_numpy() / 1e4
    counts = sparse.diags(scale) @ normalised.expm1()
    counts.data = np.round(counts.data)
    return ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32), obs=pbmc.obs[["bulk_labels"]].copy(), var=pd.DataFrame(index=pbmc.raw.var_names))


def read_counts(path: str | Path) -> ad.AnnData:
    """An .h5ad of raw counts, checked. Raises ValueError in one line for what can't be used."""
    if not Path(path).is_file():
        raise ValueError(f"counts = {str(path)!r}: no such file")
    try:
        adata = ad.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise many kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"counts = {str(path)!r}: not a readable .h5ad ({reason})") from None
    check_counts(adata, f"counts = {str(path)!r}")
    return adata


def check_counts(adata: ad.AnnData, name: str = "counts") -> None:
    """Raise ValueError unless `adata.X` holds counts of at least one cell, with unique gene names."""
    if adata.X is None or 0 in adata.shape:
        raise ValueError(f"{name}: {adata.n_obs} cells x {adata.n_vars} genes; must have at least one of each")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        raise ValueError(f"{name}: gene {twice!r} is there twice; gene names must be unique")
    values = adata.X.data if sparse.issparse(adata.X) else np.asarray(adata.X).ravel()
    for wrong, what in ((~np.isfinite(values), "NaN or infinite"), (values < 0, "negative"), (values != np.floor(values), "fractional")):
        if wrong.any():
            raise ValueError(f"{name}: has {what} values, the first {values[wrong][0]:g}; must be raw counts, whole numbers of at least 0")


def _cells_of(var: pd.DataFrame, uns: dict, types: np.ndarray, seed, kind: str = "") -> ad.AnnData:
    """Draw control cells: base genes first, then mechanistic ones, parents first.

    types : (n_cells,) the type of each, those of one type together
    """
    n_cells, base = len(types), np.flatnonzero(~var["mechanistic"].to_numpy(dtype=bool)).astype(np.int32)
    laws = {
        name: zinb.ZINB(*(var[f"{p}_{name}"].to_numpy(dtype=float)[base] for p in ("mu", "theta", "pi")))
        for name in pd.unique(types)
    }
    step = max(1, _CHUNK // len(var))
    chunks = (types[start : start + step] for start in range(0, n_cells, step))
    blocks = [(laws[name], (chunk == name).sum()) for chunk in chunks for name in pd.unique(chunk)]
    counts = zinb.sample_csr(blocks, stream(seed, f"{kind}cells"))
    if len(base) < len(var):
        counts = sparse.csr_matrix((counts.data, base[counts.indices], counts.indptr), shape=(n_cells, len(var)))
    adata = ad.AnnData(
        counts,
        obs=pd.DataFrame(
            {"cell_type": pd.Categorical(types), "drug": pd.Categorical([CONTROL] * n_cells), "dose": 0.0},
            index=[f"cell_{i}" for i in range(n_cells)],
        ),
        var=var.copy(),
        uns=dict(uns),
        layers={"do": sparse.csr_matrix((n_cells, len(var)), dtype=np.int8)},
    )
    for gene in parents(adata):
        drawn = law(adata, [gene]).sample(stream(seed, f"{kind}counts of {gene}"))[:, 0]
        adata.X = with_columns(adata.X, {adata.var_names.get_loc(gene): drawn}, np.float32)
    return adata


def _with_empty_column(matrix):
    rows = sparse.csr_matrix(matrix)
    return sparse.csr_matrix((rows.data, rows.indices, rows.indptr), shape=(rows.shape[0], rows.shape[1] + 1))


def _inputs(adata, names):
    """Counts of some genes as mechanisms take them, (n_cells, len(names)) float64, and never a second copy."""
    counts, columns = adata.X, adata.var_names.get_indexer(names)
    x, at_once = np.empty((adata.n_obs, len(columns))), max(1, 10 * _BLOCK // adata.n_vars)
    for first in range(0, adata.n_obs, at_once):
        x[first : first + at_once] = dense(counts[first : first + at_once][:, columns])
    return x


def _mechanisms(adata: ad.AnnData) -> dict[str, dict]:
    """Gene -> its entry in `uns["mechanisms"]`, parents first, as they were added."""
    return {entry["gene"]: entry for _, entry in sorted(adata.uns.get("mechanisms", {}).items())}


def _after_drugs(adata, names, types, mu):
    """mu under the drugs of `obs["drug"]` at the doses of `obs["dose"]`: see `lib.perturb`."""
    if "drug" not in adata.obs:
        return mu
    given = adata.obs["drug"].astype(str).to_numpy()
    for drug in pd.unique(given):
        if drug == CONTROL:
            continue
        if drug not in adata.uns.get("drugs", {}):
            raise ValueError(f"drug = {drug!r}: adata.uns['drugs'] hasn't got it (join with lib.dataset.concat)")
        entry, rows = adata.uns["drugs"][drug], np.flatnonzero(given == drug)
        touched = np.flatnonzero(np.isin(names, entry["genes"]))
        factors = dict(zip(entry["cell_types"], entry["factors"]))
        factor = np.array([factors.get(t, 1.0) for t in types[rows]])
        strength = (factor * adata.obs["dose"].to_numpy(dtype=float)[rows])[:, None]
        block = mu[np.ix_(rows, touched)]
        after = block + entry["effect"] * strength if entry["kind"] == "additive" else block * entry["effect"] ** strength
        if (after < 0).any():
            raise ValueError(f"effect = {entry['effect']:g}: drug {drug!r} would take mu below 0 at dose {strength.max():g}")
        mu[np.ix_(rows, touched)] = after
    return mu


def _kind_and_parameters(mechanism, parameters, rng, x):
    if parameters is None:
        draw = mechanisms.MECHANISMS.get(mechanism, (None, None))[1]
        parameters = draw(rng, x) if draw else {}
    return {"mechanism": mechanism, "parameters": parameters}


def _value(entry, x):
    return mechanisms.evaluate(entry["mechanism"], x, entry["parameters"])


def _law_columns(var):
    return [c for c in var.columns if c.startswith(("mu_", "theta_", "pi_"))]


def _same(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return np.array_equal(a, b)
