"""What the README says can be done, can be done."""

import re
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S)


def test_shell_commands_exist():
    lines = [line.partition("#")[0].split() for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    for words in filter(None, lines):
        if words[0] == "./run_all.sh":
            assert set(words[1:]) <= {"quick", "test", "--help", "--force"}
        elif words[0] == "papermill":
            notebook = next(w for w in words if w.startswith("notebooks/"))
            assert (ROOT / notebook).is_file()
            cell = next(c for c in jupytext.read(ROOT / notebook).cells if "parameters" in c.metadata.get("tags", []))
            named = [words[i + 1] for i, w in enumerate(words) if w == "-p"]
            assert set(named) <= set(re.findall(r"^(\w+):", cell.source, flags=re.M))
        else:
            assert words == ["source", ".venv/bin/activate"]


@pytest.mark.parametrize("code", blocks("python"))
def test_python_example_runs(code, capsys):
    assert len(code.splitlines()) <= 12
    exec(code, {})
    assert "skill_kl" in capsys.readouterr().out


def test_links_lead_to_files():
    links = [link for link in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_map_of_the_house_names_every_room():
    rooms = {path.name for path in (ROOT / "lib").glob("*.py")} - {"__init__.py"}
    assert not [room for room in rooms if room not in TEXT]


def test_summary_table_is_that_of_the_committed_run():
    from workflow.finish import readme_summary

    block = TEXT.partition("<!-- summary")[2].partition("-->\n")[2].partition("<!-- end of summary")[0]
    assert block == readme_summary(ROOT / "figures" / "tables")
