# %% [markdown]
# # 1. Generative modelling: does a VAE recover the laws that the counts came from?
#
# **Question.** Counts are drawn from known zero-inflated negative binomial (ZINB) laws. A variational
# autoencoder (VAE) is trained on the counts alone. Are the parameters that it decodes the true ones?
#
# **What is done.** A count $k$ of gene $g$ follows
#
# $$ P(k) = \pi_g\,[k = 0] + (1 - \pi_g)\,\mathrm{NB}(k;\, \mu_g, \theta_g), \qquad
#    \mathrm{Var}_\mathrm{NB} = \mu_g + \mu_g^2/\theta_g, $$
#
# with $\mu_g$ and $1/\theta_g$ drawn uniformly, and $\pi_g$ solved so that the wanted share of all counts
# is zero. The VAE minimises the negative evidence lower bound (ELBO), a sum over genes,
#
# $$ -\mathbb E_{q(z \mid k)} \sum_g \log p(k_g \mid z) \;+\; \beta\, \mathrm{KL}\bigl(q(z \mid k)\,\|\,\mathcal N(0, I)\bigr),
#    \qquad \beta = 1. $$
#
# Its decoded parameters are scored against the truth beside two references: the
# **maximum-likelihood** law of each gene, about as good as these cells allow, and one **constant** law
# for all genes.

# %% tags=["parameters"]
seed: int = 2026  # everything random comes from it
replicates: int = 10  # new genes, cells and initial weights each
n_cells: int = 10_000  # cells to train on
n_genes: int = 20  # genes
zero_rate: float = 0.8  # share of zeros of every gene
mu_range: list = [1.0, 10.0]  # counts
dispersion_range: list = [0.5, 2.0]  # 1 / theta
n_cell_types: int = 3  # of the data set that has several
n_type_genes: int = 50  # its genes
type_zero_rate: float = 0.6  # its share of zeros of every gene
type_dispersion_range: list = [0.1, 0.5]  # its 1 / theta
betas: list = [0.02, 0.1, 0.3, 1.0]  # weights of the KL term; 1 is the ELBO
max_epochs: int = 40  # of each network
counts: str = ""  # path of an .h5ad of real raw counts; empty for the PBMC data that scanpy ships
device: str = "auto"  # auto, cpu or cuda
figures_dir: str = "figures"  # figures go here, tables to tables/ in it

# %%
import os
import sys

os.chdir(".." if os.path.basename(os.getcwd()) == "notebooks" else ".")
sys.path.insert(0, os.getcwd())

import anndata as ad
import numpy as np
import pandas as pd
import scipy.special
import torch

from lib import dataset
from lib.laws import ZINB, maximum_likelihood
from lib.predict import neural
from lib.score import tables
from lib.show import panels, style
from lib.seeds import stream
from workflow import parameters

parameters.check("01_generative_modelling", globals())
torch.set_num_threads(1)  # another number of threads would give other last digits


# %% [markdown]
# ## Replicates
# In each, one data set of a single cell type, on which the VAE is trained at every $\beta$ (one hidden layer, a learning rate
# that rises and falls once), and one of several cell types, of which the VAE isn't told. There, maximum likelihood is told, and fits each
# type apart; **bayes** knows the true law of each type, and is told neither: it weighs them by the
# posterior probability of the type given the cell's counts, which is the best that can be done. Its genes are less dispersed, and its VAE is warmed up (the KL term rises to its weight
# over the first epochs): where genes are as noisy as in the first data set, or without warm-up, the
# VAE doesn't find the types at all.


# %%
def squared_errors(true, estimate, **keys):
    pairs = {
        "mse_mu": (estimate.mu, true.mu),
        "mse_log_theta": (np.log(estimate.theta), np.log(true.theta)),
        "mse_pi": (estimate.pi, true.pi),
    }
    return pd.DataFrame(
        [{"metric": m, "value": np.mean((a - b) ** 2), **keys} for m, (a, b) in pairs.items()]
    )


frames, shown = [], {}
for replicate in range(replicates):
    keys = {"split": "train", "replicate": replicate}
    options = {"device": device, "seed": (seed, replicate)}
    genes = {
        "target_zero_prob": zero_rate,
        "mu_range": mu_range,
        "dispersion_range": dispersion_range,
        "seed": (seed, replicate),
    }

    one = dataset.base_genes(n_cells, n_genes, **genes)
    true, likely, pooled = (
        dataset.law(one),
        maximum_likelihood.fit(one.X),
        maximum_likelihood.fit(dataset.dense(one.X).reshape(-1, 1)),
    )
    frames.append(
        squared_errors(true, likely, scenario="one_type", model="maximum_likelihood", **keys)
    )
    frames.append(squared_errors(true, pooled, scenario="one_type", model="constant", **keys))
    one_cycle = {
        "max_epochs": max_epochs,
        "learning_rate": 2e-2,
        "betas": (0.9, 0.99),
        "schedule": "one_cycle",
        "validation_fraction": 0.0,
    }
    for beta in sorted({*betas, 1.0}):
        vae = neural.VAE(
            vae_options={"beta": beta, "hide": 0.0, "n_layers": 1},
            training_options=one_cycle,
            **options,
        )
        estimate = vae.fit(one).reconstruct(one)
        if beta == 1:
            frames.append(squared_errors(true, estimate, scenario="one_type", model="vae", **keys))
        if beta in betas:
            frames.append(
                squared_errors(true, estimate, scenario=f"beta={beta:g}", model="vae", **keys)
            )
        if replicate == 0 and beta in (min(betas), 1):
            shown[beta] = (true, likely, estimate)

    print(f"replicate {replicate + 1}/{replicates}: one type", flush=True)

    genes |= {
        "target_zero_prob": type_zero_rate,
        "dispersion_range": type_dispersion_range,
        "n_cell_types": n_cell_types,
        "seed": (seed, replicate, 1),
    }
    several = dataset.base_genes(
        n_cells // n_cell_types, n_type_genes, **genes, marker_fraction=1.0
    )
    true = dataset.law(several)
    types = several.obs["cell_type"].to_numpy()
    apart = dict(
        zip(
            pd.unique(types),
            (maximum_likelihood.fit(several.X[types == t]) for t in pd.unique(types)),
        )
    )
    likely = ZINB(*(np.stack([getattr(apart[t], p) for t in types]) for p in ("mu", "theta", "pi")))
    frames.append(
        squared_errors(true, likely, scenario="several_types", model="maximum_likelihood", **keys)
    )
    frames.append(
        squared_errors(
            true,
            maximum_likelihood.fit(several.X),
            scenario="several_types",
            model="marginal",
            **keys,
        )
    )
    of_type = [dataset.law(several[types == t])[0] for t in pd.unique(types)]
    log_likelihood = np.stack(
        [law.log_prob(dataset.dense(several.X)).sum(1) for law in of_type], axis=1
    )
    weight = scipy.special.softmax(log_likelihood, axis=1)
    expected = ZINB(
        weight @ [law.mu for law in of_type],
        np.exp(weight @ [np.log(law.theta) for law in of_type]),
        weight @ [law.pi for law in of_type],
    )
    frames.append(squared_errors(true, expected, scenario="several_types", model="bayes", **keys))
    training_options = {
        "max_epochs": max_epochs,
        "warmup": min(10, max_epochs - 1),
        "learning_rate": 3e-3,
    }
    vae = neural.VAE(vae_options={"hide": 0.0}, training_options=training_options, **options).fit(
        several
    )
    frames.append(
        squared_errors(
            true, vae.reconstruct(several), scenario="several_types", model="vae", **keys
        )
    )
    if replicate == 0:
        generated = ad.AnnData(
            vae.generate(several.n_obs, seed=(seed, replicate)).astype(np.float32),
            var=several.var[[]],
        )
        simulated = several
    print(
        f"replicate {replicate + 1}/{replicates}: several types, {len(vae.history)} epochs",
        flush=True,
    )

# %% [markdown]
# ## Simulated and generated cells
# Cells generated by the VAE, from $z$ drawn from its prior, beside the simulated ones of several
# types: both normalised, log-transformed, and embedded together by PCA and UMAP.

# %%
import scanpy as sc


def embedded(groups, n_each=1500):
    cells = ad.concat(
        {name: a[:: max(1, a.n_obs // n_each)] for name, a in groups.items()},
        label="source",
        index_unique="-",
    )
    cells = ad.AnnData(dataset.dense(cells.X), obs=cells.obs)
    sc.pp.filter_cells(cells, min_counts=1)
    sc.pp.normalize_total(cells, target_sum=100)
    sc.pp.log1p(cells)
    sc.pp.pca(cells, n_comps=min(10, min(cells.shape) - 1), random_state=0)
    sc.pp.neighbors(cells, n_pcs=3, random_state=0)  # what sets types apart; the rest is noise
    sc.tl.umap(cells, random_state=0)
    return cells


print("stage embedding", flush=True)
cells = embedded({"simulated": simulated, "generated": generated})

# %% [markdown]
# ## Real counts
# How well does a ZINB describe real counts? Each gene is fitted by a Poisson, a negative binomial
# and a ZINB law; the misfit is the total variation distance between the observed and the fitted
# distribution, $\frac12 \sum_k |\hat p(k) - p(k)|$. Beside it stands the misfit that sampling alone
# gives: counts drawn from the fitted ZINB, and fitted again, five times. Then cells are simulated from the
# fitted laws, gene by gene, within each cell type where there are labels.

# %%
real = dataset.read_counts(counts) if counts else dataset.pbmc_counts()
label = "bulk_labels" if "bulk_labels" in real.obs else None


def misfit(counts, law):
    counts = dataset.dense(counts).astype(int)
    law_table = law.pmf_table(counts.max() + 1)
    observed = np.stack(
        [np.bincount(column, minlength=counts.max() + 1) for column in counts.T]
    ) / len(counts)
    return 0.5 * (np.abs(observed - law_table).sum(-1) + 1 - law_table.sum(-1))


print("stage real counts", flush=True)
fitted = maximum_likelihood.fit(real.X)
laws = {
    "Poisson": ZINB(fitted.mean, 1e8, 0.0),
    "NB": maximum_likelihood.fit(real.X, zero_inflated=False),
    "ZINB": fitted,
}
misfits = pd.DataFrame(
    {name: misfit(real.X, law) for name, law in laws.items()}, index=real.var_names
)
rng = stream(seed, "counts redrawn")
redrawn = [fitted.sample(rng, real.shape) for _ in range(5)]
misfits["sampling alone"] = np.mean(
    [misfit(again, maximum_likelihood.fit(again)) for again in redrawn], axis=0
)
simulated_real = dataset.base_genes_from_counts(real, cell_type_key=label, seed=seed)
beside = embedded({"real": real, "simulated": simulated_real})
frames += [
    pd.DataFrame(
        [
            {
                "scenario": "real_counts",
                "model": name,
                "metric": "total_variation",
                "value": misfits[name].mean(),
            }
        ]
    )
    for name in misfits
]
table = tables.tidy(frames)
summary = tables.summary(table)
tables.write(table, f"{figures_dir}/tables/01_parameter_recovery.csv")

# %% [markdown]
# ## Figure 1

# %%
import seaborn as sns

print("stage figure", flush=True)
fig, axes = style.figure(
    [["a", "a2", "a3", "b"], ["c", "c2", "d", "e"], ["f", "g", "g2", "h"]], 183, 140
)
true, likely, estimate = shown[1]
one_law = ZINB(true.mu[0], true.theta[0], true.pi[0])
for key, parameter, symbol in (("a", "mu", "μ"), ("a2", "theta", "θ"), ("a3", "pi", "π")):
    ax, truth = axes[key], getattr(one_law, parameter)
    values = {
        "maximum_likelihood": getattr(likely, parameter),
        "vae": np.median(getattr(estimate, parameter), axis=0),
    }
    ends = [
        min(truth.min(), *map(np.min, values.values())),
        max(truth.max(), *map(np.max, values.values())),
    ]
    ax.plot(ends, ends, color=style.TRUTH, lw=0.6, ls="--")
    for (name, value), marker in zip(values.items(), "so"):
        ax.plot(
            truth,
            value,
            marker,
            ms=3,
            color=style.COLOURS[name],
            mfc="none" if marker == "s" else None,
            mew=0.7,
            label=style.label(name),
        )
    ax.set(xlabel=f"true {symbol}", ylabel=f"estimated {symbol}")
axes["a"].legend(loc="upper left")

path = summary[summary["scenario"].str.startswith("beta=") & (summary["metric"] == "mse_mu")]
beta = path["scenario"].str.removeprefix("beta=").astype(float)
axes["b"].errorbar(
    beta,
    path["mean"],
    np.abs(path[["ci_low", "ci_high"]].to_numpy().T - path["mean"].to_numpy()),
    fmt="o-",
    ms=3,
    lw=0.8,
    color=style.COLOURS["vae"],
)
for name in ("constant", "maximum_likelihood"):
    level = summary.query("scenario == 'one_type' and metric == 'mse_mu' and model == @name")[
        "mean"
    ].item()
    axes["b"].axhline(level, color=style.COLOURS[name], lw=0.8)
    axes["b"].annotate(
        style.label(name),
        (beta.min(), level),
        (0, 2),
        textcoords="offset points",
        fontsize=5,
        color=style.COLOURS[name],
    )
axes["b"].annotate(
    "VAE",
    (beta.iloc[0], path["mean"].iloc[0]),
    (4, 3),
    textcoords="offset points",
    fontsize=5,
    color=style.COLOURS["vae"],
)
axes["b"].set(
    xscale="log",
    yscale="log",
    xlabel="β, weight of the KL term",
    ylabel="squared error of μ (counts²)",
)

copied = shown[min(betas)][2]
seen = dataset.dense(
    dataset.base_genes(n_cells, n_genes, zero_rate, mu_range, dispersion_range, seed=(seed, 0)).X
)
for key, est, name in (("c", copied, f"β = {min(betas):g}"), ("c2", estimate, "β = 1")):
    positive = np.flatnonzero(seen[:, 0])
    axes[key].plot(
        seen[positive, 0],
        est.mu[positive, 0],
        "o",
        ms=1.2,
        mec="none",
        alpha=0.35,
        rasterized=True,
        color=style.COLOURS["vae_copying" if key == "c" else "vae"],
    )
    axes[key].axhline(one_law.mu[0], color=style.TRUTH, lw=0.6, ls="--")
    axes[key].set(
        xlabel="count that was seen",
        ylabel="decoded μ, one gene",
        title=name,
        xlim=(0, None),
        ylim=(0, 1.05 * max(copied.mu[:, 0].max(), one_law.mu[0])),
    )
axes["c2"].annotate(
    "true μ",
    (1, one_law.mu[0]),
    (0, 2),
    xycoords=("axes fraction", "data"),
    textcoords="offset points",
    ha="right",
    fontsize=5,
)

groups = {"simulated": style.COLOURS["simulated"], "generated": style.COLOURS["vae"]}
panels.embedding(axes["d"], cells.obsm["X_umap"], cells.obs["source"], colours=groups)
axes["d"].legend(loc="lower left", bbox_to_anchor=(0.1, 0.99), ncols=2, columnspacing=0.8)
counted = {"simulated": dataset.dense(simulated.X), "generated": dataset.dense(generated.X)}
for name, values in counted.items():
    share = np.bincount(values.astype(int).ravel(), minlength=41)[:41] / values.size
    axes["e"].plot(
        np.arange(41),
        share,
        color=groups[name],
        lw=1,
        ls="--" if name == "simulated" else "-",
        label=name,
    )
axes["e"].set(yscale="log", xlabel="count, all genes", ylabel="share of counts")
axes["e"].legend()

sns.boxplot(misfits, color="0.85", fliersize=0, linewidth=0.6, width=0.6, ax=axes["f"])
axes["f"].set_xticks(range(4), ["Poisson", "NB", "ZINB", "sampling\nalone"])
axes["f"].set(
    ylabel="total variation distance", title="real counts, gene by gene", xlabel="", ylim=(0, 0.25)
)
groups = {"real": style.COLOURS["real"], "simulated": style.COLOURS["simulated"]}
both = {"real": dataset.dense(real.X), "simulated": dataset.dense(simulated_real.X)}
for name, values in both.items():
    mean, variance = values.mean(0), values.var(0)
    axes["g"].plot(
        mean[mean > 0],
        variance[mean > 0],
        "o",
        ms=1.5,
        mec="none",
        alpha=0.5,
        color=groups[name],
        label=name,
        rasterized=True,
    )
    axes["g2"].plot(
        mean[mean > 0],
        (values == 0).mean(0)[mean > 0],
        "o",
        ms=1.5,
        mec="none",
        alpha=0.5,
        color=groups[name],
        rasterized=True,
    )
axes["g"].set(xscale="log", yscale="log", xlabel="mean count of a gene", ylabel="variance")
axes["g"].legend(markerscale=2)
axes["g2"].set(xscale="log", xlabel="mean count of a gene", ylabel="share of zeros")
panels.embedding(
    axes["h"], beside.obsm["X_pca"][:, :2], beside.obs["source"], colours=groups, name="PC"
)
axes["h"].legend(loc="lower left", bbox_to_anchor=(0.1, 0.99), ncols=2, columnspacing=0.8)
style.save(fig, figures_dir, "fig1_parameter_recovery")


# %% [markdown]
# **Figure 1.** **a**, True and estimated $\mu$, $\theta$, $\pi$ of each gene (first replicate). **b**, Error
# of the decoded $\mu$ over $\beta$; mean and 95 % interval over replicates. **c**, Decoded $\mu$ of one
# gene in each cell against the count that the encoder saw there: with a small $\beta$ the VAE copies.
# **d**, Simulated cells of several types and cells generated from the prior (UMAP); **e**, their counts.
# **f**, Misfit of three families of laws on real counts, a box over genes; **g**, mean, variance and
# zeros of real and simulated genes; **h**, real and simulated cells (PCA).

# %% [markdown]
# ## The numbers
# Squared errors of the parameters, mean and 95 % interval over replicates. One cell type:


# %%
def readable(scenario):
    part = summary[summary["scenario"] == scenario].assign(mechanism="")
    return pd.concat(
        [tables.readable(part, m, columns="metric") for m in ("mse_mu", "mse_log_theta", "mse_pi")],
        axis=1,
    )


readable("one_type")

# %% [markdown]
# The error of the VAE's $\mu$ in units of that of maximum likelihood on the same cells: the ratio of the
# means over replicates, and mean and 95 % interval of the ratio of each replicate.

# %%
errors = (
    table.query("metric == 'mse_mu' and scenario == 'one_type'")
    .pivot(index="replicate", columns="model", values="value")
    .astype(float)
)
ratio = (
    (errors["vae"] / errors["maximum_likelihood"])
    .rename("value")
    .reset_index()
    .assign(metric="ratio", model="vae")
)
print(f"ratio of the means {errors['vae'].mean() / errors['maximum_likelihood'].mean():.2f}")
print("ratio of each", tables.readable(tables.summary(tables.tidy([ratio])), "ratio").iloc[0, 0])

# %% [markdown]
# Several cell types (the marginal is maximum likelihood that ignores the types):

# %%
readable("several_types")

# %% [markdown]
# Over $\beta$:

# %%
tables.readable(
    summary[summary["scenario"].str.startswith("beta=")], "mse_mu", rows="scenario", columns="model"
)

# %% [markdown]
# Real counts: mean total variation distance over genes. There is one real data set, so these have no
# interval over replicates.

# %%
misfits.mean().round(3).to_frame("total variation distance")

# %% [markdown]
# ## What it shows
# In the default run:
#
# - **With the true ELBO the VAE recovers the laws as well as maximum likelihood does.** Over ten replicates its
#   squared error of $\mu$ is 0.98 times that of maximum likelihood on the same cells (0.034 against 0.035 counts²; one
#   constant: 7.4), from 0.90 to 1.06 in each, and those of $\theta$ and $\pi$ are the same too.
# - **Below $\beta = 1$ it copies.** At $\beta = 0.02$ the decoded $\mu$ follows the count that the encoder saw
#   (Figure 1c), and is five times as far from the truth as one constant for all genes. At $\beta = 0.3$ it
#   is no better. A longer training makes it worse, since it copies more exactly.
# - **With several cell types it finds most of what there is to find, not all**: the error of $\mu$ falls from 4.8
#   (a law that ignores the types) to 1.05. The best that can be done without being told the types is 0.26
#   (bayes); maximum likelihood that is told them has 0.014. Here the VAE loses to the simplest method,
#   given labels.
# - **Generated cells** have the counts of simulated ones and can't be told from them by UMAP, which isn't a
#   strong test: with so much dropout it shows not even the cell types as groups.
# - **Real counts** of these blood cells are described by a ZINB almost as well as sampling allows (total
#   variation 0.017, of which 0.013 is sampling); a Poisson law is far off (0.105), a negative binomial
#   close (0.021). Simulated gene by gene within the labelled types, cells have the means, variances and
#   zeros of real ones, and fall where these fall on the first components, but closer together: what is
#   missing is all that genes share within a type.
