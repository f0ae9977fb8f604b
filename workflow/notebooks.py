"""What the workflow does to notebooks around papermill.

python workflow/notebooks.py build notebooks/01.py OUT.ipynb     the source as a notebook to run
python workflow/notebooks.py publish EXECUTED.ipynb DEST.ipynb   its outputs, without traces of the run
python workflow/notebooks.py explain EXECUTED.ipynb ...          one line for the first that failed
"""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jupytext
import nbformat

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
    # so that jupytext writes the script back without a header
    "jupytext": {"cell_metadata_filter": "tags,-all", "notebook_metadata_filter": "-all"},
}


def build(source: str, target: str) -> None:
    """Turn the percent script into a notebook without outputs."""
    notebook = jupytext.read(source)
    _write(notebook, target)


def publish(executed: str, target: str) -> None:
    """Keep cells and outputs; drop injected parameters, times and papermill's notes.

    So a second run with the same outputs changes no byte.
    """
    notebook = nbformat.read(executed, as_version=4)
    notebook.cells = [
        c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])
    ]
    count = 0
    for cell in notebook.cells:
        tags = [t for t in cell.metadata.get("tags", []) if not t.startswith("papermill")]
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = _joined(cell.outputs)
            for output in cell.outputs:
                output.get("metadata", {}).clear()
                if output.output_type == "execute_result":
                    output.execution_count = count
    _write(notebook, target)


def explain(*executed: str) -> str | None:
    """The first failed cell of some notebooks in a line: notebook, cell, error, path; None without.

    A notebook whose kernel died holds no error: then the last line of what papermill said is named.
    """
    for path in filter(os.path.exists, executed):
        try:
            notebook = nbformat.read(path, as_version=4)
        except nbformat.reader.NotJSONError:  # killed while it was written, or before
            continue
        for number, cell in enumerate(notebook.cells):
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    error = " ".join(f"{output.ename}: {output.evalue}".split())
                    return f"{Path(path).stem}, cell {number} failed: {error} (run so far: {path})"
    for path in filter(os.path.exists, executed):
        said = Path(path).with_suffix(".txt")
        lines = said.read_text().strip().splitlines() if said.exists() else []
        if lines and not Path(path).with_suffix(".json").exists():
            started = [
                int(n) for n in re.findall(r"^Executing Cell (\d+)-", "\n".join(lines), flags=re.M)
            ]
            cell = f"cell {started[-1] - 1}" if started else "before its first cell"
            return f"{Path(path).stem}, {cell} failed: {lines[-1]} (run so far: {path}, messages: {said})"
    return None


def used_parameters(notebook) -> dict:
    """The parameters that an executed notebook has run with, but those that say where files are."""
    tagged = [
        c.source
        for c in notebook.cells
        if {"parameters", "injected-parameters"} & set(c.metadata.get("tags", []))
    ]
    said = [
        statement
        for statement in ast.parse("\n".join(tagged)).body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
    ]
    found = {
        (getattr(s, "target", None) or s.targets[0]).id: ast.literal_eval(s.value) for s in said
    }
    return {name: value for name, value in found.items() if not name.endswith("_dir")}


def made_with() -> dict:
    """The commit, device and versions that a notebook is run with."""
    import torch

    git = shutil.which("git") and subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
    )
    pins = [
        line.partition("==")[0]
        for line in Path("requirements.txt").read_text().splitlines()
        if "==" in line
    ]
    return {
        "commit": git.stdout.strip() or None if git else None,
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in pins},
    }


def _joined(outputs):
    """Neighbouring pieces of one stream as one, since where they were split is chance."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _write(notebook, target: str) -> None:
    notebook.metadata = METADATA
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
    scratch = Path(target).with_name(f".{Path(target).name}")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, scratch)
    os.replace(scratch, target)


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    if command == "explain":
        print(explain(*paths) or "no notebook holds an error: see the messages above")
    else:
        {"build": build, "publish": publish}[command](*paths)
