import numpy as np
import pandas as pd
import scipy.stats

from lib.score import tables


def replicates(values, **keys):
    return pd.DataFrame({"value": values, "replicate": range(len(values)), **keys})


def test_table_has_all_keys_and_empty_cells_where_one_does_not_apply():
    with_gene = replicates([1.0, 2.0], model="vae", metric="kl_nats", gene="gene_0")
    without = replicates([3.0], model="oracle", metric="kl_nats")
    tidy = tables.tidy([with_gene, without])
    keys = "scenario mechanism model gene split metric replicate"
    assert list(tidy.columns) == [*keys.split(), "value"]
    assert tidy["gene"].tolist() == ["gene_0", "gene_0", ""] and (tidy["split"] == "").all()
    assert tidy["value"].tolist() == [1, 2, 3] and tidy["replicate"].tolist() == [0, 1, 0]


def test_summary_has_students_t_interval_over_replicates():
    values = [0.2, 0.5, 0.1, 0.9, 0.4]
    tidy = tables.tidy(
        [
            replicates(values, model="vae", metric="kl_nats"),
            replicates([2.0, 4.0], model="vae", metric="mse_mu"),
            replicates([7.0], model="mlp", metric="mse_mu"),
        ]
    )
    result = tables.summary(tidy)
    keys = "scenario mechanism model gene split metric"
    assert list(result.columns) == [*keys.split(), "mean", "ci_low", "ci_high", "n"]
    assert result["n"].tolist() == [5, 2, 1]
    interval = scipy.stats.t.interval(0.95, 4, loc=np.mean(values), scale=scipy.stats.sem(values))
    found = result.loc[0, ["mean", "ci_low", "ci_high"]].astype(float)
    np.testing.assert_allclose(found, [np.mean(values), *interval])
    # half-width by hand: t(0.975; 1) = tan(0.475 pi), standard error 1
    np.testing.assert_allclose(result.loc[1, "ci_high"] - 3, np.tan(0.475 * np.pi))
    assert result.loc[2, "mean"] == 7
    assert np.isnan(result.loc[2, ["ci_low", "ci_high"]].astype(float)).all()


def test_summary_leaves_out_replicates_without_a_value():
    rows = replicates([1.0, np.nan, 3.0], model="vae", metric="skill_kl")
    result = tables.summary(tables.tidy([rows]))
    assert result["n"].tolist() == [2] and result["mean"].tolist() == [2]


def test_a_table_is_read_as_it_was_written(tmp_path):
    tidy = tables.tidy(
        [
            replicates([1.0, np.nan, 0.25], model="vae", metric="skill_kl"),
            replicates([3.0], model="None", metric="nan"),
        ]
    )
    tables.write(tidy, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(tables.read(tmp_path / "t.csv"), tidy, check_dtype=False)
    tables.write(tables.summary(tidy), tmp_path / "s.csv")
    assert np.isnan(tables.read(tmp_path / "s.csv").query("model == 'None'")["ci_low"].item())


def test_a_readable_table_has_three_digits_and_no_noise():
    values = [
        ("kl_nats", 0.0001506, 6.2e-05, 0.0002394, "0.000151 [6.2e-05, 0.000239]"),
        ("kl_nats", 1e-17, -1e-18, 1e-16, "0 [0, 0]"),
        ("kl_nats", 1.2345, np.nan, np.nan, "1.23"),
        ("skill_kl", 3e-05, -4e-05, 0.12345, "0 [0, 0.123]"),
        ("skill_kl", -0.59321, -1.5, 0.3, "-0.593 [-1.5, 0.3]"),
    ]
    for metric, mean, low, high, text in values:
        keys = {"model": ["vae"], "mechanism": ["hill"], "metric": [metric]}
        row = pd.DataFrame({**keys, "mean": [mean], "ci_low": [low], "ci_high": [high]})
        assert tables.readable(row, metric).loc["vae", "hill"] == text


def test_several_metrics_are_rows_of_one_readable_table():
    rows = [("a", "x", 1.0), ("b", "x", 2.0), ("a", "y", 3.0), ("a", "z", 9.0)]
    summary = pd.DataFrame(rows, columns=["model", "metric", "mean"])
    summary = summary.assign(ci_low=np.nan, ci_high=np.nan)
    table = tables.readable(summary, ["x", "y"], rows="metric", columns="model")
    assert list(table.index) == ["x", "y"] and list(table.columns) == ["a", "b"]
    assert table.loc["y", "a"] == "3" and pd.isna(table.loc["y", "b"])


def test_joined_summaries_stand_one_below_the_other_and_either_may_be_empty():
    one = tables.summary(tables.tidy([replicates([1.0, 2.0], model="vae", metric="kl_nats")]))
    none = one.iloc[:0]
    assert tables.joined(one, one)["mean"].tolist() == [1.5, 1.5]
    for joined in (tables.joined(one, none), tables.joined(none, one)):
        pd.testing.assert_frame_equal(joined, one)
    assert not len(tables.joined(none, none))
