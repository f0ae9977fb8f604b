"""Packs and predictions in files; a model in a process of its own that imports nothing of lib."""

import json
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from lib.predict.arms import references as arm_references
from lib.score import arms, pack, screen
from lib.score.court import usual
from lib.tasks import pack as packs
from tests.screens import DESIGN, N_TRUTH, scores, task

MODEL = """
import sys
import anndata as ad, pandas as pd, numpy as np
folder, out = sys.argv[1:]
train = ad.read_h5ad(f"{folder}/train.h5ad")
queries = pd.read_csv(f"{folder}/queries.csv")
graph = pd.read_csv(f"{folder}/prior_graph.csv")
assert pd.read_csv(f"{folder}/prior_embedding.csv", index_col="gene").shape[0] == train.n_vars
assert set(graph["gene_1"]) <= set(train.var_names)
is_control = (train.obs["perturbation"] == "control").to_numpy()
mean = np.asarray(train.X[is_control].mean(axis=0)).ravel()
table = pd.DataFrame([mean] * len(queries), columns=train.var_names)
table.insert(0, "query", queries["query"])
table.insert(0, "scale", "counts")
table.insert(0, "pack", train.uns["pack"])
table.to_csv(out, index=False)
assert not any(name == "lib" or name.startswith("lib.") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs") / "one"
    packs.export(folder, DESIGN, 7, n_truth=N_TRUTH)
    return folder


@pytest.fixture(scope="module")
def by_files(folder):
    """The predictions of a model that knows the pack alone."""
    (folder.parent / "model.py").write_text(MODEL)
    out = folder.parent / "predictions.csv"
    command = [sys.executable, "model.py", str(folder), str(out)]
    subprocess.run(command, check=True, cwd=folder.parent)
    return out


@pytest.fixture(scope="module")
def digest(folder):
    return json.loads((folder / "pack.json").read_text())["pack"]


def test_a_pack_holds_what_it_says_and_nothing_hidden(folder, digest):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "train.h5ad", "queries.csv", "prior_graph.csv", "prior_embedding.csv", "pack.json",
        "README.md",
    }  # fmt: skip
    train = ad.read_h5ad(folder / "train.h5ad")
    assert set(train.uns) == {"pack"} and not train.obsm and not train.varm
    assert (train.X != task().train().X).nnz == 0 and train.uns["pack"] == digest
    queries = pd.read_csv(folder / "queries.csv")
    assert list(queries["query"]) == [question.name for question in task().asked]
    assert digest in (folder / "README.md").read_text()
    inside = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"n_truth" not in inside and packs.key_of(folder).is_file()


def test_a_model_apart_is_scored_as_the_same_model_here(folder, by_files):
    table, missing = pack.score(folder, by_files)
    assert not missing
    kl = table[(table["gene"] == "all") & (table["metric"] == "kl_nats")]
    kl = kl.pivot_table(index=["split", "mechanism"], columns="model", values="value")
    assert np.allclose(kl["predictions"], kl["no_change"], rtol=1e-4)
    again, _ = pack.score(folder, by_files)  # with the truth that was kept
    pd.testing.assert_frame_equal(table, again)
    assert "predictions" in pack.readable(table).columns.get_level_values(0)


def test_a_kept_truth_of_other_code_is_made_again(folder, by_files):
    first, _ = pack.score(folder, by_files)
    path = packs.key_of(folder).with_suffix(".npz")
    with np.load(path) as stored:
        arrays = dict(stored)
    spoilt = {name: 0 * array if name.endswith(" pmf") else array for name, array in arrays.items()}
    np.savez(path, **spoilt | {"made_of": np.array("0")})
    second, _ = pack.score(folder, by_files)
    pd.testing.assert_frame_equal(first, second)
    with np.load(path) as stored:
        assert str(stored["made_of"]) == str(arrays["made_of"])


def cells_of(digest, seed=3):
    """Duplicates of 30 cells, as a file of cells has them."""
    duplicate = arm_references.Duplicate(task(), 30, seed=seed)
    parts, names = [], []
    for question in task().asked:
        parts.append(duplicate.predict(question.query).values)
        names += [question.name] * 30
    cells = ad.AnnData(np.vstack(parts).astype(np.float32))
    cells.var_names = task().screen.var_names
    cells.obs["query"] = names
    cells.uns["pack"], cells.uns["scale"] = digest, "counts"
    return cells


def test_cells_in_another_order_of_genes_and_rows_score_alike(folder, digest):
    cells, path = cells_of(digest), folder.parent / "cells.h5ad"
    cells.write_h5ad(path)
    first, _ = pack.score(folder, path)
    rng = np.random.default_rng(0)
    cells[rng.permutation(cells.n_obs), rng.permutation(cells.n_vars)].copy().write_h5ad(path)
    second, _ = pack.score(folder, path)
    np.testing.assert_allclose(first["value"], second["value"], rtol=1e-6)


def test_missing_queries_are_named_and_their_splits_have_no_score(folder, by_files):
    table = pd.read_csv(by_files)
    asked = {question.name: question for question in task().asked}
    left_out = table["query"].iloc[0]
    path = folder.parent / "fewer.csv"
    table.iloc[1:].to_csv(path, index=False)
    scored, missing = pack.score(folder, path)
    assert missing == [left_out]
    mine = scored[scored["model"] == "predictions"]
    gone = (asked[left_out].split, asked[left_out].kind)
    assert gone not in set(zip(mine["split"], mine["mechanism"])) and len(mine)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.assign(pack="0123"), "predictions for the pack 0123"),
        (lambda t: t.drop(columns="pack"), "no column 'pack'"),
        (lambda t: t.drop(columns="scale"), "its scale isn't said"),
        (lambda t: t.assign(scale="log"), 'must be "counts", or a target sum'),
        (lambda t: t.drop(columns=t.columns[-1]), "its genes aren't those of the pack"),
        (lambda t: t.rename(columns={t.columns[-1]: "other"}), "its genes aren't those"),
        (lambda t: t.assign(query="x" + t["query"]), "'xq.*isn't one of queries.csv"),
        (lambda t: pd.concat([t, t]), "is there twice"),
        (lambda t: t.assign(**{t.columns[-1]: -1.0}), "below 0"),
        (lambda t: t.assign(**{t.columns[-1]: np.nan}), "not finite"),
        (lambda t: t.assign(**{t.columns[-1]: "a"}), "must be numbers"),
        (lambda t: t.iloc[:0], "has no rows"),
    ],
)
def test_predictions_that_are_none_are_refused_in_one_line(folder, by_files, change, why):
    path = folder.parent / "wrong.csv"
    change(pd.read_csv(by_files)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=why) as caught:
        pack.score(folder, path)
    assert "\n" not in str(caught.value)


def test_packs_are_not_written_over_and_need_their_key(folder, tmp_path, by_files):
    with pytest.raises(ValueError, match="is there already"):
        packs.export(folder, DESIGN, 7)
    taken = tmp_path / "taken"
    packs.key_of(taken).write_text("{}")
    with pytest.raises(ValueError, match="the key of another pack"):
        packs.export(taken, DESIGN, 7)
    with pytest.raises(ValueError, match="is no key of a pack"):
        pack.score(taken, by_files)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="not found; the key"):
        pack.score(tmp_path / "none", by_files)
    key = packs.key_of(folder)
    other = tmp_path / "other"
    other.mkdir()
    packs.key_of(other).write_text(key.read_text().replace('"version": 1', '"version": 99'))
    with pytest.raises(ValueError, match="of version 99"):
        pack.score(other, by_files)
    packs.key_of(other).write_text(key.read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.raises(ValueError, match="makes other cells"):
        pack.score(other, by_files)
    with pytest.raises(ValueError, match="must be an .h5ad or a .csv"):
        pack.score(folder, folder / "README.md")


def test_a_file_that_is_none_is_refused_by_its_name(folder):
    for name, content in (("a.h5ad", b"no such"), ("b.csv", b"\xff\xfe\x00"), ("c.csv", b"")):
        path = folder.parent / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name) as caught:
            pack.score(folder, path)
        assert "\n" not in str(caught.value)


def test_the_truth_that_was_kept_is_computed_again_where_it_was_another(folder, by_files):
    pack.score(folder, by_files)
    stored = packs.key_of(folder).with_suffix(".npz")
    key = packs.key_of(folder)
    before, text = stored.read_bytes(), key.read_text()
    key.write_text(text.replace(f'"n_truth": {N_TRUTH}', f'"n_truth": {N_TRUTH + 100}'))
    pack.score(folder, by_files)
    assert stored.read_bytes() != before
    key.write_text(text)


def test_a_kept_truth_that_is_damaged_is_computed_again(folder, by_files):
    first, _ = pack.score(folder, by_files)
    stored = packs.truth_of(folder)
    whole = stored.read_bytes()
    for content in (b"junk", b"", whole[: len(whole) // 2]):
        stored.write_bytes(content)
        again, _ = pack.score(folder, by_files)
        pd.testing.assert_frame_equal(first, again)


def test_models_of_ours_are_fitted_to_the_pack_and_stand_beside(folder, by_files):
    table, _ = pack.score(folder, by_files, ["additive_shrunken", "no_change"])
    chosen = arms.chosen(["additive_shrunken"], task()).items()
    entered = {k: arms.enter(k, model, task(), scores(), check=False).scores for k, model in chosen}
    here = screen.summarised(entered)
    columns = ["model", "split", "mechanism", "gene", "metric"]
    both = table.merge(here, on=columns).query("model == 'additive_shrunken'")
    assert len(both) > 20
    np.testing.assert_allclose(both["value_x"], both["value_y"], rtol=1e-6)
    with pytest.raises(ValueError, match="model = 'gnr'"):
        pack.score(folder, by_files, ["gnr"])


def test_what_usual_metrics_say_stands_beside_references(folder, by_files):
    table = pack.usual(folder, by_files)
    assert list(table.columns) == list(usual.TEN.values()) and len(usual.TEN) == 10
    models = ["oracle", "no_change", "perturbed_mean", "predictions"]
    assert table.index.tolist() == [(p, m) for p in ("unseen gene", "pairs") for m in models]
    for panel in ("unseen gene", "pairs"):  # these predictions are no change
        of_panel = table.loc[panel].astype(float)
        of_files, of_model = (of_panel.loc[key] for key in ("predictions", "no_change"))
        assert np.allclose(of_files, of_model, rtol=0.02, atol=1e-3, equal_nan=True)
        assert of_panel.loc["oracle", "NIR"] > of_panel.loc["no_change", "NIR"]
        assert of_panel["PDS cosine"].between(0, 1).all()


def test_usual_metrics_say_nothing_of_too_few_answers(folder, by_files, tmp_path):
    table = pd.read_csv(by_files, dtype={"pack": str, "scale": str})
    table.head(2).to_csv(tmp_path / "few.csv", index=False)
    assert not len(pack.usual(folder, tmp_path / "few.csv"))
