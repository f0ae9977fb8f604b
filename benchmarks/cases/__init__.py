"""The benchmarks, by name. Each prints its rows (`measure.row`) at a share of the full sizes.

A benchmark runs in a process of its own: `python -m benchmarks.cases NAME SHARE`. What is published
has a share of 1; a small one tries the code.
"""

from benchmarks.cases.against_scvi import training, tuned
from benchmarks.cases.data import imports, intervene, notebooks, simulate, write
from benchmarks.cases.laws import fitting, log_likelihood, scores
from benchmarks.cases.networks import from_disk, replicates
from benchmarks.cases.screens import arm_truth, screen, write_network

CASES = {
    case.__name__: case
    for case in (
        training,
        tuned,
        log_likelihood,
        fitting,
        simulate,
        intervene,
        write,
        screen,
        arm_truth,
        write_network,
        from_disk,
        replicates,
        scores,
        imports,
        notebooks,
    )
}
