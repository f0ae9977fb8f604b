"""Questions: what a model is asked, and the truth about it."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import NamedTuple, Self

import anndata as ad
import numpy as np

from lib.laws import ZINB
from lib.predict.base import Query


class Question(NamedTuple):
    """A query with its answer.

    true: exact law, of shape `query.shape`
    split: kind of question, such as "held_out"
    mechanism: kind of the gene's mechanism, "" for a base gene or an arm
    dose: (n_cells,) count that a gene was set to, where one was
    """

    query: Query
    true: ZINB
    split: str
    mechanism: str = ""
    dose: np.ndarray | None = None

    @property
    def cells(self) -> ad.AnnData:
        """The query's cells."""
        return self.query.cells

    @property
    def gene(self) -> str:
        """The one gene that is asked about."""
        (gene,) = self.query.genes
        return gene

    def part(self, rows: np.ndarray, split: str) -> Self:
        """The question for some of its cells.

        rows: (n_cells,) bool
        """
        query = self.query._replace(cells=self.cells[rows].copy())
        dose = None if self.dose is None else self.dose[rows]
        return self._replace(query=query, true=self.true[rows], split=split, dose=dose)


class Series(NamedTuple):
    """A gene's law over doses of one of its parents.

    question: all doses, with split "do"
    parent: gene that is set
    end: 99th percentile of the parent's counts in training, up to which a dose is inside
    """

    question: Question
    parent: str
    end: float

    def splits(self) -> list[tuple[str, np.ndarray]]:
        """Each split, and which of the cells belong to it, (n_cells,) bool."""
        inside = self.question.dose <= self.end
        return [("do_inside", inside), ("do_beyond", ~inside)]


def identified(versions: dict[int, str], names: tuple[str, ...], parameters: dict) -> str:
    """The name by which a task's questions are known: a version, and a hash of parameters.

    versions: version -> what it changed; the last one counts
    names: parameters that make the questions; others, such as the number of replicates, don't
        change what is asked

    1000 and 1e3 are the same. Where a parameter is an import string, the file that it names is
    hashed too. Raises KeyError for a parameter that isn't given.
    """
    made = {name: _plain(parameters[name]) for name in names}
    digest = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
    return f"v{max(versions)}-{digest[:12]}"


def _plain(value):
    """A parameter as JSON has it; an import string with the hash of the file that it names."""
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if not isinstance(value, str):
        return float(value) if float(value) == value else value  # a seed may have more digits
    module, colon, _ = value.partition(":")
    spec = importlib.util.find_spec(module) if colon else None
    if spec is None or not spec.origin:
        return value
    return [value, hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()]
