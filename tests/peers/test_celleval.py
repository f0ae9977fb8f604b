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


def arms_of(train, predictor):
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
def perfect(train):
    return arms_of(train, guard.Guarded(references.Oracle(), told=True))


def test_a_pair_has_the_controls_and_one_side_of_each_arm(perfect):
    control, arms = perfect
    for side, cells in enumerate(celleval.pair(control, arms)):
        assert list(cells.var_names) == list(control.var_names)
        groups = {"non-targeting": control} | {name: arm[side] for name, arm in arms.items()}
        assert cells.n_obs == sum(g.n_obs for g in groups.values())
        for name, given in groups.items():
            part = cells[cells.obs["target_gene"] == name]
            logs = np.log1p(dataset.dense(given.X))
            np.testing.assert_allclose(part.X.toarray(), logs, rtol=1e-6)
        assert sparse.issparse(cells.X) and cells.obs_names.is_unique


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
def test_what_cell_eval_could_not_use_ends_in_one_line(train, case):
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
        celleval.pair(cells, arms)
    one_line(error, "arms")


def test_cell_eval2_prefers_a_perfect_prediction_to_the_marginal(train, perfect):
    blind = arms_of(train, guard.Guarded(references.Marginal()))
    good, bad = (
        celleval.run(*celleval.pair(*both)).set_index("metric")["value"]
        for both in (perfect, blind)
    )
    assert not set(celleval.SKIPPED) & set(good.index) and len(good) > 40
    for metric in ("expr_mse", "expr_mae", "delta_mse", "delta_mae"):
        assert good[metric] < bad[metric]
    for metric in ("de_wilcoxon_overlap", "delta_pearson", "de_wilcoxon_sig_jaccard"):
        assert good[metric] > bad[metric]
    assert good["expr_mse"] < 0.02
    assert np.isnan(good["de_wilcoxon_sig_recall"])  # asks for ten significant genes of nine


def test_its_defaults_are_the_packages_but_for_the_scale(perfect):
    from cell_eval2 import compute_metrics

    measured, predicted = celleval.pair(*perfect)
    table = compute_metrics(
        predicted, measured, metrics=["pds_cosine"], pert_col="target_gene", input_type="lognorm"
    )
    mean = np.mean(table.filter(table["metric"] == "pds_cosine")["value"].to_list())
    ours = celleval.run(measured, predicted).set_index("metric")["value"]
    assert ours["pds_cosine"] == pytest.approx(mean)
