# The runs of one sweep, as `workflow/sweep.py` has planned and checked them.

import json
import os
import sys

from workflow import plan

with open(config["plan"]) as file:
    PLAN = json.load(file)
OUT, RUNS = PLAN["folder"], PLAN["runs"]  # path of a run -> its parameters
DEFAULTS = plan.defaults(PLAN["notebook"])


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
        lambda wildcards: plan.files(PLAN["notebook"], DEFAULTS | RUNS[wildcards.run]),
        "requirements.txt",
    output: f"{OUT}/runs/{{run}}/notebook.ipynb"
    log: f"{OUT}/runs/{{run}}/log.txt"
    params:
        settings=lambda wildcards: settings(wildcards.run),
    resources:
        gpu=1 if os.environ.get("SWEEP_GPUS") else 0,  # a cluster gives its own
    shell:  # a run waits for a job of a sweep that was killed, and takes the first free GPU
        "export OMP_NUM_THREADS={threads} NUMBA_NUM_THREADS={threads} CORES={threads}\n"
        "lock=$(command -v flock || echo true); exec 9> {OUT}/runs/{wildcards.run}/.lock; $lock 9\n"
        "for gpu in ${{SWEEP_GPUS-}}; do\n"
        "  export CUDA_VISIBLE_DEVICES=$gpu; exec 8> {OUT}/.gpu-${{gpu//\\//-}}\n"
        "  ! $lock -n 8 || break\n"
        "done\n"
        "rm -rf {OUT}/runs/{wildcards.run}/figures {OUT}/runs/{wildcards.run}/data\n"
        "{sys.executable:q} workflow/run.py notebooks/{PLAN[notebook]}.py {output:q} {params.settings:q} > {log:q} 2>&1"
