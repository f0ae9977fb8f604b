"""One style for all figures: sizes in mm as printed, text of 5 to 7 pt, the truth black, a colour a model."""

import io
import os
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from IPython.display import Image

from lib.predict import registry

SMALL, MEDIUM, LARGE, LETTER = 5, 6, 7, 8  # pt
TRUTH = "black"
COLOURS = {row.key: row.colour for row in registry.ROWS} | {
    "true": TRUTH,
    "real": TRUTH,
    "simulated": "#882255",
    "constant": "#999999",
    "treated": "#D55E00",
    "control": "#999999",
    "predicted": "#0072B2",
}
OWN = registry.OWN  # a model that isn't among these
LABELS = {row.key: row.label for row in registry.ROWS} | {
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
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": MEDIUM,
    "axes.titlesize": MEDIUM,
    "axes.labelsize": MEDIUM,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "figure.titlesize": LARGE,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlepad": 3,
    "axes.labelpad": 2,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.minor.width": 0.3,
    "ytick.minor.width": 0.3,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.minor.size": 1,
    "ytick.minor.size": 1,
    "xtick.major.pad": 1.5,
    "ytick.major.pad": 1.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "perturbation-lab",
    "savefig.dpi": 300,
    "figure.dpi": 150,
}
mpl.rcParams.update(STYLE)


def label(key: str) -> str:
    """How a key of the tables is written in a figure."""
    return LABELS.get(key, str(key).replace("_", " "))


def plural(key: str) -> str:
    """A key of the tables as a word for several."""
    return f"{label(key)}s"


def figure(mosaic, width_mm: float, height_mm: float, **options) -> tuple[plt.Figure, dict[str, plt.Axes]]:
    """A figure of the given printed size and its axes by name; one-letter names become panel letters.

    mosaic, options : of `plt.subplot_mosaic`
    """
    fig, axes = plt.subplot_mosaic(mosaic, figsize=(width_mm / 25.4, height_mm / 25.4), layout="constrained", **options)
    fig.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02)
    for name, ax in axes.items():
        if len(name) == 1:
            ax.set_title(name, loc="left", fontweight="bold", fontsize=LETTER)
    return fig, axes


def save(fig: plt.Figure, folder: str | Path, name: str) -> Image:
    """Write <folder>/<name>.pdf, .svg and .png, the same bytes for the same figure; whole files or none.

    Text in the .svg is drawn as shapes, so that it looks the same where the font is missing. The figure is closed, and comes back as a
    picture for the screen, which a notebook shows below a cell that ends with this call.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    without = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "png": {"Software": None},
    }
    for kind, metadata in without.items():
        scratch = folder / f".{name}.{kind}"
        fig.savefig(scratch, format=kind, metadata=metadata)
        os.replace(scratch, folder / f"{name}.{kind}")
    screen = io.BytesIO()
    fig.savefig(screen, format="png", dpi=fig.dpi, metadata=without["png"])
    plt.close(fig)
    return Image(screen.getvalue())
