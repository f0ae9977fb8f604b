# %% [markdown]
# # 6. Sweeps: how many cells, how many zeros, which VAE, how many genes?
#
# **Question.** The other notebooks ask at one place: 10,000 cells, 20 base genes, 80 % zeros. What of their answers
# holds elsewhere?
#
# **What is done.** Three sweeps run notebook 05 again and again, at other parameters and with three seeds each (new genes,
# weights, cells and initial weights): `./run_all.sh sweep cells`, `vae` and `genes`. What is swept stands in
# `workflow/sweeps/`, and the tables that they write are drawn here. Everything is scored as in notebook 05: the exact KL to the true law after
# $do(x_i = v)$ at doses inside those of training, as the share of the marginal's KL that a model removes.
#
# Intervals are 95 %, by Student's t over three seeds, and wide for that: differences smaller than these aren't told apart.

# %% tags=["parameters"]
tables_dir: str = "figures/tables"  # where the tables of the sweeps are
figures_dir: str = "figures"  # figures go here

# %%
import os
import sys

os.chdir(".." if os.path.basename(os.getcwd()) == "notebooks" else ".")
sys.path.insert(0, os.getcwd())

import pandas as pd

from lib import checks, metrics, plotting, sweeps

names = ["06_cells", "06_vae", "06_genes"]
checks.parameters(
    globals() | {"names": names.append},
    tables_dir=lambda name, value: checks.files(name, value, names, "run ./run_all.sh sweep cells, vae and genes first"),
    figures_dir=checks.writable_folder,
)
cells, vae, genes = (metrics.read(f"{tables_dir}/{name}.csv") for name in names)


# %% [markdown]
# ## Cells and zeros: where does learning the mechanism start to pay?

# %%
swept = ["zero_rate", "n_cells", "seed"]
means = sweeps.summary(cells, swept)
known_form = {"where": {"mechanism": ["linear", "interaction", "hill"]}}
fig = sweeps.figure(means, swept, [known_form, {"where": {"mechanism": "gate"}}])
plotting.save(fig, figures_dir, "fig6_cells_and_zeros")
