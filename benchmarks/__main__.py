"""All benchmarks: python -m benchmarks [--share S] [--out FOLDER] [NAME ...], or ./run_all.sh bench.

Writes results.csv, growth.csv and, of both, Figure 9. NAME: of `benchmarks.cases`, or growth; by default all. With a NAME, the
rows of the others stay as they are. What a run of a sweep costs is measured apart: python benchmarks/sweeps.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from benchmarks import cases, figure, growth
from benchmarks.measure import ROOT, in_a_process, machine, read
from workflow.finish import put_between


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./run_all.sh bench", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(cases.CASES)}, growth"
    )
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="of the full sizes; a small one only tries the code",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks", help="folder of the tables"
    )
    given = parser.parse_args()
    known = [*cases.CASES, "growth"]
    wrong = [name for name in given.names if name not in known]
    if wrong:
        parser.error(f"{wrong[0]!r}: must be one of {', '.join(known)}")
    if not 0 < given.share <= 1:
        parser.error(f"--share {given.share:g}: must be above 0 and at most 1")
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.names or known:
        if name == "growth":
            pd.DataFrame(growth.points(given.share)).to_csv(
                given.out / "growth.csv", index=False, float_format="%.3g"
            )
            continue
        print(f"{name}: {cases.CASES[name].__doc__}", flush=True)
        rows = pd.DataFrame(in_a_process("benchmarks.cases", name, given.share)).assign(
            case=name, machine=machine()
        )
        for _, r in rows.iterrows():
            print(f"  {r['setting']} | {r['measure']}: {r['ours']:.4g}" + (f", {r['reference_is']} {r['reference']:.4g}" if pd.notna(r["reference"]) else "")
                  + (f", ratio {r['ratio']:.3g}" if pd.notna(r["ratio"]) else "") + (f" ({r['reach']}: {r['reached']})" if r["reach"] else ""), flush=True)  # fmt: skip
        path = given.out / "results.csv"
        if path.exists():
            before = read(given.out)
            rows = pd.DataFrame(
                [*before[before["case"] != name].to_dict("records"), *rows.to_dict("records")]
            )
        order = {case: i for i, case in enumerate(cases.CASES)}
        rows.sort_values("case", key=lambda c: c.map(order), kind="stable").to_csv(
            path, index=False, float_format="%.4g"
        )
    if given.out == ROOT / "benchmarks":
        write_readme(given.out)
    if (given.out / "results.csv").exists() and (given.out / "growth.csv").exists():
        figure.draw(given.out, ROOT / "figures" if given.out == ROOT / "benchmarks" else given.out)


def as_markdown(folder: Path) -> str:
    """The results in words and three digits."""
    rows = read(folder)
    digits = lambda value: (
        "" if pd.isna(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    )
    shown = rows.assign(**{c: rows[c].map(digits) for c in ("ours", "reference", "ratio")})
    shown["reference"] = [
        f"{value} ({what})" if value else ""
        for value, what in zip(shown["reference"], shown["reference_is"])
    ]
    table = shown[
        ["benchmark", "setting", "measure", "ours", "reference", "ratio", "reach", "reached"]
    ].to_markdown(index=False, disable_numparse=True)
    return f"Measured on {rows['machine'].iloc[0]}.\n\n{table}\n"


def write_readme(folder: Path) -> None:
    """Put the results into README.md beside them, between its two marks."""
    put_between(
        folder / "README.md",
        "<!-- results: written by ./run_all.sh bench -->\n",
        "<!-- end of results -->",
        as_markdown(folder),
    )


if __name__ == "__main__":
    main()
