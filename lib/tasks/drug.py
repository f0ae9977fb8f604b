"""Drug response: cells of several types, four drugs, and the treated law of a type never seen treated."""

from typing import NamedTuple

import anndata as ad
import numpy as np

from lib import dataset, perturb
from lib.predict.base import Perturbation, Query
from lib.seeds import key, stream
from lib.tasks.base import Question, identified

VERSIONS = {
    1: "four drugs; held-out cells of types seen treated, and of one that never was"
}  # as in `conditional`
QUESTIONS = (
    "seed",
    "n_cells",
    "n_test",
    "n_genes",
    "n_cell_types",
    "zero_rate",
    "dispersion_range",
    "shift",
    "fold",
    "dose",
)


class Drug(NamedTuple):
    """What a drug does: `kind`, `effect` and `options` as of `perturb.treat`."""

    name: str
    kind: str
    effect: float
    options: dict

    def treat(self, control: ad.AnnData, *, seed: int | tuple[int, ...]) -> ad.AnnData:
        """Cells under the drug."""
        return perturb.treat(
            control, self.kind, self.effect, name=self.name, **self.options, seed=seed
        )


def identity(**parameters) -> str:
    """What the questions of notebook 04 are known by, from its parameters."""
    return identified(VERSIONS, QUESTIONS, parameters)


def drugs(
    control: ad.AnnData, *, shift: float, fold: float, dose: float, seed: int | tuple[int, ...]
) -> list[Drug]:
    """The four drugs: additive, fold change, fold change of one gene in five, and additive by cell type.

    control: cells of the types and genes that they act on
    shift: counts added to mu
    fold: factor on mu
    dose: relative, of every drug
    """
    types, n_genes = dataset.cell_types(control), control.n_vars
    chosen = stream(seed, "subset").permutation(n_genes) < max(1, n_genes // 5)
    subset = {"genes": list(control.var_names[chosen])}
    factors = {"cell_type_factors": dict(zip(types, np.linspace(0.25, 1.75, len(types))))}
    return [
        Drug("additive", "additive", shift, {"dose": dose}),
        Drug("fold_change", "fold_change", fold, {"dose": dose}),
        Drug("subset", "fold_change", fold, subset | {"dose": dose}),
        Drug("cell_type_specific", "additive", shift, factors | {"dose": dose}),
    ]


def treated_cells(
    control: ad.AnnData, held_out: str, drug: Drug, n_cells: int, *, seed: int | tuple[int, ...]
) -> ad.AnnData:
    """New cells under a drug, `n_cells` of each cell type but the one that is held out."""
    seed = key(seed)
    seen = control[control.obs["cell_type"] != held_out]
    return drug.treat(dataset.fresh_cells(seen, n_cells, seed=(*seed, 2)), seed=(*seed, 3))


def questions(
    test: ad.AnnData, held_out: str, drug: Drug, *, seed: int | tuple[int, ...]
) -> dict[str, tuple[Question, ad.AnnData]]:
    """Cell type -> the question for its treated law, and cells of it that are truly treated.

    test: control cells that no model was trained on; `split` is "held_out_type" for that type
    """
    asked = {}
    for number, cell_type in enumerate(dataset.cell_types(test)):
        cells = test[test.obs["cell_type"] == cell_type].copy()
        after = drug.treat(cells, seed=(*key(seed), 4, number))
        query = Query(cells, list(cells.var_names), Perturbation(drug.name, drug.options["dose"]))
        split = "held_out_type" if cell_type == held_out else "held_out"
        asked[cell_type] = Question(query, dataset.law(after)[0], split), after
    return asked
