"""Screens of gene regulatory networks: what arms truly do, and what their cells show of it."""

from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from lib import dataset
from lib.counts import CONTROL, SEPARATOR, dense

WELL_COUNTED = 3.0  # counts a cell
KINDS = "regulator", "other gene", "pair"


class Example(NamedTuple):
    """One arm, from the network to counts.

    perturbation: the arm
    target: the gene, not perturbed itself, whose law changes most
    nodes: a row a gene: regulator, module, depth, reached, log_fold_change as intended
    edges: a row an edge: regulator, target, and whether it is `carried`, both of its genes reached
    molecules: a row a cell: molecules and counts of the perturbed regulator, and `arm`
    laws: a row a count of `target`: probabilities under control, as_intended and as_labelled, and
        the share of the arm's cells, observed
    folds: a row a gene that is counted in the arm and in controls: log fold change, exact as
        labelled, and that of mean counts in their cells
    """

    perturbation: str
    target: str
    nodes: pd.DataFrame
    edges: pd.DataFrame
    molecules: pd.DataFrame
    laws: pd.DataFrame
    folds: pd.DataFrame


def kind_of(cells: ad.AnnData, perturbation: str) -> str:
    """One of KINDS: a pair, or a gene that regulates others, or one that doesn't."""
    if perturbation not in cells.var_names:
        return "pair"
    return "regulator" if cells.var["regulator"].loc[perturbation] else "other gene"


def arms_of(cells: ad.AnnData) -> list[str]:
    """The perturbations of a screen, in its order."""
    return [name for name in cells.obs["perturbation"].cat.categories if name != CONTROL]


def described(cells: ad.AnnData, truth: dataset.Truth) -> pd.DataFrame:
    """What arms do to genes that they don't perturb themselves, mean over arms of a kind.

    cells: a screen of one cell type, every arm at one strength

    Returns rows of mechanism (kind of arm), split (sense), metric, value: n_reached, n_affected,
    kl_nats, error_nats (means over genes), and, as labelled, fold_correlation, over genes that are
    counted in both, of the exact log fold change with that of mean counts in the arm's cells and in
    controls.
    """
    rows = []
    for sense in dataset.Truth.senses:
        for name in arms_of(cells):
            genes = truth.arm(name, sense=sense).genes
            others = genes.drop(name.split(SEPARATOR))
            values = {
                "n_reached": others["reached"].sum(),
                "n_affected": others["affected"].sum(),
                "kl_nats": others["kl_nats"].mean(),
                "error_nats": genes["error_nats"].mean(),
            }
            if sense == "as_labelled":
                values["fold_correlation"] = _correlation(_folds(cells, name, others))
            kind = kind_of(cells, name)
            rows += [(kind, sense, metric, float(value)) for metric, value in values.items()]
    table = pd.DataFrame(rows, columns=["mechanism", "split", "metric", "value"])
    return table.groupby(["mechanism", "split", "metric"], sort=False, as_index=False).mean()


def example(cells: ad.AnnData, truth: dataset.Truth, perturbation: str | None = None) -> Example:
    """An arm from the network to counts.

    perturbation: by default the regulator whose knockdown reaches most genes, of those with some
        counts a cell
    """
    network = truth.network
    if perturbation is None:
        single = [name for name in arms_of(cells) if kind_of(cells, name) == "regulator"]
        counted = truth.arm(CONTROL).genes["mean"]
        single = [name for name in single if counted[name] >= WELL_COUNTED] or single
        n_reached = [network.reached([name], truth.cell_type).sum() for name in single]
        perturbation = single[int(np.argmax(n_reached))]
    intended, labelled, control = (
        truth.arm(perturbation, sense="as_intended"),
        truth.arm(perturbation, sense="as_labelled"),
        truth.arm(CONTROL),
    )
    genes = intended.genes
    target = genes["kl_nats"].drop(perturbation).idxmax()
    columns = ["regulator", "module", "depth"]
    nodes = network.gene_table()[columns].join(genes[["reached", "log_fold_change"]])
    edges = network.edge_table()[["regulator", "target"]]
    is_reached = nodes["reached"]
    edges["carried"] = is_reached[edges["regulator"]].to_numpy()
    edges["carried"] &= is_reached[edges["target"]].to_numpy()
    return Example(
        perturbation,
        target,
        nodes,
        edges,
        _molecules(cells, perturbation),
        _laws(cells, target, perturbation, intended, labelled, control),
        _folds(cells, perturbation, labelled.genes),
    )


def _correlation(folds):
    """That of exact and estimated log fold changes; NaN where nothing changes in truth."""
    if not folds["exact"].std() > 0:
        return np.nan
    return folds["exact"].corr(folds["estimated"])


def _of_arm(cells, perturbation):
    return (cells.obs["perturbation"] == perturbation).to_numpy()


def _molecules(cells, regulator):
    column = list(cells.uns["regulators"]).index(regulator)
    counts = dense(cells[:, regulator].X)[:, 0]
    table = pd.DataFrame({"molecules": cells.obsm["molecules"][:, column], "counts": counts})
    table["arm"] = cells.obs["perturbation"].astype(str).to_numpy()
    return table[table["arm"].isin([CONTROL, regulator])].reset_index(drop=True)


def _laws(cells, target, perturbation, intended, labelled, control):
    counts = dense(cells[_of_arm(cells, perturbation), target].X)[:, 0].astype(int)
    place = list(cells.var_names).index(target)
    n_counts = counts.max() + 2
    table = {"count": np.arange(n_counts)}
    arms = {"control": control, "as_intended": intended, "as_labelled": labelled}
    for name, arm in arms.items():
        table[name] = arm.law[place].pmf_table(n_counts)
    table["observed"] = np.bincount(counts, minlength=n_counts) / len(counts)
    return pd.DataFrame(table)


def _folds(cells, perturbation, genes):
    """Exact log fold changes, and those of mean counts in the arm and in controls.

    Of the genes that are counted in both.
    """
    means = [
        np.asarray(cells.X[_of_arm(cells, name)].mean(axis=0)).ravel()
        for name in (perturbation, CONTROL)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        estimated = np.log(means[0]) - np.log(means[1])
    estimated = pd.Series(estimated, cells.var_names, name="estimated")
    columns = {"log_fold_change": "exact", "reached": "reached"}
    table = genes[list(columns)].rename(columns=columns).join(estimated)
    return table[np.isfinite(table["exact"]) & np.isfinite(table["estimated"])]
