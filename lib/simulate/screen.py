"""A Perturb-seq screen of a gene regulatory network: controls, and cells of arms."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks
from lib.counts import CONTROL
from lib.seeds import key, stream
from lib.simulate import arms as of_arms
from lib.simulate.arms import IS_CONTROL, Screen
from lib.simulate.grn import GRN
from lib.simulate.measurement import Measurement
from lib.simulate.regulated import World, checked, drawn, of_types

_REPLICATE = int.from_bytes(b"replica")  # ends seeds of new cells


def screen(
    network: GRN,
    arms: int | list[str] | pd.DataFrame = 100,
    *,
    pairs: int = 0,
    n_cells: int | dict[str, int] = 100,
    n_control: int | dict[str, int] = 5000,
    kind: str = "knockdown",
    strengths: list[float] | None = None,
    n_guides: int = 3,
    guide_spread: float = 0.3,
    escapers: float = 0.1,
    wrong_guides: float | None = None,
    shift: float = 0.0,
    control_bias: float = 0.0,
    measurement: Measurement | None = None,
    depth: float = 1.0,
    seed: int | tuple[int, ...] = 0,
) -> ad.AnnData:
    """Cells of a Perturb-seq screen: controls, and arms of one gene or of two.

    arms: number of genes to perturb, half of them regulators as far as there are so many; or the
        arms' names, GENE or GENE1+GENE2; or a table with a column perturbation and, if there,
        perturbation_type and strength
    pairs: number of pairs, drawn among the arms of one gene
    n_cells, n_control: cells of each arm, and controls, of each cell type, or cell type -> these
    kind: knockdown, knockout or activation
    strengths: every arm is there at each. Knockdown: share of expression that is taken away, by
        default 0.8; knockout: share of cells with a guide in which the gene is lost, 0.9;
        activation: fold, 4
    n_guides: guides an arm, in whose cells the strengths differ; they have equal shares of an
        arm's cells as far as there are so many, and in the truth always
    guide_spread: sd of a guide's deviation, of the logit of its share or of the log of the log fold
    escapers: share of an arm's cells in which its guide does nothing
    wrong_guides: share of an arm's cells that have a guide of another arm in truth, by default
        0.02, and 0 for a single arm
    shift: activity that every perturbed cell gains in the hidden program "stress" (the network's
        last that is no cycle), |normal| about it with half of it as sd, one value an arm: what
        Systema calls systematic variation
    control_bias: sd of the log of the fold by which each gene differs in controls
    measurement, depth: as in `dataset.grn_cells`

    `obs` has perturbation ("control", GENE or GENE1+GENE2), perturbation_type, strength as
    intended, guide, n_perturbations, cell_type, batch and total_counts. What is hidden, and what
    `truth.arm` needs, is named in `lib.simulate.regulated`; `dataset.shown` takes it away. Raises
    ValueError in one line for what can't be.
    """
    n_cells = of_types("n_cells", n_cells, network)
    n_control = of_types("n_control", n_control, network)
    for cell_type, n, of_control in zip(network.cell_types, n_cells, n_control):
        checks.integer(f"n_control of {cell_type}", of_control, low=min(n, 1))
    measurement = checked(measurement, network)
    table = of_arms.listed(network, arms, pairs, kind, strengths, seed)
    fields = of_arms.drawn(
        network, table, n_guides, guide_spread, escapers, wrong_guides, shift, control_bias, seed
    )
    world = World(network, measurement, Screen(**fields, captures=[], batches=[]))
    return _cells(world, fields, n_cells, n_control, depth=depth, seed=seed)


def arm_cells(
    screen: ad.AnnData,
    arms: list[tuple[str, str, float, str]],
    n_cells: int,
    *,
    seed: int | tuple[int, ...],
) -> ad.AnnData:
    """New cells of arms of a screen, measured as its controls: what a replicate would have.

    screen: cells of `screen`, some of them, or their copy on disk
    arms: perturbation, perturbation_type, strength and cell type of each; cells are in their order
    n_cells: cells of each arm
    """
    world = World.of(screen)
    plan, n_cells = world.screen, checks.integer("n_cells", n_cells, 1)
    seed = (*key(seed), _REPLICATE)
    labelled = []
    for name, kind, strength, _ in arms:
        if name == CONTROL:
            labelled.append(np.full(n_cells, of_arms.IS_CONTROL))
            continue
        guides = plan.guides(plan.find(name, kind, strength))
        labelled.append(guides[np.arange(n_cells) * len(guides) // n_cells])
    labelled = np.concatenate(labelled)
    types = np.repeat([world.network.type_of(arm[3]) for arm in arms], n_cells)
    like = stream(seed, "like controls").integers(len(plan.captures), size=len(labelled))
    acting = of_arms.in_truth(plan, labelled, seed)
    chosen = {"captures": plan.captures[like], "batch": plan.batches[like]}
    return drawn(world, types, acting, **chosen, seed=seed, obs=_obs(plan, labelled))


def _cells(world, fields, n_cells, n_control, *, depth, seed):
    """The cells, whose `uns["screen"]` knows its controls' captures.

    fields: those of `Screen` that aren't about controls
    n_cells, n_control: cells of each arm, and controls, a number a type
    """
    plan = world.screen
    each = [_labelled(plan, *numbers) for numbers in zip(n_cells, n_control)]
    types = np.repeat(np.arange(len(each)), [len(of_one) for of_one in each])
    labelled = np.concatenate(each)
    acting = of_arms.in_truth(plan, labelled, seed)
    cells = drawn(world, types, acting, depth=depth, seed=seed, obs=_obs(plan, labelled))
    controls = labelled == IS_CONTROL
    of_controls = {
        "captures": cells.obsm["capture"][controls, 0],
        "batches": cells.obs["batch"].cat.codes.to_numpy()[controls].astype(np.int64),
    }
    cells.uns["screen"] = Screen(**fields, **of_controls).as_arrays()
    return cells


def _labelled(plan, n_cells, n_control):
    """The guide that each cell of a type is labelled with, IS_CONTROL for controls."""
    cells = [np.full(n_control, IS_CONTROL)]
    for arm in range(len(plan.perturbation)):
        guides = plan.guides(arm)
        # one guide after the other, since batches are by turns: each guide is in every batch
        cells.append(guides[np.arange(n_cells) * len(guides) // n_cells])
    return np.concatenate(cells)


def _obs(plan, labelled):
    """The columns of obs that are about the arm, as an experimenter has them."""
    is_control = labelled == IS_CONTROL
    guide = np.where(is_control, 0, labelled)
    arm = plan.arm[guide]
    n_genes = np.array([len(genes) for genes in plan.genes])

    def text(of_cells, of_control):
        values = np.where(is_control, of_control, of_cells.astype(object))
        return pd.Categorical(values, categories=list(dict.fromkeys([of_control, *of_cells])))

    return {
        "perturbation": text(plan.perturbation[arm], CONTROL),
        "perturbation_type": text(plan.kind[arm], CONTROL),
        "strength": np.where(is_control, 0.0, plan.strength[arm]),
        "guide": text(plan.guide[guide], "non-targeting"),
        "n_perturbations": np.where(is_control, 0, n_genes[arm]),
    }
