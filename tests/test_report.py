"""./run_all.sh report: one page, complete, that loads nothing."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import bs4
import nbformat
import pandas as pd
import pytest

from lib.show import summary
from workflow import report

ROOT = Path(__file__).parents[1]
BROWSERS = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
CHROMIUM = next(BROWSERS, None)
FIGURES = sorted(path.stem for path in (ROOT / "figures").glob("fig*.png"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The parts of a report, with a sweep of more rows than are shown and an unfinished one."""
    folder = tmp_path_factory.mktemp("report")
    for part in ("lib", "workflow", "notebooks", "figures"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("run_all.sh", "requirements.txt", "README.md"):
        shutil.copy(ROOT / part, folder)
    for name, n_rows, n_runs in (("many rows", 250, 7), ("few", 3, 1)):
        place = folder / "build/sweeps" / name
        place.mkdir(parents=True)
        shutil.copy(ROOT / "figures/fig7_vae.png", place / "figure.png")
        rows = pd.DataFrame({"n_cells": range(n_rows), "mean": "0.50321"})
        rows.to_csv(place / "summary.csv", index=False)
        runs = {f"run{number}": {} for number in range(n_runs)}
        plan = {"name": name, "notebook": "02_mechanistic_gene", "runs": runs}
        (place / "plan.json").write_text(json.dumps(plan))
    (folder / "build/sweeps/unfinished").mkdir()
    return folder


@pytest.fixture(scope="module")
def built(folder):
    command = [sys.executable, "workflow/report.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.startswith("build/report.html: ") and len(done.stdout.splitlines()) == 1
    return folder / "build" / "report.html"


@pytest.fixture(scope="module")
def page(built):
    return bs4.BeautifulSoup(built.read_text(), "html.parser")


def loaded(page):
    """What a page would fetch when it is opened, and links that lead out of it into other files."""
    found = [tag.name for tag in page(["script", "iframe", "object", "embed", "base", "link"])]
    for tag in page(True):
        if any(key.startswith("on") for key in tag.attrs):
            found.append(tag.name)
        sources = [tag.get(key, "data:") for key in ("src", "srcset", "poster", "data")]
        found += [source for source in sources if not source.startswith("data:")]
        if not re.match("https?:|#", tag.get("href", "#")):
            found.append(tag["href"])
    styles = [tag.text for tag in page("style")] + [tag["style"] for tag in page(style=True)]
    return found + re.findall(r"@import|url\(['\"]?(?!#|data:)[^)]*", " ".join(styles))


def test_the_page_loads_nothing(page):
    assert loaded(page) == []


@pytest.mark.parametrize(
    "bad",
    [
        "<script>1</script>",
        '<img src="figures/fig1.png">',
        '<link rel="stylesheet" href="https://x.y/z.css">',
        '<a href="../README.md">x</a>',
        "<style>@import 'x.css'</style>",
        '<p style="background: url(x.png)">x</p>',
        '<p onclick="1">x</p>',
    ],
)
def test_what_would_load_something_is_noticed(bad):
    assert loaded(bs4.BeautifulSoup(bad, "html.parser"))


def test_ids_are_unique_and_every_reference_leads_to_one(page):
    ids = [tag["id"] for tag in page(id=True)]
    assert len(ids) == len(set(ids))
    inside = {tag["href"][1:] for tag in page(href=re.compile("^#."))}
    assert inside and inside <= set(ids)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_there_with_its_caption(page, name):
    heading = page.find(id=name)
    figure = heading.find_next("figure") or heading.find_next("img")
    picture = figure.find("img")
    assert picture["src"].startswith("data:image/png")
    number = re.match(r"fig(\d+)", name)[1]
    texts = [c.source for p in NOTEBOOKS for c in nbformat.read(p, 4).cells]
    captions = [text for text in texts if text.startswith(f"**Figure {number}.**")]
    if captions:
        said = re.sub(r"\$[^$]*\$", "", captions[0])  # less its formulas
        words = set(re.findall(r"\b[a-z]{6,}\b", said))
        assert words and words <= set(re.findall(r"\w+", figure.figcaption.text))


def test_every_number_of_the_summary_is_there(page):
    table = summary.table(ROOT / "figures/tables").splitlines()[2:]
    cells = {cell.text.strip() for cell in page.find(id="summary").find_next("table")("td")}
    for line in table:
        assert {cell.strip() for cell in line.strip("|").split("|")} <= cells
    assert 5 <= len(table) <= 8


def test_what_it_was_made_with_is_there(page):
    about = json.loads((ROOT / "figures/tables/run.json").read_text())
    text = " ".join(page.find(id="made-with").find_next("table").text.split())
    for name, run in about["notebooks"].items():
        commit, dash, dirty = run["commit"].partition("-")
        assert f"{name} {run['seconds']} {commit[:12]}{dash}{dirty} " in f"{text} "
        for key, value in run["parameters"].items():
            assert f"{key} = {value}" in f"{text} "  # the last one may be empty
    assert f"torch {about['versions']['torch']}" in page.text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_is_there_and_its_formulas_are_drawn(page, path):
    part = page.find(id=path.stem)
    cells = nbformat.read(path, as_version=4).cells
    assert part.name == "details" and part.summary.text in cells[0].source
    text = re.sub(r"\s", "", part.text)
    for cell in cells:
        if cell.cell_type == "code":
            assert re.sub(r"\s", "", cell.source) in text
    markdown = "".join(cell.source for cell in cells if cell.cell_type == "markdown")
    n_formulas = len(re.findall(r"\$\$[^$]+\$\$|\$[^$]+\$", markdown))
    assert len(part("math")) == n_formulas and "$" not in "".join(p.text for p in part("p"))
    linked = {tag["href"][1:] for tag in part(href=re.compile("^#fig"))}
    assert linked == set(re.findall(r"figures/(fig\w+)\.png", markdown)) and linked


def test_sweeps_are_there_with_their_first_rows(page):
    many = page.find("h2", string="Sweep many rows")
    assert "7 runs" in many.find_next("figcaption").text
    assert "the first 50 of 250 means" in many.find_next("summary").text
    assert len(many.find_next("table")("tr")) == 51
    assert page.find("h2", string="Sweep few") and "unfinished" not in page.text


def test_a_second_report_has_the_same_bytes(built, folder, monkeypatch):
    before = built.read_bytes()
    monkeypatch.chdir(folder)
    report.report()
    assert built.read_bytes() == before


@pytest.mark.parametrize("missing", ["figures/tables/run.json", "figures/tables/summary.csv"])
def test_without_a_run_one_line_says_so_and_the_old_report_stays(
    built, folder, missing, monkeypatch
):
    monkeypatch.chdir(folder)
    before = built.read_bytes()
    kept = Path(missing).read_bytes()
    Path(missing).unlink()
    try:
        with pytest.raises(ValueError, match=rf"{missing}: isn't there; ./run_all.sh writes it"):
            report.report()
    finally:
        Path(missing).write_bytes(kept)
    assert built.read_bytes() == before


def test_run_all_ends_in_that_line(tmp_path):
    for part in ("lib", "workflow"):
        shutil.copytree(ROOT / part, tmp_path / part)
    for part in ("run_all.sh", "requirements.txt"):
        shutil.copy(ROOT / part, tmp_path)
    command = [tmp_path / "run_all.sh", "report"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert (
        done.stderr == "run_all.sh: figures/tables/run.json: isn't there; ./run_all.sh writes it\n"
    )


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_scrolls_the_page_down_only(built, width, tmp_path):
    page = html.escape(built.read_text())
    script = (
        "const page = frames[0].document;"
        "for (const part of page.querySelectorAll('details')) part.open = true;"
        "document.title = [frames[0].innerWidth, page.documentElement.scrollWidth].join(' ')"
    )
    opened = tmp_path / "opened.html"
    opened.write_text(
        f'<meta charset="utf-8"><title></title><iframe srcdoc="{page}" onload="{script}" '
        f'style="width: {width}px; height: 800px; border: 0"></iframe>'
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,800"]
    command = [CHROMIUM, *options, "--hide-scrollbars", "--dump-dom", opened.as_uri()]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    window, wide = map(int, re.search(r"<title>(\d+) (\d+)</title>", said).groups())
    assert window == width and wide <= width
