"""./run_all.sh report: figures, tables, notebooks and what they were made with, as one HTML file that can be mailed.

    python workflow/report.py

It reads what the full run has left, and the sweeps in build/sweeps/, and runs no notebook. The page loads nothing,
neither from the network nor from disk: figures are inline SVG, formulas MathML.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import unicodedata
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import jinja2
import matplotlib.pyplot as plt
import nbformat
import networkx as nx
import pandas as pd
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markupsafe import Markup
from matplotlib.patches import FancyBboxPatch
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

sys.path.insert(0, str(Path(__file__).parents[1]))
from lib.show import style
from workflow import finish

HERE = Path(__file__).parent
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ROWS = 200  # of a sweep's table
LARGER = 1.4  # figures on a wide screen, over their printed size: their smallest text is 5 pt
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


def report(target: str | Path = Path("build/report.html")) -> Path:
    """Write the report of figures/, notebooks/ and build/sweeps/ of this folder; a whole file or none."""
    target, tables = Path(target), Path("figures/tables")
    for name in ("run.json", "summary.csv", "05_seconds.csv"):
        _needed(tables / name)
    papers = {
        path.stem: nbformat.read(path, as_version=4)
        for path in sorted(Path("notebooks").glob("*.ipynb"))
    }
    figures = _figures(papers.values())
    about = json.loads((tables / "run.json").read_text())
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    page = environment.get_template("report.html.jinja").render(
        about=about,
        commits=sorted({(run["commit"] or "unknown")[:12] for run in about["notebooks"].values()}),
        summary=html(finish.readme_summary(tables)),
        figures=figures,
        sweeps=_sweeps(),
        workflow=_workflow(papers),
        notebooks=[_notebook(name, paper, figures, papers) for name, paper in papers.items()],
        code_style=Markup(HtmlFormatter(style="default").get_style_defs(".highlight")),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}")
    scratch.write_text(page)
    os.replace(scratch, target)
    return target


def html(markdown: str, *, deeper: int = 0, known: tuple[str, ...] = ()) -> Markup:
    """Markdown as HTML, its formulas as MathML.

    deeper : by how many levels headings are lowered
    known : files, less their ending, that are a part of the page. Links to other files become plain text, images their description
    """
    reader = (
        MarkdownIt("commonmark", {"html": False})
        .enable("table")
        .use(dollarmath_plugin, double_inline=True, renderer=_formula)
    )
    reader.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    reader.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = reader.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + deeper)}"
        for part in token.children or []:
            if part.type == "image":
                part.type, part.children = "text", None
            if part.type == "link_open" and not re.match(r"https?:|mailto:|#", part.attrs["href"]):
                part.attrs = (
                    {"href": f"#{Path(part.attrs['href']).stem}"}
                    if Path(part.attrs["href"]).stem in known
                    else {}
                )
    return narrow(reader.renderer.render(tokens, reader.options, {}))


def narrow(tables: str) -> Markup:
    """Tables of HTML for a narrow page: a name may break at its underscores, an interval stands below its mean."""
    tables = re.sub(
        r"(<t[dh][^>]*>)([a-z]\w*_\w+)(?=</t[dh]>)",
        lambda cell: cell[1] + cell[2].replace("_", "_<wbr>"),
        tables,
    )
    return Markup(
        re.sub(
            r"(<td[^>]*>)([^<]*\S) (\[[^<]*\])</td>",
            r'\1\2 <span class="interval">\3</span></td>',
            tables,
        )
    )


def inline(svg: str, name: str, alt: str) -> Markup:
    """An SVG file as an element of a page, its ids made unique by `name`, which is the element's own id."""
    root = ElementTree.fromstring(svg)
    width, _ = (float(root.attrib.pop(side).removesuffix("pt")) for side in ("width", "height"))
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                value = f"{name}-{value}"
            elif key in ("href", f"{{{XLINK}}}href") and value.startswith("#"):
                value = f"#{name}-{value[1:]}"
            element.set(key, " ".join(value.replace("url(#", f"url(#{name}-").split()))
        if element.tag == f"{{{SVG}}}style":
            element.text = element.text.replace("*{", f"#{name} *{{")
        if element.text:
            element.text = element.text.strip()
        element.tail = None
    root.attrib.update(
        {"id": name, "role": "img", "aria-label": alt, "style": f"--width: {LARGER * width:.0f}pt"}
    )
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _formula(text, options):
    """TeX as MathML. What stands apart by \\qquad may stand in another line on a narrow page."""
    if not options["display_mode"]:
        return _drawable(convert(text))
    parts = re.split(r"\\qquad", text)
    if any(part.count("{") != part.count("}") for part in parts):
        parts = [text]
    return "".join(
        f"<div>{_drawable(convert(part.strip(), display='block'))}</div>" for part in parts
    )


def _drawable(formula):
    """MathML as browsers draw it: script letters as characters of their own, a word as one, space after log."""
    formula = re.sub(
        r'<mi mathvariant="(double-struck|script)">(\w)</mi>',
        lambda letter: f"<mi>{_letter(letter[1].upper(), letter[2])}</mi>",
        formula,
    )
    formula = re.sub(
        r'(?:<mi mathvariant="normal">\w</mi>){2,}',
        lambda word: f"<mi>{re.sub('<[^>]*>', '', word[0])}</mi>",
        formula,
    )
    formula = re.sub(
        r"<mi>(log|exp)</mi>(?!<mo stretchy)", r'<mi>\1</mi><mspace width="0.167em" />', formula
    )
    return formula.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")  # of \\sim


def _letter(script, letter):
    name = f"{script} {'CAPITAL' if letter.isupper() else 'SMALL'} {letter.upper()}"
    try:
        return unicodedata.lookup(f"MATHEMATICAL {name}")
    except KeyError:
        return unicodedata.lookup(name)


def _needed(path):
    if not path.is_file():
        raise ValueError(f"{path}: isn't there; ./run_all.sh writes it")
    return path


def _figures(papers):
    """Every figure: id, title, caption, and its drawing."""
    paths = {path.with_suffix(".svg") for path in Path("figures").glob("fig*.*")}
    if not paths:
        raise ValueError("figures/: holds no figure; ./run_all.sh writes them")
    texts = [
        cell.source for paper in papers for cell in paper.cells if cell.cell_type == "markdown"
    ]
    captions = {
        number: caption
        for text in texts
        for caption, number in re.findall(r"^(\*\*Figure (\w+)\.\*\*(?:.+\n?)+)", text, flags=re.M)
    }
    figures = []
    for path in sorted(
        paths,
        key=lambda p: [
            int(part) if part.isdigit() else part for part in re.split(r"(\d+)", p.stem)
        ],
    ):
        number, _, words = path.stem.removeprefix("fig").partition("_")
        title = f"Figure {number}: {words.replace('_', ' ')}"
        drawing = inline(
            _needed(path).read_text(), path.stem, f"{title}. The caption says what is drawn."
        )
        figures.append(
            {
                "id": path.stem,
                "title": title,
                "svg": drawing,
                "caption": html(captions.get(number, f"**{title}.**")),
            }
        )
    return figures


def _sweeps():
    """Every sweep that has been put together: its figure, and the first rows of its means."""
    sweeps = []
    for folder in sorted(path.parent for path in Path("build/sweeps").glob("*/figure.svg")):
        if not (folder / "summary.csv").is_file():
            continue
        said = json.loads((folder / "plan.json").read_text())
        name, runs = said["name"], len(said["runs"])
        table = pd.read_csv(folder / "summary.csv", dtype=str, keep_default_na=False)
        identity = "sweep-" + re.sub(r"[^\w-]", "-", folder.name)
        sweeps.append(
            {
                "id": identity,
                "name": name,
                "what": f"{said['notebook']}, {runs} run{'s' * (runs != 1)}",
                "svg": inline(
                    (folder / "figure.svg").read_text(),
                    identity,
                    f"Sweep {name}: the metric against what was varied",
                ),
                "rows": len(table),
                "shown": min(ROWS, len(table)),
                "table": Markup(table.head(ROWS).to_html(index=False, border=0)),
            }
        )
    return sweeps


def _notebook(name, paper, figures, papers):
    """A notebook as part of the page: id, title, and its cells with their outputs, figures as drawings."""
    known = {figure["id"]: figure for figure in figures}
    first = paper.cells[0]
    title, _, first.source = first.source.removeprefix("# ").partition("\n")
    for number, cell in enumerate(paper.cells):
        cell["id"] = f"{name}-{number}"
        saved = (
            re.search(r'style\.save\([^"\']*["\'](\w+)["\']\)', cell.source)
            if cell.cell_type == "code"
            else None
        )
        if saved and saved[1] in known:
            cell.outputs = [o for o in cell.outputs if "image/png" not in o.get("data", {})]
            cell.outputs.append(
                nbformat.v4.new_output("display_data", {"text/html": _again(known[saved[1]])})
            )
    shown = Config(
        NbConvertBase={
            "display_data_priority": ["text/html", "image/png", "image/jpeg", "text/plain"]
        }
    )
    exporter = HTMLExporter(config=shown, raw_template=(HERE / "notebook.html.jinja").read_text())
    exporter.register_filter("narrow", narrow)
    exporter.register_filter(
        "markdown2html", lambda text: html(text, deeper=2, known=(*known, *papers))
    )
    body, _ = exporter.from_notebook_node(paper)
    return {"id": name, "title": title, "html": Markup(body)}


def _again(figure):
    """A figure of the page once more, without its drawing once more."""
    box, style = (re.search(rf'{key}="([^"]*)"', figure["svg"])[1] for key in ("viewBox", "style"))
    _, _, width, height = box.split()
    return f'<svg viewBox="{box}" style="{style}" role="img" aria-label="{escape(figure["title"])}"><use href="#{figure["id"]}" width="{width}" height="{height}"/></svg>'


def _workflow(names):
    """The rules of the full run and what feeds what, drawn."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        "workflow/Snakefile",
        "--config",
        "mode=full",
        "--nolock",
        "--forceall",
        "--rulegraph",
        "dot",
    ]
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode:
        raise ValueError(
            f"workflow/Snakefile: can't be read: {(said.stderr.strip().splitlines() or ['said nothing'])[-1]}"
        )
    rules = dict(re.findall(r'(\d+)\[label = "([^"\\]+)', said.stdout))
    named = {
        rule: next(
            (n.replace("_", " ") for n in names if n.partition("_")[2] == rule),
            rule.replace("_", " "),
        )
        for rule in rules.values()
    }
    named["all"] = "every figure and table"
    arrows = [
        (named[rules[a]], named[rules[b]]) for a, b in re.findall(r"(\d+) -> (\d+)", said.stdout)
    ]
    fig = draw_workflow(nx.DiGraph(arrows))
    with tempfile.TemporaryDirectory() as folder:
        style.save(fig, folder, "workflow")
        alt = "What feeds what: " + "; ".join(f"{a} feeds {b}" for a, b in sorted(arrows))
        return inline(Path(folder, "workflow.svg").read_text(), "workflow-graph", alt)


def draw_workflow(graph: nx.DiGraph) -> plt.Figure:
    """Rules as boxes, each in a row of its own and right of what feeds it, so that no arrow crosses a box.

    What feeds nothing is the end: a box along all rows.
    """
    ends = [rule for rule in graph if not graph[rule]]
    rest = graph.subgraph(sorted(set(graph) - set(ends)))
    columns = list(nx.topological_generations(rest))
    at = {
        rule: (x, y)
        for y, rule in enumerate(sorted(rest))
        for x, column in enumerate(columns)
        if rule in column
    }
    fig, axes = style.figure([["workflow"]], 32 * (len(columns) + 1), 11 * len(at))
    ax = axes["workflow"]
    ax.set(xlim=(-0.45, len(columns) + 0.45), ylim=(len(at) - 0.5, -0.5))
    ax.set_axis_off()

    def box(x, y, height, text):
        shape = FancyBboxPatch(
            (x - 0.38, y - height / 2),
            0.76,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            fc="#EAF2F8",
            ec="#0072B2",
            lw=0.6,
        )
        ax.add_patch(shape)
        ax.text(
            x,
            y,
            "\n".join(textwrap.wrap(text, 15)),
            ha="center",
            va="center",
            fontsize=style.MEDIUM,
            linespacing=1.3,
        )

    arrow = {
        "arrowstyle": "-|>",
        "lw": 0.6,
        "color": "0.4",
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 5,
    }
    for rule, (x, y) in at.items():
        box(x, y, 0.6, rule)
        for after in graph[rule]:
            if after in ends:
                ax.annotate("", (len(columns) - 0.38, y), (x + 0.38, y), arrowprops=arrow)
            else:
                ax.annotate(
                    "",
                    (at[after][0] - 0.38, at[after][1]),
                    (x, y + 0.3),
                    arrowprops={**arrow, "connectionstyle": "angle,angleA=-90,angleB=180"},
                )
    box(len(columns), (len(at) - 1) / 2, len(at) - 0.4, ", ".join(ends))
    return fig


if __name__ == "__main__":
    try:
        path = report()
    except (OSError, ValueError) as error:
        sys.exit(f"run_all.sh: {' '.join(str(error).split())}")
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens without network and can be mailed as it is"
    )
