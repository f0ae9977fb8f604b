import anndata as ad
import numpy as np
import pandas as pd
import pytest

from lib.simulate.effects import effect_sizes


def screen(sd, share, n_cells=300, n_genes=600, seed=1):
    """A screen of one arm with effects and one without, in cells of different size."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(0, 1, n_genes)
    effect = rng.normal(0, sd, n_genes) * (rng.random(n_genes) < share)
    arms = np.repeat(["control", "knocked", "idle"], n_cells)
    rate = np.where(arms[:, None] == "knocked", mean * np.exp(effect), mean)
    rate = rate * rng.lognormal(0, 0.3, (len(arms), 1))
    counts = rng.poisson(rng.gamma(3.0, rate / 3.0)).astype(np.float32)
    obs = pd.DataFrame({"perturbation": arms}, index=[f"c{i}" for i in range(len(arms))])
    return ad.AnnData(counts, obs=obs), effect


def test_effects_are_found_and_noise_is_taken_off():
    cells, effect = screen(0.8, 0.2)
    found = effect_sizes(cells).set_index("arm")
    knocked, idle = found.loc["knocked"], found.loc["idle"]
    assert knocked["sd"] == pytest.approx(effect.std(), rel=0.15)
    assert knocked["share"] == pytest.approx(0.2, abs=0.08)
    assert idle["sd"] < 0.04 < idle["sd_seen"]
    assert (found["n_cells"] == 300).all()


def test_many_small_effects_below_the_noise_are_still_seen_together():
    cells, effect = screen(0.15, 1.0, n_cells=100)
    knocked = effect_sizes(cells).set_index("arm").loc["knocked"]
    assert knocked["sd"] == pytest.approx(effect.std(), rel=0.25)
    assert knocked["sd_seen"] > 1.3 * effect.std()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control": "none"}, "control = 'none': must be one of control, knocked, idle"),
        ({"column": "arm"}, "column = 'arm': must be one of perturbation"),
        ({"least_mean": 1e6}, "least_mean = 1e\\+06: no gene has as many counts"),
        ({"layer": "raw"}, "screen: layer 'raw' is missing"),
    ],
)
def test_bad_input_ends_in_one_line(options, message):
    cells, _ = screen(0.5, 0.5, n_cells=12, n_genes=5)
    with pytest.raises(ValueError, match=message) as raised:
        effect_sizes(cells, **options)
    assert "\n" not in str(raised.value)
