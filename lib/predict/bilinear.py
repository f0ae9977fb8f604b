"""The algebra of the linear model of Ahlmann-Eltze, Huber & Anders (2025, Nature Methods 22, 1657).

With the changes Y (genes x arms), an embedding G of the genes and P of what is perturbed in the
arms, a row each, and b the row means of Y:

    Y ~ G W P' + b,   W = (G'G + l I)^-1 G' (Y - b) P (P'P + l I)^-1,

which is the paper's ridge on both sides.
"""

import numpy as np


def weights(
    changes: np.ndarray, genes: np.ndarray, arms: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """W, (n_dims of genes, n_dims of arms), and b, (n_genes,).

    changes: (n_genes, n_arms)
    genes: (n_genes, n_dims) embedding G
    arms: (n_arms, n_dims) embedding P
    penalty: l
    """
    offset = changes.mean(axis=1)
    left = _ridge_inverse(genes, penalty)
    right = _ridge_inverse(arms, penalty).T
    return left @ (changes - offset[:, None]) @ right, offset


def principal_components(rows: np.ndarray, n_components: int) -> np.ndarray:
    """Principal components of each row, (n_rows, n_components)."""
    left, values, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    return left[:, :n_components] * values[:n_components]


def _ridge_inverse(x, penalty):
    """(X'X + penalty I)^-1 X'."""
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T)
