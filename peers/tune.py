"""The options of a published model, compared on one pack that is not scored.

python peers/tune.py NAME PACK OUT.csv --budget SECONDS

Each row of GRIDS is trained with the same seed and the same seconds, and judged by the least error
in validation, on arms of that pack which it wasn't trained on. The default of a script is what was
chosen. Each model has two rows, the first of them its authors', so that none is searched harder.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

GRIDS = {
    "biolord": [{"learning_rate": r} for r in (1e-4, 3e-4)],
    "gears": [{"learning_rate": r} for r in (1e-3, 3e-3)],
    "scouter": [{"batch_size": n} for n in (256, 32)],
    "cpa": [{"learning_rate": r} for r in (3e-4, 1e-3)],
    "state": [{"learning_rate": r} for r in (1e-4, 1e-3)],
}
SAID = ["cpu_seconds", "peak_mb", "validations", "stopped", "converged"]
SAID += ["validation_mse_model", "validation_mse_control", "validation_mse_perturbed_mean"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=list(GRIDS))
    parser.add_argument("pack")
    parser.add_argument("out")
    parser.add_argument("--budget", type=float, default=600, help="CPU seconds of each training")
    asked = parser.parse_args()
    script = Path(__file__).parent / asked.name / "fit_predict.py"
    rows = []
    for options in GRIDS[asked.name]:
        flags = [f"--{k.replace('_', '-')}={value}" for k, value in options.items()]
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, script, asked.pack, f"{folder}/p.h5ad", *flags]
            subprocess.run([*command, f"--budget={asked.budget}"], check=True)
            said = json.loads(Path(f"{folder}/p.json").read_text())
        row = {"model": asked.name, "pack": said["pack"], **options}
        row["least_error"] = min(said["validation_curve"])
        rows.append(row | {name: said[name] for name in SAID})
        pd.DataFrame(rows).to_csv(asked.out, index=False, float_format="%.4g")
    print(pd.DataFrame(rows).sort_values("least_error").to_string(index=False))


if __name__ == "__main__":
    main()
