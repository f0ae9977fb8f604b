"""The screen: controls and some arms to train on; asked is the law of arms that nobody has seen.

| split | what is asked |
|---|---|
| unseen gene | the knockdown of a gene that no arm has perturbed |
| pair, seen 2, 1, 0 | two genes, of which so many have an arm of their own in training |
| unseen strength | a gene seen as a knockdown, at another efficiency, or activated |
| unseen type | a gene seen in other cell types, in a type of which only controls are seen |
| unseen type, few | the same in a type with a few arms |
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks, dataset, perturb
from lib.counts import CONTROL
from lib.laws.tabulated import Tabulated
from lib.predict.base import Perturbation, Query
from lib.seeds import key, stream
from lib.tasks import prior as knowledge
from lib.tasks.base import identified
from lib.tasks.splits import COLUMNS, STRENGTH, WEAKER, arms_of, asked_of

VERSIONS = {1: "unseen genes, pairs, strengths and cell types, scored as labelled"}  # see `drug`
SENSE = "as_labelled"  # of the truth: escapers and wrong guides are in it, as in cells to train on
UNNAMED, NONE, GRAPH, DIRECTED, TRUE = PRIORS = "unnamed", "none", "graph", "directed", "true"
_MANY_GUIDES = 20  # of an arm, where its own aren't known
_OTHERS = int.from_bytes(b"others")  # ends seeds of guides: one that no one else would take
_CONTROLS = int.from_bytes(b"controls")  # likewise of new control cells

# How regulators act: keys of `Design.regulation` -> options of `dataset.grn.draw`
REGULATION = {
    "usual": {},
    "gates": {"logic": {"and": 0.5, "or": 0.5}},
    "switches": {"power_range": (4.0, 10.0), "half_spread": 1.0},
}


@dataclass(frozen=True)
class Design:
    """What a screen is like, and what is asked about it.

    n_genes, n_regulators: of the network
    n_arms: arms of one gene to train on, half of them regulators as far as there are so many
    n_pairs: pairs of these genes to train on
    n_unseen: genes of unseen arms, likewise half regulators
    n_asked_pairs: pairs asked about, 0 or at least 3: a third each, rounded down, with 2, 1, and 0
        genes seen
    n_strengths: regulators seen as arms that are asked about at other strengths, 0.4 and an
        activation; all of them where there are fewer
    n_cells, n_control: cells of an arm and controls, in a cell type
    n_cell_types: with 3, arms are seen in the first, none in the second, `n_few` in the third
    n_few: arms that the third type has
    n_asked_types: arms asked about in the second and in the third type
    divergence: share of edges that have another regulator in each type but the first
    strength: share of a gene's expression that knockdowns of training take away
    shift: of all perturbed cells in one program, as in `perturb.screen`
    control_bias: sd of the log of the fold by which each gene differs in controls
    depth: share of the reads
    fidelity: share of the prior graph's edges that are true
    regulation: how regulators act: "usual", Hill responses that mostly multiply; "gates", the same
        in "and" and "or"; "switches", steep ones whose halves lie far from the usual molecules
    """

    n_genes: int = 500
    n_regulators: int = 75
    n_arms: int = 100
    n_pairs: int = 30
    n_unseen: int = 40
    n_asked_pairs: int = 30
    n_strengths: int = 10
    n_cells: int = 100
    n_control: int = 5000
    n_cell_types: int = 1
    n_few: int = 20
    n_asked_types: int = 20
    divergence: float = 0.2
    strength: float = 0.8
    shift: float = 0.4
    control_bias: float = 0.0
    depth: float = 1.0
    fidelity: float = 0.5
    regulation: str = "usual"

    def __post_init__(self):
        checks.integer("n_genes", self.n_genes, 4, 20_000)
        checks.integer("n_regulators", self.n_regulators, 1, self.n_genes // 2)
        checks.integer("n_unseen", self.n_unseen, 0, self.n_genes - 2)
        checks.integer("n_arms", self.n_arms, 2, self.n_genes - self.n_unseen)
        third = checks.integer("n_asked_pairs", self.n_asked_pairs, 0, 100_000) // 3
        if self.n_asked_pairs and not third:
            raise ValueError(f"n_asked_pairs = {self.n_asked_pairs}: must be 0, or 3 or more")
        of_unseen = self.n_unseen * (self.n_unseen - 1) // 2
        if third > min(of_unseen, self.n_unseen * self.n_arms):
            must = f"must be enough for n_asked_pairs = {self.n_asked_pairs}"
            raise ValueError(f"n_unseen = {self.n_unseen}: {must}")
        most = self.n_arms * (self.n_arms - 1) // 2 - third
        checks.integer("n_pairs", self.n_pairs, 0, most)
        checks.integer("n_strengths", self.n_strengths, 0, self.n_arms)
        checks.integer("n_cells", self.n_cells, 1, 1_000_000)
        checks.integer("n_control", self.n_control, 10, 10_000_000)
        checks.choice("n_cell_types", checks.integer("n_cell_types", self.n_cell_types), (1, 3))
        checks.integer("n_few", self.n_few, 0, self.n_genes)
        checks.integer("n_asked_types", self.n_asked_types, 0, self.n_genes)
        if self.n_cell_types > 1:
            checks.integer("n_few", self.n_few, 0, self.n_arms - 1)
            checks.integer("n_asked_types", self.n_asked_types, 0, self.n_arms - self.n_few)
        checks.number("divergence", self.divergence, 0, 1)
        checks.number("strength", self.strength, 0, 1)
        checks.number("shift", self.shift, 0, 10)
        checks.number("control_bias", self.control_bias, 0, 5)
        checks.number("depth", self.depth, 1e-9, 1)
        checks.number("fidelity", self.fidelity, 0, 1)
        checks.choice("regulation", self.regulation, tuple(REGULATION))
        if self.strength == WEAKER and self.n_strengths:
            raise ValueError(f"strength = {WEAKER:g}: must not be the one of {STRENGTH!r}")
        of_types = self.n_asked_types if self.n_cell_types > 1 else 0
        if not (self.n_unseen or third or self.n_strengths or of_types):
            raise ValueError("n_unseen = 0: must be more, or other arms be asked about")


class Question(NamedTuple):
    """A question about an arm.

    name: q000, q001, ...
    query: asks for the law of each gene in the arm
    cell_type: in which it is asked
    split: one of `SPLITS`
    kind: regulator, other gene or pair; of an unseen strength, knockdown or activation
    """

    name: str
    query: Query
    cell_type: str
    split: str
    kind: str


class Task:
    """A screen and the questions about it.

    design, seed, n_truth: what it is made from, which gives the same task again
    screen: cells of all arms, with their truth
    """

    def __init__(self, design: Design, seed: int | tuple[int, ...], *, n_truth: int = 4000):
        self.design, self.seed, self.n_truth = design, key(seed), n_truth
        self.network = dataset.grn.draw(
            design.n_genes,
            design.n_regulators,
            n_cell_types=design.n_cell_types,
            divergence=design.divergence,
            seed=seed,
            **REGULATION[design.regulation],
        )
        self._arms = arms_of(self.network, design, self.seed)
        self.screen = self._screen(self._arms, n_cells=design.n_cells, seed=seed)
        self._truths: dict[str, dataset.Truth] = {}
        self._expected: dict[str, dataset.Truth] = {}
        self._known: dict[tuple, object] = {}

    def _screen(self, arms, *, n_cells, **options):
        types = [str(name) for name in self.network.cell_types]
        return perturb.screen(
            self.network,
            arms[COLUMNS],
            n_cells=dict(zip(types, [n_cells, 0, n_cells])),
            n_control=self.design.n_control,
            shift=self.design.shift,
            control_bias=self.design.control_bias,
            depth=self.design.depth,
            **options,
        )

    def train(self, prior: str = GRAPH) -> ad.AnnData:
        """Cells to train on, as models see them.

        prior: what they are told of the network, in `uns["prior_graph"]` and, where it has no
            directions, `varm["prior"]`: "unnamed", nothing, not even which genes are
            regulators; "none"; "graph", undirected, unsigned, of the design's fidelity; "directed",
            the same with directions; "true", all of it, with directions
        """
        checks.choice("prior", prior, PRIORS)
        cells = self._shown.copy()
        if prior == UNNAMED:
            del cells.var["regulator"]
        elif prior != NONE:
            fidelity = 1.0 if prior == TRUE else self.design.fidelity
            edges = knowledge.graph(self.network, fidelity, seed=self.seed, directed=prior != GRAPH)
            cells.uns["prior_graph"] = edges
            if prior == GRAPH:
                cells.varm["prior"] = knowledge.embedding(edges, list(cells.var_names))
        return cells

    @cached_property
    def _shown(self):
        obs = self.screen.obs
        is_train = (obs["perturbation"] == CONTROL).to_numpy()
        seen = obs["cell_type"].map({"A": "seen_first", "B": "", "C": "seen_third"}).to_numpy()
        of_arm = pd.MultiIndex.from_frame(obs[COLUMNS].astype({"perturbation": str}))
        arms = self._arms.set_index(COLUMNS)
        for column in ("seen_first", "seen_third"):
            is_train |= (seen == column) & of_arm.isin(arms.index[arms[column]])
        cells = dataset.shown(self.screen[is_train])
        cells.obs_names = [f"cell_{i}" for i in range(cells.n_obs)]
        # their names would tell what else there is of an arm
        number = cells.obs["guide"].astype(str).str.rpartition("_")[2]
        names = cells.obs["perturbation"].astype(str) + "_" + number
        is_control = cells.obs["perturbation"] == CONTROL
        cells.obs["guide"] = names.where(~is_control, "non-targeting").astype("category")
        for column in cells.obs.select_dtypes("category"):
            cells.obs[column] = cells.obs[column].cat.remove_unused_categories()
        return cells

    @cached_property
    def controls(self) -> dict[str, ad.AnnData]:
        """Control cells of each cell type, which are to train on too, with their truth."""
        obs, found = self.screen.obs, {}
        for name in map(str, self.network.cell_types):
            of_type = (obs["perturbation"] == CONTROL) & (obs["cell_type"] == name)
            found[name] = self.screen[of_type.to_numpy()].copy()
        return found

    @cached_property
    def asked(self) -> list[Question]:
        """The questions."""
        genes, found = list(self.screen.var_names), []
        for place, row in enumerate(asked_of(self._arms, self.design).itertuples(index=False)):
            what = Perturbation(row.perturbation, float(row.strength), row.perturbation_type)
            query = Query(self.controls[row.cell_type], list(genes), what)
            found.append(Question(f"q{place:03d}", query, row.cell_type, row.split, row.kind))
        return found

    def truth(self, cell_type: str) -> dataset.Truth:
        """The truth about arms in cells of one type."""
        if cell_type not in self._truths:
            made = dataset.Truth(self.screen, cell_type, n_cells=self.n_truth)
            self._truths[cell_type] = made
        return self._truths[cell_type]

    def arm(self, query: Query):
        """The truth about the arm that a query is about, a `simulate.arm.Arm`."""
        cell_type = query.cell_type
        known = cell_type, query.perturbation
        if known not in self._known:
            self._known[known] = _arm(self.truth(cell_type), query.perturbation)
        return self._known[known]

    def control_laws(self, cell_type: str) -> Tabulated:
        """The exact laws of the genes' counts in control cells, (n_genes,)."""
        return self.truth(cell_type).arm(CONTROL, sense=SENSE).table

    def control_counts(self, cell_type: str, n_cells: int) -> sparse.csr_matrix:
        """Counts of new control cells."""
        arms = [(CONTROL, "", 0.0, cell_type)]
        return perturb.arm_cells(self.screen, arms, n_cells, seed=(*self.seed, _CONTROLS)).X

    def expected(self, query: Query):
        """The same, of an arm whose guides and shift are not known.

        Guides work as guides do, and the shift is the mean over arms: one law, not a mixture over
        all shifts that there could be. Nor is anything known of the arm in another cell type.
        """
        cell_type = query.cell_type
        if cell_type not in self._expected:
            self._expected[cell_type] = dataset.Truth(
                self._any_guides, cell_type, n_cells=self.n_truth
            )
        return _arm(self._expected[cell_type], query.perturbation)

    @cached_property
    def _any_guides(self):
        """A screen of the arms asked about, with many other guides each, and one shift for all.

        A wrong guide, of 2 % of the cells, is of one of these arms.
        """
        of_shift = stream(self.seed, "mean shift").normal(1, 0.5, 100_000)
        shift = self.design.shift * float(np.abs(of_shift).mean())
        arms = self._arms[(self._arms["split"] != "") | self._arms["asked_in_types"]]
        cells = self._screen(arms, n_guides=_MANY_GUIDES, n_cells=1, seed=(*self.seed, _OTHERS))
        plan = cells.uns["screen"]
        plan["shift"] = np.full(len(plan["shift"]), shift)
        plan["captures"] = self.screen.uns["screen"]["captures"]
        plan["batches"] = self.screen.uns["screen"]["batches"]
        return cells

    def cells(self, queries: list[Query], n_cells: int, *, seed) -> list[ad.AnnData]:
        """New cells of the arms that queries are about, as measured, an AnnData a query."""
        arms = []
        for query in queries:
            name, strength, kind = query.perturbation
            arms.append((name, kind, strength, query.cell_type))
        drawn = perturb.arm_cells(self.screen, arms, n_cells, seed=seed)
        stops = np.arange(len(queries) + 1) * n_cells
        return [drawn[start:stop] for start, stop in zip(stops, stops[1:])]


def _arm(truth, perturbation):
    name, strength, kind = perturbation
    return truth.arm(name, perturbation_type=kind, strength=strength, sense=SENSE)


def identity(**parameters) -> str:
    """The version and hash of a screen's questions: seed, n_truth and the fields of its design."""
    names = (*(field.name for field in fields(Design)), "seed", "n_truth")
    return identified(VERSIONS, names, parameters)
