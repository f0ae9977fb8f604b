"""After all notebooks: the summary table and run.json; the full run goes into figures/ and notebooks/.

    python workflow/finish.py MODE
    python workflow/finish.py --stamp FILE    (after each notebook: what it was made with)

The README's summary is rewritten too. Tracked files are touched only here, when every notebook has succeeded.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from lib.predict import registry
from lib.score import tables
from lib.tasks import conditional, drug
from workflow import notebooks

SHOWN = {  # scenario, metric, split: what the printed table holds
    "01_parameter_recovery": ("one_type", "mse_mu", "train"),
    "02_mechanism": ("mechanistic_gene", "skill_kl", "held_out"),
    "03_perturbation": ("dose_series", "skill_kl", "do_inside"),
    "04_drug": ("additive", "kl_nats", "held_out_type"),
    "05_leaderboard": ("leaderboard", "skill_kl", "do_inside"),
}


def finish(mode: str) -> None:
    """Summarise build/<mode>, and publish it if it is the full run."""
    build = Path("build") / mode
    figures, executed = build / "figures", sorted((build / "executed").glob("*.ipynb"))
    about = _run(executed)
    of_drugs, of_board = (
        about["notebooks"][name]["parameters"] for name in ("04_drug_response", "05_leaderboard")
    )
    questions = {
        "04_drug": drug.identity(**of_drugs),
        "05_leaderboard": conditional.identity(**of_board),
    }
    summaries = {
        name: tables.summary(tables.read(figures / "tables" / f"{name}.csv")) for name in SHOWN
    }
    parts = [part.assign(questions=questions.get(name, "")) for name, part in summaries.items()]
    tables.write(
        pd.concat([*parts, _published(questions.values())], ignore_index=True),
        figures / "tables" / "summary.csv",
    )
    (figures / "tables" / "run.json").write_text(json.dumps(about, indent=1) + "\n")
    if mode == "full":
        Path("figures/tables").mkdir(parents=True, exist_ok=True)
        for path in sorted(
            p for p in figures.rglob("*") if p.is_file() and not p.name.startswith(".")
        ):
            target = Path("figures") / path.relative_to(figures)
            scratch = target.with_name(f".{target.name}")
            shutil.copyfile(path, scratch)
            os.replace(scratch, target)
        for path in executed:
            notebooks.publish(str(path), f"notebooks/{path.name}")
        _publish_readme()

    for name, (scenario, metric, split) in SHOWN.items():
        part = summaries[name].query(
            "scenario == @scenario and metric == @metric and split == @split"
        )
        print(f"\n{name}: {metric}, {scenario}, {split}, mean [95 % interval]")
        print(
            tables.readable(part, metric).to_string(
                header=part["mechanism"].any(), index_names=False
            )
        )
    place = "figures/" if mode == "full" else f"{figures}/"
    print(
        f"\nFigures: {place}*.pdf, *.svg, *.png. Tables: {place}tables/, all of it in summary.csv."
    )
    print(
        f"Notebooks with outputs: {'notebooks/' if mode == 'full' else str(build / 'executed') + '/'}"
    )


def _published(questions) -> pd.DataFrame:
    """Means of the published models, which another command scores, on these questions."""
    path = Path("figures/tables/05_peers.csv")
    rows = tables.read(path) if path.is_file() else pd.DataFrame(columns=["questions"])
    rows = rows[rows["questions"].isin(questions)]
    return (
        tables.summary(rows, ["questions"])[[*tables.SUMMARY, "questions"]]
        if len(rows)
        else pd.DataFrame()
    )


def readme_summary(folder: Path) -> str:
    """The README's tables, from summary.csv and 05_seconds.csv."""
    summary = tables.read(folder / "summary.csv")
    board = summary.query("scenario == 'leaderboard'")
    inside = tables.readable(board.query("split == 'do_inside'"), "skill_kl")
    crps = (
        board.query("split == 'do_inside' and metric == 'skill_crps'")
        .groupby("model")["mean"]
        .mean()
    )
    inside = inside.reindex([key for key in registry.order(crps.index)])
    inside["CRPS, mean of all"] = crps.map("{:.3g}".format)
    off_target = tables.readable(board, "off_target_kl", columns="metric").reindex(inside.index)
    measured = (
        tables.read(folder / "05_seconds.csv")
        .query("metric == 'seconds'")
        .groupby("model")["value"]
        .mean()
    )
    before = board.query("metric == 'seconds'").set_index("model")["mean"]
    seconds = measured.combine_first(before).reindex(inside.index)
    inside["off target (nats)"] = off_target["off_target_kl"].str.partition(" ")[0]
    inside["seconds to fit"] = [f"{s:.0f}" if s >= 0.5 else "<1" if s == s else "" for s in seconds]
    drugs = summary.query("metric == 'kl_nats' and split == 'held_out_type'")
    crps_of_drugs = summary.query("scenario == 'drug' and metric == 'excess_crps'")
    cells, n_replicates = (
        crps_of_drugs.groupby("model", sort=False)["mean"].mean(),
        crps_of_drugs["n"].max(),
    )
    mu = summary.query("metric == 'mse_mu' and scenario == 'one_type'").set_index("model")
    return (
        "**The leaderboard: skill (KL) on do(gene = dose), doses inside the training range** (oracle 1, marginal 0), skill by "
        "CRPS, and the KL on genes that the intervention doesn't touch. Models of draws or means have no KL:\n\n"
        + inside.fillna("—").to_markdown()
        + "\n\n**KL (nats) to the true treated law in a cell type never seen treated** (oracle 0):\n\n"
        + tables.readable(drugs, "kl_nats", columns="scenario").to_markdown()
        + (
            f"\n\n`scgen` predicts treated cells and no law, and is asked about these drugs alone: excess CRPS, mean of the four drugs and {n_replicates} replicates, "
            + ", ".join(f"{key} {value:.3g}" for key, value in cells.items())
            + "."
            if len(cells)
            else ""
        )
        + "\n\n**Recovery of mu from counts of one cell type**, squared error in counts²: maximum likelihood "
        + f"{mu.loc['maximum_likelihood', 'mean']:.3g}, VAE {mu.loc['vae', 'mean']:.3g}, one constant {mu.loc['constant', 'mean']:.3g}.\n"
    )


def _publish_readme() -> None:
    readme = Path("README.md")
    put_between(
        readme,
        "<!-- summary: written by ./run_all.sh -->\n",
        "<!-- end of summary -->",
        readme_summary(Path("figures/tables")),
    )


def put_between(path: Path, start: str, end: str, text: str) -> None:
    """Put `text` between two marks of a file, for what was there; a whole file or none."""
    head, mark, rest = path.read_text().partition(start)
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(head + mark + text + rest[rest.index(end) :])
    os.replace(scratch, path)


def stamp(target: str) -> None:
    """Write the commit, device and versions that a notebook has just been run with."""
    Path(target).write_text(json.dumps(notebooks.made_with()))


def _run(executed):
    """What a run was made with: parameters, seconds and commit of each notebook, device, versions."""
    about: dict = {"notebooks": {}}
    for path in executed:
        notebook, made = (
            nbformat.read(path, as_version=4),
            json.loads(path.with_suffix(".json").read_text()),
        )
        about["notebooks"][path.stem] = {
            "seconds": round(notebook.metadata.papermill.duration),
            "commit": made.pop("commit"),
            "parameters": notebooks.used_parameters(notebook),
        }
        about |= made
    return about


if __name__ == "__main__":
    if sys.argv[1] == "--stamp":
        stamp(sys.argv[2])
    else:
        finish(sys.argv[1])
