"""What the READMEs say can be done, can be done."""

import re
import shlex
from pathlib import Path

import pytest

from lib.predict import guard
from lib.score import arms
from lib.show import summary
from tests import screens
from workflow import plan, sweep

ROOT = Path(__file__).parents[1]
PLACES = [".", "lib", "lib/predict", "workflow", "benchmarks"]
TEXTS = {place: (ROOT / place / "README.md").read_text() for place in PLACES}


def blocks(place, language):
    return re.findall(rf"```{language}\n(.*?)```", TEXTS[place], flags=re.S)


def test_the_readme_is_a_page():
    text = TEXTS["."]
    assert len(text.encode()) <= 9000
    assert text.count("![") == 1  # one figure
    table = text.partition("<!-- summary")[2].partition("<!-- end")[0].strip().splitlines()[1:]
    rows = [line for line in table if line.startswith("|")]
    assert 5 <= len(rows) - 2 <= 8 and all(line.count("|") == 6 for line in rows)
    for example in blocks(".", "python"):
        code = [line for line in example.splitlines() if line and not re.match("from|import", line)]
        assert len(code) <= 10


@pytest.mark.parametrize("place", PLACES)
def test_shell_commands_exist(place):
    lines = [
        shlex.split(line, comments=True)
        for block in blocks(place, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    commands = re.findall(r"^  (?:\./run_all\.sh) ?(\w*)", (ROOT / "run_all.sh").read_text(), re.M)
    for words in filter(None, lines):
        if words[0] == "./run_all.sh":
            assert words[1:2] == [] or words[1] in {*commands, "--help"}
            if words[1:2] == ["sweep"]:  # its options are those of the command
                options = sweep._arguments(words[2:])
                named = {name for name, _ in options.parameters}
                assert named <= set(plan.parameters("05_leaderboard"))
        elif "papermill" in words[:2]:
            notebook = next(w for w in words if w.startswith("notebooks/"))
            assert (ROOT / notebook).is_file()
            named = {words[i + 1] for i, w in enumerate(words) if w == "-p"}
            assert named <= set(plan.parameters(Path(notebook).stem))
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file()
        else:
            assert words == ["source", ".venv/bin/activate"]


def test_python_examples_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    conditional, screen = blocks(".", "python")
    exec(conditional, {})
    assert "skill_kl" in capsys.readouterr().out
    exec(screen, {})
    assert "log_fold_change" in capsys.readouterr().out
    simulator, network, large, several = blocks("lib", "python")
    names: dict = {}
    exec(simulator, names)
    first, second = map(float, capsys.readouterr().out.split())
    assert first != second
    exec(network, names)
    assert "DiGraph with 3 nodes and 3 edges" in capsys.readouterr().out
    exec(large.replace("1_000_000", "2_000"), names)
    assert names["some"].n_obs == 1000 and len(names["vae"].history) == 2
    exec(several.replace("max_epochs=20", "max_epochs=2"), names)
    assert [len(history) for history in names["histories"]] == [2] * 8
    model, score, of_arms = blocks("lib/predict", "python")
    exec(of_arms, names)
    entrant = arms.Entrant(guard.Guarded(names["Shared"](), "shared"))
    entered = arms.enter("shared", entrant, screens.task(), screens.scores())
    assert not entered.cannot and entered.scores["value"].notna().all()
    (tmp_path / "my_model.py").write_text(model)
    exec(score, {})
    assert "mine" in capsys.readouterr().out


def test_the_model_of_ones_own_is_the_one_that_is_tested():
    code, *_ = blocks("lib/predict", "python")
    assert len(code.splitlines()) <= 25
    imports, _, model = code.partition("\n\n\n")
    source = (ROOT / "tests" / "models_of_ones_own.py").read_text()
    assert model in source and all(line in source for line in imports.splitlines())


@pytest.mark.parametrize("place", PLACES)
def test_links_lead_to_files(place):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXTS[place])
    assert links or place != "."
    assert not [link for link in links if not (ROOT / place / link).exists()]


@pytest.mark.parametrize("place", ["lib", "lib/predict", "workflow", "benchmarks"])
def test_the_map_of_a_folder_names_everything_in_it(place):
    skipped = {"__init__", "__pycache__", "README", "__main__"}
    named = {path.stem for path in (ROOT / place).iterdir() if path.suffix != ".csv"} - skipped
    text = TEXTS[place]
    files = text.partition("| file | what |")[2] or text.partition("```")[2].partition("```")[0]
    listed = set(re.findall(r"\w+", files.partition("\n\n")[0]))
    assert named <= listed


def test_summary_is_that_of_the_committed_run():
    block = TEXTS["."].partition("<!-- summary")[2].partition("-->\n")[2]
    table = block.partition("<!-- end of summary")[0].strip()
    assert table == summary.table(ROOT / "figures" / "tables")
