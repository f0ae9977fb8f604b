"""Simulated cells whose true law is known, and stays known.

A data set is a plain AnnData of counts (CSR) that carries what makes its truth computable:

- `var`: `mu_<cell type>`, `theta_<cell type>`, `pi_<cell type>` of each gene, and `mechanistic`
- `uns["mechanisms"]`: kind, parents and parameters of each mechanistic gene, parents first
- `uns["drugs"]`: what each drug in `obs["drug"]` does, at the dose in `obs["dose"]`
- `layers["do"]`: 1 where a count was set by an intervention

`law(adata)` computes the true law from these and from the cells' own counts, so it can't go
stale. All of it survives `write_h5ad` and `read_h5ad`.
"""

from lib.counts import CONTROL, check_counts, dense, pbmc_counts, read_counts, with_columns, with_counts, with_matrix
from lib.simulate.cells import base_genes, base_genes_from_counts, concat, fresh_cells, get_mech_dataset
from lib.simulate.truth import cell_types, descendants, kinds, law, parents, weights

__all__ = [
    "CONTROL", "base_genes", "base_genes_from_counts", "cell_types", "check_counts", "concat", "dense", "descendants",
    "fresh_cells", "get_mech_dataset", "kinds", "law", "parents", "pbmc_counts", "read_counts", "weights", "with_columns",
    "with_counts", "with_matrix",
]  # fmt: skip
