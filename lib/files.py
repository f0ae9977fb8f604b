"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to, which takes its place at the end of the block.

    Its folders are made. Where the block fails, the file that was there stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def put_between(path: str | Path, start: str, end: str, text: str) -> None:
    """Put `text` between two marks of a file, for what was there.

    Raises ValueError for a mark that isn't there.
    """
    head, _, rest = Path(path).read_text().partition(start)
    if end not in rest:
        raise ValueError(f"{path}: must have {start!r} and, behind it, {end!r}")
    with whole(path) as scratch:
        scratch.write_text(head + start + text + end + rest.partition(end)[2])


def write_text(path: str | Path, text: str) -> None:
    """Write a file of text, whole or not at all."""
    with whole(path) as scratch:
        scratch.write_text(text)
