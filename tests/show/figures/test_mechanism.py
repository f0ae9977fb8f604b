import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.predict import registry
from lib.show import style
from lib.show.figures import mechanism

MODELS = registry.keys("basic") + registry.keys("leaky")
KINDS = ["linear", "hill"]
CELLS = 15


@pytest.fixture(scope="module")
def laws():
    """Laws of two genes by all models: other numbers for each."""
    rng = np.random.default_rng(0)
    keys = itertools.product(["mech_linear", "spread"], ["true", *MODELS])
    frames = []
    for gene, model in keys:
        columns = {name: rng.uniform(0.1, 0.9, CELLS) for name in ("mu", "theta", "pi")}
        frames.append(pd.DataFrame({"gene": gene, "model": model, **columns}))
    table = pd.concat(frames, ignore_index=True)
    truth = (table["gene"] == "mech_linear") & (table["model"] == "true")
    table.loc[truth, "pi"] = 0.7
    return table


@pytest.fixture(scope="module")
def summary():
    rng = np.random.default_rng(1)
    metrics = ["skill_kl", "kl_nats", "nll_nats"]
    columns = ["scenario", "mechanism", "model", "metric"]
    scenarios = ["mechanistic_gene", "mechanistic_dispersion"]
    table = pd.DataFrame(itertools.product(scenarios, KINDS, MODELS, metrics), columns=columns)
    table["mean"] = rng.uniform(0.1, 1, len(table))
    return table.assign(ci_low=table["mean"] - 0.05, ci_high=table["mean"] + 0.05)


@pytest.fixture(scope="module")
def axes(summary, laws):
    figure = mechanism.figure(summary, laws, "spread")
    yield dict(zip(("a", "a2", "a3", "a4", "b", "c", "d", "e"), figure.axes))
    plt.close(figure)


def of(table, **keys):
    return table[np.logical_and.reduce([table[name] == value for name, value in keys.items()])]


def coloured(ax, model):
    colour = mpl.colors.to_rgb(style.COLOURS[model])
    (line,) = [line for line in ax.lines if mpl.colors.to_rgb(line.get_color()) == colour]
    return line


def test_scatter_plots_are_of_the_first_gene_and_of_the_models_chosen_for_them(axes, laws):
    true = of(laws, gene="mech_linear", model="true")["mu"]
    models = registry.keys("basic", "scatter")
    for name, model in zip(("a", "a2", "a3", "a4"), models, strict=True):
        points = coloured(axes[name], model)
        np.testing.assert_array_equal(points.get_xdata(), true)
        mu = of(laws, gene="mech_linear", model=model)["mu"]
        np.testing.assert_array_equal(points.get_ydata(), mu)
        assert axes[name].get_title() == style.label(model)
    assert axes["a"].get_title(loc="left") == "a"


def test_skill_is_that_of_single_genes_alone_for_the_models_compared(axes, summary):
    drawn = {c.get_label(): c.lines[0].get_ydata() for c in axes["b"].containers}
    compared = registry.keys("basic", "compared")
    assert list(drawn) == [style.label(model) for model in compared]
    for model in compared:
        keys = {"scenario": "mechanistic_gene", "metric": "skill_kl", "model": model}
        np.testing.assert_array_equal(drawn[style.label(model)], of(summary, **keys)["mean"])
    assert [t.get_text() for t in axes["b"].get_xticklabels()] == KINDS
    assert {"oracle", "marginal"} <= {t.get_text() for t in axes["b"].texts}


def test_thetas_are_those_of_the_gene_with_the_mechanistic_dispersion(axes, laws):
    true = of(laws, gene="spread", model="true")["theta"]
    for model in registry.keys("dispersion"):
        points = coloured(axes["c"], model)
        np.testing.assert_array_equal(points.get_xdata(), true)
        theta = of(laws, gene="spread", model=model)["theta"]
        np.testing.assert_array_equal(points.get_ydata(), theta)
    diagonal = axes["c"].lines[-1]
    np.testing.assert_array_equal(diagonal.get_xdata(), [true.min(), true.max()])
    np.testing.assert_array_equal(diagonal.get_ydata(), diagonal.get_xdata())


def test_boxes_of_pi_have_the_quartiles_of_their_model_and_the_truth_beside_them(axes, laws):
    names = [t.get_text() for t in axes["d"].get_yticklabels()]
    models = [m for m in registry.keys("basic", "compared") if m != "vae_copying"]
    assert names == [style.label(m) for m in models]
    for place, model in enumerate(models):
        pi = of(laws, gene="mech_linear", model=model)["pi"]
        box = axes["d"].patches[place].get_path().vertices
        ends = [box[:, 0].min(), box[:, 0].max(), box[:, 1].mean().round()]
        np.testing.assert_allclose(ends, [*np.quantile(pi, [0.25, 0.75]), place])
    dashed = [line for line in axes["d"].lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [0.7]


def test_exact_kl_stands_over_how_much_worse_than_the_oracle_counts_are_predicted(axes, summary):
    main = of(summary, scenario="mechanistic_gene")
    wide = main.set_index(["metric", "model", "mechanism"])["mean"]
    for model in [*registry.keys("basic", "compared"), "vae_leaky"]:
        points = coloured(axes["e"], model)
        excess = [wide["nll_nats", model, k] - wide["nll_nats", "oracle", k] for k in KINDS]
        np.testing.assert_allclose(points.get_xdata(), excess)
        np.testing.assert_allclose(points.get_ydata(), [wide["kl_nats", model, k] for k in KINDS])
    (shade,) = axes["e"].patches
    assert shade.get_x() + shade.get_width() == 0  # better than the oracle is left of 0
    assert "VAE, leaky" in {t.get_text() for t in axes["e"].texts}
