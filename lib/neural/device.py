"""Where networks live: the device, its memory and random streams, and files."""

import ctypes
import functools
import os
from pathlib import Path

import torch

from lib import files
from lib.neural.base import Trainable
from lib.seeds import stream


def pick_device(device: str = "auto") -> torch.device:
    """The device of a name; "auto" is CUDA if there is one.

    Raises ValueError for CUDA where there is none, and for other names.
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
        raise ValueError(
            f"device = {device!r}: this machine has no CUDA device; allowed are auto and cpu"
        )
    return picked


def torch_generator(
    seed: int | tuple[int, ...], purpose: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator with a stream of its own for each purpose."""
    return torch.Generator(device=device).manual_seed(int(stream(seed, purpose).integers(2**62)))


@functools.lru_cache
def keep_freed_memory() -> bool:
    """Have glibc keep what training frees, for the rest of the process, and say whether it does.

    torch has a pool of its own on a GPU and none on a CPU, where glibc hands what is freed back to
    the system and has it faulted in again, zeroed page by page: a third of the time at 2,000 genes
    on a virtual machine. About 512 MiB are kept. Thresholds set in the environment
    (MALLOC_TRIM_THRESHOLD_ and the like, mallopt(3)) stay as they are.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for name in ("trim_threshold", "mmap_threshold", "top_pad"):
        if f"MALLOC_{name.upper()}_" in os.environ or f"glibc.malloc.{name}" in tunables:
            return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    # blocks of 32 MiB are the most that it takes
    return bool(mallopt(mmap_threshold, 32 * 2**20) and mallopt(trim_threshold, 512 * 2**20))


def save(module: Trainable, path: str | Path) -> None:
    """Write a network's settings and weights, nothing else; a whole file or none."""
    with files.whole(path) as scratch:
        torch.save({"config": module.config, "weights": module.state_dict()}, scratch)


def load(kind: type[Trainable], path: str | Path, device: str = "auto") -> Trainable:
    """Read what `save` wrote, of a network of class `kind`. Raises ValueError for any other file.

    Only tensors and plain values are unpickled: nothing runs.
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
        raise ValueError(
            f"path = {str(path)!r}: no readable checkpoint of {kind.__name__} ({reason})"
        ) from None
    return module.to(picked).eval()
