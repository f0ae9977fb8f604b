import numpy as np
import scipy.stats

from lib.laws import ZINB
from lib.laws.tabulated import Tabulated
from lib.score import distances


def test_a_table_of_a_law_is_that_law():
    zinb = ZINB(np.array([0.5, 6.0]), np.array([2.0, 5.0]), np.array([0.1, 0.0]))
    lengths = 60, 200
    law = Tabulated([zinb[g].pmf_table(n) for g, n in enumerate(lengths)])
    np.testing.assert_allclose(law.mean, zinb.mean, rtol=1e-9)
    k = np.array([-1, 0, 1, 7, 1000])[:, None]
    np.testing.assert_allclose(law.pmf(k), zinb.pmf(k), atol=1e-12)
    np.testing.assert_allclose(law.cdf(k), zinb.cdf(k), atol=1e-9)
    assert (law.pmf(1.5) == 0).all()
    u = np.linspace(0.001, 0.999, 31)[:, None]
    assert (law.quantile(u) == zinb.quantile(u)).all()
    np.testing.assert_allclose(law.pmf_table(40), zinb.pmf_table(40))
    assert law[[1]].shape == (1,) and law[1].mean == law.mean[1]
    assert (1 - zinb.cdf(law.reach(1e-6)) < 2e-6).all()
    assert distances.between(law, zinb)["kl_nats"].max() < 1e-9


def test_draws_have_the_law():
    law = Tabulated([np.array([0.2, 0.5, 0.3])])
    drawn = law.sample(np.random.default_rng(0), (5000, 1))
    counts = np.bincount(drawn[:, 0], minlength=3)
    assert scipy.stats.chisquare(counts, 5000 * law.rows[0]).pvalue > 1e-3
