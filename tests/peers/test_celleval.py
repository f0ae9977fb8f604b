import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sparse

from lib import dataset, perturb
from lib.predict import guard, references
from peers import celleval
from tests.agreement import one_line, pit_p_value

PARENTS = [f"gene_{i}" for i in range(6)]


@pytest.fixture(scope="module")
def train():
    base = dataset.base_genes(600, 6, 0.4, (4, 10), seed=1)
    for number in range(3):
        weights = {"weights": np.roll([3.0, -1.0], number)}
        parents = PARENTS[2 * number : 2 * number + 2]
        base = dataset.get_mech_dataset(
            base,
            "linear",
            gene=f"mech_{number}",
            parents=parents,
            parameters=weights,
            target_zero_prob=0.6,
            seed=1,
        )
    return base


def pair(train, predictor):
    """Three arms, each on a parent of one mechanistic gene. No cell is true and predicted."""
    arms = {}
    predictor.fit(train)
    genes = ["mech_0", "mech_1", "mech_2"]
    for number, gene in enumerate(["gene_0", "gene_3", "gene_4"]):
        true, other = (
            perturb.do(dataset.fresh_cells(train, 150, seed=(i, number)), {gene: 25}, seed=i)
            for i in (2, 3)
        )
        predicted = celleval.predicted_cells(other, predictor, genes, seed=(4, number))
        arms[gene] = (true, predicted)
    return dataset.fresh_cells(train, 150, seed=5), arms


@pytest.fixture(scope="module")
def perfect(train, tmp_path_factory):
    control, arms = pair(train, guard.Guarded(references.Oracle(), told=True))
    folder = tmp_path_factory.mktemp("perfect")
    return folder, control, arms, celleval.write_pair(folder, control, arms)


def test_the_pair_is_what_cell_eval_reads(perfect):
    folder, control, arms, paths = perfect
    assert [p.name for p in paths] == ["real.h5ad", "predicted.h5ad"]
    for side, path in enumerate(paths):
        cells = ad.read_h5ad(path)
        assert list(cells.var_names) == list(control.var_names)
        groups = {"non-targeting": control} | {name: arm[side] for name, arm in arms.items()}
        assert cells.n_obs == sum(g.n_obs for g in groups.values())
        for name, given in groups.items():
            part = cells[cells.obs["target_gene"] == name]
            counts = dataset.dense(given.X)
            np.testing.assert_array_equal(part.layers["counts"].toarray(), counts)
            np.testing.assert_allclose(part.X.toarray(), np.log1p(counts), rtol=1e-6)
        # by fractions, and values below 15, cell-eval knows log1p from counts, which it would
        # divide by their sums
        assert sparse.issparse(cells.X)
        assert (cells.X.data % 1 > 1e-3).any() and 0 < cells.X.max() < 15
        assert cells.obs_names.is_unique


def test_predicted_cells_have_the_predicted_law_and_all_else_as_it_was(train):
    cells = perturb.do(dataset.fresh_cells(train, 2000, seed=2), {"gene_0": 9}, seed=3)
    marginal = guard.Guarded(references.Marginal()).fit(train)
    drawn = celleval.predicted_cells(cells, marginal, ["mech_0"], seed=4)
    law = references.Marginal().fit(train).laws["mech_0"]
    before, after = (dataset.dense(c[:, "mech_0"].X)[:, 0] for c in (cells, drawn))
    assert pit_p_value(after, law.mu, law.theta, law.pi) > 1e-3
    assert pit_p_value(before, law.mu, law.theta, law.pi) < 1e-3  # so that the line above can fail
    others = [g for g in cells.var_names if g != "mech_0"]
    assert (drawn[:, others].X != cells[:, others].X).nnz == 0


@pytest.mark.parametrize(
    "case", ["no arms", "named as control", "other genes", "fractions", "no cells"]
)
def test_what_cell_eval_could_not_use_ends_in_one_line(train, tmp_path, case):
    cells = dataset.fresh_cells(train, 5, seed=2)
    broken = cells.copy()
    if case == "other genes":
        broken = cells[:, ::-1].copy()
    if case == "fractions":
        broken.X = broken.X * 0.5
    if case == "no cells":
        broken = cells[:0].copy()
    arms = {"no arms": {}, "named as control": {"non-targeting": (cells, cells)}}.get(
        case, {"gene_0": (cells, broken)}
    )
    with pytest.raises(ValueError) as error:
        celleval.write_pair(tmp_path, cells, arms)
    one_line(error, "arms")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_the_pair_is_named(tmp_path):
    with pytest.raises(ValueError) as error:
        celleval.run(tmp_path / "nothing")
    one_line(error, "nothing", "write_pair")


def test_without_cell_eval_run_says_how_to_get_it(perfect, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError) as error:
        celleval.run(perfect[0])
    one_line(error, "cell_eval", "./run_all.sh peers")


def test_cell_eval_prefers_a_perfect_prediction_to_the_marginal(train, perfect, tmp_path):
    pytest.importorskip("cell_eval", reason="cell_eval isn't installed: ./run_all.sh peers")
    celleval.write_pair(tmp_path, *pair(train, guard.Guarded(references.Marginal())))
    good, bad = (
        celleval.run(folder).set_index("metric")["value"] for folder in (perfect[0], tmp_path)
    )
    assert not set(celleval.SKIPPED) & set(good.index)
    for metric in ("mse", "mae", "mse_delta", "mae_delta"):
        assert good[metric] < bad[metric]
    for metric in (
        "overlap_at_N",
        "de_sig_genes_recall",
        "pr_auc",
        "pearson_delta",
        "de_spearman_lfc_sig",
        "pearson_edistance",
    ):
        assert good[metric] > bad[metric]
    assert good["de_sig_genes_recall"] > 0.9
    assert good["mse"] < 0.02


def test_a_metric_that_fails_is_nan(train, tmp_path):
    pytest.importorskip("cell_eval", reason="cell_eval isn't installed: ./run_all.sh peers")
    control, arms = pair(train, guard.Guarded(references.Oracle(), told=True))
    celleval.write_pair(tmp_path, control, {"gene_0": arms["gene_0"]})
    scores = celleval.run(tmp_path, skip=[]).set_index("metric")["value"]
    assert np.isnan(scores["clustering_agreement"])  # there is one arm, and so no clusters of arms
    assert scores["overlap_at_50"] == scores["overlap_at_N"]  # why SKIPPED skips it
