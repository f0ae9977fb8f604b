"""biolord (Piran et al. 2024, Nature Biotechnology 42): a cell for each control cell.

Architecture and optimiser are the package's defaults, but for `attribute_nn_lr` and
`attribute_nn_wd`, which it can't do without; they are from its authors' experiment with perturbed
genes (nitzanlab/biolord_reproducibility, the screen of Norman et al.). A perturbation is the
ordered attribute of that experiment, with the sum of the pack's embeddings in place of neighbours
in the Gene Ontology, times strength over the largest in training. Cell type is an attribute.

That experiment trains on one mean cell an arm and adds the effects of a pair; on two
small screens its error in validation was a third larger or more, so here all cells are trained on.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))
from peers import pack as packs

PATIENCE = 20  # epochs


def fit(pack, training, watch, options, seed):
    import biolord
    import lightning.pytorch as lightning
    import scvi

    scvi.settings.verbosity = 40  # errors alone
    scvi.settings.seed = seed
    top = pack.arms["strength"].max()
    cells = pack.cells[training].copy()
    cells.X = cells.X.toarray()
    share = cells.obs["strength"].to_numpy(np.float32) / top
    vectors = np.array([pack.vector(name) for name in cells.obs["perturbation"]])
    cells.obsm["embedding"] = vectors * share[:, None]
    biolord.Biolord.setup_anndata(
        cells, ordered_attributes_keys=["embedding"], categorical_attributes_keys=["cell_type"]
    )
    model = biolord.Biolord(cells, n_latent=32, module_params={"seed": seed})
    row = np.cumsum(training) - 1  # of the model's own cells, whose latent codes it has

    def predict(arm, controls):
        asked = cells[row[controls]].copy()
        vector = pack.vector(arm.perturbation) * (arm.strength / top)
        asked.obsm["embedding"] = np.tile(vector.astype(np.float32), (asked.n_obs, 1))
        return model.predict(asked)[0].X

    class Validation(lightning.Callback):
        def on_train_epoch_end(self, trainer, plan):
            model.module.eval()
            watch.validate(predict, model.module)
            model.module.train()
            steps = [step["reconstruction_loss"] for step in plan.training_step_outputs]
            watch.losses.append(float(np.mean(steps)))
            trainer.should_stop = watch.enough(PATIENCE)

    rate = options["learning_rate"]
    model.train(
        max_epochs=options["epochs"],
        accelerator="cpu",
        train_size=1.0,
        plan_kwargs={
            "latent_lr": rate,
            "decoder_lr": rate,
            "attribute_nn_lr": 1e-3,
            "attribute_nn_wd": 4e-8,
        },
        callbacks=[Validation()],
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    watch.restore(model.module)
    model.module.eval()
    return predict


MODEL = packs.Model(
    fit=fit,
    options={"learning_rate": 1e-4, "epochs": 100},
    packages=["biolord", "scvi-tools"],
    prior="embedding",
    doses=True,
    types=True,
)

if __name__ == "__main__":
    packs.run(MODEL, __doc__)
