# %% [markdown]
# # 2. A mechanistic gene: does the model learn what the gene depends on?
#
# **Question.** A gene whose mean is a function of other genes' counts has another law in every cell.
# A model that has learned the function knows that law from the other genes alone. Which models do?
#
# **What is done.** To independent base genes we add five *mechanistic* genes $g$, each with all base
# genes $x$ as its parents,
#
# $$ k_g \mid x \sim \mathrm{ZINB}\bigl(\mu_g(x),\, \theta_g,\, \pi_g\bigr), $$
#
# | mechanism | $\mu_g(x)$ |
# |---|---|
# | linear | $\max(0.1,\; w \cdot x)$ |
# | polynomial | $\max(0.1,\; w \cdot x + s \cdot x^2)$ |
# | interaction | $\max(0.1,\; w \cdot x + \sum_j v_j\, x_{a(j)}\, x_{b(j)})$ |
# | hill | $0.1 + t\, a^n / (h^n + a^n)$ with $a = w \cdot x$, $w \ge 0$ |
# | threshold | high where $w \cdot x$ is above a cut, else low |
#
# and a sixth, whose *dispersion* is mechanistic too: $\mu$ linear, $\theta$ a Hill function of $x$.
# Every model is trained on all genes at once and predicts the law of each mechanistic gene in cells
# that it has never seen, from the base genes' counts. The prediction is scored against the true law
# of that gene in that cell, not against a count drawn from it.

# %% tags=["parameters"]
seed: int = 2026  # everything random comes from it
replicates: int = 10  # new genes, weights, cells and initial weights each
n_cells: int = 10_000  # to train on
n_test: int = 1000  # held out
n_genes: int = 20  # base genes
zero_rate: float = 0.8  # share of zeros of every gene
mechanisms: list = [
    "linear",
    "polynomial",
    "interaction",
    "hill",
    "threshold",
]  # or module:function
max_epochs: int = 40  # of each network at most
device: str = "auto"  # auto, cpu or cuda
figures_dir: str = "figures"  # figures go here, tables to tables/ in it
data_dir: str = "build/full/data"  # data sets and models, for notebook 03

# %%
import os
import sys

os.chdir(".." if os.path.basename(os.getcwd()) == "notebooks" else ".")
sys.path.insert(0, os.getcwd())

import pandas as pd
import torch

from lib import dataset
from lib.predict import guard, registry
from lib.score import distances, tables
from lib.show import panels, style
from workflow import parameters

parameters.check("02_mechanistic_gene", globals())
torch.set_num_threads(1)  # another number of threads would give other last digits

# %% [markdown]
# ## The models
#
# - **oracle**: the true law, distance 0. **marginal**: the one law fitted to the gene's counts in
#   training, skill 0.
# - **ridge**, **neighbours** (nearest), **boosting** (trees, Poisson loss) predict the mean count
#   $(1-\pi)\mu$; $\theta$ and $\pi$ are fitted around it. **ZINB regression** has the linear mechanism's
#   own form, so it should win there and only there.
# - **VAE**: $z \sim \mathcal N(0, I)$, $k_g \mid z \sim \mathrm{ZINB}$, trained on the ELBO
#   $\sum_g \log p(k_g \mid z) - \beta\,\mathrm{KL}$ with $\beta = 1$; **copying** has $\beta = 0.02$;
#   **conditional** is trained on $\log p(k_\text{hidden} \mid z)$, $z \sim q(z \mid k_\text{visible})$
#   alone: a bound on the conditional likelihood in which the encoder is prior and posterior at once.
#   In all of them the mechanistic genes are masked in the encoder's input, in training and in
#   prediction.
# - **leaky**: the copying VAE with the count that it predicts left in its input.

# %%
frames, shown = [], {}
for replicate in range(replicates):
    train = dataset.base_genes(n_cells, n_genes, zero_rate, seed=(seed, replicate))
    base = list(train.var_names)
    for mechanism in mechanisms:
        train = dataset.get_mech_dataset(
            train, mechanism, target_zero_prob=zero_rate, seed=(seed, replicate)
        )
    train = dataset.get_mech_dataset(
        train,
        "linear",
        gene="mech_dispersion",
        theta_mechanism="hill",
        target_zero_prob=zero_rate,
        seed=(seed, replicate),
    )
    test = dataset.fresh_cells(train, n_test, seed=(seed, replicate, 1))

    options = {"max_epochs": max_epochs, "patience": 3, "learning_rate": 5e-3}
    setting = {
        "inputs": base,
        "device": device,
        "seed": (seed, replicate),
        "training_options": options,
    }
    rows = registry.rows("basic") + registry.rows("leaky")
    models = guard.models(rows, "conditional", **setting)
    for name, model in models.items():
        model.fit(train)
        if hasattr(model.model, "history"):
            print(
                f"replicate {replicate + 1}/{replicates}: {name}, {len(model.model.history)} epochs",
                flush=True,
            )

    for gene, kind in dataset.kinds(train).items():
        true = dataset.law(test, gene)[:, 0]
        predictions = {name: model.law(test, gene) for name, model in models.items()}
        scores = distances.scores(true, predictions, dataset.dense(test[:, gene].X)[:, 0])
        scenario = "mechanistic_dispersion" if gene == "mech_dispersion" else "mechanistic_gene"
        frames.append(
            scores.assign(
                scenario=scenario, mechanism=kind, gene=gene, split="held_out", replicate=replicate
            )
        )
        if replicate == 0:
            shown[gene] = (true, predictions)

    train.write_h5ad(f"{data_dir}/02_train_{replicate}.h5ad")
    for name in registry.keys("saved"):
        models[name].model.save(f"{data_dir}/02_{name}_{replicate}.pt")

table = tables.tidy(frames)
summary = tables.summary(table)
tables.write(table, f"{figures_dir}/tables/02_mechanism.csv")

# %% [markdown]
# ## Figure 2

# %%
import seaborn as sns

models_shown = registry.keys("basic", "compared")
first = next(iter(shown))
scatter = registry.keys("basic", "scatter")
fig, axes = style.figure(
    [["a", "a2", "a3", "a4"], ["b", "b", "b", "b"], ["c", "d", "e", "e"]],
    183,
    150,
    height_ratios=[1, 1, 1],
)
for ax, name in zip((axes[k] for k in ("a", "a2", "a3", "a4")), scatter):
    true, predictions = shown[first]
    point = predictions[name].parameters()
    panels.against_truth(ax, true.mu, point.mu, name, log=True)
    ax.set(xlabel=f"true μ of {style.label(first)}", title=style.label(name))
axes["a"].set_ylabel("predicted μ")
axes["a"].set_title("a", loc="left", fontweight="bold", fontsize=style.LETTER)

skills = summary.query(
    "metric == 'skill_kl' and model in @models_shown and scenario == 'mechanistic_gene'"
)
panels.intervals(axes["b"], skills, "mechanism")
axes["b"].axhline(0, color="0.6", lw=0.5)
axes["b"].axhline(1, color=style.TRUTH, lw=0.6, ls="--")
axes["b"].text(
    0.995,
    1.01,
    "oracle",
    transform=axes["b"].get_yaxis_transform(),
    ha="right",
    va="bottom",
    fontsize=5,
)
axes["b"].text(
    0.995,
    -0.01,
    "marginal",
    transform=axes["b"].get_yaxis_transform(),
    ha="right",
    va="top",
    fontsize=5,
    color="0.5",
)
axes["b"].set(ylabel="skill (KL), held-out cells", ylim=(-0.08, 1.12))
axes["b"].legend(ncols=7, loc="upper left", bbox_to_anchor=(0.03, 1.15), columnspacing=1)

true, predictions = shown["mech_dispersion"]
for name in registry.keys("dispersion"):
    axes["c"].plot(
        true.theta,
        predictions[name].parameters().theta,
        "o",
        ms=1.2,
        alpha=0.35,
        mec="none",
        color=style.COLOURS[name],
        label=style.label(name),
        rasterized=True,
    )
ends = [true.theta.min(), true.theta.max()]
axes["c"].plot(ends, ends, color=style.TRUTH, lw=0.6, ls="--")
axes["c"].set(
    xscale="log", yscale="log", xlabel="true θ, mechanistic dispersion", ylabel="predicted θ"
)
axes["c"].legend(loc="upper left", markerscale=3)

true, predictions = shown[first]
box_models = [m for m in models_shown if m != "vae_copying"]
pi = pd.concat(
    [pd.DataFrame({"model": m, "pi": predictions[m].parameters().pi}) for m in box_models]
)
sns.boxplot(
    pi,
    x="pi",
    y="model",
    hue="model",
    palette=style.COLOURS,
    legend=False,
    fliersize=0,
    linewidth=0.6,
    width=0.6,
    ax=axes["d"],
)
axes["d"].axvline(true.pi[0], color=style.TRUTH, lw=0.6, ls="--")
axes["d"].set_yticks(range(len(box_models)), [style.label(m) for m in box_models])
axes["d"].set(xlabel=f"predicted π of {style.label(first)}", ylabel="")

wide = summary[summary["scenario"] == "mechanistic_gene"].pivot_table(
    index=["mechanism", "model"], columns="metric", values="mean", sort=False
)
wide["excess"] = wide["nll_nats"] - wide["nll_nats"].xs("oracle", level="model").reindex(
    wide.index, level="mechanism"
)
for name in [*models_shown, *registry.keys("leaky")]:
    part = wide.xs(name, level="model")
    axes["e"].plot(
        part["excess"], part["kl_nats"], "o", color=style.COLOURS[name], label=style.label(name)
    )
axes["e"].axvspan(axes["e"].get_xlim()[0], 0, color="0.93", lw=0, zorder=0)
axes["e"].set(
    yscale="log", xlabel="NLL of observed counts less the oracle's (nats)", ylabel="exact KL (nats)"
)
axes["e"].annotate(
    "better than the truth:\nonly by leakage",
    (0.04, 0.05),
    xycoords="axes fraction",
    fontsize=5,
    va="bottom",
)
axes["e"].annotate(
    "VAE, leaky",
    (part["excess"].mean(), part["kl_nats"].median()),
    (0, -16),
    textcoords="offset points",
    fontsize=5,
    color=style.COLOURS["vae_leaky"],
    ha="center",
)
style.save(fig, figures_dir, "fig2_mechanism")

# %% [markdown]
# **Figure 2.** **a**, Predicted against true $\mu$ of the first mechanistic gene in held-out cells of
# the first replicate; dashed, perfect. **b**, Share of the marginal's distance (KL) to the true law
# that each model removes; mean and 95 % interval over replicates. **c**, Predicted against true $\theta$
# where the dispersion is mechanistic. **d**, Predicted $\pi$ over cells; dashed, the truth.
# **e**, What one could measure without the truth (horizontal: how well observed held-out counts are
# predicted, against the oracle) and what is true (vertical: exact KL), a point for each mechanism.

# %% [markdown]
# ## The numbers
# Mean and 95 % interval over replicates, on held-out cells. First the skill by KL:

# %%
main = summary[summary["scenario"] == "mechanistic_gene"]
tables.readable(main, "skill_kl")

# %% [markdown]
# The mean squared error of $\mu$, in counts²:

# %%
tables.readable(main, "mse_mu")

# %% [markdown]
# Of $\pi$:

# %%
tables.readable(main, "mse_pi")

# %% [markdown]
# And of $\log\theta$. The true $\theta$ of these genes is 1000, nearly a Poisson law: any large value gives the
# same counts, so that this one says little.

# %%
tables.readable(main, "mse_log_theta")

# %% [markdown]
# The gene with the mechanistic dispersion (true $\theta$ from 0.1 to 20):

# %%
dispersion = summary.query(
    "scenario == 'mechanistic_dispersion' and metric in ['skill_kl', 'mse_mu', 'mse_log_theta', 'mse_pi']"
)
tables.readable(dispersion, "skill_kl", columns="metric").join(
    [
        tables.readable(dispersion, m, columns="metric")
        for m in ("mse_mu", "mse_log_theta", "mse_pi")
    ]
)

# %% [markdown]
# ## What it shows
# In the default run:
#
# - **The VAE trained on the ELBO learns nothing of any mechanism.** Its skill is 0.00 for all five: it
#   predicts the marginal law in every cell. The base genes are independent, so a code of them costs as
#   many nats as it saves, and what it would save on the six mechanistic genes doesn't pay for a code
#   precise enough to tell their laws. Every simple baseline beats it.
# - **With a small $\beta$ it learns some** (skill 0.42 to 0.64), and loses the marginal laws (notebook 1).
# - **Trained on the hidden genes alone it learns most** (0.63 to 0.83). The conditional VAE beats every
#   baseline on the polynomial, interaction, hill and threshold mechanisms; none of these is known to any
#   model here.
# - **On the linear mechanism it loses** to ZINB regression, which has that very form and is nearly
#   exact (0.996 against 0.76). Where the form is wrong, the same regression falls behind.
# - **Mean regressions** (ridge, neighbours, boosting) stay at 0.28 to 0.54: most of the counts of these
#   genes are zeros by dropout, which say nothing of the mean, and squared or Poisson loss weighs them
#   like any other count.
# - **Leakage** looks like the best model there is. Left with the count that it should predict, the VAE
#   predicts observed counts better than the true law does, which no honest prediction can, while its
#   exact distance to the law is on average 8 to 18 times that of one constant, though it varies much from
#   replicate to replicate. Where the truth isn't known, only
#   the first of these two numbers is there to be seen.
# - **Mechanistic dispersion**: none of the models predicts $\theta$ well. ZINB regression, with one
#   $\theta$ for all cells, has the smallest error of $\mu$ and the best skill (0.86). The conditional VAE
#   (0.76) gives each cell a $\theta$ of its own, and loses to that one constant by far (squared error of
#   $\log\theta$ 7.3 against 2.4): its $\theta$ also takes up what it gets wrong of $\mu$.
