"""After all notebooks: their means and run.json; the full run goes into figures/ and notebooks/.

    python workflow/finish.py MODE

Of these commands only this one touches tracked files, the README's table among them, and only
when every notebook has succeeded.
"""

import json
import shutil
import sys
from pathlib import Path

import nbformat
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from lib import files
from lib.score import tables
from lib.show import summary
from lib.tasks import conditional, drug, screen
from workflow import notebooks

TABLES = ["01_parameter_recovery", "02_mechanism", "03_perturbation", "04_drug"]
TABLES += ["05_leaderboard", "07_network", "07_screen"]
IN_THEIR_TABLE = "strongest 20", "own"  # sets of genes of 07_screen.csv, which has them alone


def finish(mode: str) -> None:
    """Summarise build/<mode>, and publish it if it is the full run."""
    build = Path("build") / mode
    figures = build / "figures"
    names = sorted(path.stem for path in Path("notebooks").glob("*.py"))
    every = [build / "executed" / f"{name}.ipynb" for name in names]
    executed = [path for path in every if path.exists()]  # all but notebooks of one's own
    about = made_with(executed)
    write_summary(figures / "tables", about)
    (figures / "tables" / "run.json").write_text(json.dumps(about, indent=1) + "\n")
    if mode == "full":
        publish(figures, executed)
        figures = Path("figures")  # with the tables of sweeps, as in the README
    table = summary.table(figures / "tables")
    if mode == "full":
        start, end = "<!-- summary: written by ./run_all.sh -->\n", "<!-- end of summary -->"
        files.put_between(Path("README.md"), start, end, f"\n{table}\n\n")
    print(f"{table}\n\nFigures: {figures}/, tables: {figures}/tables/, their means: summary.csv")
    where = "notebooks" if mode == "full" else build / "executed"
    print(f"Notebooks with outputs: {where}/")


def made_with(executed: list[Path]) -> dict:
    """Parameters, seconds and commit of each executed notebook; device and versions."""
    about = {"notebooks": {}}
    for path in executed:
        notebook = nbformat.read(path, as_version=4)
        about["notebooks"][path.stem] = {
            "seconds": round(notebook.metadata.papermill.duration),
            "commit": notebook.metadata.commit,
            "parameters": notebooks.used_parameters(path.stem, notebook),
        }
    return about | notebooks.made_with()


def write_summary(folder: Path, about: dict) -> None:
    """Write the means of all tables as summary.csv, those of published models among them.

    The column `questions` says which questions a row answers.
    """
    used = {name: about["notebooks"][name]["parameters"] for name in about["notebooks"]}
    questions = {
        "04_drug": drug.identity(**used["04_drug_response"]),
        "05_leaderboard": conditional.identity(**used["05_leaderboard"]),
        "07_screen": screen.identity(**used["07_screen"]),
    }
    parts = []
    for name in TABLES:
        means = tables.summary(tables.read(folder / f"{name}.csv"))
        means = means[~means["gene"].isin(IN_THEIR_TABLE)]
        parts.append(means.assign(questions=questions.get(name, "")))
    published = Path("figures/tables/05_peers.csv")
    if published.is_file():
        rows = tables.read(published)
        rows = rows[rows["questions"].isin(questions.values())]
        columns = [*tables.SUMMARY, "questions"]
        parts += [tables.summary(rows, ["questions"])[columns]] if len(rows) else []
    tables.write(pd.concat(parts, ignore_index=True), folder / "summary.csv")


def publish(figures: Path, executed: list[Path]) -> None:
    """Copy figures and tables of a run to figures/, and its notebooks to notebooks/."""
    for path in sorted(p for p in figures.rglob("*") if p.is_file() and p.name[0] != "."):
        with files.whole(Path("figures") / path.relative_to(figures)) as scratch:
            shutil.copyfile(path, scratch)
    for path in executed:
        notebooks.publish(path, f"notebooks/{path.name}")


if __name__ == "__main__":
    finish(sys.argv[1])
