"""Simulated cells whose true law is known, and stays known.

A data set is a plain AnnData of counts (CSR) that carries all that its truth is computed from:

- `varm["mu"]`, `varm["theta"]`, `varm["pi"]`: (n_genes, n_cell_types), the genes' parameters
- `uns["cell_types"]`: (n_cell_types,), the names of their columns
- `var["mechanistic"]`: whether the law is a function of other genes' counts; mu then is NaN above
- `uns["mechanisms"]`: an entry for each mechanistic gene under "000", "001", ..., parents first:
  its name `gene`, its parents, mechanism and parameters
- `uns["drugs"]`: likewise an entry for each drug: what the drug `name` does to cells that have it
  in `obs["drug"]`, at the dose in `obs["dose"]`
- `layers["do"]`: 1 where a count was set by an intervention

Names of genes, cell types and drugs are values, never names of columns or keys, so that any name
survives `write_h5ad` and `write_zarr`. `law(adata)` computes the true law from these and from the
cells' own counts, so it can't go stale. Where X no longer holds whole counts, `law` and
interventions take those of `layers["counts"]`, and refuse cells that have none.

Cells of a gene regulatory network (`grn_cells`) have molecules apart from what is measured of them,
and a law given the molecules; what they hold is named in `lib.simulate.regulated`.
"""

from lib.counts import (
    CONTROL,
    check_counts,
    counts_of,
    dense,
    pbmc_counts,
    read_counts,
    with_counts,
)
from lib.simulate import grn, measurement
from lib.simulate.cells import base_genes, base_genes_from_counts, fresh_cells, get_mech_dataset
from lib.simulate.layout import cell_types, concat, descendants, kinds, parents, weights
from lib.simulate.regulated import grn_cells, shown
from lib.simulate.truth import Truth, arm, law, treated_law

__all__ = [
    "CONTROL", "Truth", "arm", "base_genes", "base_genes_from_counts", "cell_types", "check_counts",
    "concat", "counts_of", "dense", "descendants", "fresh_cells", "get_mech_dataset", "grn",
    "grn_cells", "kinds", "law", "measurement",
    "parents", "pbmc_counts", "read_counts", "shown", "treated_law", "weights", "with_counts",
]  # fmt: skip
