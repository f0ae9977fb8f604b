"""Published models and scores, in their own environment: what `./run_all.sh peers` does after its notebooks.

python workflow/peers.py cell-eval OUT.csv   the scores of cell-eval, beside exact ones
python workflow/peers.py publish BUILD       rows of the published models into figures/tables/
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from lib import dataset, perturb
from lib.predict import guard, registry
from lib.score import board, distances, tables
from lib.simulate import mechanisms
from lib.tasks import conditional, drug
from peers import celleval
from workflow import notebooks

SEED, REPLICATES, ARMS, CELLS = 2026, 3, 6, 300


def cell_eval(target: str) -> None:
    """What cell-eval says of sampled predictions under do() of a few genes, and the exact skill in the same cells."""
    torch.set_num_threads(1)
    frames = []
    for replicate in range(REPLICATES):
        streams = (SEED, replicate)
        train = conditional.simulate(10_000, 20, 0.8, list(mechanisms.MECHANISMS), seed=streams)
        genes = [g for g in train.var_names if train.var.loc[g, "mechanistic"]]
        base = [g for g in train.var_names if g not in genes]
        control = dataset.fresh_cells(train, CELLS, seed=(*streams, 5))
        training = {"max_epochs": 100, "patience": 5, "learning_rate": 5e-3}
        setting = {"inputs": base, "device": "auto", "seed": streams, "training_options": training}
        models = guard.models(registry.rows("judged"), "conditional", **setting)
        for model in models.values():
            model.fit(train)
        arms = {}
        for number, gene in enumerate(base[:ARMS]):
            dose = float(np.percentile(dataset.dense(train[:, gene].X), 99))
            measured, asked = (
                dataset.fresh_cells(train, CELLS, seed=(*streams, 6, number, side))
                for side in (0, 1)
            )
            arms[gene] = tuple(
                perturb.do(cells, {gene: round(dose)}, seed=(*streams, 7, number, side))
                for side, cells in enumerate((measured, asked))
            )
        for key, model in models.items():
            predicted = {
                gene: (
                    real,
                    celleval.predicted_cells(asked, model, genes, seed=(*streams, 8, number)),
                )
                for number, (gene, (real, asked)) in enumerate(arms.items())
            }
            with tempfile.TemporaryDirectory() as folder:
                celleval.write_pair(folder, control, predicted)
                scores = celleval.run(folder)
            exact = []
            for gene in genes:
                for _, asked in arms.values():
                    laws = {
                        "marginal": models["marginal"].law(asked, gene),
                        key: model.law(asked, gene),
                    }
                    exact.append(
                        distances.scores(dataset.law(asked, gene)[:, 0], laws)
                        .query("model == @key and metric == 'skill_kl'")["value"]
                        .item()
                    )
            scores.loc[len(scores)] = {"metric": "skill_kl", "value": np.mean(exact)}
            frames.append(
                scores.assign(
                    scenario="cell_eval", model=key, split="do_inside", replicate=replicate
                )
            )
        print(
            f"replicate {replicate + 1}/{REPLICATES}: cell-eval of {len(models)} models", flush=True
        )
    tables.write(tables.tidy(frames), target)


def publish(build: str) -> None:
    """Write 05_peers.csv and 05_cell_eval.csv into figures/tables, from a run in the peers' environment, and their means
    into summary.csv, which notebook 05 reads."""
    made, target = Path(build) / "figures" / "tables", Path("figures/tables")
    scores, seconds, drugs = (
        tables.read(made / f"{name}.csv") for name in ("05_leaderboard", "05_seconds", "04_drug")
    )
    scores = pd.concat([scores, seconds])
    drugs = drugs[
        drugs["metric"].isin(["excess_crps", "mse_mean"]) & (drugs["split"] == "held_out_type")
    ]
    drugs = drugs.assign(mechanism=drugs["scenario"], scenario="drug")
    published = registry.keys("peers")
    both = pd.concat([scores[scores["model"].isin(published)], drugs], ignore_index=True)
    executed = (
        nbformat.read(Path(build) / "executed" / f"{name}.ipynb", as_version=4)
        for name in ("05_leaderboard", "04_drug_response")
    )
    of_board, of_drugs = (notebooks.used_parameters(notebook) for notebook in executed)
    both["questions"] = np.where(
        both["scenario"] == board.SCENARIO,
        conditional.identity(**of_board),
        drug.identity(**of_drugs),
    )
    tables.write(both, target / "05_peers.csv")
    before = tables.read(target / "summary.csv")
    before = before[~before["model"].isin(published) & (before["scenario"] != "drug")]
    tables.write(
        pd.concat([before, tables.summary(both, ["questions"])], ignore_index=True)[before.columns],
        target / "summary.csv",
    )
    tables.write(tables.read(Path(build) / "cell_eval.csv"), target / "05_cell_eval.csv")
    print(
        f"Rows of {', '.join(published)} and scores of cell-eval: {target}/05_peers.csv, 05_cell_eval.csv. ./run_all.sh shows them."
    )


if __name__ == "__main__":
    {"cell-eval": cell_eval, "publish": publish}[sys.argv[1]](sys.argv[2])
