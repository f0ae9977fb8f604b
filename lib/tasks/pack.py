"""A screen as files, for models in other languages, environments and machines.

A pack is a folder: what to train on, what is asked, and what is known of the network. The key,
beside the folder and never in it, is what the truth is computed from again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import files
from lib.tasks.screen import GRAPH, VERSIONS, Design, Task

README = """# A screen to predict

Version {version}, pack `{pack}`. Simulated cells of a gene regulatory network: {n_control:,} control cells a cell
type, and {n_arms} arms to train on. Predict the arms of `queries.csv`, which nobody has seen:
all cells that carry the label. Some escape their perturbation and some guides are wrong, in
training too, and all perturbed cells may share a shift.

| file | what |
|---|---|
| `train.h5ad` | counts, cells x genes; `obs`: perturbation ("control", GENE or GENE1+GENE2), perturbation_type, strength (share of expression that a knockdown takes away; fold of an activation), guide, cell_type, batch, total_counts; `var["regulator"]` |
| `queries.csv` | query, perturbation, perturbation_type, strength, cell_type, split |
| `prior_graph.csv` | gene_1, gene_2: a gene graph, undirected and unsigned, {fidelity:.0%} of whose edges are true |
| `prior_embedding.csv` | gene, then {n_dims} dimensions: NetMF of that graph |
| `pack.json` | hash and version |

Answer with one of two files:

- `predictions.h5ad`: cells x genes, as many cells of each query as you like (5,000 are plenty; one is taken as
  its mean); `obs["query"]`; `uns["pack"] = "{pack}"`; `uns["scale"]`: "counts", or the number T if values are
  log1p of counts scaled to a total of T a cell.
- `predictions.csv`: columns query, pack, scale, then a column a gene: means on that scale.

All genes, in any order; no NaN, nothing below 0. Queries may be left out; splits that lack one have no score.

    ./run_all.sh screen score {folder} predictions.h5ad

(in the repository, by whoever has the key) gives the exact scores: KL divergence and CRPS of each gene's law in each
arm. Means become laws by the law of control cells, scaled to the mean: the same for all models of means.
"""  # noqa: E501


def key_of(folder: str | Path) -> Path:
    """The path of a pack's key."""
    folder = Path(folder)
    return folder.with_name(folder.name + ".key.json")


def truth_of(folder: str | Path) -> Path:
    """The path of the truth that is kept once it was computed, as secret as the key."""
    return key_of(folder).with_suffix(".npz")


def export(folder: str | Path, design: Design, seed: int, *, n_truth: int = 4000) -> str:
    """Write a pack and its key. Returns its hash.

    Raises ValueError where the folder is there already and isn't empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: is there already; must be a new or an empty folder")
    if key_of(folder).exists():
        raise ValueError(f"{key_of(folder)}: is there already, the key of another pack")
    task = Task(design, seed, n_truth=n_truth)
    train, queries = task.train(GRAPH), _queries(task)
    pack = digest(train, queries)
    folder.mkdir(parents=True, exist_ok=True)
    edges, vectors = train.uns.pop("prior_graph"), train.varm.pop("prior")
    train.uns["pack"] = pack
    train.write_h5ad(folder / "train.h5ad", compression="gzip")
    queries.to_csv(folder / "queries.csv", index=False)
    edges.to_csv(folder / "prior_graph.csv", index=False)
    columns = [f"dimension_{i}" for i in range(vectors.shape[1])]
    table = pd.DataFrame(vectors, index=pd.Index(train.var_names, name="gene"), columns=columns)
    table.to_csv(folder / "prior_embedding.csv", float_format="%.8g")
    about = {"pack": pack, "version": max(VERSIONS)}
    files.write_text(folder / "pack.json", json.dumps(about, indent=2) + "\n")
    text = README.format(
        **about,
        n_control=design.n_control,
        n_arms=train.obs["perturbation"].nunique() - 1,
        fidelity=design.fidelity,
        n_dims=vectors.shape[1],
        folder=folder.name,
    )
    files.write_text(folder / "README.md", text)
    key = {**about, "seed": seed, "n_truth": n_truth, "design": dataclasses.asdict(design)}
    files.write_text(key_of(folder), json.dumps(key, indent=2) + "\n")
    return pack


def unlocked(folder: str | Path) -> tuple[Task, str]:
    """The task of a pack, made again from its key, and the pack's hash.

    Raises ValueError without the key, for another version, and where cells come out otherwise.
    """
    path = key_of(folder)
    if not path.is_file():
        raise ValueError(f"{path}: not found; the key of a pack lies beside it")
    try:
        key = json.loads(path.read_text())
        key = {name: key[name] for name in ("pack", "version", "seed", "n_truth", "design")}
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: is no key of a pack ({error})") from None
    if key["version"] != max(VERSIONS):
        here = f"this is version {max(VERSIONS)}"
        raise ValueError(f"{path}: of version {key['version']} of the benchmark; {here}")
    task = Task(Design(**key["design"]), key["seed"], n_truth=key["n_truth"])
    if digest(task.train(GRAPH), _queries(task)) != key["pack"]:
        raise ValueError(f"{path}: this code or machine makes other cells of it than those packed")
    return task, key["pack"]


def digest(train: ad.AnnData, queries: pd.DataFrame) -> str:
    """The hash of what a pack holds: cells to train on, with the prior, and queries."""
    counts = sparse.csr_matrix(train.X)
    hashed = hashlib.sha256(f"version {max(VERSIONS)}".encode())
    for array in (counts.indptr, counts.indices, counts.data):
        hashed.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    for table in (train.obs, queries, train.uns["prior_graph"]):
        hashed.update(table.to_csv(index=False).encode())
    hashed.update("\n".join(train.var_names).encode())
    return hashed.hexdigest()[:16]


def _queries(task):
    rows = []
    for question in task.asked:
        name, strength, kind = question.query.perturbation
        rows.append((question.name, name, kind, strength, question.cell_type, question.split))
    columns = ["query", "perturbation", "perturbation_type", "strength", "cell_type", "split"]
    return pd.DataFrame(rows, columns=columns)
