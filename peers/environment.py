"""The peers' packages: imported when one is fitted, and run under seeds of their own."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import random
import warnings

import numpy as np
import torch

from lib.seeds import stream

QUIET = {"enable_progress_bar": False, "enable_model_summary": False}  # of lightning's trainer


def package(name):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(
            f"{name.partition('.')[0]} can't be imported ({error}); ./run_all.sh peers installs what it needs"
        ) from None


@contextlib.contextmanager
def apart(seed, purpose):
    """Run scvi-tools, which knows only global seeds, under one of its own, and leave all global state as it was."""
    settings = package("scvi").settings
    was = random.getstate(), np.random.get_state(), settings.seed, os.environ.copy()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    loggers = {
        name: logging.getLogger(name).level
        for name in ("lightning.pytorch", "lightning.fabric", "scvi")
    }
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            for name in loggers:
                logging.getLogger(name).setLevel(logging.ERROR)
            settings.seed = int(stream(seed, purpose).integers(2**31))
            yield
    finally:
        random.setstate(was[0])
        np.random.set_state(was[1])
        settings._seed = was[2]  # its setter would seed everything again
        for name in ("XLA_FLAGS", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            os.environ.pop(name, None)
            if name in was[3]:
                os.environ[name] = was[3][name]
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)
