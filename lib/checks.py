"""Checks of input: a ValueError of one line names the parameter, its value and what is allowed."""

import importlib
import os
import reprlib
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np

_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = _short.maxdict = 10
_short.maxstring = _short.maxother = 300
_NOT_TEXT = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of a pair, ends of lines
_LONGEST = 4096  # characters of a text, as of a path on Linux


def shown(value) -> str:
    """A value in a message: one line, shortened if long, 'gene_1' and never np.str_('gene_1')."""
    plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(plain, (list, tuple)):
        first = plain[: _short.maxlist + 1]
        plain = type(first)(v.item() if isinstance(v, np.generic) else v for v in first)
    return _short.repr(plain).replace("\n", " ")


def integer(name: str, value, low: int | None = None, high: int | None = None) -> int:
    """`value` as an int from low to high, both included."""
    return int(_within(name, value, (int, np.integer), "a whole number", low, high))


def number(name: str, value, low: float | None = None, high: float | None = None) -> float:
    """`value` as a finite float from low to high, both included."""
    value = _within(name, value, (int, float, np.integer, np.floating), "a number", low, high)
    if isinstance(value, np.generic):
        value = value.item()  # float32 has no room for the limit
    if not abs(value) <= sys.float_info.max:  # false of NaN, and of whole numbers beyond any float
        raise ValueError(f"{name} = {shown(value)}: must be finite")
    return float(value)


def interval(
    name: str, value, low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """`value` as (smallest, largest), in that order."""
    what = "two numbers, the smaller one first"
    first, second = (number(name, v, low, high) for v in _items(name, value, what, 2, 2))
    if first > second:
        raise ValueError(f"{name} = ({first:g}, {second:g}): must be {what}")
    return first, second


def numbers(
    name: str, value, low: float | None = None, high: float | None = None, most: int | None = None
) -> list[float]:
    """`value` as a list of 1 to `most` numbers."""
    what = f"a list of at least one number{_limits(low, high)}{_limits(None, most)}"
    return [number(name, v, low, high) for v in _items(name, value, what, most=most)]


def listed(name: str, value, allowed=None, least: int = 1, most: int | None = None) -> list:
    """`value` as a list of `least` to `most` items, none of them twice.

    allowed: the items to choose from, by default any
    """
    one = " of at least one item" if least else ""
    items = _items(name, value, f"a list{one}{_limits(None, most)}", least, most)
    for place, item in enumerate(items):
        choice(name, item, items if allowed is None else allowed)
        if item in items[:place]:
            raise ValueError(f"{name} = {shown(items)}: must not have {shown(item)} twice")
    return items


def choice(name: str, value, allowed):
    """`value`, one of `allowed`."""
    if value not in list(allowed):
        raise ValueError(f"{name} = {shown(value)}: must be one of {', '.join(map(str, allowed))}")
    return value


def text(name: str, value, empty: bool = True) -> str:
    """`value`, text in one line: a path, an import string, a name."""
    if not isinstance(value, str):
        raise ValueError(f"{name} = {shown(value)}: must be text, of type str")
    if not value and not empty:
        raise ValueError(f"{name} = '': must not be empty")
    if len(value) > _LONGEST:
        raise ValueError(f"{name} = {shown(value)}: must have at most {_LONGEST:,} characters")
    if any(unicodedata.category(letter) in _NOT_TEXT for letter in value):
        raise ValueError(f"{name} = {shown(value)}: must have no control characters")
    return value


def imported(name: str, string: str, builtin=()) -> Callable:
    """The function that the import string `package.module:function` names.

    builtin: names that are allowed instead, for the message
    """
    allowed = "package.module:name"
    if builtin:
        allowed = f"{', '.join(builtin)} or an import string package.module:function"
    module, colon, attribute = str(string).partition(":")
    if not (module and colon and attribute) or module.startswith("."):
        raise ValueError(f"{name} = {string!r}: must be {allowed}")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        why = f"can't be imported ({error})"
        raise ValueError(f"{name} = {string!r}: {why}; must be {allowed}") from None
    if not callable(function):
        raise ValueError(f"{name} = {string!r}: is no function; must be {allowed}")
    return function


def genes(name: str, value, known) -> list[str]:
    """`value`, a gene name or a list of them, as a list of genes in `known`."""
    if not isinstance(value, str) and not np.iterable(value):
        raise ValueError(f"{name} = {shown(value)}: must be the name of a gene, or a list of names")
    wanted = [value] if isinstance(value, str) else list(value)
    if not wanted:
        raise ValueError(f"{name} = []: must name at least one gene")
    missing = [g for g in wanted if g not in known]
    if missing:
        raise ValueError(
            f"{name} = {shown(missing[0])}: no such gene; the genes are {known[0]} ... {known[-1]}"
        )
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"{name} = {shown(wanted)}: a gene is named twice")
    return [str(g) for g in wanted]


def same_genes(name: str, value, fitted: list[str]) -> None:
    """Raise a ValueError unless the AnnData `value` has the genes `fitted`, in that order."""
    if list(value.var_names) != list(fitted):
        required = "those that the model was fitted to, in that order"
        raise ValueError(f"{name}: its genes must be {required}")


def writable_folder(name: str, value) -> Path:
    """`value` as a Path to a folder that can be written to, which is made if it isn't there."""
    folder = Path(value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
    except OSError as error:
        allowed = f"a folder that can be written to ({error.strerror})"
        raise ValueError(f"{name} = {shown(str(value))}: must be {allowed}") from None
    return folder


def files(name: str, value, stems: list[str], advice: str) -> Path:
    """`value` as a Path to a folder that holds a file for each of `stems`."""
    there = {Path(path).stem for path in os.listdir(value)} if os.path.isdir(value) else set()
    missing = [stem for stem in stems if stem not in there]
    if missing:
        required = f"must hold {missing[0]}, and has not"
        raise ValueError(f"{name} = {shown(str(value))}: {required}; {advice}")
    return Path(value)


def _items(name, value, what, least=1, most=None):
    several = np.iterable(value) and not isinstance(value, (str, bytes, dict, set))
    items = list(value) if several else []
    if not several or len(items) < least or (most is not None and len(items) > most):
        raise ValueError(f"{name} = {shown(value)}: must be {what}")
    return items


def _within(name, value, kinds, what, low, high):
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, kinds):
        raise ValueError(f"{name} = {shown(value)}: must be {what}{_limits(low, high)}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name} = {shown(value)}: must be {_limits(low, high).strip(' ,')}")
    return value


def _limits(low, high):
    if low is not None and high is not None:
        return f" from {_number(low)} to {_number(high)}"
    if low is not None:
        return f", at least {_number(low)}"
    if high is not None:
        return f", at most {_number(high)}"
    return ""


def _number(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
