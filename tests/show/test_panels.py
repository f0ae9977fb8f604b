import io
import itertools
import re

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.predict import registry
from lib.show import panels, style


def rgb(colour):
    return mpl.colors.to_rgb(colour)


def marked(ax, marker):
    """The artists drawn with a marker, the legend's empty ones left out."""
    return [line for line in ax.lines if line.get_marker() == marker and len(line.get_xdata())]


@pytest.mark.parametrize(
    "models",
    [
        ["maximum_likelihood", "vae", "constant"],
        [
            "ridge",
            "neighbours",
            "boosting",
            "zinb_regression",
            "vae",
            "vae_copying",
            "vae_conditional",
            "vae_leaky",
        ],
        ["oracle", "no_change", "mean_shift", "fold_change", "vae", "maximum_likelihood"],
    ],
    ids=["figure 1", "figures 2 and 3", "figure 4"],
)
def test_models_of_a_figure_can_be_told_apart(models):
    for one, other in itertools.combinations({*models, "true"} - {"oracle"}, 2):
        distance = np.linalg.norm(np.subtract(rgb(style.COLOURS[one]), rgb(style.COLOURS[other])))
        assert distance > 0.15, (one, other)
    assert len({style.label(m) for m in models}) == len(models)


def test_label_falls_back_on_the_key():
    assert style.label("zinb_regression") == "ZINB regression"
    assert style.label("cell_type_specific") == "cell type specific"
    assert style.label(3) == "3"


def a_figure():
    fig, axes = style.figure([["a", "b"], ["c", "second"]], 89, 60)
    rng = np.random.default_rng(0)
    summary = pd.DataFrame(
        {
            "mechanism": ["hill", "linear"],
            "model": "vae",
            "mean": [-np.inf, 0.5],
            "ci_low": [np.nan, 0.4],
            "ci_high": [np.nan, 0.6],
        }
    )
    panels.intervals(axes["a"], summary, "mechanism", low=-0.5)
    curves = pd.DataFrame(
        {"model": "vae", "dose": np.repeat(np.arange(9), 5), "mu": rng.random(45)}
    )
    panels.response(axes["b"], curves, "mu", end_inside=4)
    panels.embedding(
        axes["c"], rng.normal(size=(40, 2)), ["control", "treated"] * 20, colours=style.COLOURS
    )
    panels.against_truth(axes["second"], rng.random(20), rng.random(20), "vae")
    axes["second"].set(xlabel="true μ, θ, π", ylabel=r"$\hat\mu$ − ∞")
    panels.models_legend(fig, list(axes.values()), ["vae"])
    return fig


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folders = [
        tmp_path_factory.mktemp("first") / "new" / "folder",
        tmp_path_factory.mktemp("second"),
    ]
    for folder in folders:
        fig = a_figure()
        shown = style.save(fig, folder, "fig")
        assert repr(shown) == f"{folder}/fig.png"
        assert shown._repr_png_() == (folder / "fig.png").read_bytes()
    return folders


def test_save_writes_all_formats_and_nothing_else(saved):
    assert sorted(p.name for p in saved[0].iterdir()) == ["fig.pdf", "fig.png", "fig.svg"]
    assert (saved[0] / "fig.pdf").read_bytes().startswith(b"%PDF") and (
        saved[0] / "fig.png"
    ).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["fig.pdf", "fig.png", "fig.svg"])
def test_the_same_figure_is_saved_as_the_same_bytes(saved, name):
    first, second = ((folder / name).read_bytes() for folder in saved)
    assert first == second
    assert b"CreationDate" not in first and b"Matplotlib" not in first and b"<metadata" not in first


def test_a_small_picture_keeps_the_colour_of_every_model(tmp_path):
    """Dots and lines of all models, against a picture of all colours: no hue is another's."""
    fig, axes = style.figure([["a", "b"]], 183, 180)
    rng = np.random.default_rng(0)
    for row in registry.ROWS:
        axes["a"].plot(*rng.normal(size=(2, 30)), "o", ms=2, color=row.colour, label=row.label)
        axes["b"].plot(rng.normal(size=9).cumsum(), lw=0.8, color=row.colour)
    fig.legend(loc="outside lower center", ncols=6)
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # both pictures alike
    style.save(fig, tmp_path, "fig")
    whole = io.BytesIO()
    fig.savefig(whole, format="png")
    files = (tmp_path / "fig.png", whole)
    few, every = (np.asarray(Image.open(file).convert("RGB"), float) for file in files)
    off = np.abs(few - every).max(2)
    assert off.mean() < 1 and np.quantile(off, 0.999) < 25 and off.max() < 50
    for row in registry.ROWS:
        true = 255 * np.array(mpl.colors.to_rgb(row.colour))
        drawn = np.abs(every - true).max(2) < 1
        assert drawn.any() and np.abs(few[drawn] - true).max() < 25, row.key
    assert (tmp_path / "fig.png").stat().st_size < 0.5 * len(whole.getvalue())
    assert not plt.fignum_exists(fig.number)


def test_a_save_that_fails_leaves_what_was_there(saved, tmp_path, monkeypatch):
    def fails(path, **options):
        path.write_bytes(b"half")
        raise OSError("disk full")

    (tmp_path / "fig.pdf").write_bytes(b"before")
    fig = plt.figure()
    monkeypatch.setattr(fig, "savefig", fails)
    with pytest.raises(OSError, match="disk full"):
        style.save(fig, tmp_path, "fig")
    plt.close(fig)
    assert (tmp_path / "fig.pdf").read_bytes() == b"before" and not (tmp_path / "fig.png").exists()


def test_files_have_the_printed_size(saved):
    box = re.search(rb"/MediaBox \[([^\]]*)\]", (saved[0] / "fig.pdf").read_bytes())[1]
    np.testing.assert_allclose(
        [float(v) for v in box.split()], [0, 0, 89 / 25.4 * 72, 60 / 25.4 * 72], atol=0.01
    )
    height, width = plt.imread(saved[0] / "fig.png").shape[:2]
    dots = mpl.rcParams["savefig.dpi"] / 25.4  # a mm
    np.testing.assert_allclose([width, height], [89 * dots, 60 * dots], atol=1)
    assert 149 < dots * 25.4 <= 200
    sides = re.search(
        rb'width="([\d.]+)pt" height="([\d.]+)pt"', (saved[0] / "fig.svg").read_bytes()
    ).groups()
    np.testing.assert_allclose(
        [float(v) for v in sides], [89 / 25.4 * 72, 60 / 25.4 * 72], atol=0.01
    )


def test_text_of_the_svg_needs_no_font(saved):
    svg = (saved[0] / "fig.svg").read_text()
    assert "<text" not in svg and "font-family" not in svg


def test_fonts_of_the_pdf_are_truetype(saved):
    kinds = set(
        re.findall(
            rb"/Type /Font\b.*?/Subtype /(\w+)|/Subtype /(\w+) /Type /Font\b",
            (saved[0] / "fig.pdf").read_bytes(),
            re.S,
        )
    )
    kinds = {a or b for a, b in kinds}
    assert kinds and b"Type3" not in kinds
    assert kinds <= {b"Type0", b"TrueType", b"CIDFontType2"}


def test_one_letter_names_are_panel_letters():
    fig, axes = style.figure([["a", "a2"]], 89, 40)
    assert axes["a"].get_title(loc="left") == "a" and axes["a2"].get_title(loc="left") == ""
    plt.close(fig)


PLACES = ["threshold", "linear", "hill"]


def summaries(seed=0):
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        [(p, m) for m in ("vae", "ridge") for p in ("linear", "hill", "threshold")],
        columns=["mechanism", "model"],
    )
    rows["mean"] = rng.random(6)
    rows["ci_low"], rows["ci_high"] = rows["mean"] - rng.random(6), rows["mean"] + rng.random(6)
    return rows


def bars(container):
    """(x, mean), (lower end, upper end) of each errorbar that was drawn."""
    line, _, (vertical,) = container.lines
    ends = np.array([segment[:, 1] for segment in vertical.get_segments() if len(segment)]).reshape(
        -1, 2
    )
    return np.column_stack([line.get_xdata(), line.get_ydata()]), np.sort(ends, axis=1)


def test_intervals_are_at_the_mean_from_ci_low_to_ci_high_in_the_order_asked_for(ax):
    rows = summaries()
    panels.intervals(ax, rows, "mechanism", order=PLACES)
    assert [t.get_text() for t in ax.get_xticklabels()] == PLACES
    assert [c.get_label() for c in ax.containers] == ["VAE", "ridge"]
    at = {}
    for model, container in zip(("vae", "ridge"), ax.containers):
        expected = rows[rows["model"] == model].set_index("mechanism").loc[PLACES]
        points, ends = bars(container)
        np.testing.assert_allclose(points[:, 1], expected["mean"])
        np.testing.assert_allclose(ends, expected[["ci_low", "ci_high"]])
        assert rgb(container.lines[0].get_color()) == rgb(style.COLOURS[model])
        at[model] = points[:, 0]
    assert (
        np.round([at["vae"], at["ridge"]]) == [0, 1, 2]
    ).all()  # each at its place, in the ticks' order
    assert (at["vae"] < at["ridge"]).all()


def test_intervals_come_in_the_order_of_the_rows_by_default_and_leave_a_gap_for_what_is_missing(ax):
    rows = summaries().drop(index=4)  # ridge, hill
    panels.intervals(ax, rows, "mechanism")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["linear", "hill", "threshold"]
    points, ends = bars(ax.containers[1])
    np.testing.assert_allclose(points[:, 1], [rows.loc[3, "mean"], np.nan, rows.loc[5, "mean"]])
    np.testing.assert_allclose(ends, rows.loc[[3, 5], ["ci_low", "ci_high"]])


def test_one_model_stands_at_the_ticks(ax):
    panels.intervals(ax, summaries().query("model == 'vae'"), "mechanism")
    np.testing.assert_allclose(bars(ax.containers[0])[0][:, 0], ax.get_xticks())


def test_means_below_low_are_triangles_at_low_with_their_value_beside_them(ax):
    rows = pd.DataFrame(
        {"mechanism": list("wxyz"), "model": "ridge", "mean": [0.2, -0.723, -np.inf, -0.5]}
    )
    finite = rows["mean"].where(
        np.isfinite(rows["mean"])
    )  # -inf has no interval, as in tables.summary
    rows["ci_low"], rows["ci_high"] = finite - 0.3, finite + 0.1
    panels.intervals(ax, rows, "mechanism", low=-0.5)
    np.testing.assert_allclose(bars(ax.containers[0])[0], [[0, 0.2], [3, -0.5]])
    np.testing.assert_allclose(bars(ax.containers[0])[1], [[-0.1, 0.3], [-0.8, -0.4]])
    assert [(*t.get_xdata(), *t.get_ydata()) for t in marked(ax, "v")] == [(1, -0.5), (2, -0.5)]
    assert [(t.get_text(), t.xy) for t in ax.texts] == [("−0.72", (1, -0.5)), ("−∞", (2, -0.5))]
    assert ax.get_ylim()[0] == -0.5


def test_all_means_may_be_below_low(ax):
    rows = pd.DataFrame(
        {
            "mechanism": list("xy"),
            "model": "ridge",
            "mean": [-3.0, -np.inf],
            "ci_low": np.nan,
            "ci_high": np.nan,
        }
    )
    panels.intervals(ax, rows, "mechanism", low=0.0)
    assert len(marked(ax, "v")) == 2
    ax.figure.canvas.draw()


@pytest.fixture
def curves():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        list(itertools.product(["true", "vae"], range(14), range(20))),
        columns=["model", "dose", "cell"],
    )
    return rows.assign(mu=rng.gamma(2.0, size=len(rows))).sample(frac=1, random_state=0)


def test_response_has_medians_and_a_band_from_the_10th_to_the_90th_percentile(ax, curves):
    panels.response(ax, curves, "mu", end_inside=6)
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    bands = dict(zip(pd.unique(curves["model"]), ax.collections))
    for model, label in (("true", "true"), ("vae", "VAE")):
        values = [
            curves.loc[(curves["model"] == model) & (curves["dose"] == d), "mu"].to_numpy()
            for d in range(14)
        ]
        low, middle, high = (np.array([np.quantile(v, q) for v in values]) for q in (0.1, 0.5, 0.9))
        np.testing.assert_array_equal(lines[label].get_xdata(), range(14))
        np.testing.assert_allclose(lines[label].get_ydata(), middle)
        corners = bands[model].get_paths()[0].vertices
        for dose in range(14):
            edge = corners[corners[:, 0] == dose, 1]
            np.testing.assert_allclose([edge.min(), edge.max()], [low[dose], high[dose]])
    assert (lines["true"].get_linestyle(), lines["VAE"].get_linestyle()) == ("--", "-")
    assert rgb(lines["true"].get_color()) == (0, 0, 0) and rgb(lines["VAE"].get_color()) == rgb(
        style.COLOURS["vae"]
    )


@pytest.mark.parametrize("end_inside", [6, 6.5])
def test_markers_are_hollow_beyond_the_training_range_only(ax, curves, end_inside):
    panels.response(ax, curves, "mu", end_inside=end_inside)
    median, shown = (
        curves.query("model == 'vae'").groupby("dose")["mu"].median(),
        {True: [], False: []},
    )
    for line in marked(ax, "o"):
        shown[line.get_markerfacecolor() == "white"] += list(line.get_xdata())
        np.testing.assert_allclose(line.get_ydata(), median[line.get_xdata()])
    filled, hollow = shown[False], shown[True]
    assert len(filled) >= 2 and hollow
    assert max(filled) <= end_inside and all(dose > end_inside for dose in hollow)


def test_embedding_keeps_every_point_and_its_colour(ax):
    colours = {"control": "#999999", "treated": "#D55E00", "predicted": "#0072B2"}
    rng = np.random.default_rng(0)
    points, groups = (
        rng.normal(size=(300, 2)),
        np.array(["control", "treated", "predicted"])[rng.integers(3, size=300)],
    )
    panels.embedding(ax, points, pd.Series(groups, dtype="category"), colours=colours)
    legend = {line.get_label(): rgb(line.get_color()) for line in ax.lines}
    assert set(legend) == {"control", "treated", "predicted"} and len(set(legend.values())) == 3
    assert legend == {g: rgb(c) for g, c in colours.items()}
    drawn = {
        tuple(p): tuple(c[:3])
        for p, c in zip(ax.collections[0].get_offsets().data, ax.collections[0].get_facecolors())
    }
    assert drawn == {tuple(p): legend[g] for p, g in zip(points, groups)}


def test_embedding_draws_the_groups_in_a_mixed_order(ax):
    panels.embedding(
        ax,
        np.column_stack([np.arange(200), np.arange(200)]),
        ["first"] * 100 + ["second"] * 100,
        colours={"first": "red", "second": "blue"},
    )
    is_first = ax.collections[0].get_offsets().data[:, 0] < 100
    assert 30 < is_first[:100].sum() < 70


def test_models_legend_names_each_model_once_in_the_order_asked_for():
    fig, (left, right) = plt.subplots(1, 2)
    for ax in (left, right):
        panels.intervals(ax, summaries(), "mechanism")
    panels.models_legend(fig, [left, right], ["ridge", "vae", "boosting"])
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["ridge", "VAE"]
    plt.close(fig)


def test_a_board_writes_each_score_leaves_missing_ones_empty_and_says_why():
    columns = pd.MultiIndex.from_product([["held_out", "pairs"], ["linear", "hill"]])
    values = pd.DataFrame(
        [[-0.0012, -3.2, -0.237, -500], [np.nan] * 4], index=["ridge", "scgen"], columns=columns
    )
    fig, axes = style.figure("a", 89, 40)
    panels.board(axes["a"], values, notes={"scgen": "asked about drugs"})
    at = {
        (round(t.get_position()[0]), round(t.get_position()[1])): t.get_text()
        for t in axes["a"].texts
        if t.get_text() != "a"
    }
    assert [at[column, 0] for column in range(4)] == ["0.00", "−3", "−.24", "≪0"]
    assert at[0, 1] == "asked about drugs" and (1, 1) not in at
    assert [t.get_text() for t in axes["a"].get_yticklabels()] == ["ridge", "scGen"]
    assert {"held-out cells", "pairs of genes"} & {t.get_text() for t in axes["a"].texts}


@pytest.mark.parametrize(
    "values, numeric, log",
    [
        ([1, 10, 100], True, True),
        ([1, 2, 3], True, False),
        ([0, 10, 100], True, False),
        (["x", "y"], False, False),
        ([True, False], False, False),
    ],
)
def test_numbers_have_a_place_on_an_axis_and_words_come_in_a_row(values, numeric, log):
    found = panels._places(pd.DataFrame({"a": values}), "a")
    assert (found.numeric, found.log) == (numeric, log)
    at = found.at(pd.Series(values), 0.0)
    np.testing.assert_array_equal(at, values if numeric else range(len(values)))
    moved = [found.at(pd.Series(values), shift) for shift in (-0.5, 0.5)]
    assert (moved[0] <= at).all() and (moved[1] >= at).all() and (moved[1] > moved[0])[-1]
