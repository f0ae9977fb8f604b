"""Bad input ends in one line that names the parameter, its value and what is allowed.

Used by lib where its functions begin, and by the notebooks, whose parameters come from outside.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import ModuleType

import numpy as np


def integer(name: str, value, low: int | None = None, high: int | None = None) -> int:
    """`value` as an int from low to high, both included. Raises ValueError."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name} = {shown(value)}: must be a whole number{_limits(low, high)}")
    return int(_within(name, value, low, high))


def number(name: str, value, low: float | None = None, high: float | None = None) -> float:
    """`value` as a finite float from low to high, both included. Raises ValueError."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} = {shown(value)}: must be a number{_limits(low, high)}")
    if not math.isfinite(value):
        raise ValueError(f"{name} = {shown(value)}: must be finite")
    return float(_within(name, value, low, high))


def interval(name: str, value, low: float | None = None, high: float | None = None) -> tuple[float, float]:
    """`value` as (smallest, largest), in that order. Raises ValueError."""
    if isinstance(value, str) or np.ndim(value) != 1 or len(value) != 2:
        raise ValueError(f"{name} = {shown(value)}: must be two numbers, the smaller one first")
    first, second = (number(name, v, low, high) for v in value)
    if first > second:
        raise ValueError(f"{name} = ({first:g}, {second:g}): must be two numbers, the smaller one first")
    return first, second


def numbers(name: str, value, low: float | None = None, high: float | None = None) -> list[float]:
    """`value` as a list of at least one number. Raises ValueError."""
    if isinstance(value, str) or np.ndim(value) != 1 or len(value) == 0:
        raise ValueError(f"{name} = {shown(value)}: must be a list of at least one number{_limits(low, high)}")
    return [number(name, v, low, high) for v in value]


def listed(name: str, value, allowed=None) -> list:
    """`value` as a list of at least one item, each in `allowed` if that is given. Raises ValueError."""
    if isinstance(value, str) or np.ndim(value) != 1 or len(value) == 0:
        raise ValueError(f"{name} = {shown(value)}: must be a list of at least one item")
    return [choice(name, v, allowed) if allowed is not None else v for v in value]


def choice(name: str, value, allowed):
    """`value`, one of `allowed`. Raises ValueError."""
    if value not in list(allowed):
        raise ValueError(f"{name} = {shown(value)}: must be one of {', '.join(map(str, allowed))}")
    return value


def genes(name: str, value, known) -> list[str]:
    """`value`, a gene name or a list of them, as a list of genes in `known`. Raises ValueError."""
    if not isinstance(value, str) and not np.iterable(value):
        raise ValueError(f"{name} = {shown(value)}: must be the name of a gene, or a list of names")
    wanted = [value] if isinstance(value, str) else list(value)
    if not wanted:
        raise ValueError(f"{name} = []: must name at least one gene")
    missing = [g for g in wanted if g not in known]
    if missing:
        raise ValueError(f"{name} = {shown(missing[0])}: no such gene; the genes are {known[0]} ... {known[-1]}")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"{name} = {shown(wanted)}: a gene is named twice")
    return [str(g) for g in wanted]


def same_genes(name: str, value, fitted: list[str]) -> None:
    """Raise ValueError unless the AnnData `value` has the genes `fitted`, in that order."""
    if list(value.var_names) != list(fitted):
        raise ValueError(f"{name}: its genes must be those that the model was fitted to, in that order")


def writable_folder(name: str, value) -> Path:
    """`value` as a Path to a folder that takes new files; made if it isn't there. Raises ValueError."""
    folder = Path(value)
    probe = folder / f".writable-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 4096)
    except OSError as error:
        raise ValueError(f"{name} = {str(value)!r}: must be a folder that can be written to ({error.strerror})") from None
    finally:
        if probe.exists():
            probe.unlink()
    return folder


def files(name: str, value, stems: list[str], advice: str) -> Path:
    """`value` as a Path to a folder that holds a file for each of `stems`. Raises ValueError."""
    there = {path.stem for path in Path(value).glob("*")}
    missing = [stem for stem in stems if stem not in there]
    if missing:
        raise ValueError(f"{name} = {str(value)!r}: must hold {missing[0]}, and has not; {advice}")
    return Path(value)


def parameters(namespace: dict, **rules) -> None:
    """Check a notebook's parameters before it computes anything.

    namespace : the notebook's `globals()`. Its parameters cell declares each one with a type
        (`n_cells: int = 10_000`), so a name that papermill injected and that has no declared
        type is unknown: papermill itself only warns, and runs with the default.
    rules : name -> function(name, value), such as `partial(checks.integer, low=1)`; parameters
        without a rule are checked for their type

    Raises ValueError, one line for the first thing wrong.
    """
    declared = namespace.get("__annotations__", {})
    shell = {"In", "Out", "get_ipython", "exit", "quit", "open"}
    first_time = not namespace.get("_parameters_were_checked")  # later, all the notebook's names are there
    for name, value in namespace.items() if first_time else ():
        if name.startswith("_") or name in shell or name in declared or callable(value) or isinstance(value, ModuleType):
            continue
        raise ValueError(f"{name} = {shown(value)}: no such parameter; there are {', '.join(declared)}")
    for name, kind in declared.items():
        value = namespace[name]
        if name in rules:
            rules[name](name, value)
        elif kind is float:
            number(name, value)
        elif kind is int:
            integer(name, value)
        elif kind in (bool, str) and not isinstance(value, kind):
            raise ValueError(f"{name} = {shown(value)}: must be of type {kind.__name__}")
    namespace["_parameters_were_checked"] = True


def shown(value) -> str:
    """A value as a message shows it: 'gene_1' or 1.5, never np.str_('gene_1') or np.float64(1.5)."""
    plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(plain, (list, tuple)):
        plain = type(plain)(v.item() if isinstance(v, np.generic) else v for v in plain)
    return repr(plain)


def _within(name, value, low, high):
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name} = {shown(value)}: must be {_limits(low, high).strip(' ,')}")
    return value


def _limits(low, high):
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    return f", at least {low:g}" if low is not None else f", at most {high:g}" if high is not None else ""
