"""CPA (Lotfollahi et al. 2023, Molecular Systems Biology 19): mean counts of each control cell.

As in its authors' tutorial on a genetic screen (theislab/cpa, Norman.ipynb): negative binomial
counts, a linear doser, architecture and optimisers of that tutorial, the package's batches of 128.
`drug_embeddings` are the pack's embedding, with zeros for control; strength over the largest in
training is the dose; cell type is a covariate.

cpa-tools 0.8.8 was written for scvi-tools 0.20, and runs here on 1.4.2: plots, tuning and the old
trainer are cut off, and its training plan and networks are trained by lightning, which keeps the
weights of the least error in validation, as for other models. Its optimiser is given the linear
map of the drug embeddings, which the package leaves as it was drawn.
"""

import sys
import types
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))
from peers import pack as packs

EVERY = 5  # epochs between validations
PATIENCE = 30  # validations: past the warm-up of 130 epochs, where the error may rise
MODULE = {
    "n_latent": 128,
    "recon_loss": "nb",
    "doser_type": "linear",
    "n_hidden_encoder": 512,
    "n_layers_encoder": 2,
    "n_hidden_decoder": 256,
    "n_layers_decoder": 2,
    "use_batch_norm_decoder": False,
    "dropout_rate_decoder": 0.2,
}
PLAN = {
    "n_epochs_pretrain_ae": 30,
    "n_epochs_adv_warmup": 100,
    "n_epochs_mixup_warmup": 10,
    "mixup_alpha": 0.2,
    "adv_steps": 2,
    "n_hidden_adv": 128,
    "n_layers_adv": 2,
    "dropout_rate_adv": 0.2,
    "reg_adv": 50.0,
    "wd": 4e-7,
}


def fit(pack, training, watch, options, seed):
    import lightning.pytorch as lightning
    import torch

    model, plan = built(pack, training, options, seed)
    index = model.pert_encoder
    top = pack.arms["strength"].max()

    def predict(arm, controls):
        n = len(controls)
        counts = torch.tensor(pack.cells.layers["counts"][controls].toarray())
        genes = [index[gene] for gene in arm.perturbation.split("+")]
        share = 1.0 if arm.perturbation == packs.CONTROL else arm.strength / top
        dose = [share] * len(genes)
        pad = [0] * (2 - len(genes))
        cell_type = model.covars_encoder["cell_type"][arm.cell_type]
        tensors = {
            "X": counts,
            "perts": torch.tensor([genes + pad] * n),
            "perts_doses": torch.tensor([dose + pad] * n, dtype=torch.float32),
            "perturbation": torch.zeros(n, 1),
            "cell_type": torch.full((n, 1), cell_type),
        }
        model.module.eval()
        with torch.no_grad():
            means = model.module.get_expression(tensors)["px"].numpy()
        return np.where(counts.sum(1, keepdims=True) > 0, means, 0)

    class Validation(lightning.Callback):
        def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx):
            self.losses = [*getattr(self, "losses", []), outputs["recon_loss"]]

        def on_train_epoch_end(self, trainer, plan):
            if (trainer.current_epoch + 1) % EVERY:
                return
            watch.losses.append(float(np.mean(self.losses)))
            self.losses = []
            watch.validate(predict, model.module)
            model.module.train()
            trainer.should_stop = watch.enough(PATIENCE)

    from scvi.dataloaders import AnnDataLoader

    trainer = lightning.Trainer(
        max_epochs=options["epochs"],
        accelerator="cpu",
        callbacks=[Validation()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    alone = model.adata.n_obs % 128 == 1  # batch normalisation needs two
    batches = AnnDataLoader(model.adata_manager, shuffle=True, batch_size=128, drop_last=alone)
    trainer.fit(plan, batches)
    watch.restore(model.module)
    return predict


def built(pack, training, options, seed):
    """A CPA, and its training plan."""
    cpa_model, plan_class = imported()
    import scvi
    import torch

    scvi.settings.verbosity = 40  # errors alone
    scvi.settings.seed = seed
    filled = np.asarray(pack.cells.layers["counts"].sum(1)).ravel() > 0
    cells = pack.cells[training & filled].copy()
    cells.X = cells.layers.pop("counts")
    share = cells.obs["strength"] / pack.arms["strength"].max()
    share[cells.obs["perturbation"] == packs.CONTROL] = 1.0  # as in the tutorial
    pairs = cells.obs["perturbation"].str.contains("+", regex=False)
    cells.obs["dose"] = [f"{s}+{s}" if pair else f"{s}" for s, pair in zip(share, pairs)]
    names = ["<PAD>", packs.CONTROL, *cells.var_names]
    cpa_model.pert_encoder = {name: number for number, name in enumerate(names)}
    cpa_model.setup_anndata(
        cells,
        perturbation_key="perturbation",
        control_group=packs.CONTROL,
        dosage_key="dose",
        categorical_covariate_keys=["cell_type"],
    )
    zeros = np.zeros((2, pack.embedding.shape[1]))
    weights = torch.tensor(np.concatenate([zeros, pack.embedding]), dtype=torch.float32)
    embeddings = torch.nn.Embedding.from_pretrained(weights, freeze=True, padding_idx=0)
    model = cpa_model(cells, drug_embeddings=embeddings, seed=seed, **MODULE)

    class Plan(plan_class):
        def configure_optimizers(self):
            optimizers, schedulers = super().configure_optimizers()
            linear = self.module.pert_network.pert_transformation
            optimizers[0].add_param_group({"params": list(linear.parameters())})
            return optimizers, schedulers

    conditions = cells.obs["perturbation"]
    codes = model.adata_manager.get_state_registry("perturbation")["categorical_mapping"]
    of_each = [float(cells.n_obs / (conditions == name).sum() - 1) for name in codes]
    rates = dict.fromkeys(("lr", "adv_lr", "doser_lr"), options["learning_rate"])
    settings = {"n_adv_perts": len(codes), "drug_weights": of_each} | rates | PLAN
    return model, Plan(model.module, model.covars_encoder, **settings)


def imported():
    """CPA and its training plan, without what newer scvi-tools and lightning don't have."""
    import scvi.model._utils
    import scvi.train._callbacks

    for name, has in {
        "cpa._plotting": [],
        "cpa._api": ["ComPertAPI"],
        "cpa._tuner": ["run_autotune"],
        "tkinter": ["N"],
        "rdkit": ["Chem"],
        "rdkit.Chem": ["AllChem"],
    }.items():
        sys.modules[name] = types.ModuleType(name)
        for attribute in has:
            setattr(sys.modules[name], attribute, None)
    scvi.train._callbacks.SaveBestState = None
    scvi.model._utils.parse_use_gpu_arg = None
    import cpa._model
    import cpa._task

    cpa._model.tqdm = lambda rows: rows
    plan = cpa._task.CPATrainingPlan
    for hook in {"training_epoch_end", "validation_epoch_end"} & vars(plan).keys():
        delattr(plan, hook)  # lightning 2 refuses them
    cpa._model.CPA.covars_encoder = None  # of the last fit
    return cpa._model.CPA, plan


MODEL = packs.Model(
    fit=fit,
    options={"learning_rate": 3e-4, "epochs": 300},
    packages=["cpa-tools", "scvi-tools"],
    prior="embedding",
    doses=True,
    types=True,
    scale="counts",
    notes=("cpa-tools 0.8.8 on scvi-tools 1.4.2; the map of embeddings is trained",),
)

if __name__ == "__main__":
    packs.run(MODEL, __doc__)
