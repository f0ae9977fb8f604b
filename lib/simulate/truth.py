"""The true law of cells, computed from the genes' parameters and the cells' own inputs.

`law` is that of single cells, `arm` that of a whole arm of a screen (`lib.simulate.arm_truth`).
"""

from collections.abc import Callable

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
    """`law` of cells that `with_laws` has checked, from whole counts of theirs."""
    return CellLaws(adata).law(genes, lambda columns: inputs(counts, columns))


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
    truth = CellLaws(control, "control")
    truth.give(_drug(drugs, name), np.arange(control.n_obs), np.full(control.n_obs, float(dose)))
    return truth.law(genes, None)


class CellLaws:
    """The law of cells that `with_laws` has checked, for loops over genes.

    What depends on no count (cell types, drugs, which counts were set) is looked up once.

    column: gene -> its column in X
    """

    def __init__(self, adata: ad.AnnData, name: str = "adata"):
        self.column = {gene: i for i, gene in enumerate(adata.var_names)}
        self._names = adata.var_names
        self._is_mechanistic = adata.var["mechanistic"].to_numpy(dtype=bool)
        self._entries = entries_of(adata)
        self._tables = [np.asarray(adata.varm[p], dtype=float) for p in PARAMETERS]
        self._cell_types = cell_types(adata)
        self._types = _places(labels(adata.obs, "cell_type", name), self._cell_types)
        self._was_set = sparse.csc_matrix(adata.layers.get("do", adata.shape))  # or empty
        self._given: list[tuple] = []  # each drug, its targets, rows that have it, strength there
        if "drug" in adata.obs:
            given = labels(adata.obs, "drug", name)
            doses = adata.obs["dose"].to_numpy(dtype=float)
            for drug in (d for d in pd.unique(given) if d != CONTROL):
                rows = np.flatnonzero(given == drug)
                self.give(_drug(adata.uns.get("drugs", {}), drug), rows, doses[rows])

    def give(self, drug: dict, rows: np.ndarray, doses: np.ndarray) -> None:
        """Let cells in these rows have a drug, an entry of `uns["drugs"]`, at these doses."""
        factors = dict(zip(drug["cell_types"], drug["factors"]))
        by_type = np.array([factors.get(t, 1.0) for t in self._cell_types])
        strength = by_type[self._types[rows]] * doses
        self._given.append((drug, set(map(str, drug["genes"])), rows, strength[:, None]))

    def parents(self, gene: str) -> list[int]:
        """The columns of a mechanistic gene's parents. Raises ValueError where one is missing."""
        if gene not in self._entries:
            raise ValueError(f"gene = {gene!r}: mechanistic, but uns['mechanisms'] {_JOIN}")
        named = checks.genes(f"parents of {gene}", self._entries[gene]["parents"], self._names)
        return [self.column[parent] for parent in named]

    def law(self, genes: list[str], inputs_of: Callable | None) -> ZINB:
        """The law of genes, (n_cells, n_genes), from the counts so far.

        inputs_of: function (columns) that returns the `inputs` there; None for base genes alone
        """
        columns = [self.column[gene] for gene in genes]
        mu, theta, pi = (np.take(table[columns].T, self._types, axis=0) for table in self._tables)
        for i in np.flatnonzero(self._is_mechanistic[columns]):
            x = inputs_of(self.parents(genes[i]))
            mu[:, i], theta[:, i] = mu_and_theta(self._entries[genes[i]], x, theta[:, i])
        for drug, targets, rows, strength in self._given:
            if touched := [i for i, gene in enumerate(genes) if gene in targets]:
                part = np.ix_(rows, touched)
                mu[part] = _under_drug(mu[part], strength, drug)
        for i, column in enumerate(columns):
            entries = slice(*self._was_set.indptr[column : column + 2])
            rows = self._was_set.indices[entries][self._was_set.data[entries] != 0]
            mu[rows, i] = theta[rows, i] = pi[rows, i] = np.nan
        return ZINB(mu, theta, pi)


def inputs(counts, columns, dtype=float, order: str = "C") -> np.ndarray:
    """Counts of some genes, (n_cells, n_genes), copied once; by default as mechanisms take them."""
    x = np.empty((counts.shape[0], len(columns)), dtype, order)
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


def _places(types, known):
    """The place of each cell's type among the known ones, (n_cells,): its column in varm."""
    codes, names = pd.factorize(types)
    for name in names:
        if name not in known:
            raise ValueError(f"cell_type = {name!r}: adata.uns['cell_types'] {_JOIN}")
    return np.array([known.index(name) for name in names], dtype=int)[codes]


def _drug(drugs, name):
    for entry in in_order(drugs) if isinstance(drugs, dict) else drugs:
        if str(entry.get("name")) == name and _DRUG <= entry.keys():
            return entry
    raise ValueError(f"drug = {str(name)!r}: adata.uns['drugs'] {_JOIN}")


def _under_drug(mu, strength, drug):
    """mu of a drug's targets, (n_cells, n_genes), at the cells' strengths, (n_cells, 1)."""
    effect = drug["effect"]
    after = mu + effect * strength if drug["kind"] == "additive" else mu * effect**strength
    if (after < 0).any():
        wrong = f"would take mu below 0 at dose {strength.max():g}"
        raise ValueError(f"effect = {effect:g}: drug {str(drug['name'])!r} {wrong}")
    return after
