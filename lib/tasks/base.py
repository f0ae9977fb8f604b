"""A question: what a model is asked, and the truth about it."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import NamedTuple

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


def identified(versions: dict[int, str], names: tuple[str, ...], parameters: dict) -> str:
    """What the questions of a task are known by: its version, and a hash of those parameters that make them.

    names: parameters that make the questions; others, such as the number of replicates, say nothing of what is asked

    1000 and 1e3 are the same; of what an import string names, the file is hashed too.
    """
    text = json.dumps(
        {name: _plain(parameters[name]) for name in names if name in parameters}, sort_keys=True
    )
    return f"v{max(versions)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _plain(value):
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if not isinstance(value, str):
        return float(value)
    module, colon, _ = value.partition(":")
    spec = importlib.util.find_spec(module) if colon else None
    return (
        [value, hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()]
        if spec and spec.origin
        else value
    )
