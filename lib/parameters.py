"""What the notebooks may be given: a rule for each parameter, the same in a notebook and a sweep.

It changes no result, so that an edit here makes no run stale (`files` of `workflow/plan.py`), and
imports what takes seconds only where a rule asks for it.

A rule is called as `rule(name, value, others)`, others: all parameters of the notebook, and raises
ValueError in one line that names the parameter, the value and what is allowed. The same name has
the same rule in all notebooks (`RULES`), but where one of them has limits of its own (`OWN`).
Upper limits are generous: they are there for a slip of the finger, which else would fill memory or
compute for ever.
"""

from __future__ import annotations

import os
from inspect import signature
from types import ModuleType

from lib import checks

SHELL = {"In", "Out", "get_ipython", "exit", "quit", "open"}  # names that a kernel brings along


def check(notebook: str, namespace: dict) -> None:
    """Check a notebook's parameters before it computes anything.

    notebook: its name, such as "02_mechanistic_gene"
    namespace: the notebook's `globals()`. Its parameters cell declares each one with a type
        (`n_cells: int = 10_000`), so a name that papermill injected and that has no declared
        type is unknown: papermill itself only warns, and runs with the default.

    Folders to write to are made, once all else is right. Raises ValueError, one line for the first
    thing wrong.
    """
    declared = namespace.get("__annotations__", {})
    first_time = not namespace.get("_parameters_were_checked")
    for name, value in namespace.items() if first_time else ():  # later, all its names are there
        if name.startswith("_") or name in declared or name in SHELL:
            continue
        if callable(value) or isinstance(value, ModuleType):
            continue
        there = ", ".join(declared)
        raise ValueError(f"{name} = {checks.shown(value)}: no such parameter; there are {there}")
    values = {name: namespace[name] for name in declared}
    for name, value in values.items():
        of_name = rule(notebook, name) or TYPES.get(declared[name])
        if of_name:
            of_name(name, value, values)
    for name in written_folders(notebook, declared):
        checks.writable_folder(name, values[name])
    namespace["_parameters_were_checked"] = True


def rule(notebook: str, name: str):
    """The rule of a notebook's parameter, or None."""
    return OWN.get(notebook, {}).get(name) or RULES.get(name)


def written_folders(notebook: str, names) -> list[str]:
    """The notebook's parameters that say where it writes."""
    return [name for name in names if rule(notebook, name) is written]


def by(check, *limits):
    """The rule `check(name, value, *limits)`, whatever the other parameters are."""

    def rule(name, value, others):
        check(name, value, *limits)

    return rule


def written(name, value, others):
    """A folder that the notebook writes to; it is made after all other checks."""
    checks.text(name, value, empty=False)


def boolean(name, value, others):
    if not isinstance(value, bool):
        raise ValueError(f"{name} = {checks.shown(value)}: must be of type bool")


def share_of_zeros(name, value, others):
    """Dropout can't take zeros away: the laws' own share is the least.

    That of a gene with the lowest mu and the highest dispersion; whether one as bad is drawn in
    some replicate is chance, and would be seen hours later.
    """
    from lib.laws import ZINB
    from lib.simulate.cells import base_genes

    checks.number(name, value, 0, 0.99)

    def given(limits):
        usual = signature(base_genes).parameters[limits.removeprefix("type_")].default
        value = others.get(limits, usual)
        RULES[limits](limits, value, others)
        return value

    of_type = "type_" if name.startswith("type_") else ""
    mu = given("mu_range")[0]
    theta = 1 / given(f"{of_type}dispersion_range")[1]
    least = float(ZINB(mu, theta, 0.0).zero_prob)
    if value < least:
        why = f"a gene with mu {mu:g} and theta {theta:g} has as many zeros without dropout"
        raise ValueError(f"{name} = {value:g}: must be at least {least:.3g}; {why}")


def some_of_the_genes(name, value, others):
    checks.integer(name, value, 0, others["n_genes"])


def tables_of_sweeps(name, value, others):
    checks.text(name, value, empty=False)
    tables = [f"06_{sweep}" for sweep in ("cells", "steps", "vae", "genes")]
    checks.files(name, value, tables, "./run_all.sh sweep cells, steps, vae and genes write them")


def data_of_02(name, value, others):
    from lib.predict import registry

    checks.text(name, value, empty=False)
    parts = ("train", *registry.keys("saved"))
    stems = [f"02_{part}_{r}" for r in range(others["replicates"]) for part in parts]
    checks.files(name, value, stems, "run notebook 02 first, with as many replicates")


def counts(name, value, others):
    from lib.counts import read_counts

    if not checks.text(name, value):
        return
    if not os.path.exists(value):
        raise ValueError(f"{name} = {checks.shown(value)}: no such file")
    read_counts(value)


def device(name, value, others):
    from lib.neural.device import pick_device

    pick_device(checks.text(name, value))


def mechanism(name, value, others):
    from lib.simulate import mechanisms

    if checks.text(name, value):
        mechanisms.resolve(value, name)


def mechanisms(name, value, others):
    for item in checks.listed(name, value, most=100):
        mechanism(name, checks.text(name, item, empty=False), others)


def model(name, value, others):
    from lib.predict import guard

    if checks.text(name, value):
        guard.load(name, value)


def models(name, value, others):
    from lib.predict import registry

    leaky = registry.keys("leaky")
    known = [key for key in registry.keys(task="conditional") if key not in leaky]
    checks.listed(name, value, known, least=0)


def more_models(name, value, others):
    from lib.predict import registry

    checks.listed(name, value, registry.keys("peers", task="drug"), least=0)


def fewer_than_half(name, value, others):
    checks.integer(name, value, 1, others["n_genes"] // 2)


def arms_of_genes(name, value, others):
    checks.integer(name, value, 2, others["n_genes"])


def pairs_of_arms(name, value, others):
    n_arms = others["n_arms"]
    arms_of_genes("n_arms", n_arms, others)
    checks.integer(name, value, 0, n_arms * (n_arms - 1) // 2)


def of_design(name, value, others):
    from dataclasses import fields

    from lib.tasks.screen import Design

    Design(**{field.name: others[field.name] for field in fields(Design)})


def of_setting(name, value, others):
    from dataclasses import fields

    from lib.score.court.setting import PAIR, PANELS, Setting

    checks.listed(name, value, least=0)
    there = {field.name for field in fields(Setting)} & {*others}
    Setting(**{each: tuple(others[each]) for each in there if isinstance(others[each], list)})
    if name == "panels":
        asked = dict(zip(PANELS, ("n_unseen", "n_asked_pairs")))
        for panel in value:
            least = 9 if panel == PAIR else 3
            checks.integer(asked[panel], others[asked[panel]], least)


def real_cells(name, value, others):
    if checks.text(name, value):
        from lib.score.court import real_cells

        real_cells.read(value)


def models_of_screens(name, value, others):
    from lib.predict import registry

    checks.listed(name, value, registry.keys("screen"), least=0)


def column_of_real_counts(name, value, others):
    from lib.tasks import realism

    if checks.text(name, value):
        counts("real_counts", others["real_counts"], others)
        realism.real(others["real_counts"], value)


def perturbed_gene(name, value, others):
    import anndata

    train = f"{others['data_dir']}/02_train_0.h5ad"
    known = checks.text(name, value, empty=False) in ("largest", "smallest")
    if not known and os.path.exists(train):  # where it isn't, the rule of data_dir says so
        genes = anndata.read_h5ad(train).var["mechanistic"]
        checks.choice(name, value, ["largest", "smallest", *genes.index[~genes.astype(bool)]])


DESIGN = (  # fields of `tasks.screen.Design`, which checks them together
    "n_genes n_regulators n_arms n_pairs n_unseen n_asked_pairs n_strengths n_cells n_control "
    "n_cell_types n_few n_asked_types divergence strength depth shift control_bias fidelity "
    "regulation"
).split()
TYPES = {int: by(checks.integer), float: by(checks.number), str: by(checks.text), bool: boolean}

RULES = {
    "seed": by(checks.integer, 0, 10**18),  # a column of whole numbers in a sweep's table
    "replicates": by(checks.integer, 1, 1000),  # hours each
    # memory: cells x genes
    "n_cells": by(checks.integer, 100, 10_000_000),
    "n_test": by(checks.integer, 10, 1_000_000),
    "n_reference": by(checks.integer, 1, 100_000),  # cells, at each dose
    "n_genes": by(checks.integer, 2, 100_000),
    "n_type_genes": by(checks.integer, 2, 100_000),
    "n_parents": some_of_the_genes,
    "n_off_target": by(checks.integer, 0, 100_000),
    "n_cell_types": by(checks.integer, 2, 26),  # named by letters
    "n_regulators": fewer_than_half,
    "n_arms": arms_of_genes,
    "n_pairs": pairs_of_arms,
    "n_control": by(checks.integer, 2, 10_000_000),
    "n_doses": by(checks.integer, 2, 10_000),
    "n_pair_doses": by(checks.integer, 1, 100),  # squared
    # laws: beyond these, counts and their sums lose precision
    "zero_rate": share_of_zeros,
    "type_zero_rate": share_of_zeros,
    "mu_range": by(checks.interval, 1e-3, 1_000_000),
    "dispersion_range": by(checks.interval, 1e-6, 10_000),
    "type_dispersion_range": by(checks.interval, 1e-6, 10_000),
    "shift": by(checks.number, 0, 1_000_000),
    "fold": by(checks.number, 1e-3, 1_000_000),
    "dose": by(checks.number, 0, 1_000_000),
    # screens
    "strength": by(checks.number, 0, 1),  # shares
    "escapers": by(checks.number, 0, 1),
    "wrong_guides": by(checks.number, 0, 1),
    # training: memory and time of networks
    "betas": by(checks.numbers, 0, 1_000_000, 100),  # a network each
    "beta": by(checks.number, 0, 1_000_000),
    "n_members": by(checks.integer, 1, 1000),  # networks
    "n_latent": by(checks.integer, 1, 10_000),
    "max_epochs": by(checks.integer, 1, 100_000),
    "n_steps": by(checks.integer, 1, 100_000_000),
    # what is asked of what
    "counts": counts,
    "real_counts": counts,
    "cell_type_key": column_of_real_counts,
    "perturbed_gene": perturbed_gene,
    "mechanisms": mechanisms,
    "mechanism": mechanism,
    "model": model,
    "models": models,
    "more_models": more_models,
    "device": device,
    # folders
    "figures_dir": written,
    "data_dir": written,
    "known_dir": by(checks.text, False),  # need not be there
    "tables_dir": tables_of_sweeps,
}

OWN = {  # rules of a single notebook, in place of those above
    "03_perturb_and_predict": {"data_dir": data_of_02},
    "04_drug_response": {
        "n_cells": by(checks.integer, 20, 10_000_000),  # of each type
        "n_genes": by(checks.integer, 5, 100_000),  # a fifth of them are a drug's targets
        "max_epochs": by(checks.integer, 12, 100_000),  # the first 10 are warm-up
    },
    "07_network": {
        "n_cells": by(checks.integer, 2, 1_000_000),  # of each arm
        "n_genes": by(checks.integer, 10, 20_000),
        "shift": by(checks.number, 0, 10),  # sd of a program
    },
    "07_screen": {
        **dict.fromkeys(DESIGN, of_design),
        "n_truth": by(checks.integer, 100, 100_000),
        "models": models_of_screens,
    },
    "08_metrics": {
        **dict.fromkeys(DESIGN, of_design),
        **dict.fromkeys(("cells", "panels", "suites", "ceilings", "tests"), of_setting),
        "n_truth": by(checks.integer, 100, 100_000),
        "models": models_of_screens,
        "real_screen": real_cells,
        "infinite": boolean,
        "every_model": boolean,
        "with_zoo": boolean,
    },
    "05_leaderboard": {
        "n_doses": by(checks.integer, 3, 10_000),
        "n_genes": by(checks.integer, 4, 100_000),
    },
}
