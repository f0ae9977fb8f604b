"""The places in an AnnData that hold what the truth depends on: see `lib.dataset`."""

import anndata as ad
import numpy as np
import pandas as pd

from lib.counts import counts_of, in_memory, with_matrix

PARAMETERS = ("mu", "theta", "pi")


def cell_types(adata: ad.AnnData) -> list[str]:
    """The cell types whose laws `adata` holds, whether or not it has cells of these types."""
    holder = adata.uns["grn"] if "grn" in adata.uns else upgraded(adata).uns
    return [str(t) for t in holder.get("cell_types", ())]


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
        if gene not in genes and not {*genes, *reached}.isdisjoint(its_parents):
            reached.append(gene)
    return reached


def weights(adata: ad.AnnData, gene: str) -> pd.Series:
    """The weight of each parent in a mechanistic gene's mu. Raises ValueError if it has none."""
    entry = entries_of(adata).get(gene)
    if entry is None:
        known = ", ".join(parents(adata)) or "there is none"
        raise ValueError(f"gene = {str(gene)!r}: must be a mechanistic gene: {known}")
    if "weights" not in entry["mu"]["parameters"]:
        raise ValueError(f"gene = {str(gene)!r}: its mechanism has no weights; name the parent")
    return pd.Series(np.asarray(entry["mu"]["parameters"]["weights"]), parents(adata)[gene])


def entries_of(adata: ad.AnnData) -> dict[str, dict]:
    """Gene -> its entry in `uns["mechanisms"]`, in the order in which they were added."""
    _refuse_network(adata)
    entries = in_order(adata.uns.get("mechanisms", {}))
    return {str(e["gene"]): e for e in entries if {"gene", "parents", "mu"} <= e.keys()}


def _refuse_network(adata):
    if "grn" in adata.uns:
        raise ValueError(
            "adata: cells of a gene regulatory network; must be mechanistic cells, since a law "
            "given molecules can't be reached from counts"
        )


def in_order(entries: dict[str, dict]) -> list[dict]:
    """The entries of `uns["mechanisms"]` or `uns["drugs"]` as added: a file sorts keys as text."""
    return [entry for _, entry in sorted(entries.items(), key=lambda item: int(item[0]))]


def numbered(entries: list[dict]) -> dict[str, dict]:
    """Entries under keys "000", "001", ...: names may hold a slash, and a file's keys mustn't."""
    return {f"{i:03d}": entry for i, entry in enumerate(entries)}


def labels(obs: pd.DataFrame, column: str, name: str = "adata") -> np.ndarray:
    """A column of obs as text, (n_cells,). Raises ValueError where it is missing in any cell."""
    if column not in obs:
        raise ValueError(f"{name}: has no obs[{column!r}]")
    n_missing = obs[column].isna().sum()
    if n_missing:
        where = f"obs[{column!r}] is missing in {n_missing} of {len(obs)} cells"
        raise ValueError(f"{name}: {where}; name it there, or leave these cells out")
    return obs[column].astype(str).to_numpy()


def laid_out(laws: dict[str, tuple]) -> tuple[dict, dict]:
    """Laws as varm and uns hold them.

    laws: cell type -> (mu, theta, pi) of the genes
    """
    tables = np.stack([np.stack(law) for law in laws.values()], axis=2)
    return dict(zip(PARAMETERS, tables)), {"cell_types": np.array(list(laws))}


def upgraded(adata: ad.AnnData) -> ad.AnnData:
    """Cells in the present layout: `adata` itself, or a copy of earlier cells that shares counts.

    Earlier, laws were columns `mu_<type>`, `theta_<type>`, `pi_<type>` of `var`, and drugs had
    their names as keys.
    """
    if "mu" in adata.varm or "mechanistic" not in adata.var:
        return adata
    types = [c.removeprefix("mu_") for c in adata.var.columns if c.startswith("mu_")]
    columns = {parameter: [f"{parameter}_{t}" for t in types] for parameter in PARAMETERS}
    if not types or not set(sum(columns.values(), [])) <= set(adata.var.columns):
        return adata
    new = with_matrix(adata, in_memory(adata.X))
    for parameter, its_columns in columns.items():
        tables = [new.var.pop(column).astype(float) for column in its_columns]
        new.varm[parameter] = np.column_stack(tables)
    new.uns["cell_types"] = np.array(types)
    if "drugs" in new.uns:
        new.uns["drugs"] = numbered([{"name": n} | entry for n, entry in new.uns["drugs"].items()])
    return new


def with_laws(adata: ad.AnnData) -> ad.AnnData:
    """`upgraded` for cells that have laws. Raises ValueError for others."""
    _refuse_network(adata)
    adata = upgraded(adata)
    needed = [("varm", p) for p in PARAMETERS] + [("uns", "cell_types"), ("var", "mechanistic")]
    missing = [(part, name) for part, name in needed if name not in getattr(adata, part)]
    lacking = [f"{part}[{name!r}] is missing" for part, name in missing]
    if not lacking and len(adata.uns["cell_types"]) != adata.varm["mu"].shape[1]:
        lacking = ["uns['cell_types'] doesn't fit varm['mu']"]
    if lacking:
        raise ValueError(f"adata: has no laws ({lacking[0]}); join cells with lib.dataset.concat")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        raise ValueError(f"adata: gene {twice!r} is there twice; gene names must be unique")
    return adata


def with_true_counts(adata: ad.AnnData) -> ad.AnnData:
    """Cells `with_laws` that have whole counts in X, in memory, and nothing that would grow stale.

    An intervention would leave `layers["counts"]`, `raw` and `uns["log1p"]` stale. Returns `adata`
    itself where there is none of these, and otherwise a copy without them.
    """
    adata = with_laws(adata)
    counts = counts_of(adata, simulated=True)
    stale = "counts" in adata.layers or adata.raw is not None or "log1p" in adata.uns
    if counts is adata.X and not stale:
        return adata
    new = with_matrix(adata, counts)
    new.layers.pop("counts", None)
    new.uns.pop("log1p", None)
    new.raw = None
    return new


def concat(adatas: list[ad.AnnData]) -> ad.AnnData:
    """Data sets one below the other, with all that `law` needs; cells are named anew.

    Raises ValueError where two differ in a mechanism, a drug or a cell type of the same name, and
    for cells of different networks, measurements or screens.
    """
    if any("grn" in adata.uns for adata in adatas):
        return _concat_regulated(adatas)
    adatas = [with_true_counts(adata) for adata in adatas]
    joined = ad.concat(adatas, merge="unique", index_unique="-")
    if "mechanistic" not in joined.var:
        raise ValueError("adatas: a gene is mechanistic in one and not in another; must be in all")
    varm, uns = laid_out(_joined_laws(adatas, joined.var_names))
    joined.varm.update(varm)
    joined.uns.update(uns | joined_entries([adata.uns for adata in adatas]))
    joined.obs_names = [f"cell_{i}" for i in range(joined.n_obs)]
    joined.obs = joined.obs.astype({"cell_type": "category", "drug": "category"})
    return joined


def check_same_network(every_uns: list[dict], what: str = "adatas") -> None:
    """Raise ValueError unless cells with these uns are of one network, measured and screened alike.

    what: the parameter's name in messages
    """
    for name in ("grn", "measurement", "screen", "regulators"):
        values = [uns.get(name, {}) for uns in every_uns]
        if not all(_same(values[0], value) for value in values):
            raise ValueError(f"{what}: uns[{name!r}] differs in two; must be cells of the same")


def _concat_regulated(adatas):
    """`concat` for cells of gene regulatory networks: all must be of one."""
    check_same_network([adata.uns for adata in adatas])
    joined = ad.concat(adatas, merge="same", index_unique="-")
    joined.uns.update(adatas[0].uns)  # anndata's own merge drops what is empty
    joined.obs_names = [f"cell_{i}" for i in range(joined.n_obs)]
    return joined


def joined_entries(every_uns: list[dict]) -> dict[str, dict]:
    """`mechanisms` and `drugs` of several uns. Raises ValueError where one has two meanings."""
    joined = {}
    for key in ("mechanisms", "drugs"):
        together: dict = {}
        for uns in every_uns:
            for number, entry in enumerate(in_order(uns.get(key, {}))):
                name = str(entry.get("name", number))
                if not _same(together.setdefault(name, entry), entry):
                    raise ValueError(f"adatas: {key} {name!r} differ in two; must be the same")
        if together:
            joined[key] = numbered(list(together.values()))
    return joined


def _joined_laws(adatas, genes):
    """Cell type -> its mu, theta and pi, (3, n_genes)."""
    laws: dict[str, np.ndarray] = {}
    for number, adata in enumerate(adatas):
        places = adata.var_names.get_indexer(genes)
        for column, name in enumerate(cell_types(adata)):
            own = np.stack([adata.varm[p][places, column] for p in PARAMETERS])
            if not np.array_equal(laws.setdefault(name, own), own, equal_nan=True):
                wrong = f"cell type {name!r} has other laws in number {number} than before"
                advice = "give each call of base_genes a cell_type=... of its own"
                raise ValueError(f"adatas: {wrong}; {advice}")
    return laws


def _same(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return np.array_equal(a, b)
