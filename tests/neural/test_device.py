import os
import pickle
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import model, training
from tests.neural.small import base_counts, same_weights, vae, weights_of

ROOT = Path(__file__).parents[2]


def test_auto_takes_cuda_where_there_is_one():
    assert training.pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert training.pick_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_cuda_raises_one_line(device):
    with pytest.raises(ValueError, match=f"device = '{device}'.*no CUDA") as error:
        training.pick_device(device)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["nonsense", "meta", "", None])
def test_a_device_that_it_cannot_train_on_raises_one_line(device):
    with pytest.raises(ValueError, match="device = ") as error:
        training.pick_device(device)
    assert "\n" not in str(error.value)


PAGES_OF_A_STEP = """
import resource, torch
from lib import model, training
torch.set_num_threads(1)
counts = torch.poisson(torch.full((300, 2000), 2.0), generator=torch.Generator().manual_seed(0))
vae = model.ZINBVAE(2000, n_layers=1)
pages = []
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    training.fit(vae, counts, max_epochs=2, batch_size=300, validation_fraction=0)
    pages.append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 2)
print(training.keep_freed_memory(), pages[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no mallopt")
@pytest.mark.parametrize("kept", [True, False])
def test_memory_of_a_step_is_kept_for_the_next_unless_settings_of_the_user_say_otherwise(kept):
    set_by_user = ("MALLOC_", "GLIBC_TUNABLES")
    own = {name: v for name, v in os.environ.items() if not name.startswith(set_by_user)}
    own |= {"MALLOC_ARENA_MAX": "4"} if kept else {"MALLOC_TRIM_THRESHOLD_": "131072"}
    command = [sys.executable, "-c", PAGES_OF_A_STEP]
    streams = {"capture_output": True, "text": True}
    done = subprocess.run(command, cwd=ROOT, env=own, check=True, **streams)
    said, pages = done.stdout.split()
    assert said == str(kept)
    assert (int(pages) < 5000) == kept  # of 4 KB: about 100, against 20,000 or more


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
    module = model.ZINBVAE(
        np.int64(3),
        np.int64(2),
        16,
        beta=np.float64(0.5),
        generator=torch.Generator().manual_seed(0),
    )
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


@pytest.mark.parametrize(
    "dump",
    [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))],
    ids=["torch", "pickle"],
)
def test_a_pickle_of_anything_else_is_refused_and_not_run(tmp_path, dump):
    path = tmp_path / "evil.pt"
    module = vae(3)
    dump(
        {
            "config": module.config,
            "weights": module.state_dict(),
            "more": Payload(tmp_path / "ran"),
        },
        path,
    )
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
    torch.save(
        {"config": {"n_genes": 5}, "weights": vae(3).state_dict()}, tmp_path / "wrong_size.pt"
    )
    (tmp_path / "text.pt").write_text("no checkpoint")
    for name in ("list.pt", "wrong_size.pt", "text.pt", "missing.pt"):
        with pytest.raises(ValueError, match=name) as error:
            training.load(model.ZINBVAE, tmp_path / name, "cpu")
        assert "\n" not in str(error.value)


def test_a_bad_device_at_loading_is_blamed_on_the_device(tmp_path):
    training.save(vae(3), tmp_path / "vae.pt")
    with pytest.raises(ValueError, match="^device = 'nonsense'"):
        training.load(model.ZINBVAE, tmp_path / "vae.pt", "nonsense")
