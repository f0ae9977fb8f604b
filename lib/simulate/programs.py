"""Hidden programs: what makes genes of one type of cells vary together.

scikit-learn's factor analysis takes a gene's noise to be the same in all cells, whatever its mean:
it gives rare genes with a handful of counts loadings of up to 280, measured on 350 blood cells.
Here the noise is that of the counts, and a prior keeps loadings of such genes small.
"""

import numpy as np
import torch

_STEPS, _RATE = 300, 0.05  # Adam, from this rate to a twentieth of it
_WARM = 50  # steps before the width of the prior is learned
_WIDTH = 0.3  # standard deviation of the prior of loadings at the start
_CLIP = 5.0  # standard deviations of a residual at the start


def fit(counts, log_mean, theta, n_programs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loadings of programs, their means in each cell, and what is left to a cell's size.

    counts: (n_cells, n_genes) counts
    log_mean: (n_cells, n_genes) log of the mean given type and capture alone
    theta: (n_cells, n_genes) inverse dispersion

    The model is a negative binomial with mean exp(log_mean + b + l.z - |l|^2 / 2), with b free and
    z ~ N(0, I) in each cell, and l ~ N(0, tau^2) for each program. Variational EM: z is taken for
    normal, with a mean and a variance for each cell and program (Chiquet, Mariadassou and Robin
    2018, Annals of Applied Statistics 12, with the negative binomial in place of the Poisson and a
    second-order expansion of its log-likelihood); tau is learned, so that programs without evidence
    vanish, and programs are kept at unit variance meanwhile (PX-EM, Liu, Rubin and Wu 1998,
    Biometrika 85).

    Returns (n_genes, n_programs) loadings, scaled so that programs have unit variance over the
    cells, (n_cells, n_programs) means of the programs before that scaling, and (n_cells,) b.
    """
    x, offset, theta = (torch.tensor(a, dtype=torch.float32) for a in (counts, log_mean, theta))
    loadings, means = _start(counts, offset, theta, n_programs)
    log_sd = torch.full_like(means, -1.0)
    shift = torch.zeros((len(counts), 1))
    parameters = [p.requires_grad_() for p in (loadings, means, log_sd, shift)]
    tau2 = torch.full((n_programs,), _WIDTH**2)
    optimiser = torch.optim.Adam(parameters, lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS, _RATE / 20)
    for step in range(_STEPS):
        optimiser.zero_grad(set_to_none=True)
        variances = torch.exp(2 * log_sd)
        squares = loadings**2
        eta = offset + shift + means @ loadings.T - squares.sum(dim=1) / 2
        ratio = torch.exp(eta) / theta
        weight = (x + theta) * ratio / (1 + ratio) ** 2  # minus the second derivative in eta
        expected = x * eta - (x + theta) * torch.log1p(ratio) - weight * (variances @ squares.T) / 2
        divergence = (means**2 + variances - 2 * log_sd - 1).sum() / 2
        loss = divergence + (squares / tau2).sum() / 2 - expected.sum()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step >= _WARM and step % 10 == 0:
            with torch.no_grad():
                scale = torch.sqrt((means**2 + torch.exp(2 * log_sd)).mean(dim=0))
                loadings *= scale
                means /= scale
                log_sd -= torch.log(scale)
                precision = weight.T @ (means**2 + variances) + 1 / tau2
                tau2 = (loadings**2 + 1 / precision).mean(dim=0)
    loadings, means, log_sd, shift = (p.detach().numpy().astype(float) for p in parameters)
    spread = (means.T @ means + np.diag(np.exp(2 * log_sd).sum(axis=0))) / len(means)
    return loadings @ np.linalg.cholesky(spread), means, shift[:, 0]


def _start(counts, offset, theta, n_programs):
    """Loadings and programs from the leading singular vectors of Pearson residuals."""
    mean = torch.exp(offset)
    deviation = torch.sqrt(mean + mean**2 / theta)
    residuals = np.clip((counts - mean.numpy()) / deviation.numpy(), -_CLIP, _CLIP)
    left, singular, right = np.linalg.svd(residuals, full_matrices=False)
    strength = np.maximum(singular[:n_programs] ** 2 / len(counts) - 2, 0.5)
    scale = np.minimum((deviation.mean(dim=0) / mean.mean(dim=0)).numpy(), 3)
    loadings = np.clip(
        (right[:n_programs] * np.sqrt(strength[:, None])).T * scale[:, None], -0.5, 0.5
    )
    means = left[:, :n_programs] * np.sqrt(len(counts)) * 0.7
    return tuple(torch.tensor(a, dtype=torch.float32) for a in (loadings, means))
