import math
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import checks
from lib.seeds import key, stream
from tests.agreement import one_line


def test_good_values_come_back():
    assert checks.integer("n", np.int64(3), 1, 3) == 3
    assert checks.number("x", 2, 0) == 2.0
    assert checks.interval("r", [1, 1.5]) == (1.0, 1.5)
    assert checks.numbers("v", np.array([0, 2]), low=0) == [0.0, 2.0]
    assert checks.choice("c", "b", ("a", "b")) == "b"
    assert checks.genes("g", "gene_0", ["gene_0", "gene_1"]) == ["gene_0"]


@pytest.mark.parametrize(
    ("check", "value", "limits", "allowed"),
    [
        (checks.integer, 0, (1,), "at least 1"),
        (checks.integer, 11, (1, 10), "from 1 to 10"),
        (checks.integer, 3.0, (), "whole number"),
        (checks.integer, True, (), "whole number"),
        (checks.integer, "3", (1,), "whole number"),
        (checks.number, 1.2, (0, 1), "from 0 to 1"),
        (checks.number, -1, (0,), "at least 0"),
        (checks.number, math.nan, (), "finite"),
        (checks.number, math.inf, (), "finite"),
        (checks.number, "0.5", (), "a number"),
        (checks.number, None, (), "a number"),
        (checks.interval, (10, 1), (), "smaller one first"),
        (checks.interval, (1, 2, 3), (), "two numbers"),
        (checks.interval, 5, (), "two numbers"),
        (checks.interval, "12", (), "two numbers"),
        (checks.interval, (0, 1), (1e-6,), "at least 1e-06"),
        (checks.interval, np.arange(100), (), "two numbers"),
        (checks.interval, np.array(5), (), "two numbers"),
        (checks.numbers, [], (), "at least one"),
        (checks.numbers, 5, (), "at least one"),
        (checks.numbers, np.array(5), (), "at least one"),
        (checks.numbers, [1, -1], (0,), "at least 0"),
        (checks.choice, "z", (("a", "b"),), "a, b"),
        (checks.genes, [], (["gene_0"],), "at least one gene"),
        (checks.genes, "gene_9", (["gene_0", "gene_1"],), "gene_0 ... gene_1"),
        (checks.genes, ["gene_0", "gene_0"], (["gene_0"],), "twice"),
    ],
)
def test_bad_value_is_named_in_one_line(check, value, limits, allowed):
    with pytest.raises(ValueError) as error:
        check("parameter", value, *limits)
    one_line(error, "parameter = ", allowed)


def test_writable_folder_is_made_and_left_empty(tmp_path):
    folder = checks.writable_folder("out", str(tmp_path / "a" / "b"))
    assert folder == tmp_path / "a" / "b"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_folder_at_or_under_a_regular_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ValueError) as error:
        checks.writable_folder("out", tmp_path / "file" / below)
    one_line(error, "out = ", str(tmp_path / "file"), "must be a folder")
    assert (tmp_path / "file").read_text() == "kept"


NOTEBOOK = """
import math
n_cells: int = 100
dose: float = 1.0
quick: bool = False
name: str = "a"
_hidden = 3
def helper(): pass
"""


def notebook(injected=""):
    namespace = {}
    exec(NOTEBOOK + injected, namespace)
    return namespace


def test_parameters_of_a_notebook_as_declared_pass():
    checks.parameters(notebook("n_cells = 5\ndose = 2"), n_cells=lambda *a: checks.integer(*a, low=1))


@pytest.mark.parametrize(
    ("injected", "parts"),
    [
        ("n_cell = 5", ("n_cell = 5", "no such parameter", "n_cells, dose, quick, name")),
        ("n_cells = 0", ("n_cells = 0", "at least 1")),
        ("n_cells = 1e4", ("n_cells = 10000.0", "whole number")),
        ("dose = '1e-3'", ("dose = '1e-3'", "a number")),
        ("quick = 'true'", ("quick = 'true'", "bool")),
        ("quick = 1", ("quick = 1", "bool")),
        ("name = 3", ("name = 3", "str")),
    ],
)
def test_bad_parameter_of_a_notebook_is_named_in_one_line(injected, parts):
    with pytest.raises(ValueError) as error:
        checks.parameters(notebook(injected), n_cells=lambda *a: checks.integer(*a, low=1))
    one_line(error, *parts)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 2**70) | st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_one_seed_and_purpose_is_one_stream(seed):
    assert (stream(seed, "cells").random(8) == stream(seed, "cells").random(8)).all()
    assert not (stream(seed, "cells").random(8) == stream(seed, "genes").random(8)).any()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_keeps_its_stream_from_one_process_to_the_next(hash_seed):
    # hash() of a string changes with every process; a stream must not
    code = "from lib.seeds import stream; print(stream(7, 'cells').integers(2**60))"
    there = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True)
    assert int(there.stdout) == stream(7, "cells").integers(2**60)


def test_no_two_seeds_share_a_stream():
    seeds = [0, 1, 5, 2**32, 2**32 + 5, (0, 0), (0, 1), (1, 0), (5, 1), (1, 0, 0), (1, 0, 0, 0, 0)]
    assert len({stream(seed, "cells").integers(2**60) for seed in seeds}) == len(seeds)


def test_neighbouring_seeds_and_purposes_are_uncorrelated():
    keys = [(s, p) for s in (0, 1, (0, 1), (1, 1)) for p in ("genes", "cells", "mechanism of a", "mechanism of b")]
    draws = np.array([stream(*key).random(4000) for key in keys])
    off_diagonal = np.corrcoef(draws)[np.triu_indices(len(keys), 1)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(4000)
    assert scipy.stats.kstest(draws.ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("seed", [-1, 0.5, "1", True, (), (1, -1), (1, 0.5)])
def test_bad_seed_is_named_in_one_line(seed):
    with pytest.raises(ValueError) as error:
        stream(seed, "cells")
    one_line(error, f"seed = {seed!r}", "whole number of at least 0")


@pytest.mark.parametrize("seed", [None, "a", 1.5, True, -1, (), (1, None), (1, (2, 3)), {1}, np.array(1), np.random.default_rng(1)], ids=repr)
def test_seed_that_is_none_is_refused_in_one_line(seed):
    for use in (lambda: stream(seed, "cells"), lambda: key(seed)):
        with pytest.raises(ValueError) as error:
            use()
        one_line(error, "seed = ", "a whole number of at least 0, or a tuple of them")


def test_seeds_are_keys_of_whole_numbers():
    assert key(3) == (3,) and key([1, 2]) == key(np.array([1, 2])) == key((1, 2)) == (1, 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.str_("gene_1"), "'gene_1'"),
        ([np.str_("a"), "b"], "['a', 'b']"),
        ((np.float64(1.5), 2), "(1.5, 2)"),
        (np.array(["a", "b"]), "['a', 'b']"),
        (np.int64(3), "3"),
        (None, "None"),
    ],
)
def test_values_are_shown_as_python_has_them(value, text):
    assert checks.shown(value) == text


def test_names_of_numpy_are_shown_as_text_by_every_check():
    name = np.str_("gene_1")
    for check, *rest in (
        (checks.integer,),
        (checks.number,),
        (checks.interval,),
        (checks.numbers,),
        (checks.listed,),
        (checks.choice, ("a", "b")),
        (checks.genes, ["gene_0"]),
    ):
        with pytest.raises(ValueError) as error:
            check("parameter", name, *rest)
        one_line(error, "parameter = 'gene_1': ")
    assert type(checks.genes("g", [name], ["gene_1"])[0]) is str
