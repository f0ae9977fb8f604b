"""One style for all figures: sizes as printed, text of 5 to 7 pt, panel letters of 8."""

from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import PIL.Image

from lib import files
from lib.predict import registry

SMALL, MEDIUM, LARGE, LETTER = 5, 6, 7, 8  # pt
SYMBOLS = {"mu": "μ", "theta": "θ", "pi": "π"}
TRUTH = "black"
COLOURS = {row.key: row.colour for row in registry.ROWS} | {
    "true": TRUTH,
    "real": TRUTH,
    "simulated": "#882255",
    "constant": "#999999",
    "treated": "#D55E00",
    "control": "#999999",
    "predicted": "#0072B2",
    "as_intended": TRUTH,
    "as_labelled": "#CC79A7",
    "real half": TRUTH,
    "network": "#0072B2",
    "independent": "#999999",
    "scdesigner": "#E69F00",
}
OWN = registry.OWN  # a model that isn't among these
LABELS = {row.key: row.label for row in registry.ROWS} | {
    "real half": "other half, real",
    "independent": "independent genes",
    "scdesigner": "scdesigner",
    "bayes": "laws known, types not",
    "off_target": "off target",
    "mean_crps": "CRPS, mean of all",
    "held_out": "held-out cells",
    "do_inside": "do, inside",
    "do_beyond": "do, beyond",
    "skill_kl": "skill (KL)",
    "skill_crps": "skill (CRPS)",
    "mse_mu": "squared error of μ (counts²)",
    "base_genes": "base genes",
    "n_cells": "cells",
    "n_genes": "genes",
    "n_parents": "parents",
    "n_latent": "latent variables",
    "zero_rate": "share of zeros",
    "beta": "β, weight of the KL term",
}
mpl.rc("font", family="DejaVu Sans", size=MEDIUM)
mpl.rc("figure", titlesize=LARGE, dpi=150)
mpl.rc("axes", titlesize=MEDIUM, labelsize=MEDIUM, titlepad=3, labelpad=2, linewidth=0.5)
mpl.rc("axes.spines", top=False, right=False)
mpl.rc(("xtick", "ytick"), labelsize=SMALL)
mpl.rc(("xtick.major", "ytick.major"), width=0.5, size=2, pad=1.5)
mpl.rc(("xtick.minor", "ytick.minor"), width=0.3, size=1)
mpl.rc("lines", linewidth=1.0, markersize=3)
mpl.rc("legend", fontsize=SMALL, frameon=False, handlelength=1.2)
mpl.rc("savefig", dpi=150)  # and of what is drawn as pixels in a .pdf
mpl.rc("pdf", fonttype=42)
mpl.rc(
    "svg", fonttype="path", hashsalt="perturbation-lab"
)  # text as shapes, the same where the font is missing


def label(key: str) -> str:
    """How a key of the tables is written in a figure."""
    return LABELS.get(key, str(key).replace("_", " "))


def figure(
    mosaic, width_mm: float, height_mm: float, **options
) -> tuple[plt.Figure, dict[str, plt.Axes]]:
    """`plt.subplot_mosaic` of the given printed size; one-letter names become panel letters."""
    fig, axes = plt.subplot_mosaic(
        mosaic, figsize=(width_mm / 25.4, height_mm / 25.4), layout="constrained", **options
    )
    fig.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02)
    for name, ax in axes.items():
        if len(name) == 1:
            ax.set_title(name, loc="left", fontweight="bold", fontsize=LETTER)
    return fig, axes


class Picture(NamedTuple):
    """A saved figure: a notebook shows the picture, and keeps its path."""

    path: Path

    def _repr_png_(self):
        return self.path.read_bytes()

    def __repr__(self):
        return str(self.path)


def save(fig: plt.Figure, folder: str | Path, name: str) -> Picture:
    """Write <folder>/<name>.pdf, .svg and .png, the same bytes for the same figure.

    Whole files or none. The figure is closed, and comes back as a picture, which a notebook shows
    below a cell that ends with this call.
    """
    folder = Path(folder)
    without = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "png": {"Software": None},
    }
    for kind, metadata in without.items():
        with files.whole(folder / f"{name}.{kind}") as scratch:
            fig.savefig(scratch, format=kind, metadata=metadata)
            if kind == "png":
                _reduce(scratch)
    plt.close(fig)
    return Picture(folder / f"{name}.png")


def _reduce(path):
    """Give a .png the 256 colours that cover its own best: a quarter of its size."""
    picture = PIL.Image.open(path).convert("RGB")
    best = {"method": PIL.Image.Quantize.MAXCOVERAGE, "kmeans": 3, "dither": PIL.Image.Dither.NONE}
    picture.quantize(256, **best).save(path, "png", optimize=True)
