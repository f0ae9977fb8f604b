"""The networks: variational autoencoder, dependency network, perceptron; and their parameters as laws."""

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
