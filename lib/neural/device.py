"""Where networks live: the device, its random streams, its memory, their files."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

import torch
from torch import nn

from lib.seeds import stream


def pick_device(device: str = "auto") -> torch.device:
    """"auto" takes CUDA if there is one. Raises ValueError for CUDA where there is none."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device = {device!r}: must be auto, cpu or cuda") from None
    if picked.type not in ("cpu", "cuda"):
        raise ValueError(f"device = {device!r}: must be auto, cpu or cuda")
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device = {device!r}: this machine has no CUDA device; allowed are auto and cpu")
    return picked


def torch_generator(seed: int | tuple[int, ...], purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator with a stream of its own for each purpose."""
    return torch.Generator(device=device).manual_seed(int(stream(seed, purpose).integers(2**62)))


@functools.lru_cache
def keep_freed_memory() -> bool:
    """Have glibc keep about 512 MiB of what is freed, in blocks of up to 32 MiB, for the rest of the process, and say whether it does.

    A step of training frees what it has computed. By default glibc hands that back to the system and has it faulted in again
    at the next step, zeroed page by page: a third of the time at 2,000 genes on a virtual machine. Thresholds that the user has
    set in the environment (MALLOC_TRIM_THRESHOLD_ and the like, mallopt(3)) stay as they are; other C libraries have none.
    """
    thresholds = ("trim_threshold", "mmap_threshold", "top_pad")
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if any(f"MALLOC_{name.upper()}_" in os.environ or f"glibc.malloc.{name}" in tunables for name in thresholds):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    return bool(mallopt(mmap_threshold, 32 * 2**20) and mallopt(trim_threshold, 512 * 2**20))  # 32 MiB is the most that it takes


def save(module: nn.Module, path: str | Path) -> None:
    """Write a network's settings and weights, nothing else; a whole file or none."""
    scratch = Path(f"{path}.part")
    torch.save({"config": module.config, "weights": module.state_dict()}, scratch)
    os.replace(scratch, path)


def load(kind: type[nn.Module], path: str | Path, device: str = "auto") -> nn.Module:
    """Read what `save` wrote. Only tensors and plain values are unpickled.

    kind : the network's class, such as `ZINBVAE`. Raises ValueError for a file that isn't one.
    """
    picked = pick_device(device)
    try:
        saved = torch.load(path, map_location=picked, weights_only=True)
        module = kind(**saved["config"])
        module.load_state_dict(saved["weights"])
    except FileNotFoundError:
        raise ValueError(f"path = {str(path)!r}: no such file") from None
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"path = {str(path)!r}: no readable checkpoint of {kind.__name__} ({reason})") from None
    return module.to(picked).eval()
