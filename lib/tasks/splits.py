"""Which arms of a screen are to train on, and which are asked about."""

import numpy as np
import pandas as pd

from lib import checks
from lib.counts import SEPARATOR
from lib.seeds import stream

GENE, STRENGTH, TYPE, TYPE_FEW = "unseen gene", "unseen strength", "unseen type", "unseen type, few"
PAIRS = {n: f"pair, seen {n}" for n in (2, 1, 0)}
SPLITS = [GENE, *PAIRS.values(), STRENGTH, TYPE, TYPE_FEW]
REGULATOR, OTHER, PAIR = "regulator", "other gene", "pair"
WEAKER, ACTIVATION = 0.4, 4.0  # unseen strengths: of a knockdown, of an activation
COLUMNS = ["perturbation", "perturbation_type", "strength"]


def arms_of(network, design, seed):
    """All arms: what they are, split and kind, and whether they are to train on."""
    rng = stream(seed, "what is asked")
    is_regulator = np.isin(np.arange(len(network.genes)), network.regulators)
    order = rng.permutation(len(is_regulator))
    names = np.asarray(network.genes).astype(str)
    regulators = list(names[order[is_regulator[order]]])
    others = list(names[order[~is_regulator[order]]])

    def taken(n):
        n_regulators = min(len(regulators), max((n + 1) // 2, n - len(others)))
        some = regulators[:n_regulators], others[: n - n_regulators]
        del regulators[:n_regulators], others[: n - n_regulators]
        return some

    unseen, seen = taken(design.n_unseen), taken(design.n_arms)
    rows = []

    def add(label, split, kind, perturbation_type="knockdown", strength=design.strength):
        rows.append((label, perturbation_type, strength, split, kind))

    for genes, split in ((seen, ""), (unseen, GENE)):
        for kind, of_kind in zip((REGULATOR, OTHER), genes):
            for gene in of_kind:
                add(gene, split, kind)
    seen_all, unseen_all = [*seen[0], *seen[1]], [*unseen[0], *unseen[1]]
    third = design.n_asked_pairs // 3
    two = _pairs(seen_all, seen_all, design.n_pairs + third, rng)
    for place, pair in enumerate(two):
        add(pair, "" if place < design.n_pairs else PAIRS[2], PAIR)
    for pair in _pairs(seen_all, unseen_all, third, rng):
        add(pair, PAIRS[1], PAIR)
    for pair in _pairs(unseen_all, unseen_all, third, rng):
        add(pair, PAIRS[0], PAIR)
    for gene in seen[0][: design.n_strengths]:
        add(gene, STRENGTH, "knockdown", "knockdown", WEAKER)
        add(gene, STRENGTH, "activation", "activation", ACTIVATION)
    table = pd.DataFrame(rows, columns=[*COLUMNS, "split", "kind"])
    table["seen_first"] = table["split"] == ""
    single = np.flatnonzero(table["seen_first"] & (table["kind"] != PAIR))
    mixed = rng.permutation(single)
    table["seen_third"] = np.isin(np.arange(len(table)), mixed[: design.n_few])
    n_asked = design.n_asked_types if design.n_cell_types > 1 else 0
    asked = mixed[design.n_few : design.n_few + n_asked]
    table["asked_in_types"] = np.isin(np.arange(len(table)), asked)
    return table


def _pairs(first, second, n, rng):
    """n pairs of a gene of the one and a gene of the other list, each once."""
    possible = sorted({tuple(sorted((a, b))) for a in first for b in second if a != b})
    n = checks.integer("pairs", n, 0, len(possible))
    return [SEPARATOR.join(possible[place]) for place in rng.permutation(len(possible))[:n]]


def asked_of(arms, design):
    """The arms asked about, with their cell type, in the order of the questions."""
    parts = [arms[arms["split"] != ""].assign(cell_type="A")]
    if design.n_cell_types > 1:
        of_types = arms[arms["asked_in_types"]]
        parts += [
            of_types.assign(cell_type=name, split=split)
            for name, split in (("B", TYPE), ("C", TYPE_FEW))
        ]
    return pd.concat(parts, ignore_index=True)
