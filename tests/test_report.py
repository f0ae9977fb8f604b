"""./run_all.sh report: one page, complete, that loads nothing."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.request import Request, urlopen

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import nbformat
import networkx as nx
import pandas as pd
import pytest

from lib.show import style
from workflow import finish, report

ROOT = Path(__file__).parents[1]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NAMES = sorted(path.stem for path in (ROOT / "figures").glob("fig*.png"))


class Page(HTMLParser):
    """What a page has: ids, references, headings, cells of tables, text outside code, formulas, and what it would load."""

    LOADING = {
        "script",
        "iframe",
        "object",
        "embed",
        "frame",
        "video",
        "audio",
        "source",
        "base",
        "portal",
    }
    VOID = {"meta", "link", "img", "input", "br", "hr", "wbr"}

    def __init__(self, text):
        super().__init__()
        self.ids, self.references, self.loads, self.drawn, self.kinds = [], [], [], {}, {}
        self.cells, self.headings, self.items, self.text, self.formulas = [], [], [], "", []
        self.open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.kinds[tag] = self.kinds.get(tag, 0) + 1
        if (
            tag in self.LOADING
            or any(key.startswith("on") for key in attributes)
            or attributes.get("http-equiv") == "refresh"
        ):
            self.loads.append(tag)
        for key, value in attributes.items():
            value = value or ""
            if key == "id":
                self.ids.append(value)
            if key in ("href", "xlink:href", "src", "srcset", "poster", "data", "background"):
                if value.startswith("#"):
                    self.references.append(value[1:])
                elif not value.startswith("data:") and tag != "a":
                    self.loads.append(value)
                elif tag == "a" and not re.match("https?:|mailto:", value):
                    self.loads.append(value)
            self.style(value)
        if tag == "svg" and "id" in attributes:
            self.drawn[attributes["id"]] = {"alt": attributes.get("aria-label"), "shapes": 0}
            self.open.append((tag, attributes["id"]))
            return
        if tag in ("path", "use", "image"):
            for kind, name in self.open:
                if kind == "svg" and name:
                    self.drawn[name]["shapes"] += 1
        if tag in ("td", "th"):
            self.cells.append("")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append("")
        if tag == "li":
            self.items.append("")
        if tag == "math":
            self.formulas.append("")
        if tag not in self.VOID:
            self.open.append((tag, None))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, text):
        tags = {tag for tag, _ in self.open}
        if "style" in tags:
            self.style(text)
            return
        for found, where in (
            (self.cells, {"td", "th"}),
            (self.headings, {f"h{n}" for n in range(1, 7)}),
            (self.items, {"li"}),
            (self.formulas, {"math"}),
        ):
            if tags & where:
                found[-1] += text
        if not tags & {"pre", "code"}:
            self.text += text

    def style(self, text):
        self.references += re.findall(r"url\(['\"]?#([^'\")]+)", text)
        self.loads += re.findall(r"@import|url\(['\"]?(?!#|data:)[^)]*", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a report is made of, with a sweep of more rows than are shown and one that isn't finished."""
    folder = tmp_path_factory.mktemp("report")
    for part in ("lib", "workflow", "notebooks", "figures"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("run_all.sh", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / part, folder)
    fig, axes = style.figure([["a"]], 89, 40)
    axes["a"].plot([1, 2], [3, 4], "o", clip_on=True)
    for name in ("many rows", "few"):
        style.save(fig, folder / "build/sweeps" / name, "figure")
        pd.DataFrame(
            {"n_cells": range(250 if name == "many rows" else 3), "mean": "0.50321"}
        ).to_csv(folder / f"build/sweeps/{name}/summary.csv", index=False)
        about = {
            "name": name,
            "notebook": "02_mechanistic_gene",
            "runs": {f"run{i}": {} for i in range(7 if name == "many rows" else 1)},
        }
        (folder / f"build/sweeps/{name}/plan.json").write_text(json.dumps(about))
    (folder / "build/sweeps/unfinished").mkdir()
    return folder


@pytest.fixture(scope="module")
def built(folder):
    done = subprocess.run(
        [sys.executable, "workflow/report.py"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.startswith("build/report.html: ") and len(done.stdout.splitlines()) == 1
    return folder / "build" / "report.html"


@pytest.fixture(scope="module")
def page(built):
    return Page(built.read_text())


def test_the_page_loads_nothing(page):
    assert not page.loads


@pytest.mark.parametrize(
    "bad",
    [
        "<script>1</script>", '<link rel="stylesheet" href="https://x.org/a.css">', '<img src="figures/a.png">', '<use href="a.svg#b"/>', "<style>@import 'a.css'</style>",
        '<p style="background: url(a.png)">', "<style>@font-face { src: url('https://x.org/f') }</style>", '<iframe src="a">', '<image xlink:href="//x.org/a.png"/>', '<p onclick="f()">',
        '<a href="02_mechanistic_gene.ipynb">',
    ],
)  # fmt: skip
def test_what_would_load_something_is_noticed(bad):
    assert Page(bad).loads


def test_ids_are_unique_and_every_reference_leads_to_one(page):
    assert len(set(page.ids)) == len(page.ids) > 100
    assert set(page.references) <= set(page.ids)


def test_every_figure_is_there_as_a_drawing_with_words(page, folder):
    assert NAMES and set(NAMES) <= set(page.drawn)
    for name in NAMES:
        inside = Page((folder / "figures" / f"{name}.svg").read_text()).kinds
        assert (
            page.drawn[name]["shapes"]
            == sum(inside.get(kind, 0) for kind in ("path", "use", "image"))
            > 10
        )
    assert all(svg["alt"] for svg in page.drawn.values())
    captions = {
        number
        for path in (ROOT / "notebooks").glob("*.py")
        for number in re.findall(r"^# \*\*(Figure \d+\.)\*\*", path.read_text(), flags=re.M)
    }
    assert captions and all(
        page.text.count(caption) == 2 for caption in captions
    )  # under the figure, and in the notebook


def test_figures_stand_in_their_notebooks_too_and_not_as_pixels(page):
    saved = {
        name
        for path in (ROOT / "notebooks").glob("*.py")
        for name in re.findall(r'style\.save\(.*"(\w+)"\)', path.read_text())
    }
    assert saved and all(
        page.references.count(name) >= 2 for name in saved
    )  # from the contents, and in the notebook
    assert "img" not in page.kinds


def test_every_number_of_the_summary_is_there(page):
    lines = [
        line.strip("|").split("|")
        for line in finish.readme_summary(ROOT / "figures" / "tables").splitlines()
        if line.startswith("|") and ":--" not in line
    ]
    cells = {cell.strip() for line in lines for cell in line}
    assert len(cells) > 100 and cells <= {cell.strip() for cell in page.cells}


def test_what_it_was_made_with_is_there(page):
    about = json.loads((ROOT / "figures/tables/run.json").read_text())
    assert {f"{name} {version}" for name, version in about["versions"].items()} <= {
        item.strip() for item in page.items
    }
    cells = list(page.cells)
    for name, run in about["notebooks"].items():
        at = cells.index(name)
        assert cells[at + 1 : at + 3] == [str(run["seconds"]), run["commit"]]
        rest = cells[cells.index(name, at + 1) :]
        for key, value in run["parameters"].items():
            assert rest[rest.index(key) + 1] == json.dumps(value)
    assert about["device"] in page.text and about["python"] in page.text


def test_every_notebook_is_there_and_its_formulas_are_drawn(page):
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert path.stem in page.ids
        for cell in nbformat.read(path, as_version=4).cells:
            for heading in (
                re.findall(r"^#+ (.+)$", cell.source, flags=re.M)
                if cell.cell_type == "markdown"
                else []
            ):
                assert heading in page.headings
    assert len(page.formulas) > 100
    assert not re.findall(r"\$[^$]+\$|\\[a-zA-Z]+", page.text) and "$" not in page.text


def test_sweeps_are_there_with_their_first_rows(page):
    assert {"sweep-many-rows", "sweep-few"} <= set(
        page.drawn
    ) and "sweep-unfinished" not in page.ids
    assert (
        "Means of many rows: the first 200 of 250 rows" in page.text
        and "02_mechanistic_gene, 7 runs." in page.text
    )
    assert "Means of few: 3 rows" in page.text and "02_mechanistic_gene, 1 run." in page.text
    assert page.cells.count("0.50321") == 203


def test_the_workflow_says_what_feeds_what(page):
    alt = page.drawn["workflow-graph"]["alt"]
    assert (
        "02 mechanistic gene feeds 03 perturb and predict" in alt
        and "05 leaderboard feeds every figure and table" in alt
    )


def test_a_second_report_has_the_same_bytes(built, folder, monkeypatch):
    before = built.read_bytes()
    monkeypatch.chdir(folder)
    assert report.report("build/again/report.html").read_bytes() == before
    assert [path.name for path in Path("build/again").iterdir()] == ["report.html"]
    assert str(folder).encode() not in before and len(before) < 15e6


@pytest.mark.parametrize(
    "lost, message",
    [
        ("figures", "figures/tables/run.json: isn't there; ./run_all.sh writes it"),
        (
            "figures/tables/summary.csv",
            "figures/tables/summary.csv: isn't there; ./run_all.sh writes it",
        ),
        (f"figures/{NAMES[0]}.svg", f"figures/{NAMES[0]}.svg: isn't there; ./run_all.sh writes it"),
        ("figures/fig*", "figures/: holds no figure; ./run_all.sh writes them"),
    ],
)
def test_without_a_run_one_line_says_so_and_the_old_report_stays(
    lost, message, folder, tmp_path, monkeypatch
):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob(lost):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.chdir(tmp_path)
    old = tmp_path / "report.html"
    old.write_text("old")
    with pytest.raises(ValueError) as error:
        report.report(old)
    assert str(error.value) == message and old.read_text() == "old"


def test_run_all_ends_in_that_line(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "figures")
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["./run_all.sh", "report"], cwd=tmp_path, capture_output=True, text=True, env=here
    )
    assert done.returncode != 0 and not done.stdout
    assert (
        done.stderr == "run_all.sh: figures/tables/run.json: isn't there; ./run_all.sh writes it\n"
    )


@pytest.mark.parametrize(
    "tex, drawn",
    [
        (r"\mathbb E \mathcal N \mathbb R", "𝔼𝒩ℝ"),
        (r"x \sim \mathrm{ZINB}\bigl(\mu_g, \pi_g\bigr)", "x∼ZINB(μg,πg)"),
        (r"q \,\|\, \bar z_\text{treated}", "q‖z¯treated"),
        (r"\underbrace{a + b}_\text{sum}", "a+b⏟sum"),
        (r"\max(0.1,\; w \cdot x)", "max(0.1,w·x)"),
    ],
)
def test_formulas_become_what_they_mean(tex, drawn):
    page = Page(report.html(f"${tex}$"))
    assert page.formulas == [drawn]


def test_parts_of_a_formula_may_stand_below_one_another():
    assert Page(report.html("$$ a = 1, \\qquad\n b = 2 $$")).formulas == ["a=1,", "b=2"]
    assert len(Page(report.html(r"$$ \frac{a \qquad b}{c} $$")).formulas) == 1


def test_links_to_other_files_lead_nowhere_or_into_the_page():
    found = report.html(
        "[a](02_b.ipynb) [c](data.csv) ![words](d.png) [e](https://x.org) <img src=f.png>\n\n# G",
        deeper=2,
        known=("02_b",),
    )
    assert '<a href="#02_b">a</a> <a>c</a> words <a href="https://x.org">e</a>' in found
    assert "<img" not in found and "<h3>G</h3>" in found


def test_ids_of_two_drawings_never_meet():
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt" viewBox="0 0 72 36"><style>*{stroke: red}</style><defs><path id="a"/></defs>'
    svg += '<g clip-path="url(#a)" style="mask: url(#a)"><use href="#a"/></g></svg>'
    both = report.inline(svg, "one", "1 < 2") + report.inline(svg, "two", "2")
    page = Page(both)
    assert (
        page.ids == ["one", "one-a", "two", "two-a"]
        and set(page.references) == {"one-a", "two-a"}
        and not page.loads
    )
    assert "#one *{" in both.replace("{ ", "{") and "width=" not in both


@pytest.mark.parametrize(
    "arrows",
    [
        [("01 a", "all"), ("02 b", "03 c"), ("02 b", "all"), ("03 c", "all"), ("04 d", "all")],
        [
            ("01 long name of a rule", "02 b"),
            ("01 long name of a rule", "04 d"),
            ("02 b", "03 c"),
            ("03 c", "all"),
            ("04 d", "all"),
        ],
    ],
)
def test_no_arrow_of_the_workflow_crosses_a_box_and_no_word_leaves_one(arrows):
    fig = report.draw_workflow(nx.DiGraph(arrows))
    fig.canvas.draw()
    ax = fig.axes[0]
    boxes = [patch.get_window_extent() for patch in ax.patches]
    words = [text for text in ax.texts if text.get_text()]
    assert len(boxes) == len(words) == len({name for arrow in arrows for name in arrow})
    assert not [1 for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)]
    for box, text in zip(boxes, words):
        assert all(box.contains(*corner) for corner in text.get_window_extent().corners())
    drawn = [text.arrow_patch for text in ax.texts if not text.get_text()]
    assert len(drawn) == len(arrows)
    for arrow in drawn:
        line = mpl.path.Path(
            arrow.get_transform().transform_path(arrow.get_path()).vertices[:3]
        )  # the rest is its head
        assert not [box for box in boxes if line.intersects_bbox(box.padded(-1), filled=False)]
    plt.close(fig)


async def look(path, width):
    """Open a page in Chromium: what is wider than the window, with all folded parts closed and open, and what went wrong."""
    from tornado.websocket import websocket_connect

    browser = subprocess.Popen(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={path.parent}/chromium-{width}", "about:blank"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        port = next(
            found[1] for line in browser.stderr if (found := re.search(r"ws://[^:]+:(\d+)/", line))
        )
        with urlopen(
            Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
        ) as answer:
            socket = await websocket_connect(
                json.load(answer)["webSocketDebuggerUrl"], max_message_size=10**9
            )
        events, number = [], 0

        async def say(method, **parameters):
            nonlocal number
            number += 1
            await socket.write_message(
                json.dumps({"id": number, "method": method, "params": parameters})
            )
            while (heard := json.loads(await socket.read_message())).get("id") != number:
                events.append(heard)
            return heard["result"]

        for domain in ("Page", "Network", "Log", "Runtime"):
            await say(f"{domain}.enable")
        await say(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        await say("Page.navigate", url=path.as_uri())
        while not [e for e in events if e["method"] == "Page.loadEventFired"]:
            events.append(json.loads(await socket.read_message()))
        measured = []
        for before in (
            "",
            "document.querySelectorAll('details, .zoom').forEach(x => x.open = x.checked = true);",
        ):
            script = (
                before
                + "[innerWidth, document.documentElement.scrollWidth, [...document.querySelectorAll('svg')].filter(s => s.checkVisibility() && s.getBoundingClientRect().height < 50).length]"
            )
            measured.append(
                (await say("Runtime.evaluate", expression=script, returnByValue=True))["result"][
                    "value"
                ]
            )
        asked = {
            e["params"]["request"]["url"]
            for e in events
            if e["method"] == "Network.requestWillBeSent"
        }
        wrong = [
            e
            for e in events
            if e["method"]
            in (
                "Network.loadingFailed",
                "Log.entryAdded",
                "Runtime.consoleAPICalled",
                "Runtime.exceptionThrown",
            )
        ]
        return measured, {url for url in asked if not url.startswith("data:")}, wrong
    finally:
        browser.terminate()
        browser.wait()


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_scrolls_the_page_down_only_and_asks_for_nothing(built, width):
    measured, asked, wrong = asyncio.run(asyncio.wait_for(look(built, width), 60))
    for window, page, flat in measured:
        assert window == width and page <= width and flat == 0
    assert asked == {built.as_uri()} and not wrong
