"""Published models and scores, as `./run_all.sh peers` makes them.

python -m peers cell-eval OUT.csv   the scores of cell-eval, beside exact ones
python -m peers realism OUT.csv     how real the cells of scdesigner are
python -m peers publish BUILD       rows of published models and of cell-eval into figures/tables/
python -m peers tune NAME           its options compared on a screen that isn't scored
python -m peers screen NAME         a published model of screens, scored, into build/peers/NAME/
python -m peers ours OUT.csv        this repository's models on the same screens
python -m peers screens BUILD       all of these into figures/tables/
"""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import torch

from lib.predict import registry
from lib.score import arms, tables
from lib.score import pack as scored
from lib.score import screen as screens_scores
from lib.tasks import conditional, drug
from lib.tasks import pack as packs
from lib.tasks import realism as real
from lib.tasks.screen import VERSIONS, Design, Task
from peers import celleval, scdesigner
from workflow import plan
from workflow.notebooks import used_parameters

TABLES = Path("figures/tables")
# screens that the slowest of published models trains on in minutes; 2025 is for choosing options
SCREEN = Design(
    n_genes=300,
    n_regulators=45,
    n_arms=40,
    n_pairs=10,
    n_unseen=20,
    n_asked_pairs=15,
    n_strengths=3,
    n_cells=50,
    n_control=1500,
    shift=0.4,
)
SEEDS = {"tune": 2025, "first": 2026, "second": 2027}
SCENARIO = f"published, shift {SCREEN.shift:g}"
OF_EFFECT = "skill_of_effect"  # of effects on measured controls: `pack.effects`
BUDGET = 600  # CPU seconds of a training
SAID = ["seed", "cpu_seconds", "peak_mb", "validations", "stopped", "converged"]
ERRORS = {"least_error": "model", "error_of_mean": "perturbed_mean", "error_of_control": "control"}
# two options of each model, the first of them its authors', so that none is searched harder. The
# default of a script is the one of the least error in validation
GRIDS = {
    "biolord": [{"learning_rate": r} for r in (1e-4, 3e-4)],
    "gears": [{"learning_rate": r} for r in (1e-3, 3e-3)],
    "scouter": [{"batch_size": n} for n in (256, 32)],
    "cpa": [{"learning_rate": r} for r in (3e-4, 1e-3)],
    "state": [{"learning_rate": r} for r in (1e-4, 1e-3)],
}


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
    given = {name: plan.defaults("07_network")[name] for name in ("replicates", *real.QUESTIONS)}
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


def screen(name: str) -> None:
    """Run a published model on the screens that are scored, each a pack, and write its scores.

    name: folder of its script. Predictions, what the script says of itself, and scores are in
        build/peers/NAME/; packs in build/peers/packs/. A screen is a replicate
    """
    parts = []
    for replicate, screen in enumerate(("first", "second")):
        folder = _pack(screen)
        out = _fitted(name, folder, screen)
        table, missing = scored.score(folder, out)
        print(f"{screen} screen, {len(missing)} queries without an answer")
        print(scored.readable(table).to_string())
        keys = {"model": name, "scenario": SCENARIO, "replicate": replicate}
        parts.append(table[table["model"] == "predictions"].assign(**keys))
        table, _ = scored.score(folder, out.with_suffix(".effects.csv"))
        of_effect = table[(table["model"] == "predictions") & (table["metric"] == "skill_kl")]
        parts.append(of_effect.assign(metric=OF_EFFECT, **keys))
    tables.write(tables.tidy(parts), Path("build/peers") / name / "scores.csv")


def tune(name: str) -> None:
    """Train each option of a model with the same seed and the same seconds on one more screen.

    name: folder of its script. What it says of itself is in build/peers/NAME/tune_*.json
    """
    for number, options in enumerate(GRIDS[name]):
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        _fitted(name, _pack("tune"), f"tune_{number}", flags)


def _fitted(name, pack, label, flags=()):
    """Run a model's script on a pack; the path of its predictions."""
    out = Path("build/peers") / name / f"{label}.h5ad"
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, f"peers/{name}/fit_predict.py", pack, out, *flags]
    subprocess.run([*command, f"--budget={BUDGET}"], check=True)
    return out


def _pack(screen):
    """The folder of a screen's pack, written where it isn't there."""
    folder = Path("build/peers/packs") / screen
    key = packs.key_of(folder)
    if not key.is_file():
        packs.export(folder, SCREEN, SEEDS[screen])
        return folder
    said = json.loads(key.read_text())
    made = Design(**said["design"]), said["seed"], said["version"]
    if made != (SCREEN, SEEDS[screen], max(VERSIONS)):
        raise SystemExit(f"{folder}: a pack of another screen; remove it and its key")
    return folder


def ours(target: str) -> None:
    """Write the scores of what stands beside published models, on the same screens.

    target: path of the table
    """
    parts = []
    for replicate, screen in enumerate(("first", "second")):
        task = Task(SCREEN, SEEDS[screen])
        scores = screens_scores.Scores(task, screens_scores.exact(task))
        entered = {}
        for key, entrant in arms.entrants(registry.rows("screen", "beside"), task, seed=0).items():
            entered[key] = arms.enter(key, entrant, task, scores, check=False).scores
            print(f"{screen} screen: {key}", flush=True)
        table = screens_scores.summarised(entered)
        parts.append(table.assign(scenario=SCENARIO, replicate=replicate))
    tables.write(tables.tidy(parts), target)


def screens(build: str) -> None:
    """Write 07_published.csv, scores, and 07_published_runs.csv, how training went.

    build: folder with a folder a model, and ours.csv
    """
    folder = Path(build)
    names = registry.keys("published")
    found = [path for name in names if (path := folder / name / "scores.csv").is_file()]
    parts = [tables.read(path) for path in [*found, folder / "ours.csv"]]
    tables.write(tables.tidy(parts), TABLES / "07_published.csv")
    runs = []
    for path in found:
        for file in sorted(path.parent.glob("*.json")):
            said = json.loads(file.read_text())
            options = " ".join(f"{name}={value}" for name, value in said["options"].items())
            row = {"model": path.parent.name, "screen": file.stem, "options": options}
            row |= {name: said[name] for name in SAID}
            runs.append(row | {name: said[f"validation_mse_{key}"] for name, key in ERRORS.items()})
    pd.DataFrame(runs).to_csv(TABLES / "07_published_runs.csv", index=False, float_format="%.4g")
    print(f"Scores of {len(found)} published models: {TABLES}/07_published.csv")


def _made(build, name):
    return tables.read(Path(build) / "figures" / "tables" / f"{name}.csv")


def _parameters(build, name):
    """The parameters that a notebook was run with."""
    notebook = nbformat.read(Path(build) / "executed" / f"{name}.ipynb", as_version=4)
    return used_parameters(name, notebook)


if __name__ == "__main__":
    commands = {"cell-eval": cell_eval, "realism": realism, "publish": publish, "tune": tune}
    commands |= {"screen": screen, "ours": ours, "screens": screens}
    commands[sys.argv[1]](sys.argv[2])
