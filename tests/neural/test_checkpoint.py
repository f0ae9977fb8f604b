import os
import pickle

import numpy as np
import pytest
import torch

from lib import model, training
from tests.neural.small import base_counts, same_weights, vae, weights_of


def test_saved_and_loaded_network_is_the_same_network(tmp_path):
    module, counts = vae(3, beta=0.5, inputs=[0, 2], hide=0.2), base_counts(50)
    module.start_at(counts)
    training.save(module, tmp_path / "vae.pt")
    state = torch.get_rng_state()
    loaded = training.load(model.ZINBVAE, tmp_path / "vae.pt", "cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.config == module.config and not loaded.training
    assert same_weights(weights_of(module), weights_of(loaded))
    losses = [m.loss(counts, torch.Generator().manual_seed(0)) for m in (module, loaded)]
    assert torch.equal(*losses)
    assert os.listdir(tmp_path) == ["vae.pt"]


def test_a_checkpoint_has_weights_and_plain_values_only(tmp_path):
    training.save(vae(3), tmp_path / "vae.pt")
    saved = torch.load(tmp_path / "vae.pt", weights_only=True)
    assert all(isinstance(t, torch.Tensor) for t in saved["weights"].values())
    assert saved["config"]["n_genes"] == 3


def test_settings_given_as_numpy_numbers_survive_saving(tmp_path):
    module = model.ZINBVAE(np.int64(3), np.int64(2), 16, beta=np.float64(0.5), generator=torch.Generator().manual_seed(0))
    training.save(module, tmp_path / "vae.pt")
    assert training.load(model.ZINBVAE, tmp_path / "vae.pt", "cpu").beta == 0.5


def test_a_failed_save_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    module, path = vae(3), tmp_path / "vae.pt"
    training.save(module, path)

    def half_written(value, file):
        with open(file, "wb") as out:
            out.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        training.save(vae(3, seed=1), path)
    assert same_weights(weights_of(training.load(model.ZINBVAE, path, "cpu")), weights_of(module))


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dump", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))], ids=["torch", "pickle"])
def test_a_pickle_of_anything_else_is_refused_and_not_run(tmp_path, dump):
    path = tmp_path / "evil.pt"
    module = vae(3)
    dump({"config": module.config, "weights": module.state_dict(), "more": Payload(tmp_path / "ran")}, path)
    with pytest.raises(ValueError, match="evil.pt") as error:
        training.load(model.ZINBVAE, path, "cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "vae.pt"
    training.save(vae(3), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="vae.pt") as error:
        training.load(model.ZINBVAE, path, "cpu")
    assert "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"config": {"n_genes": 5}, "weights": vae(3).state_dict()}, tmp_path / "wrong_size.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    for name in ("list.pt", "wrong_size.pt", "text.pt", "missing.pt"):
        with pytest.raises(ValueError, match=name) as error:
            training.load(model.ZINBVAE, tmp_path / name, "cpu")
        assert "\n" not in str(error.value)


def test_a_bad_device_at_loading_is_blamed_on_the_device(tmp_path):
    training.save(vae(3), tmp_path / "vae.pt")
    with pytest.raises(ValueError, match="^device = 'nonsense'"):
        training.load(model.ZINBVAE, tmp_path / "vae.pt", "nonsense")
