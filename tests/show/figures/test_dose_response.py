import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.predict import registry
from lib.show import style
from lib.show.figures import dose_response

PERTURBED = {"mech_linear": ("gene_1", 4.0), "mech_hill": ("gene_0", 6.0)}
KINDS = ["linear", "hill"]
PARAMETERS = ["mu", "theta", "pi"]


@pytest.fixture(scope="module")
def laws():
    rng = np.random.default_rng(0)
    models = ["true", *registry.keys("basic")]
    keys = itertools.product(zip(PERTURBED, KINDS), models, range(9), range(5))
    rows = [(gene, kind, model, dose) for (gene, kind), model, dose, _ in keys]
    table = pd.DataFrame(rows, columns=["gene", "mechanism", "model", "dose"])
    return table.assign(**{name: rng.uniform(0.1, 0.9, len(table)) for name in PARAMETERS})


@pytest.fixture(scope="module")
def summary():
    rng = np.random.default_rng(1)
    columns = ["mechanism", "model", "split", "metric"]
    splits = ["do_inside", "do_beyond", "pairs"]
    keys = itertools.product(
        reversed(KINDS), registry.keys("basic"), splits, ["skill_kl", "slope_ratio"]
    )
    table = pd.DataFrame(keys, columns=columns)
    table["mean"] = rng.uniform(0, 1, len(table))
    return table.assign(ci_low=table["mean"] - 0.05, ci_high=table["mean"] + 0.05)


@pytest.fixture(scope="module")
def figure(summary, laws):
    figure = dose_response.figure(summary, laws, PERTURBED)
    yield figure
    plt.close(figure)


def test_each_gene_has_a_column_of_its_three_parameters_over_the_dose(figure, laws):
    panels = np.array(figure.axes[:6]).reshape(3, 2)
    drawn = ["true", *registry.keys("curves")]
    for column, (gene, (parent, end)) in enumerate(PERTURBED.items()):
        of_gene = laws[laws["gene"] == gene]
        for ax, parameter in zip(panels[:, column], PARAMETERS):
            lines = {line.get_label(): line for line in ax.lines}
            for model in drawn:
                line = lines[style.label(model)]
                median = of_gene[of_gene["model"] == model].groupby("dose")[parameter].median()
                np.testing.assert_array_equal(line.get_xdata(), median.index)
                np.testing.assert_allclose(line.get_ydata(), median)
            assert style.label("ridge") not in lines
            (edge,) = [line for line in ax.lines if np.array_equal(line.get_ydata(), [0, 1])]
            assert edge.get_xdata()[0] == end + 0.5
        mu, theta, pi = panels[:, column]
        assert mu.get_title() == KINDS[column] and theta.get_yscale() == "log"
        assert pi.get_xlabel() == f"dose: count of {parent}" and pi.get_ylim() == (0, 1)
    labels = [ax.get_ylabel() for ax in panels[:, 0]]
    assert labels == ["μ of the mechanistic gene", "θ", "π"]
    assert not any(ax.get_ylabel() for ax in panels[:, 1])


def test_skill_inside_and_beyond_has_the_mechanisms_in_the_order_of_the_columns(figure, summary):
    compared = registry.keys("basic", "compared")
    for ax, split in zip(figure.axes[6:], ("do_inside", "do_beyond"), strict=True):
        assert [t.get_text() for t in ax.get_xticklabels()] == KINDS
        assert [c.get_label() for c in ax.containers] == [style.label(m) for m in compared]
        skills = summary[(summary["split"] == split) & (summary["metric"] == "skill_kl")]
        for model, container in zip(compared, ax.containers):
            means = skills[skills["model"] == model].set_index("mechanism")["mean"][KINDS]
            np.testing.assert_array_equal(container.lines[0].get_ydata(), means)
        assert style.label(split) in ax.get_ylabel()


def test_the_legend_names_the_truth_and_the_models_compared(figure):
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [style.label(m) for m in ["true", *registry.keys("basic", "compared")]]
