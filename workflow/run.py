"""One notebook, by papermill.

    python workflow/run.py notebooks/NAME.py EXECUTED.ipynb PARAMETERS    PARAMETERS as JSON

The executed notebook appears under its name when it has succeeded. Until then, and where it fails,
it is EXECUTED.part.ipynb, and the last line that is printed says what went wrong and in which cell.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import papermill
from papermill.exceptions import PapermillExecutionError

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def run(source: str, executed: str, parameters: dict) -> str | None:
    """Execute a notebook; what went wrong, in one line, or None."""
    part = Path(executed).with_suffix(".part.ipynb")
    part.parent.mkdir(parents=True, exist_ok=True)
    Path(executed).unlink(missing_ok=True)
    notebook = jupytext.read(source)
    notebook.metadata |= {"kernelspec": KERNEL, "commit": commit()}
    streams = {"log_output": True, "stdout_file": sys.stdout, "stderr_file": sys.stderr}
    streams["shutdown_kernel"] = "immediate"  # graceful takes a second
    for attempt in ("first", "second"):
        try:
            papermill.execute_notebook(notebook, part, parameters, progress_bar=False, **streams)
        except PapermillExecutionError as error:
            said = f"cell {error.exec_count} failed: {error.ename}: {error.evalue}"
        except RuntimeError as error:  # a kernel that died; before its first reply, of chance
            said = f"failed: {error}"
            if "Kernel died before replying" in said and attempt == "first":
                continue
        else:
            os.replace(part, executed)
            return None
        return f"{Path(source).stem}, {' '.join(said.split())} (run so far: {part})"


def commit() -> str | None:
    """The commit of this folder, marked where files differ from it; None outside of git."""
    command = "git describe --always --dirty --abbrev=40 --exclude='*' 2> /dev/null"
    said = subprocess.run(command, shell=True, capture_output=True, text=True)
    return said.stdout.strip() or None


if __name__ == "__main__":
    failure = run(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    if failure:
        print(failure, flush=True)
        sys.exit(1)
