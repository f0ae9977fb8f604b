"""The true law of cells, computed from the genes' parameters and the cells' own inputs."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks
from lib.counts import BLOCK, CONTROL, dense
from lib.laws import ZINB, zinb
from lib.simulate import mechanisms


def law(adata: ad.AnnData, genes: list[str] | str | None = None) -> ZINB:
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

    entries = entries_of(adata)
    for column in np.flatnonzero(var["mechanistic"].to_numpy(dtype=bool)):
        gene = names[column]
        if gene not in entries:
            raise ValueError(f"gene = {gene!r}: mechanistic, but adata.uns['mechanisms'] hasn't got it (join with lib.dataset.concat)")
        x = inputs(adata, checks.genes(f"parents of {gene}", entries[gene]["parents"], adata.var_names))
        mu[:, column] = value_of(entries[gene]["mu"], x)
        if "theta" in entries[gene]:
            theta[:, column] = np.maximum(value_of(entries[gene]["theta"], x), zinb.THETA_RANGE[0])

    mu = _after_drugs(adata, names, types, mu)
    if "do" in adata.layers and adata.layers["do"].nnz:
        was_set = dense(adata[:, names].layers["do"]).astype(bool)
        mu[was_set] = theta[was_set] = pi[was_set] = np.nan
    return ZINB(mu, theta, pi)


def cell_types(adata: ad.AnnData) -> list[str]:
    """The cell types whose laws `adata.var` holds, whether or not `adata` has cells of them."""
    return [c.removeprefix("mu_") for c in adata.var.columns if c.startswith("mu_")]


def parents(adata: ad.AnnData) -> dict[str, list[str]]:
    """The parents of each mechanistic gene, in an order in which parents come first."""
    return {gene: [str(p) for p in entry["parents"]] for gene, entry in entries_of(adata).items()}


def kinds(adata: ad.AnnData) -> dict[str, str]:
    """The mechanism of each mechanistic gene's mu: a name, or an import string."""
    return {gene: str(entry["mu"]["mechanism"]) for gene, entry in entries_of(adata).items()}


def descendants(adata: ad.AnnData, genes: list[str]) -> list[str]:
    """The mechanistic genes that depend on any of `genes`, however indirectly, parents first."""
    reached: list[str] = []
    for gene, its_parents in parents(adata).items():
        if gene not in genes and (set(its_parents) & (set(genes) | set(reached))):
            reached.append(gene)
    return reached


def weights(adata: ad.AnnData, gene: str) -> pd.Series:
    """The weight of each parent in a mechanistic gene's mu. Raises ValueError if it has none."""
    entry = entries_of(adata).get(gene)
    if entry is None:
        raise ValueError(f"gene = {gene!r}: must be a mechanistic gene: {', '.join(parents(adata)) or 'there is none'}")
    if "weights" not in entry["mu"]["parameters"]:
        raise ValueError(f"gene = {gene!r}: its mechanism has no weights; name the parent to perturb")
    return pd.Series(np.asarray(entry["mu"]["parameters"]["weights"]), index=[str(p) for p in entry["parents"]])


def inputs(adata, names):
    """Counts of some genes as mechanisms take them, (n_cells, len(names)) float64, and never a second copy."""
    counts, columns = adata.X, adata.var_names.get_indexer(names)
    x, at_once = np.empty((adata.n_obs, len(columns))), max(1, 10 * BLOCK // adata.n_vars)
    for first in range(0, adata.n_obs, at_once):
        x[first : first + at_once] = dense(counts[first : first + at_once][:, columns])
    return x


def entries_of(adata: ad.AnnData) -> dict[str, dict]:
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


def value_of(entry, x):
    return mechanisms.evaluate(entry["mechanism"], x, entry["parameters"])


def law_columns(var):
    return [c for c in var.columns if c.startswith(("mu_", "theta_", "pi_"))]
