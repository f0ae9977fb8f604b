import numpy as np

from lib import dataset
from lib.counts import dense
from tests.tasks.test_conditional import one, params


def test_a_part_of_a_question_is_the_question_for_some_of_its_cells(asked):
    whole = one(asked, "do_inside")
    rows = np.arange(whole.cells.n_obs) % 3 == 1
    part = whole.part(rows, "some")
    assert (part.split, part.gene, part.mechanism) == ("some", whole.gene, whole.mechanism)
    assert part.query.shape == part.true.shape == (rows.sum(), 1)
    np.testing.assert_array_equal(dense(part.cells.X), dense(whole.cells.X)[rows])
    np.testing.assert_array_equal(part.dose, whole.dose[rows])
    np.testing.assert_array_equal(params(part.true), params(dataset.law(part.cells, part.gene)))
    assert whole.split == "do_inside" and len(whole.dose) == whole.cells.n_obs


def test_a_part_without_doses_has_none(asked):
    whole = one(asked, "pairs")
    assert whole.part(np.arange(whole.cells.n_obs) < 2, "pairs").dose is None
