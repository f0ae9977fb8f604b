import numpy as np
import pandas as pd

from lib.show.figures import skill


def levels(ax):
    """Heights of the horizontal lines across a panel, by their style."""
    across = [line for line in ax.lines if np.array_equal(line.get_xdata(), [0, 1])]
    return {line.get_linestyle(): line.get_ydata()[0] for line in across}


def test_skills_stand_between_lines_of_the_marginal_and_the_oracle(ax):
    rows = pd.DataFrame({"mechanism": ["hill", "linear"], "model": "vae", "mean": [0.4, -0.9]})
    rows = rows.assign(ci_low=rows["mean"] - 0.1, ci_high=rows["mean"] + 0.1)
    skill.by_mechanism(ax, rows, order=["linear", "hill"], low=-0.5)
    assert levels(ax) == {"-": 0, "--": 1}
    (container,) = ax.containers
    assert list(container.lines[0].get_xdata()) == [1] and container.lines[0].get_ydata() == [0.4]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["linear", "hill"]
    (triangle,) = [line for line in ax.lines if line.get_marker() == "v"]
    assert (*triangle.get_xdata(), *triangle.get_ydata()) == (0, -0.5)
