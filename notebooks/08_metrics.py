# %% [markdown]
# # 8. The court of metrics: which published score ranks models as the truth does?
#
# **Question.** The field disagrees about who predicts perturbations best, because it disagrees
# about how to measure it. Miller et al. (2025, bioRxiv 2025.06.23.661105) and Schäfer et al. (2026,
# bioRxiv 10.64898/2026.07.23.740433) calibrate metrics on replicates and baselines; the Virtual
# Cell Challenge changed its metrics after a year. Here the law of every gene in an unseen arm is
# known, and so is the risk of every prediction. Metrics can be judged by it.
#
# **What is done.** Screens as in notebook 7b. Before the court stand all protocols of
# [scPertEval](https://scperteval.readthedocs.io) and all metrics of
# [cell-eval2](https://github.com/ArcInstitute/cell-eval2), by their own code at their documented
# defaults, the challenge's two suites, and what neither has, by its published definition:
# PerturBench's and Systema's ranks. Proper scores of laws (held-out NLL, CRPS) stand apart: they
# lead by construction.
#
# They must rank every model of notebook 7b, and a *zoo* of predictions whose quality is known: the
# truth with some cells unchanged, with effects of another size, with noise, with too little
# variance, on another scale; and tricks, which know nothing of an arm.
#
# *Exact risk* is the mean over arms and genes of the KL divergence of the predicted from the true
# law, as in notebook 7b; beside it stand that over affected genes alone, the squared error of the
# log mean, and the CRPS. Metrics are given 100 cells an arm, sampled from what was predicted.
#
# | charge | question |
# |---|---|
# | agreement | Kendall's tau-b between a score and the exact risk, over members within a network |
# | gaming | what a prediction gains that is truly worse; what one without skill reaches |
# | ceilings | what replicates, in place of a perfect prediction, are worth |
# | verdict | whether a model is put before the perturbed mean, and whether it should be |
# | power | cells and arms that it takes to order two models right |
# | expression | true false discoveries and power of the tests that scores are made of |

# %% [markdown]
# ![Figure 12](../figures/fig12_metrics.png)
#
# **Figure 12.** All metrics that rank (rows; s: of scPertEval, c: of cell-eval2), by charge, in the
# order of their agreement. **a**, Kendall's tau-b between a score and the exact risk, over models:
# with the KL of all genes (bars: 95 % intervals over networks) and of affected genes. **b**, The
# same over members with laws or cells of their own, and over all. **c**, The largest gain of a
# member of the zoo that is truly worse than what it is made from, and the best score that a
# prediction without skill reaches; the perturbed mean has 0, the truth 1; beyond the axis, an
# arrow. **d**, The fewest cells at which, and at all more, 95 % of pairs of models are ordered
# right whose risks are 20 to 50 % of the mean's apart; ∞, at none. **e**, What ceilings of
# replicates are worth, where as many new cells have 1: half of the cells against the other, and two
# samples with replacement.

# %% [markdown]
# ![Figure 13](../figures/fig13_cases.png)
#
# **Figure 13.** Four predictions that everyone should know. **a** to **d**, What is predicted of
# the arm of this run that moves the most genes: true effects times two; the mean profile in place
# of cells; the perturbed mean with the genes raised that the panel's other arms perturb; the true
# effects with noise of 0.1 on the log folds of all genes. **e** to **h**, What metrics say, with
# the perturbed mean at 0 and the truth at 1, beside the exact skill (1 less the risk over the
# mean's); values beyond -1 and 2 are drawn there. Arrows lead from the perturbed mean to the trick.

# %% tags=["parameters"]
seed: int = 2026  # everything random comes from it
replicates: int = 1  # networks
n_genes: int = 200  # genes of a network
n_regulators: int = 30  # regulators among them
n_arms: int = 40  # arms of one gene to train on, half of them regulators
n_pairs: int = 10  # pairs to train on
n_unseen: int = 12  # unseen genes asked about, half of them regulators
n_asked_pairs: int = 0  # pairs asked about, a third each with 2, 1 and 0 genes seen
n_strengths: int = 0  # regulators asked about at other strengths
n_cells: int = 100  # cells of each arm to train on
n_control: int = 2000  # control cells, of each type
n_cell_types: int = 1  # as in 07_screen
n_few: int = 20  # as in 07_screen
n_asked_types: int = 20  # as in 07_screen
divergence: float = 0.2  # as in 07_screen
strength: float = 0.8  # share of a gene's expression that knockdowns of training take away
depth: float = 1.0  # share of the reads
shift: float = 0.4  # of all perturbed cells in the stress program
control_bias: float = 0.0  # sd of log folds by which genes differ in controls
fidelity: float = 0.5  # share of the prior graph's edges that are true
regulation: str = "usual"  # how regulators act: usual, gates or switches
n_truth: int = 1000  # cells behind each exact law, twice
cells: list = [100]  # cells of an arm that metrics see; models alone at all but the first
infinite: bool = True  # ask metrics of means about exact means too
panels: list = ["unseen gene"]  # arms judged together: "unseen gene", "pair"
suites: list = ["vcc2025", "vcc2026"]  # challenges to score as well
with_zoo: bool = True  # predictions of known quality beside the models
ceilings: list = []  # cells of an arm at which replicates are tried
tests: list = []  # cells of an arm at which tests for differential expression are tried
models: list = []  # keys of the models to ask; empty for a few
every_model: bool = False  # all of them
model: str = ""  # one of your own, package.module:Class; see lib/predict/README.md
real_screen: str = ""  # an .h5ad of real cells, for the checks that need no truth
device: str = "auto"  # auto, cpu or cuda
known_dir: str = "figures/tables"  # its 08_court.csv and 08_dials.csv: more networks, if there
figures_dir: str = "figures"  # figures go here, tables to tables/ in it

# %%
import os
import sys

os.chdir(".." if os.path.basename(os.getcwd()) == "notebooks" else ".")
sys.path.insert(0, os.getcwd())

from lib import parameters
from lib.score import tables

parameters.check("08_metrics", globals())

# %% [markdown]
# ## The metrics

# %%
import pandas as pd

from lib.score.court import metrics

pd.set_option("display.max_rows", 200, "display.max_colwidth", 90)
before_court = pd.DataFrame(metrics.rows().values()).set_index("key")
before_court.groupby(["source", "takes"], sort=False).size().unstack(fill_value=0)

# %% [markdown]
# A row of each, with its direction, its range and what its authors say that it measures:

# %%
before_court[["takes", "better", "low", "high", "claims"]]

# %% [markdown]
# ## A live case
# One network. Every member is fitted or made, its exact risk computed, its cells drawn once, and
# every metric asked.

# %%
from dataclasses import fields

from lib.score.court import setting, trial
from lib.tasks import screen

given = globals()
design = screen.Design(**{field.name: given[field.name] for field in fields(screen.Design)})
asked_for = {field.name: given[field.name] for field in fields(setting.Setting)}
what = setting.Setting(**{k: tuple(v) if isinstance(v, list) else v for k, v in asked_for.items()})
frames, tried = [], []
for replicate in range(replicates):
    task = screen.Task(design, (seed, replicate), n_truth=n_truth)
    asked = {"models": models, "own": model, "seed": (seed, replicate), "device": device}
    tried.append(trial.trial(task, what, **asked))
    frames.append(tried[-1].table.assign(replicate=replicate))
    print(f"replicate {replicate + 1}/{replicates}", flush=True)
table = tables.tidy(frames)
tables.write(table, f"{figures_dir}/tables/08_metrics.csv")
live = tables.summary(table)

# %% [markdown]
# Who was asked, and their exact risk (KL, over the perturbed mean's):

# %%
from lib.score.court import charges, judgement, zoo

risk = live[(live["scenario"] == charges.RISKED) & (live["gene"] == "KL")]
risk = risk.set_index("model")["mean"].rename("risk").to_frame()
risk.insert(0, "what", [zoo.ROWS[key].label if key in zoo.ROWS else "" for key in risk.index])
risk.round(4)

# %% [markdown]
# Metrics without a score for some members, and why:

# %%
failed = pd.concat([verdicts.failed for each in tried for verdicts in each.verdicts.values()])
failed.groupby(["metric", "reason"])["member"].nunique().rename("members").to_frame()

# %% [markdown]
# ## The figures
# From the sweeps `court` and `court_dials` (`./run_all.sh sweep court`), beside this run's numbers.
# A run at other parameters or with a model of yours draws what it has computed itself.

# %%
from lib.show import style
from lib.show.figures import cases
from lib.show.figures import metrics as figure

print("stage figures", flush=True)
court, dials = judgement.known(known_dir)
as_committed = design == trial.LIVE and not model and len(court)
shown, panel = (court if as_committed else live), panels[0]
style.save(figure.figure(shown, panel), figures_dir, "fig12_metrics")

# %%
style.save(cases.figure(shown, tried[0].panels[panel], panel), figures_dir, "fig13_cases")

# %% [markdown]
# ## The numbers
# **Agreement, gaming, power, ceilings**, a row a metric; columns as `judgement.judged` says:

# %%
judged = judgement.judged(shown, panel)
judged.round(2)

# %% [markdown]
# **For which question is a metric the right one?** Agreement over models with each exact risk, and
# over some of the arms; the first metrics of each column:

# %%
judgement.questions(shown, panel).round(2).head(25)

# %% [markdown]
# **What metrics say of models** of this run, one of yours among them; the perturbed mean has 0 and
# the truth 1, and the exact skill stands first:

# %%
judgement.told(live, panel).round(2)

# %% [markdown]
# **The challenge's suites.** Scores of tricks with the perturbed mean at 0 and the truth at 1:

# %%
judgement.suites(shown, panel).round(2)

# %% [markdown]
# **Ceilings**, where as many new cells of the arm have 1, and the perturbed mean 0:

# %%
judgement.ceilings(shown, panel).round(2)

# %% [markdown]
# **Is the mean's win an artefact?** Share of networks in which a metric puts the learned network
# before the perturbed mean, as the shift that arms share is dialled; the exact risk's own verdict
# stands first:

# %%
judgement.flips(dials, "grn", "shift")

# %% [markdown]
# The same of no change, as controls are biased:

# %%
judgement.flips(dials, "no_change", "control_bias")

# %% [markdown]
# **Tests for differential expression**: of all genes called at a rate of 0.05, the share that are
# true nulls, and the share of truly affected genes that are called:

# %%
judgement.expression(shown).round(3)

# %% [markdown]
# ## A real screen
# The checks that need no truth: half of each arm's cells are measured, the other half is what a
# perfect prediction would be (1), and the mean of the other arms' cells has 0.

# %%
if real_screen:
    from lib.score.court import real, real_cells

    of_real = real.tricks(real_cells.read(real_screen), seed=seed)
    of_real = of_real.pivot(index="metric", columns="member", values="value")
of_real[list(real.MEMBERS)].round(2) if real_screen else "none given: -p real_screen cells.h5ad"
