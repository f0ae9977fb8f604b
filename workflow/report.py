"""./run_all.sh report: figures, tables, notebooks and their parameters in one HTML file to mail.

    python workflow/report.py

Pandoc makes it of what the full run and the sweeps have left; no notebook is run. The page loads
nothing, neither from the network nor from disk: pictures are embedded, formulas are MathML.
"""

import html
import json
import re
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pypandoc

sys.path.insert(0, str(Path(__file__).parents[1]))
from lib import files
from lib.show import summary

HERE = Path(__file__).parent
ROWS = 50  # rows shown of a sweep's table
PAGE = "--standalone --embed-resources --toc --toc-depth=2 --mathml --wrap=none".split()
FOLD = "--embed-resources --shift-heading-level-by=2 --mathml --wrap=none".split()


def report(target: str | Path = "build/report.html") -> Path:
    """Write the report of figures/, notebooks/ and build/sweeps/; a whole file or none.

    Raises ValueError in one line where there is nothing to report.
    """
    tables = Path("figures/tables")
    for needed in (tables / "run.json", tables / "summary.csv"):
        if not needed.is_file():
            raise ValueError(f"{needed}: isn't there; ./run_all.sh writes it")
    about = json.loads((tables / "run.json").read_text())
    papers = sorted(Path("notebooks").glob("*.ipynb"))
    parts = [
        Path("README.md").read_text().split("\n\n")[1],
        "# Summary\n\nSkill (KL) on unseen arms of a screen: the truth 1, the perturbed mean 0.",
        summary.table(tables),
        "# Figures",
        *figures(papers),
        *sweeps(Path("build/sweeps")),
        "# Made with",
        made_with(about),
        "# Notebooks",
        *map(notebook, papers),
    ]
    options = [*PAGE, "--metadata=title:Perturbation Lab", f"--css={HERE}/report.css"]
    text = "\n\n".join(parts)
    with files.whole(target) as scratch:
        output = {"extra_args": options, "outputfile": str(scratch)}
        pypandoc.convert_text(text, "html5", "markdown-smart", **output)
    return Path(target)


def figures(papers: list[Path]) -> list[str]:
    """Every figure with its caption, as Markdown."""
    cells = [cell for path in papers for cell in nbformat.read(path, 4).cells]
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    found = re.findall(r"^\*\*Figure (\w+)\.\*\* ((?:.+\n?)+)", "\n\n".join(texts), flags=re.M)
    captions = {number: " ".join(caption.split()) for number, caption in found}
    paths = sorted(Path("figures").glob("fig*.png"))
    if not paths:
        raise ValueError("figures/: holds no figure; ./run_all.sh writes them")
    parts = []
    for path in paths:
        number, _, words = path.stem.removeprefix("fig").partition("_")
        title = f"Figure {number}: {words.replace('_', ' ')}"
        parts += [f"## {title} {{#{path.stem}}}", f"![{captions.get(number, title)}]({path})"]
    return parts


def sweeps(folder: Path) -> list[str]:
    """Every sweep that has been put together: its figure, and the first rows of its means."""
    parts = []
    for path in sorted(folder.glob("*/figure.png")):
        plan = json.loads((path.parent / "plan.json").read_text())
        means = pd.read_csv(path.parent / "summary.csv", dtype=str, keep_default_na=False)
        table = means.head(ROWS).to_html(index=False, border=0)
        rows = f"<summary>the first {min(ROWS, len(means))} of {len(means)} means</summary>"
        about = f"{plan['notebook']}, {len(plan['runs'])} runs; means with 95 % intervals"
        parts += [f"## Sweep {plan['name']}", f"![{about}]({path})"]
        parts += [f"<details>{rows}{table}</details>"]
    return parts


def made_with(about: dict) -> str:
    """Commit, seconds and parameters of each notebook, device and versions, as Markdown."""
    rows = [
        {
            "notebook": name,
            "seconds": run["seconds"],
            "commit": re.sub(r"(\w{12})\w*", r"\1", run["commit"] or "unknown"),
            "parameters": ", ".join(f"{key} = {v}" for key, v in run["parameters"].items()),
        }
        for name, run in about["notebooks"].items()
    ]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    fold = f"<details><summary>Versions</summary>{html.escape(versions)}</details>"
    with pd.option_context("display.max_colwidth", None):
        table = pd.DataFrame(rows).to_html(index=False, border=0)
    return f"{table}\n\n{about['device']}, Python {about['python']}.\n\n{fold}"


def notebook(path: Path) -> str:
    """A notebook with its outputs, folded, as HTML."""
    options = [*FOLD, f"--id-prefix={path.stem}-", f"--lua-filter={HERE}/report.lua"]
    body = pypandoc.convert_file(str(path), "html5", format="ipynb", extra_args=options)
    title = nbformat.read(path, 4).cells[0].source.partition("\n")[0].removeprefix("# ")
    fold = f"<details id='{path.stem}'><summary>{html.escape(title)}</summary>\n{body}</details>"
    return f"``````{{=html}}\n{fold}\n``````"


if __name__ == "__main__":
    try:
        path = report()
    except (OSError, ValueError) as error:
        sys.exit(f"run_all.sh: {' '.join(str(error).split())}")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens without network, can be mailed")
