"""Executed notebooks as committed, and what they were run with."""

import os
import platform
from importlib import metadata
from pathlib import Path

import nbformat
from nbconvert.preprocessors import CoalesceStreamsPreprocessor, TagRemovePreprocessor

from lib import files
from workflow import plan
from workflow.run import KERNEL

METADATA = {
    "kernelspec": KERNEL,
    "language_info": {"name": "python"},
    # so that jupytext writes the script back without a header
    "jupytext": {"cell_metadata_filter": "tags,-all", "notebook_metadata_filter": "-all"},
}


def publish(executed: str | Path, target: str | Path) -> None:
    """Keep cells and outputs; drop pictures, injected parameters, times and papermill's notes.

    So a second run with the same outputs changes no byte, and git keeps each picture once: the
    notebook shows it by a link into figures/. A whole file or none.
    """
    notebook = nbformat.read(executed, as_version=4)
    drop = TagRemovePreprocessor(enabled=True, remove_cell_tags=["injected-parameters"])
    for step in (drop, CoalesceStreamsPreprocessor(enabled=True)):
        notebook, _ = step(notebook, {})
    notebook.metadata = METADATA
    notebook.nbformat_minor = 5
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
        for output in cell.get("outputs", []):
            output.get("metadata", {}).clear()
            output.get("data", {}).pop("image/png", None)
            if output.output_type == "execute_result":
                output.execution_count = count
    with files.whole(target) as scratch:
        nbformat.write(notebook, scratch)


def used_parameters(name: str, notebook) -> dict:
    """All parameters of an executed notebook, but those that say where files are."""
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    every = plan.defaults(name) | given
    return {key: value for key, value in every.items() if not key.endswith("_dir")}


def made_with() -> dict:
    """The device and versions of this environment."""
    import torch

    pins = Path("requirements.txt").read_text().splitlines()
    names = [line.partition("==")[0] for line in pins if "==" in line]
    gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if gpu else f"cpu, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
    }
