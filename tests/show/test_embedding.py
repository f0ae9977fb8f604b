import numpy as np
import pytest

from lib.show import embedding


@pytest.fixture(scope="module")
def counts():
    """Two kinds of cells, half of each in either source; the last cell of the first is empty."""
    rng = np.random.default_rng(0)
    kinds = np.array([[40.0] * 5 + [1.0] * 5, [1.0] * 5 + [40.0] * 5])
    kind = np.arange(60) % 2
    values = rng.poisson(kinds[kind]).astype(np.float32)
    first, second = values[:30].copy(), values[30:]
    first[-1] = 0
    return {"first": first, "second": second}


@pytest.fixture(scope="module")
def together(counts):
    return embedding.together(counts)


def test_every_cell_that_has_counts_is_embedded(together, counts):
    assert list(together.source) == ["first"] * 29 + ["second"] * 30
    assert together.counts is counts
    assert together.pca.shape == together.umap.shape == (59, 2)


def test_the_first_component_tells_kinds_apart_and_not_sources(together):
    kind = np.arange(59) % 2
    kind[29:] = np.arange(30) % 2
    side = together.pca[:, 0] > 0
    assert (side == kind).all() or (side != kind).all()


def test_of_many_cells_every_so_many_is_embedded(monkeypatch, counts):
    monkeypatch.setattr(embedding, "SHOWN", 10)
    few = embedding.together(counts)
    thinned = embedding.together({"first": counts["first"][::3], "second": counts["second"][::3]})
    assert len(few.source) == 20
    np.testing.assert_array_equal(few.pca, thinned.pca)
    np.testing.assert_array_equal(few.umap, thinned.umap)


def test_umap_keeps_neighbours_together():
    rng = np.random.default_rng(1)
    near = rng.normal(size=(40, 3))
    far = rng.normal(size=(40, 3)) + 50
    found = embedding.umap({"near": near, "far": far})
    assert list(found["source"]) == ["near"] * 40 + ["far"] * 40
    middle = found.groupby("source")[["x", "y"]].mean()
    spread = found.groupby("source")[["x", "y"]].std().to_numpy().max()
    assert np.linalg.norm(middle.loc["near"] - middle.loc["far"]) > 3 * spread
