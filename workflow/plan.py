"""What a sweep is: a notebook and the parameters of its runs, checked before anything starts.

notebook: 05_leaderboard
set: {replicates: 1}                             the same in every run
grid: {n_cells: [1000, 3000], seed: [1, 2]}      every combination; or
runs: [{n_cells: 1000, seed: 1}, ...]            a list; or
runs: runs.csv                                   a row a run, an empty cell for the default
figure: {metric: skill_kl, where: {split: do_inside}}    or a list, for rows of panels; []: none
table: 06_cells                                  name of the drawn rows in figures/tables/; all of
                                                 them without a figure
"""

import functools
import hashlib
import itertools
import json
import math
import os
import re
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jupytext
import pandas as pd
import yaml
from annotated_types import Len
from pydantic import BaseModel, ValidationError

from lib import parameters as rules
from lib.predict import registry

MANY = 10_000  # runs, above which the user must say yes
NAME = re.compile(r"\w[\w.-]*")  # of a folder that shell commands name
IMPORT = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")  # package.module:name


class Panel(BaseModel, extra="forbid"):
    """A row of panels of a sweep's figure, as `lib.show.sweeps.figure` takes it."""

    metric: str = ""
    where: dict[str, Any] = {}
    models: list[str] = []


class File(BaseModel, extra="forbid"):
    """A sweep file."""

    notebook: str
    set: dict[str, Any] = {}
    grid: dict[str, Annotated[list, Len(1)]] = {}
    runs: list[dict[str, Any]] | str = []
    figure: list[Panel] | Panel = Panel()
    table: str = ""
    means: bool = False


class Plan(NamedTuple):
    """A sweep, ready to run.

    name: name of the sweep
    notebook: name of the notebook, without .py
    varied: parameters that make up the path of a run, in order
    runs: path of each run below the sweep's folder -> its parameters, but the notebook's defaults
    figure: panels to draw
    table: name of the drawn rows in figures/tables/, or ""
    means: whether these are means over seeds, of which there would be too many rows
    """

    name: str
    notebook: str
    varied: list[str]
    runs: dict[str, dict]
    figure: list[dict]
    table: str
    means: bool = False


def read(path: str | Path, overrides: dict | None = None, *, yes: bool = False) -> Plan:
    """Read a sweep file, and check the name and type of every parameter of every run.

    overrides: parameter -> value, in place of the file's; for a parameter that isn't a list,
        a list of values is swept
    yes: allows more than 10,000 runs

    Raises ValueError in one line.
    """
    path = Path(path)
    if not NAME.fullmatch(path.stem):
        raise ValueError(f"sweep = {path.stem!r}: must be of letters, digits, _, - and .")
    said = _file(path)
    declared = parameters(said.notebook)
    fixed = dict(said.set)
    rows = _rows(path, said, yes)
    for name, value in (overrides or {}).items():
        fixed.pop(name, None)
        rows = _override(rows, name, value, declared)
    varied = list(dict.fromkeys(name for row in rows for name in row))
    for name in [*fixed, *varied]:
        _check_name(name, declared)
        if name == "figures_dir":
            raise ValueError("figures_dir: can't be set in a sweep, since every run has its own")
        if name in fixed and name in varied:
            raise ValueError(f"{name}: is both in set and swept")
    whole = defaults(said.notebook)
    runs = {}
    for row in rows:
        values = {n: _typed(v, declared[n][0]) for n, v in {**fixed, **row}.items()}
        every = whole | values
        place = "/".join(f"{name}~{_label(every[name])}" for name in varied) or "run~default"
        if place in runs:
            raise ValueError(f"{place}: is there twice")
        runs[place] = values
    panels = said.figure if isinstance(said.figure, list) else [said.figure]
    drawn = [panel.model_dump(exclude_unset=True) for panel in panels]
    return Plan(path.stem, said.notebook, varied, runs, drawn, said.table, said.means)


def parsed(text: str):
    """A value as a sweep file has it: 3, true, [1, 2], text. Raises ValueError."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{text!r}: can't be read as a value") from None


def parameters(notebook: str) -> dict[str, tuple[type, object]]:
    """The type and default of each parameter of a notebook, from its cell tagged `parameters`."""
    namespace = _declared(notebook)
    return {n: (kind, namespace[n]) for n, kind in namespace.get("__annotations__", {}).items()}


def defaults(notebook: str) -> dict:
    """The values of a notebook's parameters as they stand in it."""
    return {name: default for name, (_, default) in parameters(notebook).items()}


def own_folders(notebook: str) -> list[str]:
    """The parameters that say where a notebook writes: each run has folders of its own."""
    return rules.written_folders(notebook, parameters(notebook))


def check_ranges(plan: Plan, folder: str, *, elsewhere: bool = False) -> None:
    """Check the values of every run as the notebook will. Raises ValueError in one line.

    folder: stands in for the folders that a run writes to
    elsewhere: runs are for other machines, which may have a GPU that this one lacks
    """
    whole = _declared(plan.notebook) | dict.fromkeys(own_folders(plan.notebook), folder)
    for values in plan.runs.values():
        chosen = whole | values | {"_parameters_were_checked": True}
        if elsewhere and str(chosen.get("device")).startswith("cuda"):
            chosen["device"] = "cpu"
        try:
            rules.check(plan.notebook, chosen)
        except ValueError as error:
            raise ValueError(" ".join(str(error).replace(folder, "its folder").split())) from None


def files(notebook: str, values: dict | None = None) -> list[str]:
    """The files that a run needs: the notebook, what it imports of this repository, and its data.

    values: parameters of the run, which may name modules (`my_models:Ridge`), published models and
        files

    The workflow and the rules of parameters change no result, and aren't among them.
    `lib.predict.guard` makes models by the import strings in their rows of the registry.
    """
    lists = [v if isinstance(v, list) else [v] for v in (values or {}).values()]
    every = [item for items in lists for item in items if isinstance(item, str)]
    rows = [registry.BY_KEY[v] for v in every if v in registry.BY_KEY]
    every += [made.string for row in rows for made in row.made.values()]
    modules = {found[1] for v in every if (found := IMPORT.fullmatch(v))}
    data = [value for value in every if os.path.isfile(value)]
    return [*imported(Path.cwd(), f"notebooks/{notebook}.py", frozenset(modules)), *data]


@functools.cache
def imported(house: Path, script: str, modules: frozenset = frozenset()) -> list[str]:
    """A script, and the files of a repository that it and `modules` import; below `house`."""
    finder = ModuleFinder([str(house)], excludes=["workflow", "lib.parameters"])
    finder.run_script(script)
    ours = [row for row in registry.ROWS if "peers" not in row.sets.split()]
    made = {m.string.partition(":")[0] for row in ours for m in row.made.values()}
    for module in [*modules, *(made if "lib.predict.guard" in finder.modules else [])]:
        try:
            finder.import_hook(module)
        except ImportError:  # an installed package
            continue
    found = [house / module.__file__ for module in finder.modules.values() if module.__file__]
    return sorted(str(path.relative_to(house)) for path in found)


def _file(path):
    """What a sweep file says, of the right shape."""
    try:
        said = File.model_validate(yaml.safe_load(path.read_text()))
    except OSError:
        there = ", ".join(sorted(p.stem for p in Path("workflow/sweeps").glob("*.yaml")))
        none = f"no file {path}; there are {there or 'none'}"
        raise ValueError(f"sweep = {path.stem!r}: {none}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: can't be read: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        wrong = max(error.errors(), key=lambda found: len(found["loc"]))
        place = ".".join(str(key) for key in wrong["loc"])
        raise ValueError(f"{path}: {place} = {wrong['input']!r}: {wrong['msg']}") from None
    notebooks = sorted(p.stem for p in Path("notebooks").glob("*.py"))
    if said.notebook not in notebooks:
        there = ", ".join(notebooks)
        raise ValueError(f"{path}: notebook = {said.notebook!r}: must be one of {there}")
    if bool(said.grid) == bool(said.runs):
        raise ValueError(f"{path}: must have either a grid or runs")
    return said


def _rows(path, said, yes):
    """The parameters of each run that vary."""
    if said.grid:
        _check_number(math.prod(map(len, said.grid.values())), yes)
        every = itertools.product(*said.grid.values())
        return [dict(zip(said.grid, values, strict=True)) for values in every]
    rows = said.runs
    if isinstance(rows, str):
        try:
            table = pd.read_csv(path.parent / rows, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"{path}: runs = {rows!r}: can't be read ({why})") from None
        said = table.to_dict("records")
        rows = [{n: parsed(text) for n, text in row.items() if text.strip()} for row in said]
    _check_number(len(rows), yes)
    return rows


def _check_number(n_runs, yes):
    if n_runs > MANY and not yes:
        raise ValueError(f"{n_runs:,} runs: more than {MANY:,}; say --yes if that is meant")


def _override(rows, name, value, declared):
    """Runs with one parameter set, or swept over a list of values."""
    _check_name(name, declared)
    is_list = declared[name][0] is list
    swept = isinstance(value, list) and (not is_list or all(isinstance(v, list) for v in value))
    values = value if swept else [value]
    if not values:
        raise ValueError(f"{name} = []: must be a list of at least one value")
    rest = {json.dumps(row | {name: None}, sort_keys=True): row for row in rows}
    return [row | {name: value} for row in rest.values() for value in values]


def _check_name(name, declared):
    if name not in declared:
        raise ValueError(f"{name}: no such parameter; there are {', '.join(declared)}")


def _typed(value, kind):
    """A value as the type that the notebook declares: 1e3 may be an int, 1 a float."""
    if kind is list and isinstance(value, list):
        return [_number(item) for item in value]
    value = _number(value) if kind in (int, float) else value
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is float and type(value) is int and abs(value) < 10**300:
        return float(value)
    return value


def _number(value):
    """1e-3 as a number, which it isn't in YAML 1.1."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _label(value):
    """A value as part of a path: readable, and another one for another value."""
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, float) and float(f"{value:g}") == value:
        text = f"{value:g}"
    safe = re.sub(r"[^\w.+-]+", "-", text).strip("-.")[:40]
    if safe == text:
        return safe
    return f"{safe or 'empty'}+{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _declared(notebook):
    """The namespace that a notebook's cell tagged `parameters` leaves behind."""
    cells = jupytext.read(f"notebooks/{notebook}.py").cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if not tagged:
        raise ValueError(f"notebook = {notebook!r}: has no cell tagged parameters")
    namespace: dict = {}
    exec(tagged[0].source, namespace)
    return namespace
