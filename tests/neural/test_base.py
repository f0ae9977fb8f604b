import ast
from pathlib import Path

import pytest
import torch

from lib import model, training
from lib.neural import base
from tests.neural.small import counts, rng

KINDS = [model.ZINBVAE, model.ZINBMLP, model.DependencyNetwork]
NEURAL = Path(base.__file__).parent
of_each_kind = pytest.mark.parametrize("kind", KINDS)


@of_each_kind
def test_every_network_has_what_it_takes_to_be_trained(kind):
    module, x = kind(4, generator=rng(1)), counts()
    assert isinstance(module, base.Trainable)
    assert module.warmed == 1
    module.start_at(x)
    losses = [module.loss(x, rng(seed)) for seed in (2, 2)]
    assert losses[0].shape == (30,) and torch.equal(*losses)


@of_each_kind
def test_a_network_is_made_again_from_its_settings(kind):
    module = kind(4, inputs=[0, 2], generator=rng(1))
    again = kind(**module.config)
    assert again.config == module.config
    shapes = [{name: w.shape for name, w in m.state_dict().items()} for m in (module, again)]
    assert shapes[0] == shapes[1]


@of_each_kind
def test_the_warm_up_goes_from_nothing_to_all(kind):
    seen = []

    class Watched(kind):
        def loss(self, x, generator):
            seen.append(self.warmed)
            return super().loss(x, generator)

    how = {"max_epochs": 5, "batch_size": 30, "validation_fraction": 0}
    training.fit(Watched(4, generator=rng(1)), counts(), warmup=4, **how)
    assert seen == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("kind", [model.ZINBVAE, model.ZINBMLP])
def test_a_stackable_network_has_its_noise_apart(kind):
    module, x = kind(4, hide=0.5, generator=rng(1)), counts()
    assert isinstance(module, base.Stackable)
    assert torch.equal(module.loss_given(x, *module.noise(x, rng(3))), module.loss(x, rng(3)))
    assert not torch.equal(module.loss(x, rng(4)), module.loss(x, rng(3)))


def test_what_lacks_a_member_is_no_such_network():
    assert not isinstance(torch.nn.Linear(2, 2), base.Trainable)
    assert not isinstance(model.DependencyNetwork(3), base.Stackable)


def imported(path):
    """The modules of lib that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("lib"))
        elif isinstance(node, ast.ImportFrom) and node.module == "lib":
            yield from (f"lib.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("lib."):
            yield node.module


@pytest.mark.parametrize("path", sorted(NEURAL.glob("*.py")), ids=lambda path: path.stem)
def test_networks_know_laws_and_nothing_of_simulation_or_prediction(path):
    rooms = {".".join(name.split(".")[:2]) for name in imported(path)}
    assert rooms <= {
        f"lib.{room}" for room in ("checks", "files", "laws", "neural", "seeds", "store")
    }
