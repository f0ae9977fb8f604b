"""After all notebooks: their means and run.json; the full run goes into figures/ and notebooks/.

    python workflow/finish.py MODE

Tracked files, the README's table among them, are touched only here, when every notebook has
succeeded.
"""

import json
import shutil
import sys
from pathlib import Path

import nbformat
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from lib import files
from lib.predict import registry
from lib.score import tables
from lib.show import style
from lib.tasks import conditional, drug
from workflow import notebooks

TABLES = ["01_parameter_recovery", "02_mechanism", "03_perturbation", "04_drug", "05_leaderboard"]
SPLITS = ["held_out", "do_inside", "do_beyond"]


def finish(mode: str) -> None:
    """Summarise build/<mode>, and publish it if it is the full run."""
    build = Path("build") / mode
    figures = build / "figures"
    executed = [
        build / "executed" / f"{path.stem}.ipynb" for path in sorted(Path("notebooks").glob("*.py"))
    ]
    about = made_with(executed)
    write_summary(figures / "tables", about)
    (figures / "tables" / "run.json").write_text(json.dumps(about, indent=1) + "\n")
    table = summary_table(figures / "tables")
    if mode == "full":
        publish(figures, executed)
        start, end = "<!-- summary: written by ./run_all.sh -->\n", "<!-- end of summary -->"
        put_between(Path("README.md"), start, end, f"\n{table}\n\n")
    place = "figures" if mode == "full" else figures
    print(f"{table}\n\nFigures: {place}/, tables: {place}/tables/, their means: summary.csv")
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
    }
    parts = []
    for name in TABLES:
        means = tables.summary(tables.read(folder / f"{name}.csv"))
        parts.append(means.assign(questions=questions.get(name, "")))
    published = Path("figures/tables/05_peers.csv")
    if published.is_file():
        rows = tables.read(published)
        rows = rows[rows["questions"].isin(questions.values())]
        columns = [*tables.SUMMARY, "questions"]
        parts += [tables.summary(rows, ["questions"])[columns]] if len(rows) else []
    tables.write(pd.concat(parts, ignore_index=True), folder / "summary.csv")


def summary_table(folder: Path) -> str:
    """The README's table: the skill of a few models, a mean over mechanisms, from summary.csv."""
    summary = tables.read(folder / "summary.csv").query("scenario == 'leaderboard'")
    skill = summary[summary["metric"] == "skill_kl"]
    shown = skill.groupby(["model", "split"])["mean"].mean().unstack()[SPLITS]
    shown = shown.map(lambda value: f"{value:z.2f}")
    off_target = summary[summary["metric"] == "off_target_kl"].set_index("model")["mean"]
    shown["off target (nats)"] = off_target.map("{:.2g}".format)
    shown = shown.reindex([key for key in registry.keys("readme") if key in shown.index])
    shown.index = [style.label(key) for key in shown.index]
    return shown.rename(columns=style.label).to_markdown(disable_numparse=True)


def publish(figures: Path, executed: list[Path]) -> None:
    """Copy figures and tables of a run to figures/, and its notebooks to notebooks/."""
    for path in sorted(p for p in figures.rglob("*") if p.is_file() and p.name[0] != "."):
        with files.whole(Path("figures") / path.relative_to(figures)) as scratch:
            shutil.copyfile(path, scratch)
    for path in executed:
        notebooks.publish(path, f"notebooks/{path.name}")


def put_between(path: Path, start: str, end: str, text: str) -> None:
    """Put `text` between two marks of a file, for what was there; a whole file or none."""
    head, mark, rest = path.read_text().partition(start)
    with files.whole(path) as scratch:
        scratch.write_text(head + mark + text + rest[rest.index(end) :])


if __name__ == "__main__":
    finish(sys.argv[1])
