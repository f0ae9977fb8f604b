"""What the README says can be done, can be done."""

import re
import shlex
from pathlib import Path

import jupytext

from workflow import plan, sweep

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S)


def test_shell_commands_exist():
    lines = [
        line.partition("#")[0].split()
        for block in blocks("bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    for words in filter(None, lines):
        if words[0] == "./run_all.sh":
            if words[1:2] == ["sweep"]:  # its options are those of the command
                options = sweep._arguments(shlex.split(" ".join(words[2:])))
                named = {name for name, _ in options.parameters}
                assert named <= set(
                    plan.parameters("02_mechanistic_gene")
                ) and options.name.endswith(("mine", "mine.yaml"))
                continue
            assert set(words[1:]) <= {
                "quick",
                "test",
                "report",
                "peers",
                "bench",
                "--help",
                "--force",
            }
        elif "papermill" in words[:2]:
            notebook = next(w for w in words if w.startswith("notebooks/"))
            assert (ROOT / notebook).is_file()
            cell = next(
                c
                for c in jupytext.read(ROOT / notebook).cells
                if "parameters" in c.metadata.get("tags", [])
            )
            named = [words[i + 1] for i, w in enumerate(words) if w == "-p"]
            assert set(named) <= set(re.findall(r"^(\w+):", cell.source, flags=re.M))
        else:
            assert words == ["source", ".venv/bin/activate"]


def test_python_examples_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    first, large, several, model, second = blocks("python")
    assert len(first.splitlines()) <= 15 and len(second.splitlines()) <= 14
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_model.py").write_text(model)
    names: dict = {}
    exec(first, names)
    assert "skill_kl" in capsys.readouterr().out
    exec(large.replace("1_000_000", "2_000"), names)
    assert names["some"].n_obs == 1000 and len(names["vae"].history) == 2
    exec(several, names)
    assert [len(history) for history in names["histories"]] == [20] * 8
    exec(second, {})
    assert "mine" in capsys.readouterr().out


def test_the_model_of_ones_own_is_the_one_that_is_tested():
    _, _, _, code, _ = blocks("python")
    assert len(code.splitlines()) <= 25
    imports, _, model = code.partition("\n\n\n")
    source = (ROOT / "tests" / "models_of_ones_own.py").read_text()
    assert model in source and all(line in source for line in imports.splitlines())


def test_links_lead_to_files():
    links = [link for link in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_map_of_the_house_names_every_room():
    rooms = {path.name for path in (ROOT / "lib").iterdir()} - {"__init__.py", "__pycache__"}
    assert not [room for room in rooms if room not in TEXT]


def test_summary_table_is_that_of_the_committed_run():
    from workflow.finish import readme_summary

    block = (
        TEXT.partition("<!-- summary")[2].partition("-->\n")[2].partition("<!-- end of summary")[0]
    )
    assert block == readme_summary(ROOT / "figures" / "tables")
