"""Drug response: cells of several types, four drugs, and the law of a type never seen treated."""

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
    """A drug, as `perturb.treat` gives it.

    kind, effect, options: the same arguments of `perturb.treat`, the dose among the options
    """

    name: str
    kind: str
    effect: float
    options: dict

    def treat(self, control: ad.AnnData, *, seed: int | tuple[int, ...]) -> ad.AnnData:
        """The cells under the drug."""
        options = {"name": self.name, **self.options}
        return perturb.treat(control, self.kind, self.effect, **options, seed=seed)


class Arm(NamedTuple):
    """A question about the treated cells of one cell type.

    question: asks for the law of each gene under the drug; its split is "held_out_type" for the
        type that is never seen treated, else "held_out"
    treated: the question's control cells, truly treated
    alike: treated cells of the type, as many as there are to train on
    changed: (n_genes,) bool, genes whose law the drug changes
    """

    cell_type: str
    question: Question
    treated: ad.AnnData
    alike: ad.AnnData
    changed: np.ndarray


class Trial(NamedTuple):
    """A drug, the cells to train on, and an arm for each cell type."""

    drug: Drug
    train: ad.AnnData
    arms: list[Arm]


def identity(**parameters) -> str:
    """The version and hash of notebook 04's questions, from its parameters."""
    return identified(VERSIONS, QUESTIONS, parameters)


def drugs(
    control: ad.AnnData, *, shift: float, fold: float, dose: float, seed: int | tuple[int, ...]
) -> list[Drug]:
    """Four drugs: additive, fold change, fold change of one gene in five, additive by cell type.

    control: cells of the types and genes that the drugs act on
    shift: counts added to mu
    fold: factor on mu
    dose: relative dose of every drug
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


def trial(
    control: ad.AnnData, test: ad.AnnData, drug: Drug, n_cells: int, *, seed: int | tuple[int, ...]
) -> Trial:
    """A drug given to all cell types but the last, and the questions about its effect on each type.

    control: control cells to train on
    test: control cells to ask about, which no model is trained on
    n_cells: treated cells of each type
    """
    seed = key(seed)
    types = dataset.cell_types(test)
    held_out = types[-1]
    seen = control[control.obs["cell_type"] != held_out]
    treated = drug.treat(dataset.fresh_cells(seen, n_cells, seed=(*seed, 2)), seed=(*seed, 3))
    arms = []
    for number, cell_type in enumerate(types):
        if cell_type == held_out:
            of_type = control[control.obs["cell_type"] == cell_type]
            fresh = dataset.fresh_cells(of_type, n_cells, seed=(*seed, 5))
            alike = drug.treat(fresh, seed=(*seed, 6))
        else:
            alike = treated[treated.obs["cell_type"] == cell_type]
        split = "held_out_type" if cell_type == held_out else "held_out"
        cells = test[test.obs["cell_type"] == cell_type].copy()
        arms.append(_arm(cell_type, cells, drug, alike, split, seed=(*seed, 4, number)))
    return Trial(drug, dataset.concat([control, treated]), arms)


def _arm(cell_type, cells, drug, alike, split, seed):
    treated = drug.treat(cells, seed=seed)
    true = dataset.law(treated)[0]
    changed = ~np.isclose(true.mu, dataset.law(cells)[0].mu)
    query = Query(cells, list(cells.var_names), Perturbation(drug.name, drug.options["dose"]))
    return Arm(cell_type, Question(query, true, split), treated, alike, changed)
