"""Random streams that never touch: one for each purpose, all from one seed."""

import hashlib

import numpy as np

from lib import checks


def stream(seed: int | tuple[int, ...], purpose: str) -> np.random.Generator:
    """A generator that is independent of those of other seeds and purposes.

    seed: a whole number of at least 0, or a tuple of them such as `(seed, replicate)`
    purpose: any name
    """
    # hashed, since SeedSequence takes 1 and (1, 0), or 2**32 and (0, 1), for the same entropy
    text = repr(([int(s) for s in key(seed)], purpose)).encode()
    entropy = int.from_bytes(hashlib.sha256(text).digest())
    return np.random.default_rng(np.random.SeedSequence(entropy))


def key(seed: int | tuple[int, ...]) -> tuple[int, ...]:
    """A seed as a tuple, to which more whole numbers can be added for streams below it."""
    several = isinstance(seed, (tuple, list, range, np.ndarray)) and np.iterable(seed)
    entropy = tuple(seed) if several else (seed,)
    for s in entropy or (None,):
        if not isinstance(s, (int, np.integer)) or isinstance(s, bool) or s < 0:
            allowed = "a whole number of at least 0, or a tuple of them"
            raise ValueError(f"seed = {checks.shown(seed)}: must be {allowed}")
    return entropy
