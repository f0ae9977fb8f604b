"""Where networks live: the device, and its random streams."""

from __future__ import annotations

import torch

from lib.seeds import stream


def pick_device(device: str = "auto") -> torch.device:
    """The device of a name: of "auto" CUDA, if there is one.

    Raises ValueError for CUDA where there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError):
        picked = None
    if picked is None or picked.type not in ("cpu", "cuda"):
        raise ValueError(f"device = {device!r}: must be auto, cpu or cuda")
    if picked.type == "cuda" and not torch.cuda.is_available():
        allowed = "allowed are auto and cpu"
        raise ValueError(f"device = {device!r}: this machine has no CUDA device; {allowed}")
    return picked


def torch_generator(
    seed: int | tuple[int, ...], purpose: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator with a stream of its own for each purpose."""
    own = int(stream(seed, purpose).integers(2**62))
    return torch.Generator(device=device).manual_seed(own)
