import numpy as np
import pytest

from lib.show import embedding


@pytest.fixture(scope="module", autouse=True)
def stand_in():
    """Instead of UMAP, which takes 15 s to compile, the first two columns of the cells."""
    import scanpy as sc

    asked = []

    def neighbours(cells, **options):
        asked.append(options)

    def umap(cells, random_state):
        asked.append({"random_state": random_state})
        cells.obsm["X_umap"] = np.asarray(cells.X)[:, :2].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sc.pp, "neighbors", neighbours)
        patch.setattr(sc.tl, "umap", umap)
        yield asked


@pytest.fixture(scope="module")
def counts():
    """Two kinds of cells in turn, in either source; the last cell of the first is empty."""
    rng = np.random.default_rng(0)
    kinds = np.array([[40.0] * 5 + [1.0] * 5, [1.0] * 5 + [40.0] * 5])
    values = rng.poisson(kinds[np.arange(60) % 2]).astype(np.float32)
    first, second = values[:30].copy(), values[30:]
    first[-1] = 0
    return {"first": first, "second": second}


@pytest.fixture(scope="module")
def together(counts):
    return embedding.together(counts)


def test_every_cell_that_has_counts_is_embedded(together, counts):
    assert list(together.source) == ["first"] * 29 + ["second"] * 30
    assert together.counts is counts
    assert together.pca.shape == (59, 2)


def test_cells_are_normalised_and_log_transformed(together, counts):
    """The stand-in shows two of the columns that UMAP is given: log1p of counts per 100."""
    cells = np.concatenate([counts["first"][:29], counts["second"]])
    expected = np.log(1 + 100 * cells / cells.sum(1, keepdims=True))
    np.testing.assert_allclose(together.umap, expected[:, :2], rtol=1e-5)


def test_the_first_component_tells_kinds_apart_and_not_sources(together):
    kind = np.concatenate([np.arange(29) % 2, np.arange(30) % 2])
    side = together.pca[:, 0] > 0
    assert (side == kind).all() or (side != kind).all()


def test_of_many_cells_every_so_many_is_embedded(monkeypatch, counts):
    monkeypatch.setattr(embedding, "SHOWN", 10)
    few = embedding.together(counts)
    thinned = embedding.together({"first": counts["first"][::3], "second": counts["second"][::3]})
    assert len(few.source) == 20
    np.testing.assert_array_equal(few.pca, thinned.pca)


def test_positions_in_a_latent_space_are_embedded_as_they_are(stand_in):
    rng = np.random.default_rng(1)
    latent = {"control": rng.normal(size=(4, 3)), "treated": rng.normal(size=(5, 3))}
    stand_in.clear()
    found = embedding.umap(latent)
    assert stand_in == [{"use_rep": "X", "random_state": 0}, {"random_state": 0}]
    assert list(found["source"]) == ["control"] * 4 + ["treated"] * 5
    expected = np.concatenate(list(latent.values()))[:, :2]
    np.testing.assert_array_equal(found[["x", "y"]], expected)
