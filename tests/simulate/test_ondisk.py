import ast
import gc
import itertools
import os
import subprocess
import sys
import tracemalloc

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from lib import dataset, perturb
from lib.neural import minibatches
from lib.simulate import ondisk
from tests.agreement import one_line
from tests.simulate.networks import of_edges

both = pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])


@pytest.fixture(scope="module")
def genes():
    base = dataset.base_genes(200, 12, n_cell_types=2, seed=1)
    return dataset.get_mech_dataset(base, "hill", seed=1)


def arm(cells, seed):
    return perturb.do(cells, {"gene_03": 7}, seed=seed)


def made(genes, n_cells=130, seed=2, chunk=100, perturb=arm):
    return ondisk.simulated(genes, n_cells, seed=seed, chunk=chunk, perturb=perturb)


@pytest.fixture(scope="module")
def joined(genes):
    """The chunks as `concat` joins them."""
    return dataset.concat(list(made(genes)))


@pytest.fixture(scope="module", params=["cells.h5ad", "cells.zarr"])
def written(request, tmp_path_factory, genes):
    """The path to these chunks as `write` has written them."""
    path = tmp_path_factory.mktemp("written") / request.param
    assert ondisk.write(path, made(genes)) == 260
    return path


h5ad_alone = pytest.mark.parametrize("written", ["cells.h5ad"], indirect=True)


def whole(path):
    return ad.read_h5ad(path) if path.suffix == ".h5ad" else ad.read_zarr(path)


def assert_same(one, other):
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var)
    assert one.layers.keys() == other.layers.keys()
    for a, b in [(one.X, other.X), *((one.layers[k], other.layers[k]) for k in one.layers)]:
        assert type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape
        for part in ("data", "indices", "indptr"):
            assert getattr(a, part).dtype == getattr(b, part).dtype
            np.testing.assert_array_equal(getattr(a, part), getattr(b, part))
    assert_same_law(one, other)


def assert_same_law(one, other):
    for a, b in zip(vars(dataset.law(one)).values(), vars(dataset.law(other)).values()):
        np.testing.assert_array_equal(a, b)


def bytes_of(path):
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


def test_what_is_read_back_is_the_concat_of_the_chunks(written, joined):
    assert joined.n_obs == 260
    assert_same(whole(written), joined)


@both
def test_other_arms_and_columns_join_as_in_concat(tmp_path, genes, name):
    control = dataset.fresh_cells(genes, 30, seed=3)
    treated = perturb.additive(control, 4.0, cell_type_factors={"B": 0.5})
    chunks = [
        perturb.fold_change(control, 3.0, dose=0.5, seed=1),
        control.copy(),
        control[:0].copy(),
        perturb.do(treated, {"gene_01": 3}),
        control[control.obs["cell_type"] == "B"].copy(),
    ]
    for i, chunk in enumerate(chunks):
        samples = range(i * 90, i * 90 + chunk.n_obs)  # above 127, and s2 sorts before s10
        chunk.obs["sample"] = pd.Categorical([f"s{j}" for j in samples])
        chunk.obs["count"] = np.arange(chunk.n_obs)
        chunk.obs["seen"] = np.arange(chunk.n_obs) % 2 == 0
        chunk.obs["batch"] = pd.Categorical(["b", None] * (chunk.n_obs // 2))
    assert ondisk.write(tmp_path / name, iter(chunks)) == 210
    assert_same(whole(tmp_path / name), dataset.concat(chunks))


@h5ad_alone
def test_truth_of_rows_read_back_from_a_backed_file_is_that_before_writing(written, joined):
    backed = ad.read_h5ad(written, backed="r")
    for rows in ([7], slice(95, 105), np.array([0, 99, 100, 259])):
        assert_same_law(backed[rows].to_memory(), joined[rows])
    assert np.isnan(dataset.law(backed[[7]].to_memory(), "gene_03").mu).all()
    backed.file.close()


def test_read_gives_any_stretch_of_cells_with_its_truth(written, joined):
    for start, stop in ((0, 260), (95, 105), (259, 260), (4, 4)):
        expected = joined[start:stop].copy()
        expected.obs = joined.obs[start:stop].copy()  # anndata drops categories not in use
        assert_same(ondisk.read(written, start, stop), expected)
    assert ondisk.read(written).n_obs == 260


@both
def test_arrays_of_cells_are_kept_with_them(tmp_path, genes, name):
    chunks = [dataset.fresh_cells(genes, n, seed=n) for n in (30, 1, 20)]
    for seed, chunk in enumerate(chunks):
        rng = np.random.default_rng(seed)
        chunk.obsm["pca"] = rng.normal(size=(chunk.n_obs, 3))
        chunk.obsm["a b"] = rng.integers(0, 9, (chunk.n_obs, 1)).astype(np.int32)
        chunk.obsm["cube"] = rng.random((chunk.n_obs, 2, 2))
    ondisk.write(tmp_path / name, chunks)
    expected = dataset.concat(chunks)
    for cells, rows in (
        (whole(tmp_path / name), slice(None)),
        (ondisk.read(tmp_path / name), slice(None)),
        (ondisk.read(tmp_path / name, 55, 70), slice(55, 70)),
    ):
        assert set(cells.obsm) == {"pca", "a b", "cube"}
        for key, values in cells.obsm.items():
            assert values.dtype == expected.obsm[key].dtype
            np.testing.assert_array_equal(values, expected.obsm[key][rows])


@pytest.mark.parametrize("values", ["frame", "sparse"])
def test_other_things_in_obsm_are_refused_in_one_line(tmp_path, genes, values):
    cells = dataset.fresh_cells(genes, 5, seed=1)
    frame = pd.DataFrame(np.ones((10, 2)), cells.obs_names, ["a", "b"])
    cells.obsm["more"] = frame if values == "frame" else scipy.sparse.csr_matrix(frame)
    with pytest.raises(ValueError) as error:
        ondisk.write(tmp_path / "cells.h5ad", [cells])
    one_line(error, "chunk 0", "obsm['more']", "obsm of arrays")


def test_chunks_of_two_networks_or_screens_are_refused_in_one_line(tmp_path):
    def cells(effect=1.0, median=0.2, seed=1):
        network = of_edges([("a", "b", effect)], {"a": 4.0, "b": 5.0})
        measured = dataset.measurement.draw(network.genes, median=median)
        return perturb.screen(network, 2, n_cells=3, n_control=5, measurement=measured, seed=seed)

    ondisk.write(tmp_path / "cells.h5ad", [cells(), cells()])
    assert_same_law(ondisk.read(tmp_path / "cells.h5ad", 11), cells())
    for other, name in (
        (cells(effect=2.0), "grn"),
        (cells(median=0.3), "measurement"),
        (cells(seed=2), "screen"),
    ):
        with pytest.raises(ValueError) as error:
            ondisk.write(tmp_path / "cells.h5ad", [cells(), other])
        one_line(error, f"chunk 1 of chunks: uns['{name}'] differs")


@both
def test_interventions_on_cells_read_back_are_those_on_the_cells_written(tmp_path, genes, name):
    control = dataset.fresh_cells(genes, 20, seed=3)
    ondisk.write(tmp_path / name, [control])
    assert_same(perturb.additive(ondisk.read(tmp_path / name), 4.0), perturb.additive(control, 4.0))


def test_same_seed_same_bytes_and_different_seed_different(tmp_path, genes, written):
    again = tmp_path / "again" / written.name
    other = tmp_path / "other" / written.name
    ondisk.write(again, made(genes))
    ondisk.write(other, made(genes, seed=3))
    assert bytes_of(written) == bytes_of(again) != bytes_of(other)


def test_chunks_are_fresh_cells_of_streams_of_their_own(genes):
    chunks = list(made(genes, perturb=None))
    assert [c.n_obs for c in chunks] == [100, 100, 60]
    for i, chunk in enumerate(chunks):
        alone = dataset.fresh_cells(genes, len(chunk) // 2, seed=(2, i))
        assert (chunk.X != alone.X).nnz == 0
    counts = [c.X.toarray()[:60, :12].ravel() for c in chunks]
    correlations = np.corrcoef(counts)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(60 * 12) + 0.1  # genes' means differ
    assert list(pd.concat([c.obs for c in chunks]).index) == [f"cell_{i}" for i in range(260)]


def test_perturb_is_given_each_chunk_and_its_seed(genes):
    given = []

    def first_cell(cells, seed):
        given.append(seed)
        return cells[:1]

    for chunk in made(genes, seed=(5, 6), perturb=first_cell):
        assert chunk.n_obs == 1
    assert given == [(5, 6, 0), (5, 6, 1), (5, 6, 2)]


def peak_memory(action):
    gc.collect()
    tracemalloc.start()
    action()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def copies(chunk, n_chunks):
    for _ in range(n_chunks):
        gc.collect()  # pandas leaves cycles, which Python clears when it likes
        yield chunk.copy()


def test_memory_grows_neither_with_the_chunks_written_nor_with_the_cells_read(tmp_path, genes):
    chunk = dataset.fresh_cells(genes, 2000, seed=1)
    path = tmp_path / "cells.h5ad"

    def read():
        cells = minibatches.OnDisk(path, block=256, blocks=4)
        given = cells.minibatches(512, np.random.default_rng(1))
        assert sum(len(counts) for counts in given) == len(cells)
        assert ondisk.read(path, 3000, 4000).n_obs == 1000

    writing, reading = [], []
    for n_chunks in (2, 2, 20):  # the first to fill caches
        writing.append(peak_memory(lambda n=n_chunks: ondisk.write(path, copies(chunk, n))))
        reading.append(peak_memory(read))
    assert writing[2] < 1.5 * writing[1]
    assert reading[2] < 3 * reading[1]  # two buffers at once, or one, as threads have it


@both
def test_row_pointers_become_64_bit_where_nonzeros_outgrow_32(
    tmp_path, genes, joined, monkeypatch, name
):
    monkeypatch.setattr(ondisk, "_INT32", 500)
    ondisk.write(tmp_path / name, made(genes))
    back = whole(tmp_path / name)
    assert joined.X.nnz > 500
    assert back.X.indptr.dtype == np.int64
    assert back.layers["do"].indptr.dtype == np.int32
    assert (back.X != joined.X).nnz == 0
    assert_same(ondisk.read(tmp_path / name), joined)


@both
def test_a_failure_in_the_middle_leaves_the_file_that_was_there(tmp_path, genes, name):
    def broken(error):
        yield from itertools.islice(made(genes), 2)
        raise error

    for there in (False, True):
        if there:
            ondisk.write(tmp_path / name, made(genes, n_cells=3))
        for error in (OSError("of another"), KeyboardInterrupt()):
            with pytest.raises(type(error)) as raised:
                ondisk.write(tmp_path / name, broken(error))
            assert raised.value is error  # not taken for a full disk
            assert os.listdir(tmp_path) == [name] * there
    assert whole(tmp_path / name).n_obs == 6
    ondisk.write(tmp_path / name, made(genes))
    assert whole(tmp_path / name).n_obs == 260 and os.listdir(tmp_path) == [name]


@both
def test_a_scratch_of_a_killed_run_is_no_hindrance(tmp_path, genes, name):
    (tmp_path / f"{name}.part").write_text("half")
    ondisk.write(tmp_path / name, made(genes, n_cells=3))
    assert os.listdir(tmp_path) == [name]
    assert whole(tmp_path / name).n_obs == 6


FULL = """
import resource, sys, traceback
from lib import dataset
from lib.simulate import ondisk
cells = dataset.base_genes(2000, 1000, seed=1)
for name, room in (("cells.h5ad", 25_000_000), ("cells.zarr", 50_000)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        ondisk.write(f"{sys.argv[1]}/{name}", (cells for _ in range(20)))
    except OSError:
        print(repr(traceback.format_exc()))
"""


def test_a_full_disk_ends_in_one_line_and_leaves_nothing(tmp_path):
    # a limit on the size of a file stands for a full disk: the system refuses to write beyond it
    command = [sys.executable, "-c", FULL, tmp_path]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stderr == ""
    told = [ast.literal_eval(line) for line in ran.stdout.splitlines()]
    assert len(told) == 2
    for text, name in zip(told, ("cells.h5ad", "cells.zarr")):
        assert text.startswith("Traceback") and text.count("Error: ") == 1
        last = text.splitlines()[-1]
        assert last.startswith("OSError: path = ") and f"{name}'" in last
        assert "File too large" in last
    assert os.listdir(tmp_path) == []


@h5ad_alone
def test_room_that_was_reserved_is_given_back(written):
    size = written.stat().st_size
    assert size < 1_000_000
    with h5py.File(written) as f:
        assert f.id.get_filesize() == size


STAGES = pd.Categorical(["low", "high"] * 20, ["low", "high"], ordered=True)


@pytest.mark.parametrize(
    "change, parts",
    [
        (lambda a: "text", ["chunk 1", "str", "AnnData"]),
        (lambda a: a[:, :5].copy(), ["chunk 1", "var"]),
        (lambda a: a.var.__setitem__("mechanistic", True), ["chunk 1", "var"]),
        (lambda a: a.varm.__setitem__("mu", a.varm["mu"] + 1), ["chunk 1", "same laws"]),
        (lambda a: a.uns.update(cell_types=["A", "C"]), ["chunk 1", "same laws"]),
        (lambda a: a.layers.pop("do"), ["chunk 1", "layers", "nothing", "do int8"]),
        (lambda a: a.obs.__setitem__("dose", 1), ["chunk 1", "obs", "dose int64", "dose float64"]),
        (lambda a: a.obs.__setitem__("more", 1.0), ["chunk 1", "obs", "more float64"]),
        (lambda a: a.obs.__setitem__("when", pd.Timestamp(0)), ["chunk 1", "when", "datetime"]),
        (lambda a: a.obs.__setitem__("stage", STAGES), ["chunk 1", "stage", "ordered"]),
        (lambda a: a.obs.__setitem__("mixed", [1, "a"] * 20), ["chunk 1", "mixed", "object"]),
        (lambda a: setattr(a, "X", a.X.astype(float)), ["chunk 1", "X float64", "X float32"]),
        (lambda a: a.obsm.__setitem__("pca", np.ones((40, 2))), ["chunk 1", "own float64", "pca"]),
        (lambda a: a.obsm.__setitem__("own", np.ones((40, 3))), ["chunk 1", "own float64 (3,)"]),
        (lambda a: a.obsm.__setitem__("own", np.ones((40, 2), int)), ["chunk 1", "own int64 (2,)"]),
        (lambda a: a.obsm.pop("own"), ["chunk 1", "obsm is nothing", "own float64 (2,)"]),
        (lambda a: a.uns["mechanisms"]["000"].update(gene="other"), ["mechanisms", "differ"]),
    ],
)
def test_chunks_that_do_not_fit_are_refused_in_one_line(tmp_path, genes, change, parts):
    cells = dataset.fresh_cells(genes, 20, seed=1)
    cells.obsm["own"] = np.ones((40, 2))
    wrong = cells.copy()
    wrong.uns["mechanisms"] = {"000": dict(cells.uns["mechanisms"]["000"])}
    result = change(wrong)
    wrong = result if isinstance(result, (ad.AnnData, str)) else wrong
    with pytest.raises(ValueError) as error:
        ondisk.write(tmp_path / "cells.h5ad", [cells, wrong])
    one_line(error, *parts)
    assert os.listdir(tmp_path) == []


def test_bad_input_ends_in_one_line(tmp_path, genes):
    (tmp_path / "file").write_text("")
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "diary.txt").write_text("dear")
    (tmp_path / "not.h5ad").write_text("text")
    cells = dataset.fresh_cells(genes, 20, seed=1)
    new = tmp_path / "cells.h5ad"
    ondisk.write(tmp_path / "small.h5ad", [cells])
    for call, *parts in (
        (lambda: ondisk.write(tmp_path / "cells.txt", [cells]), "path = ", ".h5ad or .zarr"),
        (lambda: ondisk.write(tmp_path / "file" / "cells.h5ad", [cells]), "path = ", "folder"),
        (lambda: ondisk.write(tmp_path / "mine.zarr", [cells]), "path = ", "no .zarr"),
        (lambda: ondisk.write(new, cells), "chunks = AnnData", "list or generator"),
        (lambda: ondisk.write(new, []), "chunks", "at least one"),
        (lambda: ondisk.simulated(genes, 0, seed=1), "n_cells = 0", "at least 1"),
        (lambda: ondisk.simulated(genes, 10, seed=1, chunk=0.5), "chunk = 0.5", "whole number"),
        (lambda: ondisk.simulated(genes, 10, seed=-1), "seed = -1"),
        (lambda: ondisk.simulated(genes, 10, seed=1, perturb="do"), "perturb = 'do'", "function"),
        (lambda: ondisk.read(tmp_path / "none.h5ad"), "path = ", "no such file"),
        (lambda: ondisk.read(tmp_path / "not.h5ad"), "path = ", "must be"),
        (lambda: ondisk.read(tmp_path / "mine.zarr"), "path = ", "must be"),
        (lambda: ondisk.read(tmp_path / "small.h5ad", 0, 41), "stop = 41", "from 0 to 40"),
    ):
        with pytest.raises(ValueError) as error:
            call()
        one_line(error, *parts)
    assert (tmp_path / "mine.zarr" / "diary.txt").read_text() == "dear"
