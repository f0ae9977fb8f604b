import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import checks
from lib.seeds import key, stream
from tests.agreement import one_line


def test_good_values_come_back():
    singles = np.arange(3, dtype=np.float32)
    assert checks.numbers("doses", singles, low=0) == [0.0, 1.0, 2.0]  # and no warning
    assert checks.integer("n", np.int64(3), 1, 3) == 3
    assert checks.number("x", 2, 0) == 2.0
    assert checks.interval("r", [1, 1.5]) == (1.0, 1.5)
    assert checks.numbers("v", np.array([0, 2]), low=0) == [0.0, 2.0]
    assert checks.choice("c", "b", ("a", "b")) == "b"
    assert checks.listed("l", ("b", "a"), ("a", "b"), most=2) == ["b", "a"]
    assert checks.listed("l", [], least=0) == []
    assert checks.text("t", "é \N{ZERO WIDTH NON-JOINER}/\N{NO-BREAK SPACE}")
    assert checks.text("t", "") == ""
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
        (checks.numbers, [1, 2, 3], (0, 9, 2), "at most 2"),
        (checks.numbers, {"a": 1}, (), "at least one"),
        (checks.number, 10**400, (), "finite"),
        (checks.interval, [[1], [1, 2]], (), "must be a number"),
        (checks.integer, 0, (1, 10_000), "from 1 to 10,000"),
        (checks.listed, [], (), "at least one item"),
        (checks.listed, "ab", (("a", "b"), 0), "a list"),
        (checks.listed, ["a", "b"], (None, 0, 1), "at most 1"),
        (checks.listed, ["a", "a"], (("a", "b"),), "'a' twice"),
        (checks.listed, ["a", "z"], (("a", "b"),), "a, b"),
        (checks.text, None, (), "must be text"),
        (checks.text, "", (False,), "must not be empty"),
        (checks.text, "a\x00", (), "control characters"),
        (checks.text, "a\u2028b", (), "control characters"),
        (checks.text, "\ud800", (), "control characters"),
        (checks.text, "a" * 5000, (), "at most 4,096 characters"),
        (checks.files, "\t" * 5000, (["a"], "make it"), "must hold a, and has not; make it"),
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


@pytest.mark.parametrize(
    "value", [[0.5] * 10**6, np.arange(10**6), "x" * 10**6, {"a": "y" * 10**6}, 10**4000]
)
def test_a_long_value_is_shown_shortened(value):
    assert len(checks.shown(value)) < 400


def test_a_value_is_shown_as_it_would_be_written():
    assert checks.shown([1, np.str_("a")]) == "[1, 'a']" and checks.shown(np.float64(0.5)) == "0.5"


def test_a_value_of_several_lines_is_shown_in_one():
    assert "\n" not in checks.shown(pd.DataFrame({"a": [1, 2]}))


def test_writable_folder_is_made_and_left_empty(tmp_path):
    folder = checks.writable_folder("out", str(tmp_path / "a" / "b"))
    assert folder == tmp_path / "a" / "b"
    assert list(folder.iterdir()) == []


def test_a_folder_with_too_long_a_name_is_refused(tmp_path):
    with pytest.raises(ValueError) as error:
        checks.writable_folder("out", tmp_path / ("x" * 300))
    one_line(error, "out = ", "must be a folder")


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_folder_at_or_under_a_regular_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ValueError) as error:
        checks.writable_folder("out", tmp_path / "file" / below)
    one_line(error, "out = ", str(tmp_path / "file"), "must be a folder")
    assert (tmp_path / "file").read_text() == "kept"


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 2**70) | st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_one_seed_and_purpose_is_one_stream(seed):
    assert (stream(seed, "cells").random(8) == stream(seed, "cells").random(8)).all()
    assert not (stream(seed, "cells").random(8) == stream(seed, "genes").random(8)).any()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_keeps_its_stream_from_one_process_to_the_next(hash_seed):
    # hash() of a string changes with every process; a stream must not
    code = "from lib.seeds import stream; print(stream(7, 'cells').integers(2**60))"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert int(there.stdout) == stream(7, "cells").integers(2**60)


def test_no_two_seeds_share_a_stream():
    seeds = [0, 1, 5, 2**32, 2**32 + 5, (0, 0), (0, 1), (1, 0), (5, 1), (1, 0, 0), (1, 0, 0, 0, 0)]
    assert len({stream(seed, "cells").integers(2**60) for seed in seeds}) == len(seeds)


def test_neighbouring_seeds_and_purposes_are_uncorrelated():
    purposes = "genes", "cells", "mechanism of a", "mechanism of b"
    keys = list(itertools.product((0, 1, (0, 1), (1, 1)), purposes))
    draws = np.array([stream(*key).random(4000) for key in keys])
    off_diagonal = np.corrcoef(draws)[np.triu_indices(len(keys), 1)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(4000)
    assert scipy.stats.kstest(draws.ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("seed", [-1, 0.5, "1", True, (), (1, -1), (1, 0.5)])
def test_bad_seed_is_named_in_one_line(seed):
    with pytest.raises(ValueError) as error:
        stream(seed, "cells")
    one_line(error, f"seed = {seed!r}", "whole number of at least 0")


@pytest.mark.parametrize(
    "seed",
    [
        None,
        "a",
        1.5,
        True,
        -1,
        (),
        (1, None),
        (1, (2, 3)),
        {1},
        np.array(1),
        np.random.default_rng(1),
    ],
    ids=lambda seed: type(seed).__name__,
)
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
