"""What a network must have to be trained, alone and together with others of its kind."""

from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor


@runtime_checkable
class Trainable(Protocol):
    """A torch.nn.Module that `lib.training` can train, write and read.

    config: plain values, from which `kind(**config)` makes the network again, untrained
    warmed: share of the warm-up that is over, 1 at first; training sets it before each epoch
    """

    config: dict[str, Any]
    warmed: float

    def start_at(self, counts: Tensor) -> None:
        """Choose constants that fit counts (n_cells, n_genes), for training to start from."""

    def loss(self, x: Tensor, generator: Generator) -> Tensor:
        """The loss of each cell in nats, (n_cells,), with `generator` the only source of chance."""


@runtime_checkable
class Stackable(Trainable, Protocol):
    """A network of which several can be trained at once, their weights stacked.

    torch.func maps the loss over stacked weights, in which nothing may be drawn. So what is random
    in the loss is drawn apart: `loss(x, generator)` is `loss_given(x, *noise(x, generator))`.
    """

    def noise(self, x: Tensor, generator: Generator) -> tuple[Tensor, ...]:
        """What is random in the loss of counts (n_cells, n_genes)."""

    def loss_given(self, x: Tensor, *noise: Tensor) -> Tensor:
        """The loss of each cell, (n_cells,), with what is random in it given."""
