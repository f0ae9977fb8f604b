import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from lib.laws import ZINB
from lib.laws.tabulated import Tabulated
from lib.score.court import own


def cells(profiles):
    """Two cells an arm that lie about its profile."""
    rows = [np.array(row) + off for row in profiles.values() for off in (-0.25, 0.25)]
    obs = pd.DataFrame({"perturbation": np.repeat(list(profiles), 2)})
    obs.index = obs.index.astype(str)
    return ad.AnnData(np.array(rows), obs=obs)


TRUE = {"control": [1.0, 1.0], "A": [3.0, 1.0], "B": [1.0, 3.0], "C": [2.0, 2.0]}
PREDICTED = {"control": [1.0, 1.0], "A": [3.0, 1.0], "B": [2.0, 2.5], "C": [1.0, 2.5]}


@pytest.fixture(scope="module")
def said():
    judge = own.Definitions(cells(TRUE), ["A", "B", "C"])
    return judge.judge(cells(PREDICTED))


def of(said, name):
    return said.arms[f"definition {name}"].tolist()


def test_euclidean_scores_are_those_worked_by_hand(said):
    # distances of predictions (rows) from arms: A: 0, sqrt 8, sqrt 2; B: sqrt 3.25, sqrt 1.25, 0.5;
    # C: sqrt 6.25, 0.5, sqrt 1.25
    assert np.allclose(of(said, "rmse_average"), [0, np.sqrt(1.25 / 2), np.sqrt(1.25 / 2)])
    assert of(said, "centroid_accuracy") == [1, 0.5, 0.5]  # B is nearer to C, C to B
    # of the arm B the prediction of C is nearer than its own, of the arm C that of B
    assert of(said, "rank_rmse_average") == [0, 0.5, 0.5]
    assert said.means["definition centroid_accuracy"] == pytest.approx(2 / 3)


def test_cosines_are_of_log2_fold_changes_with_a_pseudocount():
    predicted = PREDICTED | {"A": [3.0, 1.2]}
    said = own.Definitions(cells(TRUE), ["A", "B", "C"]).judge(cells(predicted))

    def logfc(profile):
        return [np.log2((value + 0.1) / 1.1) for value in profile]

    def cosine(a, b):
        return np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)

    true = {name: logfc(TRUE[name]) for name in "ABC"}
    found = {name: logfc(predicted[name]) for name in "ABC"}
    expected = [cosine(found[name], true[name]) for name in "ABC"]
    assert np.allclose(of(said, "cosine_logfc"), expected)
    # nothing else points as A does; C's prediction points as B; both others are nearer to C
    assert of(said, "rank_cosine_logfc") == [0, 0.5, 1.0]


def test_ties_count_half():
    same = np.ones((3, 3))
    assert own.rank_among_predictions(same).tolist() == [0.5, 0.5, 0.5]
    assert own.share_farther(same).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("effects", "diversity"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 3),  # nothing in common
        ([[1, 1, 0], [2, 2, 0], [3, 3, 0]], 1),  # one direction
        ([[1, 0, 0], [1, 0, 0], [0, 0, 1]], np.exp(np.log(3) - 2 / 3 * np.log(2))),  # two, 2 to 1
    ],
)
def test_vendi_is_the_number_of_directions(effects, diversity):
    arms = {"control": np.zeros(3)} | dict(zip("ABC", np.array(effects, dtype=float)))
    profiles = {name: np.array(row) + 5 for name, row in arms.items()}
    said = own.Definitions(cells(profiles), list("ABC")).judge(cells(profiles))
    assert said.means["definition vendi"] == pytest.approx(diversity)


def test_nll_and_crps_are_those_of_scipy_and_a_sum():
    law = ZINB([2.0, 5.0], [1.5, 4.0], [0.1, 0.0])
    counts = np.random.default_rng(0).poisson(3, (40, 2))
    found = own.of_laws([law], [counts], np.array([[True, True]]), [40, 10])
    for n in (40, 10):
        nll, crps = [], []
        for gene in (0, 1):
            k, theta, mu, pi = np.arange(400), law.theta[gene], law.mu[gene], law.pi[gene]
            pmf = (1 - pi) * scipy.stats.nbinom.pmf(k, theta, theta / (theta + mu)) + pi * (k == 0)
            y = counts[:n, gene]
            nll.append(-np.log(pmf[y]).mean())
            crps.append(np.mean([((pmf.cumsum() - (k >= one)) ** 2).sum() for one in y]))
        assert found[n][:, 0] == pytest.approx([np.mean(nll), np.mean(crps)], rel=1e-6)


def test_own_genes_are_left_out_and_an_impossible_count_costs_no_infinity():
    never = Tabulated([np.array([1.0]), np.array([1.0])])
    counts = np.array([[7, 0], [7, 0]])
    both = own.of_laws([never], [counts], np.array([[True, True]]), [2])[2][:, 0]
    without = own.of_laws([never], [counts], np.array([[False, True]]), [2])[2][:, 0]
    assert without.tolist() == [0, 0]
    assert both[0] == pytest.approx(-np.log(1e-12) / 2) and both[1] == 7 / 2
