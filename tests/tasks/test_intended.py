"""Arms as intended: nulls have the control's law, by many cells."""

import numpy as np
import scipy.stats

from lib.tasks.intended import intended
from tests.court import task


def test_nulls_are_as_controls_and_affected_genes_are_not():
    asked = [q.query.perturbation for q in task().asked if q.kind == "regulator"]
    screened = intended(task(), asked, 2500, 4000)
    control = screened.control.X.toarray()
    p_values, affected = [], []
    for name, cells in screened.arms.items():
        counts = cells.X.toarray()
        assert counts.shape == (2500, 60)
        p = scipy.stats.mannwhitneyu(counts, control, axis=0).pvalue
        p_values.append(p[screened.nulls[name]])
        affected.append(p[screened.affected[name]])
        own = screened.control.var_names == name
        assert not (screened.nulls[name] & screened.affected[name]).any()
        assert not screened.nulls[name][own].any() and not screened.affected[name][own].any()
        assert counts[:, own].mean() < 0.5 * control[:, own].mean()
    together = np.concatenate(p_values)
    assert scipy.stats.kstest(together, "uniform").pvalue > 1e-4
    assert np.median(np.concatenate(affected)) < 1e-3
