"""The true law of cells, computed from the genes' parameters and the cells' own inputs.

`law` is that of single cells, `arm` that of a whole arm of a screen (`lib.simulate.arm_truth`).
"""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks
from lib.counts import BLOCK, CONTROL, counts_of, dense
from lib.laws import ZINB, zinb
from lib.simulate import regulated
from lib.simulate.arm_truth import Arm, Truth, arm
from lib.simulate.layout import PARAMETERS, cell_types, entries_of, in_order, labels, with_laws
from lib.simulate.mechanisms import evaluate

__all__ = ["Arm", "Truth", "arm", "inputs", "law", "law_given", "mu_and_theta", "treated_law"]

_JOIN = "hasn't got it (join with lib.dataset.concat)"
# keys that an entry of uns["drugs"] must have: anndata's own concat may drop some of them
_DRUG = {"name", "kind", "effect", "genes", "cell_types", "factors"}


def law(adata: ad.AnnData, genes: list[str] | str | None = None) -> ZINB:
    """The true law of genes in each cell, (n_cells, n_genes).

    genes: names, by default all genes

    In cells of a gene regulatory network it is the law given the regulators' molecules.

    Parents' counts are taken from X or, where that holds no whole counts, `layers["counts"]`. A
    base gene's law depends on no count, and is given whatever X is. The law is NaN where an
    intervention set the count. Raises ValueError where `adata` lacks what the law depends on.
    """
    names = list(adata.var_names)
    if genes is not None:
        names = checks.genes("genes", genes, names)
    if regulated.is_regulated(adata):
        return regulated.law(adata, names)
    adata = with_laws(adata)
    counts = counts_of(adata, simulated=True) if _is_mechanistic(adata, names).any() else None
    return law_given(adata, names, counts)


def law_given(adata: ad.AnnData, genes: list[str], counts) -> ZINB:
    """`law` of cells that `with_laws` has checked, from whole counts of theirs, for loops."""
    types = labels(adata.obs, "cell_type")
    mu, theta, pi = _parameters(adata, genes, types)
    entries = entries_of(adata)
    for column in np.flatnonzero(_is_mechanistic(adata, genes)):
        gene = genes[column]
        if gene not in entries:
            raise ValueError(f"gene = {gene!r}: mechanistic, but uns['mechanisms'] {_JOIN}")
        known = checks.genes(f"parents of {gene}", entries[gene]["parents"], adata.var_names)
        x = inputs(counts, adata.var_names.get_indexer(known))
        mu[:, column], theta[:, column] = mu_and_theta(entries[gene], x, theta[:, column])
    if "drug" in adata.obs:
        given, doses = labels(adata.obs, "drug"), adata.obs["dose"].to_numpy(dtype=float)
        for drug in (d for d in pd.unique(given) if d != CONTROL):
            rows = np.flatnonzero(given == drug)
            entry = _drug(adata.uns.get("drugs", {}), drug)
            mu[rows] = _under_drug(mu[rows], genes, types[rows], doses[rows], entry)
    return _without_what_was_set(adata, genes, mu, theta, pi)


def treated_law(
    control: ad.AnnData, drugs: dict[str, dict] | list[dict], name: str, dose: float = 1.0
) -> ZINB:
    """The law that control cells would have under a drug, (n_cells, n_genes).

    drugs: `uns["drugs"]` of any cells, or a list of its entries
    name: the drug's name in these
    dose: dose of every cell

    It is the law of the cells that `perturb.treat` draws. Raises ValueError for mechanistic genes,
    whose law depends on counts that aren't drawn.
    """
    checks.number("dose", dose, low=0)
    control, genes = with_laws(control), list(control.var_names)
    mechanistic = np.flatnonzero(_is_mechanistic(control, genes))
    if len(mechanistic):
        raise ValueError(f"genes = {genes[mechanistic[0]]!r}: is mechanistic; must be base genes")
    if "drug" in control.obs and (labels(control.obs, "drug", "control") != CONTROL).any():
        raise ValueError("control: has treated cells; a drug is given to control cells")
    types = labels(control.obs, "cell_type", "control")
    mu, theta, pi = _parameters(control, genes, types)
    mu = _under_drug(mu, genes, types, np.full(control.n_obs, float(dose)), _drug(drugs, name))
    return _without_what_was_set(control, genes, mu, theta, pi)


def inputs(counts, columns) -> np.ndarray:
    """Counts of some genes as mechanisms take them, (n_cells, n_genes) float64, copied once."""
    x = np.empty((counts.shape[0], len(columns)))
    at_once = max(1, 10 * BLOCK // counts.shape[1])
    for first in range(0, len(x), at_once):
        x[first : first + at_once] = dense(counts[first : first + at_once][:, columns])
    return x


def mu_and_theta(entry: dict, x: np.ndarray, theta) -> tuple:
    """mu and theta of a mechanistic gene in each cell.

    entry: the gene's entry in `uns["mechanisms"]`
    x: (n_cells, n_parents) counts of its parents
    theta: theta of a gene without a mechanism for it
    """
    mu = evaluate(**entry["mu"], x=x)
    if "theta" in entry:
        theta = np.maximum(evaluate(**entry["theta"], x=x), zinb.THETA_RANGE[0])
    return mu, theta


def _is_mechanistic(adata, genes):
    return adata.var["mechanistic"].to_numpy(dtype=bool)[adata.var_names.get_indexer(genes)]


def _parameters(adata, genes, types):
    """mu, theta and pi of genes in cells of these types, (n_cells, n_genes), without mechanisms."""
    known = cell_types(adata)
    places = adata.var_names.get_indexer(genes)
    arrays = [np.empty((len(types), len(genes))) for _ in PARAMETERS]
    for name in pd.unique(types):
        if name not in known:
            raise ValueError(f"cell_type = {name!r}: adata.uns['cell_types'] {_JOIN}")
        rows = types == name
        for array, parameter in zip(arrays, PARAMETERS):
            array[rows] = adata.varm[parameter][places, known.index(name)]
    return arrays


def _drug(drugs, name):
    for entry in in_order(drugs) if isinstance(drugs, dict) else drugs:
        if str(entry.get("name")) == name and _DRUG <= entry.keys():
            return entry
    raise ValueError(f"drug = {str(name)!r}: adata.uns['drugs'] {_JOIN}")


def _under_drug(mu, genes, types, doses, entry):
    """mu under a drug at the cells' doses: see `lib.perturb`."""
    touched = np.flatnonzero(np.isin(genes, entry["genes"]))
    factors = dict(zip(entry["cell_types"], entry["factors"]))
    strength = (np.array([factors.get(t, 1.0) for t in types]) * doses)[:, None]
    before, effect = mu[:, touched], entry["effect"]
    if entry["kind"] == "additive":
        after = before + effect * strength
    else:
        after = before * effect**strength
    if (after < 0).any():
        wrong = f"would take mu below 0 at dose {strength.max():g}"
        raise ValueError(f"effect = {effect:g}: drug {str(entry['name'])!r} {wrong}")
    mu[:, touched] = after
    return mu


def _without_what_was_set(adata, genes, mu, theta, pi):
    """The law of these parameters, NaN where an intervention has set the count."""
    done = adata.layers.get("do")
    if done is not None and (done.nnz if sparse.issparse(done) else done.any()):
        was_set = dense(done[:, adata.var_names.get_indexer(genes)]).astype(bool)
        mu[was_set] = theta[was_set] = pi[was_set] = np.nan
    return ZINB(mu, theta, pi)
