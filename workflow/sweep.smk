# The runs of one sweep, as `workflow/sweep.py` has planned and checked them: a run's folder says what was varied.

import json
import sys

import pandas as pd
from snakemake.utils import Paramspace

with open(config["plan"]) as file:
    PLAN = json.load(file)
OUT = PLAN["folder"]
RUNS = PLAN["runs"]  # path -> parameters
PY = sys.executable


def varied(path):
    return dict(part.split("~", 1) for part in path.split("/"))


space = Paramspace(pd.DataFrame([varied(path) for path in RUNS], dtype=str), single_wildcard="run")


wildcard_constraints:
    run="[^.].*",


rule all:
    input:
        expand(f"{OUT}/runs/{{run}}/run.json", run=space.instance_patterns),


rule source:
    input: f"notebooks/{PLAN['notebook']}.py", "workflow/notebooks.py"
    output: f"{OUT}/source/{PLAN['notebook']}.ipynb"
    localrule: True
    shell: "{PY:q} workflow/notebooks.py build {input[0]:q} {output:q}"


rule run:
    input: rules.source.output, lambda wildcards: PLAN["files"][PLAN["digests"][wildcards.run]], "requirements.txt", "workflow/run.py"
    output: f"{OUT}/runs/{space.wildcard_pattern}/run.json", f"{OUT}/runs/{space.wildcard_pattern}/results.csv"
    log: f"{OUT}/runs/{space.wildcard_pattern}/notebook.ipynb"
    params:
        folder=lambda wildcards: f"{OUT}/runs/{wildcards.run}",
        values=lambda wildcards: json.dumps(RUNS[wildcards.run]),
        digest=lambda wildcards: PLAN["digests"][wildcards.run], # of when the sweep began, should a file change while it runs
    threads: 1
    resources: gpu=PLAN["gpu"]
    shell:
        '{PY:q} -S workflow/fork.py "${{SWEEP_SERVER-}}" {params.folder:q} {input[0]:q} {params.values:q} {params.digest} {threads} {resources.gpu}'
