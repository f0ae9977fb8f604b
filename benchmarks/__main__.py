"""All benchmarks, or some of them, into tables and Figure 9.

    ./run_all.sh bench [--share S] [--out FOLDER] [NAME ...]

Writes results.csv, growth.csv and, of both, Figure 9. NAME: a benchmark of `benchmarks.cases`, or
growth; by default all. With a NAME, the rows of the others stay as they are. What a run of a sweep
costs is measured apart: `python benchmarks/sweeps.py`.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from benchmarks import cases, figure, growth
from benchmarks.measure import ROOT, in_a_process, machine, read
from lib.files import put_between
from workflow.run import commit

FOLDER = ROOT / "benchmarks"
KNOWN = [*cases.CASES, "growth"]


def main() -> None:
    given = arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    made_at = commit()  # before the tables change
    for name in given.names or KNOWN:
        if name == "growth":
            points = pd.DataFrame(growth.points(given.share))
            points.to_csv(given.out / "growth.csv", index=False, float_format="%.3g")
        else:
            measure_case(name, given.share, given.out, made_at)
    if given.out == FOLDER:
        write_readme(given.out)
    if (given.out / "results.csv").exists() and (given.out / "growth.csv").exists():
        figure.draw(given.out, ROOT / "figures" if given.out == FOLDER else given.out)


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    title = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(prog="./run_all.sh bench", description=title)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(KNOWN)}")
    of_share = "of the full sizes; a small one only tries the code"
    parser.add_argument("--share", type=float, default=1.0, help=of_share)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the tables")
    given = parser.parse_args()
    wrong = [name for name in given.names if name not in KNOWN]
    if wrong:
        parser.error(f"{wrong[0]!r}: must be one of {', '.join(KNOWN)}")
    if not 0 < given.share <= 1:
        parser.error(f"--share {given.share:g}: must be above 0 and at most 1")
    given.out = given.out.resolve()
    if given.out == FOLDER and given.share < 1:
        parser.error("--share: what is published has full sizes; --out names another folder")
    if given.out == FOLDER and find_spec("scvi") is None:
        parser.error("scVI isn't installed, and what is published is measured against it")
    return given


def measure_case(name: str, share: float, folder: Path, made_at: str | None) -> None:
    """Run one benchmark, print its rows, and put them in place of its old ones in results.csv."""
    print(f"{name}: {cases.CASES[name].__doc__.partition(chr(10))[0]}", flush=True)
    measured = in_a_process("benchmarks.cases", name, share)
    rows = pd.DataFrame(measured).assign(case=name, machine=machine(), commit=made_at)
    for _, result in rows.iterrows():
        print(f"  {in_words(result)}", flush=True)
    path = folder / "results.csv"
    if path.exists():
        before = read(folder)
        others = before[before["case"] != name]
        rows = pd.DataFrame([*others.to_dict("records"), *rows.to_dict("records")])
    order = {case: i for i, case in enumerate(cases.CASES)}
    rows = rows.sort_values("case", key=lambda case: case.map(order), kind="stable")
    rows.to_csv(path, index=False, float_format="%.4g")


def in_words(result: pd.Series) -> str:
    """A result in a line."""
    words = f"{result['setting']} | {result['measure']}: {result['ours']:.4g}"
    if pd.notna(result["reference"]):
        words += f", {result['reference_is']} {result['reference']:.4g}"
    if pd.notna(result["ratio"]):
        words += f", ratio {result['ratio']:.3g}"
    if result["reach"]:
        words += f" ({result['reach']}: {result['reached']})"
    return words


def as_markdown(folder: Path) -> str:
    """The results in words and three digits, and above them what wasn't reached."""
    rows = read(folder)
    shown = rows.assign(**{c: rows[c].map(_digits) for c in ("ours", "reference", "ratio")})
    references = zip(shown["reference"], shown["reference_is"])
    shown["reference"] = [f"{value} ({what})" if value else "" for value, what in references]
    columns = ["benchmark", "setting", "measure", "ours", "reference", "ratio", "reach", "reached"]
    table = shown[columns].to_markdown(index=False, disable_numparse=True)
    short = rows[rows["reached"] == "no"].itertuples()
    missed = [f"{r.benchmark}, {r.setting} (to reach: {r.reach})" for r in short]
    verdict = f"Not reached: {'; '.join(missed)}." if missed else "All bounds were reached."
    return f"Measured on {rows['machine'].iloc[0]}. {verdict}\n\n{table}\n"


def _digits(value: float) -> str:
    if pd.isna(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write_readme(folder: Path) -> None:
    """Put the results into README.md beside them, between its two marks."""
    start = "<!-- results: written by ./run_all.sh bench -->\n"
    put_between(folder / "README.md", start, "<!-- end of results -->", as_markdown(folder))


if __name__ == "__main__":
    main()
