"""Published models and scores, as `./run_all.sh peers` makes them.

python -m peers cell-eval OUT.csv   the scores of cell-eval, beside exact ones
python -m peers realism OUT.csv     how real the cells of scdesigner are
python -m peers publish BUILD       rows of published models and of cell-eval into figures/tables/
"""

import sys
from pathlib import Path

import nbformat
import pandas as pd
import torch

from lib.predict import registry
from lib.score import tables
from lib.tasks import conditional, drug
from lib.tasks import realism as real
from peers import celleval, scdesigner
from workflow import plan
from workflow.notebooks import used_parameters

TABLES = Path("figures/tables")


def cell_eval(target: str) -> None:
    """Write the scores of cell-eval, beside exact ones.

    target: path of the table
    """
    torch.set_num_threads(1)
    tables.write(celleval.compare(), target)


def realism(target: str) -> None:
    """Write how real the cells of scdesigner are, to the parameters of notebook 07.

    target: path of the table
    """
    torch.set_num_threads(1)
    given = {name: plan.defaults("07_screen")[name] for name in ("replicates", *real.QUESTIONS)}
    asked = real.identity(**given)
    table = tables.tidy([scdesigner.compare(**given)])
    tables.write(table.assign(questions=asked), target)


def publish(build: str) -> None:
    """Write 05_peers.csv, 05_cell_eval.csv, 07_peers.csv, and means of the first into summary.csv.

    build: folder of a run in the environment of the published models
    """
    published = registry.keys("peers")
    scored = pd.concat([_made(build, "05_leaderboard"), _made(build, "05_seconds")])
    scored = scored[scored["model"].isin(published)]
    of_board = conditional.identity(**_parameters(build, "05_leaderboard"))
    drugs = _made(build, "04_drug").query("split == 'held_out_type'")
    drugs = drugs[drugs["metric"].isin(["excess_crps", "mse_mean"])]
    drugs = drugs.assign(mechanism=drugs["scenario"], scenario="drug")
    of_drugs = drug.identity(**_parameters(build, "04_drug_response"))
    parts = [scored.assign(questions=of_board), drugs.assign(questions=of_drugs)]
    rows = pd.concat(parts, ignore_index=True)
    tables.write(rows, TABLES / "05_peers.csv")
    tables.write(tables.read(Path(build) / "cell_eval.csv"), TABLES / "05_cell_eval.csv")
    tables.write(tables.read(Path(build) / "realism.csv"), TABLES / "07_peers.csv")

    summary = tables.read(TABLES / "summary.csv")
    others = summary[~summary["model"].isin(published) & (summary["scenario"] != "drug")]
    means = tables.summary(rows, ["questions"])[summary.columns]
    tables.write(pd.concat([others, means], ignore_index=True), TABLES / "summary.csv")
    print(f"Rows of {', '.join(published)}: {TABLES}/05_peers.csv. ./run_all.sh shows them.")
    print(f"Scores of cell-eval: {TABLES}/05_cell_eval.csv")


def _made(build, name):
    return tables.read(Path(build) / "figures" / "tables" / f"{name}.csv")


def _parameters(build, name):
    """The parameters that a notebook was run with."""
    notebook = nbformat.read(Path(build) / "executed" / f"{name}.ipynb", as_version=4)
    return used_parameters(name, notebook)


if __name__ == "__main__":
    {"cell-eval": cell_eval, "realism": realism, "publish": publish}[sys.argv[1]](sys.argv[2])
