"""./run_all.sh screen: a screen as files, and the exact score of predictions in a file."""

import argparse
import dataclasses
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from lib.tasks.screen import Design
from workflow import plan


def main(arguments: list[str]) -> None:
    """Export a pack, or score predictions. Raises ValueError in one line."""
    parser = argparse.ArgumentParser(prog="run_all.sh screen")
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write a pack, and its key beside it")
    score = commands.add_parser("score", help="the exact scores of predictions")
    for command in (export, score):
        command.add_argument("folder", help="the pack")
    names = ", ".join(f"{field.name} ({field.default})" for field in dataclasses.fields(Design))
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    export.add_argument("-p", "--parameters", **pair, help=f"one of seed (2026), {names}")
    score.add_argument("predictions", help="an .h5ad of cells or a .csv of means; see its README")
    score.add_argument(
        "-m", "--models", nargs="+", default=[], metavar="KEY",
        help="models of this repository to fit to the pack and score beside, such as grn or mlp",
    )  # fmt: skip
    asked = parser.parse_args(arguments)
    if asked.command == "export":
        _export(asked.folder, {name: plan.parsed(text) for name, text in asked.parameters})
    else:
        _score(asked.folder, asked.predictions, asked.models)


def _export(folder, parameters):
    from lib import checks
    from lib.tasks import pack

    seed = checks.integer("seed", parameters.pop("seed", 2026), 0, 10**18)
    known = {field.name: field.type for field in dataclasses.fields(Design)}
    for name, value in parameters.items():
        checks.choice("parameter", name, ["seed", *known])
        if known[name] == "int" and isinstance(value, float) and value == int(value):
            parameters[name] = int(value)
    found = pack.export(folder, Design(**parameters), seed)
    print(f"{folder}: pack {found}; its key is {pack.key_of(folder)}, not to be given away")


def _score(folder, predictions, models):
    from lib.score import pack, screen, tables
    from lib.tasks.pack import truth_of

    warnings.formatwarning = lambda said, *_: f"run_all.sh screen: {said}\n"
    if not truth_of(folder).is_file():
        print(f"The exact laws of the arms: minutes, kept in {truth_of(folder)}", flush=True)
    table, missing = pack.score(folder, predictions, models)
    wide = pack.readable(table)
    print(wide.to_string())
    if missing:
        some = ", ".join(missing[:10]) + (" ..." if len(missing) > 10 else "")
        print(f"Without an answer, so that their splits have no score: {len(missing)}, {some}")
    said = pack.usual(folder, predictions)
    if len(said):
        print("\nWhat ten usual metrics say of 100 cells an arm, at their packages' defaults:")
        print(said.round(3).to_string())
        from lib.score.court import metrics, usual

        better = [metrics.rows()[key].better for key in usual.TEN]
        print("better: " + ", ".join(f"{b} {name}" for b, name in zip(better, said)))
    target = Path(f"{predictions}.scores.csv")
    tables.write(table, target)
    print(f"Every gene set and metric ({', '.join(screen.SETS)}): {target}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"run_all.sh screen: {error}")
