# The runs of one sweep, as `workflow/sweep.py` has planned and checked them.

import json
import os
import sys

from workflow import plan

with open(config["plan"]) as file:
    PLAN = json.load(file)
OUT, RUNS = PLAN["folder"], PLAN["runs"]  # path of a run -> its parameters
NUMBERS = {run: number for number, run in enumerate(RUNS)}
GPUS = os.environ.get("SWEEP_GPUS", "").split()  # of this machine, to take turns with; a cluster gives its own


def settings(run):
    """Parameters of a run, with the folders that are its own."""
    own = {name: f"{OUT}/runs/{run}/{name.removesuffix('_dir')}" for name in PLAN["own"]}
    return json.dumps(RUNS[run] | own)


wildcard_constraints:
    run=r"[^.].*",


rule all:
    input: expand(f"{OUT}/runs/{{run}}/notebook.ipynb", run=RUNS)


rule run:
    """A notebook with the parameters of a run; it is there when the run has succeeded."""
    input:
        lambda wildcards: plan.files(PLAN["notebook"], RUNS[wildcards.run]),
        "requirements.txt",
    output: f"{OUT}/runs/{{run}}/notebook.ipynb"
    log: f"{OUT}/runs/{{run}}/log.txt"
    params:
        settings=lambda wildcards: settings(wildcards.run),
    resources:
        gpu=1 if GPUS else 0,
        number=lambda wildcards: GPUS[NUMBERS[wildcards.run] % len(GPUS)] if GPUS else "",
    shell:
        "export OMP_NUM_THREADS={threads} NUMBA_NUM_THREADS={threads} CORES={threads}\n"
        "gpu={resources.number:q}; [ -z $gpu ] || export CUDA_VISIBLE_DEVICES=$gpu\n"
        "exec 9> {OUT}/runs/{wildcards.run}/.lock; flock 9  # a job of a sweep that was killed may still be at it\n"
        "rm -rf {OUT}/runs/{wildcards.run}/figures {OUT}/runs/{wildcards.run}/data\n"
        "{sys.executable:q} workflow/run.py notebooks/{PLAN[notebook]}.py {output:q} {params.settings:q} > {log:q} 2>&1"
