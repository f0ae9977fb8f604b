"""STATE, small (Adduri et al. 2025, bioRxiv 2025.06.26.661135): sets of cells.

The state transition model of arc-state, 4 layers of width 128 in place of 8 of 768, on sets of 32
cells in place of 512, for some thousand steps in place of 400,000: what a CPU can train. All else
is as in the package's `state.yaml`, the loss of its `training_step` included. A perturbation's
features are the sum of the pack's embeddings, zeros for control. A set is 32 cells of one arm and
type, drawn with replacement, and 32 control cells of the type; sets are drawn in proportion to
cells, controls among them, as the package's loader does.
"""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))
from peers import pack as packs

SET, BATCH = 32, 16  # cells in a set, sets in a step
EVERY = 50  # steps between validations
PATIENCE = 15  # validations


def fit(pack, training, watch, options, seed):
    import lightning.pytorch as lightning
    import torch

    lightning.seed_everything(seed)
    model = built(pack, options)
    dense = torch.tensor(pack.cells.X.toarray())

    def predict(arm, controls):
        feature = torch.tensor(pack.vector(arm.perturbation))
        model.eval()
        found = []
        with torch.no_grad():
            for start in range(0, len(controls), SET):
                cells = dense[controls[start : start + SET]]
                batch = {"ctrl_cell_emb": cells, "pert_emb": feature.expand(len(cells), -1)}
                found.append(model(batch, padded=False).numpy())
        model.train()
        return np.concatenate(found)

    class Validation(lightning.Callback):
        losses = ()

        def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx):
            self.losses = (*self.losses, float(outputs["loss"]))
            if trainer.global_step % EVERY == 0:
                watch.losses.append(float(np.mean(self.losses)))
                self.losses = ()
                watch.validate(predict, model)
                trainer.should_stop = watch.enough(PATIENCE)

    trainer = lightning.Trainer(
        max_steps=options["steps"],
        accelerator="cpu",
        gradient_clip_val=10,
        callbacks=[Validation()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model.train()
    trainer.fit(model, torch.utils.data.DataLoader(sets(pack, training, dense, seed), None))
    watch.restore(model)
    return predict


def built(pack, options):
    """A StateTransitionPerturbationModel as `state.yaml` has it, but smaller."""
    from state.tx.models.state_transition import StateTransitionPerturbationModel

    width = options["width"]
    backbone = {
        "bidirectional_attention": True,
        "max_position_embeddings": SET,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": width // 4,
        "use_cache": False,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "layer_norm_eps": 1e-6,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        "rotary_dim": 0,
        "use_rotary_embeddings": False,
    }
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        return StateTransitionPerturbationModel(
            input_dim=pack.cells.n_vars,
            hidden_dim=width,
            output_dim=pack.cells.n_vars,
            gene_dim=pack.cells.n_vars,
            hvg_dim=pack.cells.n_vars,
            pert_dim=pack.embedding.shape[1],
            lr=options["learning_rate"],
            embed_key="X_hvg",
            output_space="gene",
            control_pert=packs.CONTROL,
            cell_set_len=SET,
            blur=0.05,
            loss="energy",
            n_encoder_layers=1,
            n_decoder_layers=1,
            predict_residual=True,
            softplus=True,
            gene_decoder_bool=False,
            transformer_backbone_key="llama",
            transformer_backbone_kwargs=backbone,
        )


def sets(pack, training, dense, seed):
    """Batches without an end: sets of cells of an arm, each with as many control cells."""
    import torch

    obs = pack.cells.obs[training]
    rows = np.flatnonzero(training)
    numbers = obs.groupby(packs.ARM, observed=True, sort=False).indices
    names = list(numbers)
    members = [rows[numbers[name]] for name in names]
    controls = {name[3]: pack.controls(name[3]) for name in names}
    vectors = [torch.tensor(pack.vector(name[0])) for name in names]
    shares = np.array([len(some) for some in members]) / len(rows)

    class Sets(torch.utils.data.IterableDataset):
        def __iter__(self):
            rng = np.random.default_rng([seed, 22])
            while True:
                drawn = rng.choice(len(names), BATCH, p=shares)
                cells = np.concatenate([rng.choice(members[i], SET) for i in drawn])
                of_type = [controls[names[i][3]] for i in drawn]
                basal = np.concatenate([rng.choice(some, SET) for some in of_type])
                yield {
                    "pert_cell_emb": dense[cells],
                    "ctrl_cell_emb": dense[basal],
                    "pert_emb": torch.stack([vectors[i] for i in drawn for _ in range(SET)]),
                }

    return Sets()


MODEL = packs.Model(
    fit=fit,
    options={"learning_rate": 1e-4, "steps": 3000, "width": 128},
    packages=["arc-state", "cell-load"],
    prior="embedding",
    types=True,
)

if __name__ == "__main__":
    packs.run(MODEL, __doc__)
