"""Networks in files: settings and weights, and nothing that could run when they are read."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from lib.neural.base import Trainable
from lib.neural.device import pick_device


def save(module: Trainable, path: str | Path) -> None:
    """Write a network's settings and weights, nothing else; a whole file or none."""
    scratch = Path(f"{path}.part")
    torch.save({"config": module.config, "weights": module.state_dict()}, scratch)
    os.replace(scratch, path)


def load(kind: type[Trainable], path: str | Path, device: str = "auto") -> Trainable:
    """Read what `save` wrote. Only tensors and plain values are unpickled.

    kind : the network's class, such as `ZINBVAE`

    Raises ValueError for a file that isn't one of these.
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
        wanted = f"no readable checkpoint of {kind.__name__}"
        raise ValueError(f"path = {str(path)!r}: {wanted} ({reason})") from None
    return module.to(picked).eval()
