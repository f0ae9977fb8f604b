"""How far a pair of perturbations is from the sum of the two."""

import numpy as np


def less(one, other) -> np.ndarray:
    """one - other, and 0 where both are infinite, as logs of two means of 0 are."""
    equal = one == other
    return np.where(equal, 0.0, one - np.where(equal, 0.0, other))


def classes(first, second, both, threshold: float) -> np.ndarray:
    """How a pair's effects compare with the sum of those of its genes, (n_genes,).

    first, second, both: (n_genes,) effects of either gene, and of the pair
    threshold: effects and deviations below it count as none

    Returns "none" (no effect, alone or together), "additive", "synergistic" (further than the sum,
    in its direction if it has one), "buffering" (less far) or "reversed" (on the other side of
    control).
    """
    total = first + second
    deviation = less(both, total)
    none = np.abs(total) < threshold  # it has no direction
    outward = deviation * np.where(none, np.sign(both), np.sign(total))
    kinds = [
        (np.abs([first, second, both]).max(axis=0) < threshold, "none"),
        (np.abs(deviation) < threshold, "additive"),
        (~none & (both * total < 0), "reversed"),
        (outward > 0, "synergistic"),
    ]
    return np.select([is_so for is_so, _ in kinds], [name for _, name in kinds], "buffering")
