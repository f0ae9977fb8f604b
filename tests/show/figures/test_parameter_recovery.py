import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.laws import ZINB
from lib.show import style
from lib.show.embedding import Together
from lib.show.figures import parameter_recovery

N_CELLS, N_GENES = 12, 3
PANELS = ["a", "a2", "a3", "b", "c", "c2", "d", "e", "f", "g", "g2", "h"]
BETAS = [0.02, 0.3, 1.0]


def rgb(colour):
    return mpl.colors.to_rgb(colour)


def law(seed, *shape):
    mu, theta, pi = np.random.default_rng(seed).uniform(0.1, 0.9, (3, *shape))
    return ZINB(10 * mu, 5 * theta, pi)


@pytest.fixture(scope="module")
def laws():
    one = law(0, N_GENES)
    true = ZINB(*(np.tile(values, (N_CELLS, 1)) for values in (one.mu, one.theta, one.pi)))
    decoded = {f"beta={beta:g}": law(i, N_CELLS, N_GENES) for i, beta in enumerate(BETAS, 2)}
    return {"true": true, "maximum_likelihood": law(1, N_GENES), **decoded}


@pytest.fixture(scope="module")
def summary():
    """Means 1, 2, … with intervals that aren't symmetric; a second metric that mustn't be drawn."""
    rows = [("one_type", model) for model in ("maximum_likelihood", "constant", "vae")]
    rows += [(f"beta={beta:g}", "vae") for beta in BETAS]
    table = pd.DataFrame(rows, columns=["scenario", "model"])
    table["mean"] = np.arange(1.0, 7)
    table["ci_low"] = table["mean"] * 0.9
    table["ci_high"] = table["mean"] * 1.3
    other = table.assign(metric="mse_pi", mean=99.0)
    return pd.concat([table.assign(metric="mse_mu"), other], ignore_index=True)


def beside(seed, *names):
    rng = np.random.default_rng(seed)
    counts = {name: rng.poisson(1.5, (30, 6)).astype(float) for name in names}
    for values in counts.values():
        values[:, 0] = 0  # a gene that was never counted
    source = np.repeat(names, 8)
    return Together(counts, source, rng.normal(size=(16, 2)), rng.normal(size=(16, 2)))


@pytest.fixture(scope="module")
def cells():
    return beside(5, "simulated", "generated"), beside(6, "real", "simulated")


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(7).poisson(1.0, (N_CELLS, N_GENES)).astype(float)


@pytest.fixture(scope="module")
def misfits():
    values = np.random.default_rng(8).uniform(0, 0.2, (9, 4))
    return pd.DataFrame(values, columns=["Poisson", "NB", "ZINB", "sampling alone"])


@pytest.fixture(scope="module")
def axes(summary, laws, counts, misfits, cells):
    figure = parameter_recovery.figure(summary, laws, counts, misfits, *cells)
    yield dict(zip(PANELS, figure.axes))
    plt.close(figure)


@pytest.mark.parametrize("panel, parameter", [("a", "mu"), ("a2", "theta"), ("a3", "pi")])
def test_estimates_of_each_gene_stand_over_its_true_value(axes, laws, panel, parameter):
    diagonal, likely, vae = axes[panel].lines
    true = getattr(laws["true"], parameter)[0]
    expected = getattr(laws["maximum_likelihood"], parameter)
    np.testing.assert_array_equal(likely.get_xydata(), np.column_stack([true, expected]))
    columns = getattr(laws["beta=1"], parameter).T
    middle = [sum(sorted(column)[5:7]) / 2 for column in columns]  # of twelve cells
    np.testing.assert_allclose(vae.get_xydata(), np.column_stack([true, middle]))
    assert rgb(vae.get_color()) == rgb(style.COLOURS["vae"])
    assert rgb(likely.get_color()) == rgb(style.COLOURS["maximum_likelihood"])
    ends = diagonal.get_xydata()
    np.testing.assert_array_equal(ends[:, 0], ends[:, 1])
    assert ends.min() == min(*true, *expected, *middle)
    assert ends.max() == max(*true, *expected, *middle)


def test_errors_over_beta_are_drawn_with_their_intervals_between_the_references(axes):
    (container,) = axes["b"].containers
    line, _, (bars,) = container.lines
    np.testing.assert_array_equal(line.get_xydata(), [[0.02, 4], [0.3, 5], [1, 6]])
    ends = [sorted(segment[:, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[3.6, 5.2], [4.5, 6.5], [5.4, 7.8]])
    levels = {rgb(one.get_color()): set(one.get_ydata()) for one in axes["b"].lines[1:]}
    assert levels == {
        rgb(style.COLOURS["constant"]): {2.0},
        rgb(style.COLOURS["maximum_likelihood"]): {1.0},
    }
    notes = {text.get_text(): text.xy for text in axes["b"].texts}
    assert notes["constant"] == (0.02, 2.0) and notes["VAE"] == (0.02, 4.0)


@pytest.mark.parametrize("panel, scenario, title", [
    ("c", "beta=0.02", "β = 0.02"),
    ("c2", "beta=1", "β = 1"),
])  # fmt: skip
def test_decoded_mu_stands_over_the_count_that_was_seen(axes, laws, counts, panel, scenario, title):
    dots, level = axes[panel].lines
    seen = [cell for cell in range(N_CELLS) if counts[cell, 0] > 0]
    expected = [(counts[cell, 0], laws[scenario].mu[cell, 0]) for cell in seen]
    assert 0 < len(seen) < N_CELLS
    np.testing.assert_array_equal(dots.get_xydata(), expected)
    assert set(level.get_ydata()) == {laws["true"].mu[0, 0]}
    assert axes[panel].get_title() == title


def test_both_panels_of_copying_have_one_scale(axes):
    assert axes["c"].get_ylim() == axes["c2"].get_ylim()


@pytest.mark.parametrize("panel, number, positions", [("d", 0, "umap"), ("h", 1, "pca")])
def test_embedded_cells_have_the_colour_of_their_source(axes, cells, panel, number, positions):
    together = cells[number]
    colours = {"generated": "vae"}
    (dots,) = axes[panel].collections
    drawn = [tuple(c[:3]) for c in dots.get_facecolors()]
    found = dict(zip(map(tuple, dots.get_offsets().data), drawn))
    places = map(tuple, getattr(together, positions))
    expected = [rgb(style.COLOURS[colours.get(s, s)]) for s in together.source]
    assert found == dict(zip(places, expected))


def test_frequencies_are_shares_of_all_counts(axes, cells):
    for line, (name, values) in zip(axes["e"].lines, cells[0].counts.items()):
        assert line.get_label() == name
        shares = [(values == k).sum() / (30 * 6) for k in range(41)]
        np.testing.assert_allclose(line.get_ydata(), shares)
        np.testing.assert_array_equal(line.get_xdata(), range(41))


def test_a_box_has_the_quartiles_of_a_family(axes, misfits):
    boxes = [patch.get_path().vertices[:, 1] for patch in axes["f"].patches]
    assert len(boxes) == 4
    for corners, name in zip(boxes, misfits):
        low, high = np.quantile(misfits[name], [0.25, 0.75])
        assert (corners.min(), corners.max()) == pytest.approx((low, high))
    names = [text.get_text() for text in axes["f"].get_xticklabels()]
    assert names == ["Poisson", "NB", "ZINB", "sampling\nalone"]


def test_moments_are_of_each_gene_that_was_counted(axes, cells):
    for number, (name, values) in enumerate(cells[1].counts.items()):
        variances, zeros = (axes[panel].lines[number] for panel in ("g", "g2"))
        assert variances.get_label() == name
        assert rgb(zeros.get_color()) == rgb(style.COLOURS[name])
        assert len(variances.get_xdata()) == len(zeros.get_xdata()) == 5
        for place, gene in enumerate(range(1, 6)):
            mean = sum(values[:, gene]) / 30
            variance = sum((values[:, gene] - mean) ** 2) / 30
            np.testing.assert_allclose(variances.get_xydata()[place], [mean, variance])
            share = np.count_nonzero(values[:, gene] == 0) / 30
            np.testing.assert_allclose(zeros.get_xydata()[place], [mean, share])
