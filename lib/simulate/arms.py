"""What a screen is: arms, guides, and what acts in a cell, apart from any cells."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.special as special

from lib import checks
from lib.counts import CONTROL, SEPARATOR
from lib.seeds import stream
from lib.simulate.arrays import Arrays
from lib.simulate.grn import GRN

KINDS = {"knockdown": 0.8, "knockout": 0.9, "activation": 4.0}  # with their usual strengths
MOST = 1e6  # fold of an activation
WRONG_GUIDES = 0.02  # where there is another arm to be mistaken for
NOTHING, IS_CONTROL = -1, -2  # acting in a cell, in place of a guide


@dataclass(frozen=True, eq=False)
class Screen(Arrays):
    """Arms and guides of a screen in plain arrays, which can't be written to.

    perturbation: (n_arms,) GENE, or GENE1+GENE2
    kind: (n_arms,) knockdown, knockout or activation
    strength: (n_arms,) as intended: share of expression taken away; share of cells in which the
        gene is lost; fold
    shift: (n_arms,) activity that every perturbed cell of the arm gains in the shared program
    guide: (n_guides,) names
    arm: (n_guides,) place of its arm
    folds: (n_guides, 2) by which it multiplies the means of the arm's genes where it works
    works: (n_guides,) share of the cells with it in which it works, escapers apart
    escapers: share of an arm's cells in which its guide does nothing
    wrong_guides: share of an arm's cells that in truth have a guide of another arm
    program: place of the shared program's column; -1 where nothing is shifted
    control_bias: (n_genes,) log of the fold by which controls differ from unperturbed cells
    captures, batches: (n_control,) captures of the controls, and places of their batches
    """

    perturbation: np.ndarray
    kind: np.ndarray
    strength: np.ndarray
    shift: np.ndarray
    guide: np.ndarray
    arm: np.ndarray
    folds: np.ndarray
    works: np.ndarray
    escapers: float
    wrong_guides: float
    program: int
    control_bias: np.ndarray
    captures: np.ndarray
    batches: np.ndarray

    def __post_init__(self):
        for field in fields(self):
            values = np.array(getattr(self, field.name))
            if values.ndim:
                is_text = values.dtype.kind in "USTO"
                self._keep(field.name, values, object if is_text else None)
            else:
                object.__setattr__(self, field.name, values.item())

    @cached_property
    def genes(self) -> list[list[str]]:
        """The genes of each arm."""
        return [str(label).split(SEPARATOR) for label in self.perturbation]

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Columns perturbation, perturbation_type and strength, a row an arm."""
        columns = {"perturbation": self.perturbation, "perturbation_type": self.kind}
        return pd.DataFrame(columns | {"strength": self.strength}).astype({"perturbation": str})

    def guides(self, arm: int) -> np.ndarray:
        """Places of the guides of the arm at this place."""
        return np.flatnonzero(self.arm == arm)

    def largest_folds(self, network: GRN) -> np.ndarray:
        """About the largest fold of each gene's mean in any arm, (n_genes,)."""
        folds = np.ones(len(network.genes))
        for arm, of_guide in zip(self.arm, self.folds):
            for gene, fold in zip(self.genes[arm], of_guide):
                folds[network.places[gene]] = max(folds[network.places[gene]], fold)
        folds[network.target] *= 2  # what an edge gives is less than twice its value at half
        return folds

    def find(self, perturbation: str, kind: str | None = None, strength: float | None = None):
        """The place of an arm. Raises ValueError unless there is one, and only one."""
        labels = self.labels
        known = list(pd.unique(labels["perturbation"]))
        turned = SEPARATOR.join(reversed(str(perturbation).split(SEPARATOR)))
        perturbation = turned if turned in known else perturbation
        if perturbation not in known:
            some = f"{known[0]} ... {known[-1]}"
            shown = checks.shown(perturbation)
            raise ValueError(f"perturbation = {shown}: no such arm; the arms are {some}, {CONTROL}")
        rows = labels[labels["perturbation"] == perturbation]
        for column, value in (("perturbation_type", kind), ("strength", strength)):
            if value is not None:
                checks.choice(column, value, list(pd.unique(rows[column])))
                rows = rows[rows[column] == value]
        if len(rows) > 1:
            several = ", ".join(f"{k} {s:g}" for _, k, s in rows.itertuples(index=False))
            raise ValueError(
                f"perturbation = {perturbation!r}: has the arms {several}; name the "
                "perturbation_type and the strength"
            )
        return int(rows.index[0])


def listed(network: GRN, arms, pairs, kind, strengths, seed) -> pd.DataFrame:
    """The arms of a screen, a row each: perturbation, perturbation_type, strength; see `screen`."""
    checks.choice("kind", kind, KINDS)
    given = strengths
    strengths = [KINDS[kind]] if given is None else checks.numbers("strengths", given)
    rng = stream(seed, "arms")
    if isinstance(arms, pd.DataFrame):
        for name, value, is_given in (
            ("pairs", pairs, pairs != 0),
            ("strengths", given, given is not None),
        ):
            if is_given:
                raise ValueError(f"{name} = {value}: must not be given where arms are a table")
        table = arms.reset_index(drop=True)
        if "perturbation" not in table:
            raise ValueError("arms: has no column 'perturbation'")
        if "perturbation_type" not in table:
            table = table.assign(perturbation_type=kind)
        if "strength" not in table:
            table = table.assign(strength=table["perturbation_type"].map(KINDS))
    else:
        if isinstance(arms, (int, np.integer)):
            labels = _some_genes(network, arms, rng)
        else:
            labels = checks.listed("arms", arms)
        single = [label for label in labels if SEPARATOR not in str(label)]
        labels = [*labels, *_some_pairs(single, pairs, rng)]
        rows = [(label, kind, strength) for label in labels for strength in strengths]
        table = pd.DataFrame(rows, columns=["perturbation", "perturbation_type", "strength"])
    table = table[["perturbation", "perturbation_type", "strength"]]
    if not len(table):
        raise ValueError("arms: has none; must have at least one")
    for label, its_kind, strength in table.itertuples(index=False):
        _check_arm(network, str(label), its_kind, strength)
    in_order = [SEPARATOR.join(sorted(str(label).split(SEPARATOR))) for label in table.iloc[:, 0]]
    twice = table.assign(perturbation=in_order).duplicated()
    if twice.any():
        raise ValueError(f"arms: {table[twice].iloc[0, 0]!r} is there twice at the same strength")
    return table


def _check_arm(network, label, kind, strength):
    if label in (CONTROL, ""):
        raise ValueError(f"arms: {label!r} is no perturbation; must be GENE or GENE1+GENE2")
    genes = label.split(SEPARATOR)
    if len(genes) > 1 and label in network.places:
        must = f"a gene of an arm must not hold {SEPARATOR!r}, which joins pairs"
        raise ValueError(f"arms: {label!r} is a gene's name; {must}")
    if len(genes) > 2:
        raise ValueError(f"arms: {label!r} has {len(genes)} genes; must be of one or two")
    for gene in genes:
        if gene not in network.places:
            known = f"{network.genes[0]} ... {network.genes[-1]}"
            raise ValueError(f"arms: {gene!r} in {label!r} is no gene; the genes are {known}")
    if len(set(genes)) < len(genes):
        raise ValueError(f"arms: {label!r} is a pair of a gene with itself; must be two genes")
    checks.choice(f"perturbation_type of {label}", kind, KINDS)
    what = "fold" if kind == "activation" else "efficiency"
    limits = (1, MOST) if kind == "activation" else (0, 1)
    checks.number(f"strength ({what}) of {label}", strength, *limits)


def _some_genes(network, n, rng):
    """Regulators and other genes by turns, as long as there are both."""
    is_regulator = np.isin(np.arange(len(network.genes)), network.regulators)
    order = rng.permutation(len(is_regulator))
    names = network.genes[order].astype(str)
    order = order[[SEPARATOR not in name and name != CONTROL for name in names]]
    n = checks.integer("arms", n, 1, len(order))
    kinds = [order[is_regulator[order]], order[~is_regulator[order]]]
    n_each = [(n + 1) // 2, n // 2]
    n_each[0] = min(len(kinds[0]), max(n_each[0], n - len(kinds[1])))
    chosen = [*kinds[0][: n_each[0]], *kinds[1][: n - n_each[0]]]
    return [str(network.genes[place]) for place in chosen]


def _some_pairs(single, pairs, rng):
    most = len(single) * (len(single) - 1) // 2
    n = checks.integer("pairs", pairs, 0, most)
    first, second = np.triu_indices(len(single), 1)
    chosen = rng.permutation(most)[:n]
    return [f"{single[i]}{SEPARATOR}{single[j]}" for i, j in zip(first[chosen], second[chosen])]


def drawn(
    network: GRN,
    table: pd.DataFrame,
    n_guides,
    guide_spread,
    escapers,
    wrong_guides,
    shift,
    bias,
    seed,
) -> dict:
    """The fields of a `Screen` but those of its controls; see `lib.perturb.screen`."""
    n_guides = checks.integer("n_guides", n_guides, 1, 100)
    spread = checks.number("guide_spread", guide_spread, 0, 5)
    escapers = checks.number("escapers", escapers, 0, 1)
    if wrong_guides is None:
        wrong_guides = WRONG_GUIDES if len(table) > 1 else 0.0
    wrong_guides = checks.number("wrong_guides", wrong_guides, 0, 1)
    if wrong_guides and len(table) < 2:
        raise ValueError(f"wrong_guides = {wrong_guides:g}: needs a second arm to be mistaken for")
    shift = checks.number("shift", shift, 0, 10)
    bias = checks.number("control_bias", bias, 0, 5)
    normal = [columns[0] for columns in network.program_columns.values() if len(columns) == 1]
    if shift and not normal:
        raise ValueError(f"shift = {shift:g}: the network has no program to shift; must be 0")
    arm = np.repeat(np.arange(len(table)), n_guides)
    deviation = stream(seed, "guides").normal(0, spread, (len(arm), 2))
    kind = table["perturbation_type"].to_numpy()[arm]
    strength = table["strength"].to_numpy(dtype=float)[arm][:, None]
    with np.errstate(divide="ignore", over="ignore"):
        share = special.expit(special.logit(np.minimum(strength, 1)) + deviation)
        fold = np.minimum(np.maximum(strength, 1) ** np.exp(deviation), MOST)
    folds = np.where((kind == "activation")[:, None], fold, 1 - share)
    is_knockout = kind == "knockout"
    folds[is_knockout] = 0
    labels = table["perturbation"].astype(str).to_numpy(dtype=object)
    return {
        "perturbation": labels,
        "kind": table["perturbation_type"].to_numpy(dtype=object),
        "strength": table["strength"].to_numpy(dtype=float),
        "shift": np.abs(stream(seed, "shifts").normal(shift, shift / 2, len(table))),
        "guide": _guide_names(table, n_guides),
        "arm": arm,
        "folds": folds,
        "works": np.where(is_knockout, share[:, 0], 1.0),
        "escapers": escapers,
        "wrong_guides": wrong_guides,
        "program": normal[-1] if shift else -1,
        "control_bias": bias * stream(seed, "control bias").normal(0, 1, len(network.genes)),
    }


def _guide_names(table, n_guides):
    """Names such as GENE_1, with kind and strength where a label has several arms."""
    several = table["perturbation"].duplicated(keep=False)
    names = []
    for (label, kind, strength), of_several in zip(table.itertuples(index=False), several):
        stem = f"{label}_{kind}_{strength:g}" if of_several else label
        names += [f"{stem}_{number}" for number in range(1, n_guides + 1)]
    return names


def in_truth(plan: Screen, labelled: np.ndarray, seed) -> np.ndarray:
    """The guide that acts in each cell, as `Acting` takes it: its own, another arm's, or none.

    labelled: (n_cells,) the guide by the cell's label, IS_CONTROL for controls
    """
    acting, rng = labelled.copy(), stream(seed, "who escapes")
    of_arm = np.flatnonzero(labelled >= 0)
    wrong = of_arm[rng.random(len(of_arm)) < plan.wrong_guides]
    if len(wrong):
        # any guide but those of the cell's own arm, whose guides stand together
        own = plan.arm[labelled[wrong]]
        n_own = np.bincount(plan.arm)[own]
        first = np.searchsorted(plan.arm, own)
        others = rng.integers(0, len(plan.arm) - n_own)
        acting[wrong] = np.where(others >= first, others + n_own, others)
    escapes = rng.random(len(of_arm)) < plan.escapers
    fails = rng.random(len(of_arm)) >= plan.works[acting[of_arm]]
    acting[of_arm[escapes | fails]] = NOTHING
    return acting


class Acting:
    """What acts in each of some cells, as `lib.simulate.grn.molecules.Cells` takes it.

    network, screen: those of the cells
    codes: (n_cells,) place of the guide that acts, NOTHING or IS_CONTROL
    """

    def __init__(self, network: GRN, screen: Screen, codes: np.ndarray):
        self.network, self.screen, self.codes = network, screen, codes
        self._bias = np.exp(screen.control_bias)
        self._controls = np.flatnonzero(codes == IS_CONTROL) if screen.control_bias.any() else []
        self._changed: dict[int, list] = {}  # gene -> pairs of cells and a fold
        order = np.argsort(codes, kind="stable")
        found, starts = np.unique(codes[order], return_index=True)
        for code, cells in zip(found.tolist(), np.split(order, starts[1:])):
            if code >= 0:
                for gene, fold in zip(screen.genes[screen.arm[code]], screen.folds[code]):
                    self._changed.setdefault(network.places[gene], []).append((cells, fold))

    def part(self, rows: slice) -> Acting:
        """The same of some of the cells."""
        return Acting(self.network, self.screen, self.codes[rows])

    def __call__(self, genes: np.ndarray, mu: np.ndarray) -> None:
        """Change the means of genes, (n_genes, n_cells), in place."""
        if len(self._controls):
            mu[:, self._controls] *= self._bias[genes][:, None]
        for row, gene in enumerate(genes.tolist()):
            for cells, fold in self._changed.get(gene, ()):
                mu[row, cells] *= fold
