"""What a sweep is: a file that names a notebook and the parameters of its runs, read and checked before anything starts.

notebook: 05_leaderboard
set: {replicates: 1}                       the same in every run
grid: {n_cells: [1000, 3000], seed: [1, 2]}    every combination; or
runs: [{n_cells: 1000, seed: 1}, ...]          a list; or
runs: runs.csv                                 a row a run, an empty cell where the default is meant
figure: {metric: skill_kl, where: {split: do_inside}}    or a list, a row of panels each: `lib/show/sweeps.py`
table: 06_cells                                what is drawn goes into figures/tables/ too, for notebook 06
"""

from __future__ import annotations

import ast
import contextlib
import csv
import hashlib
import importlib.util
import itertools
import json
import re
import types
import typing
from pathlib import Path

import jupytext
import yaml

from lib.predict import registry
from workflow import parameters as rules

MANY = 10_000  # runs, above which the user must say yes
KEYS = {"notebook", "set", "grid", "runs", "figure", "table"}


class Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in YAML 1.2."""


Loader.yaml_implicit_resolvers = {  # nor does YAML 1.2 know dates
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


class Plan(typing.NamedTuple):
    """A sweep, ready to run.

    name, notebook : of the sweep, and of the notebook's source without .py
    varied : parameters that make up a run's path, in order
    runs : path of each run below the sweep's folder -> all parameters that aren't the notebook's default
    figure, table : what is drawn, and what its rows are called in figures/tables/, if they go there
    """

    name: str
    notebook: str
    varied: list[str]
    runs: dict[str, dict]
    figure: list[dict]
    table: str


def parsed(text: str):
    """A value as a sweep file has it: 1e-3, true, null, [1, 2], text. Raises ValueError."""
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError:
        raise ValueError(f"{text!r}: can't be read as a value") from None


def read(path: str | Path, overrides: dict | None = None, *, yes: bool = False) -> Plan:
    """Read a sweep file, and check the name and type of every parameter of every run. Raises ValueError in one line.

    overrides : parameter -> value, in place of what the file says; a list of values for a parameter that isn't a list is swept
    yes : allow more than 10,000 runs
    """
    path = Path(path)
    said = _definition(path)
    declared = parameters(said["notebook"])
    fixed, rows = dict(said.get("set") or {}), _rows(path, said, yes)
    _differ(rows, lambda row: _text(row), rows)  # before an override makes them one
    varied = list(dict.fromkeys(name for row in rows for name in row))
    for name, value in (overrides or {}).items():
        _known(name, declared)
        several = isinstance(value, list) and (
            declared[name][0] is not list or (value and all(isinstance(v, list) for v in value))
        )
        _several(name, value if several else [value])
        fixed.pop(name, None)
        if name not in varied:
            varied.append(name)
        rest = _unique({k: v for k, v in row.items() if k != name} for row in rows)
        rows = [{**row, name: v} for row in rest for v in (value if several else [value])]
    for name in [*fixed, *varied]:
        _known(name, declared)
        if name == "figures_dir":
            raise ValueError("figures_dir: can't be set in a sweep, since every run has its own")
        if name in fixed and name in varied:
            raise ValueError(f"{name}: is both in set and swept")
    if len(rows) > MANY and not yes:
        raise ValueError(f"{len(rows):,} runs: more than {MANY:,}; say --yes if that is meant")
    typed = [
        {name: _typed(name, value, *declared[name]) for name, value in {**fixed, **row}.items()}
        for row in rows
    ]
    defaults = {name: default for name, (_, default) in declared.items()}
    _differ(typed, lambda values: _text(defaults | values), rows)
    runs = {
        "/".join(f"{name}~{_label((defaults | values)[name])}" for name in varied)
        or "run~default": values
        for values in typed
    }
    return Plan(
        path.stem, said["notebook"], varied, runs, said["figure"], str(said.get("table") or "")
    )


def parameters(notebook: str) -> dict[str, tuple[object, object]]:
    """The type and default of each parameter of a notebook, from its cell tagged `parameters`."""
    namespace = _declared(notebook)
    return {
        name: (kind, namespace[name]) for name, kind in namespace.get("__annotations__", {}).items()
    }


def own_folders(notebook: str) -> list[str]:
    """The parameters that say where a notebook writes: each run has folders of its own."""
    return rules.written_folders(notebook, parameters(notebook))


def check_ranges(notebook: str, runs: list[dict], folder: str, *, elsewhere: bool = False) -> None:
    """Check the values of every run as the notebook will. Raises ValueError in one line.

    folder : stands in for the folders that a run writes to
    elsewhere : runs are for other machines, which may have a GPU that this one lacks
    """
    declared, own = _declared(notebook), dict.fromkeys(own_folders(notebook), folder)
    for values in runs:
        chosen = declared | own | values | {"_parameters_were_checked": True}
        if elsewhere and str(chosen.get("device")).startswith("cuda"):
            chosen["device"] = "cpu"
        try:
            rules.check(notebook, chosen)
        except ValueError as error:
            said = str(error).replace(folder, "the run's own folder")
            raise ValueError(" ".join(said.split())) from None


def source(notebook: str) -> Path:
    """The notebook's script."""
    return Path("notebooks") / f"{notebook}.py"


def digests(plan: Plan) -> tuple[dict[str, list[str]], dict[str, str]]:
    """What the runs need: digest of the content of some files -> these files, and run -> its digest."""
    needed, content, of_runs = {}, {}, {}
    for run, values in plan.runs.items():
        named = own_modules(values)
        if named not in content:
            there = files(plan.notebook, named)
            digest = hashlib.sha256()
            for path in [*there, "requirements.txt", "workflow/run.py"]:
                digest.update(f"{path}\n".encode() + Path(path).read_bytes())
            content[named] = digest.hexdigest()[:16]
            needed[content[named]] = there
        of_runs[run] = content[named]
    return needed, of_runs


def key(digest: str, values: dict) -> str:
    """Says which run a finished one was."""
    return f"{digest} {_text(values)}\n"


def own_modules(values: dict) -> frozenset[str]:
    """The modules in parameters such as my_models:Ridge or a list of these, or behind keys of models such as scvi."""
    every = [
        v for value in values.values() for v in (value if isinstance(value, list) else [value])
    ]
    rows = [registry.BY_KEY[v] for v in every if isinstance(v, str) and v in registry.BY_KEY]
    every += [made.string for row in rows for made in row.made.values()]
    return frozenset(v.partition(":")[0] for v in every if _is_import(v))


def files(notebook: str, modules: typing.Iterable[str] = ()) -> list[str]:
    """The files of this repository that a notebook needs: itself, one's own modules, and what all these import.

    Not the workflow's, which change no result. Models are imported by the strings in their rows of the registry, where
    `lib.predict.guard` makes them.
    """
    waiting = [source(notebook), *filter(None, map(_module_file, modules))]
    found: dict[Path, None] = {}
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        named = list(_imported(path))
        if path == Path("lib/predict/guard.py"):
            named += [
                made.string.partition(":")[0]
                for row in registry.rows()
                for made in row.made.values()
                if "peers" not in row.sets.split()
            ]
        waiting += filter(
            None, (_module_file(m) for m in named if m.partition(".")[0] != "workflow")
        )
    return sorted(map(str, found))


def load(notebook: str) -> None:
    """Import what a notebook imports: runs forked from this process then need not."""
    for module in _imported(source(notebook)):
        with contextlib.suppress(
            ImportError
        ):  # a function or class, or what the run itself will say
            importlib.import_module(module)


def _imported(path):
    """The modules that a file imports, and what it takes from them, which may be modules too."""
    package = list(path.with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(
                [*(package[: -node.level] if node.level else []), *filter(None, [node.module])]
            )
            yield from (base, *(f"{base}.{a.name}" for a in node.names))
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


def _definition(path):
    try:
        said = yaml.load(path.read_text(), Loader)
    except OSError:
        there = ", ".join(sorted(p.stem for p in Path("workflow/sweeps").glob("*.yaml")))
        raise ValueError(
            f"sweep = {path.stem!r}: no file {path}; there are {there or 'none'}"
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: can't be read: {' '.join(str(error).split())}") from None
    if not isinstance(said, dict):
        raise ValueError(f"{path}: must name a notebook, and have a grid or runs")
    for key in said:
        if key not in KEYS:
            raise ValueError(f"{path}: {key}: no such key; there are {', '.join(sorted(KEYS))}")
    notebooks = sorted(p.stem for p in Path("notebooks").glob("*.py"))
    if said.get("notebook") not in notebooks:
        raise ValueError(
            f"{path}: notebook = {said.get('notebook')!r}: must be one of {', '.join(notebooks)}"
        )
    if ("grid" in said) == ("runs" in said):
        raise ValueError(f"{path}: must have either a grid or runs")
    figure = said.get("figure") or [{}]
    said["figure"] = figure if isinstance(figure, list) else [figure]
    for key, value in (
        ("set", said.get("set") or {}),
        *(("figure", panel) for panel in said["figure"]),
    ):
        if not isinstance(value, dict):
            raise ValueError(f"{path}: {key} = {value!r}: must be names and values")
    for panel in said["figure"]:
        for key, value in panel.items():
            kind = {"metric": str, "where": dict, "models": list}.get(key)
            if not kind or not isinstance(value, kind):
                raise ValueError(
                    f"{path}: figure: {key} = {value!r}: must be a metric's name, `where` with keys and values, or a list of `models`"
                )
    return said


def _rows(path, said, yes):
    if "grid" in said:
        grid = said["grid"]
        if not isinstance(grid, dict) or not grid:
            raise ValueError(
                f"{path}: grid: is empty; must be parameters, each with a list of values"
            )
        for name, values in grid.items():
            _several(name, values)
        size = 1
        for values in grid.values():
            size *= len(values)
        if size > MANY and not yes:
            raise ValueError(
                f"{path}: {size:,} runs: more than {MANY:,}; say --yes if that is meant"
            )
        return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    rows = said["runs"]
    if isinstance(rows, str):
        table = path.parent / rows
        try:
            with table.open(newline="", encoding="utf-8-sig") as file:
                rows = [
                    {name: parsed(text) for name, text in row.items() if text and text.strip()}
                    for row in csv.DictReader(file, strict=True, restval="")
                ]
        except (OSError, csv.Error, AttributeError) as error:
            raise ValueError(
                f"{path}: runs = {said['runs']!r}: can't be read ({getattr(error, 'strerror', None) or error})"
            ) from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"{path}: runs: must be a list of at least one run, each with names and values"
        )
    return rows


def _several(name, values):
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name} = {values!r}: must be a list of at least one value")


def _text(values):
    return json.dumps(values, sort_keys=True)


def _unique(rows):
    return list({_text(row): row for row in rows}.values())


def _differ(rows, text, shown):
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        first = seen.setdefault(text(row), number)
        if first != number:
            values = ", ".join(f"{name} = {value!r}" for name, value in shown[number - 1].items())
            raise ValueError(f"runs {first} and {number} are the same run: {values}")


def _known(name, declared):
    if name not in declared:
        raise ValueError(f"{name}: no such parameter; there are {', '.join(declared)}")


def _typed(name, value, kind, default):
    """`value` as the type that the notebook declares; a whole float is an int, an int a float. Raises ValueError."""
    kinds = (
        typing.get_args(kind)
        if typing.get_origin(kind) in (typing.Union, types.UnionType)
        else (kind,)
    )
    if value is None and (type(None) in kinds or default is None):
        return None
    for kind in (typing.get_origin(k) or k for k in kinds):
        if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                return float(value)
        if kind is int and isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    names = " or ".join(
        "null" if k is type(None) else getattr(k, "__name__", str(k)) for k in kinds
    )
    raise ValueError(f"{name} = {value!r}: must be of type {names}")


def _label(value) -> str:
    """A value as part of a path: readable, and another one for another value."""
    text = (
        f"{value:g}"
        if isinstance(value, float) and float(f"{value:g}") == value
        else value
        if isinstance(value, str)
        else json.dumps(value)
    )
    safe = re.sub(r"[^\w.+-]+", "-", text).strip("-.")[:40]
    return (
        safe
        if safe == text
        else f"{safe or 'empty'}+{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    )


def _declared(notebook):
    """What a notebook's cell tagged `parameters` leaves behind."""
    cell = next(
        (
            c
            for c in jupytext.read(source(notebook)).cells
            if "parameters" in c.metadata.get("tags", [])
        ),
        None,
    )
    if cell is None:
        raise ValueError(f"notebook = {notebook!r}: has no cell tagged parameters")
    namespace: dict = {}
    exec(
        compile(cell.source, f"{notebook}, parameters", "exec", dont_inherit=True), namespace
    )  # its annotations are types, not text
    return namespace


def _is_import(value):
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value)


def _module_file(name):
    """The file of a module of this repository, or None."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path, here = Path(spec.origin).resolve(), Path.cwd().resolve()
    inside = path.is_relative_to(here) and not any(
        part.startswith(".") for part in path.relative_to(here).parts
    )
    return path.relative_to(here) if inside else None
