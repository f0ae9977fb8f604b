"""The networks of notebooks 01 to 04, by the names under which they are imported there."""

from lib.neural.dependency import DependencyNetwork
from lib.neural.layers import LOG_THETA_RANGE, START_THETA, to_law, to_tensor
from lib.neural.mlp import ZINBMLP
from lib.neural.vae import ZINBVAE

__all__ = [
    "LOG_THETA_RANGE",
    "START_THETA",
    "DependencyNetwork",
    "ZINBMLP",
    "ZINBVAE",
    "to_law",
    "to_tensor",
]
