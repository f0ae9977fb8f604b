"""The packages of published models: imported when a model is fitted, run under their own seeds."""

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


_LOGGERS = ("lightning.pytorch", "lightning.fabric", "scvi")
_SET_BY_SCVI = ("XLA_FLAGS", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # environment variables


def package(name: str):
    """A module by its name. Raises RuntimeError in one line where it can't be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        reason = f"{name.partition('.')[0]} can't be imported ({error})"
        raise RuntimeError(f"{reason}; ./run_all.sh peers installs what it needs") from None


@contextlib.contextmanager
def apart(seed: int | tuple[int, ...], purpose: str):
    """Run scvi-tools under a seed of its own, and leave all global state as it was.

    scvi-tools knows global seeds alone.

    seed, purpose: arguments of `seeds.stream`
    """
    settings = package("scvi").settings
    cudnn = torch.backends.cudnn
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    scvi_seed = settings.seed
    variables = os.environ.copy()
    deterministic = cudnn.deterministic
    benchmark = cudnn.benchmark
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.ERROR)
            settings.seed = int(stream(seed, purpose).integers(2**31))
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        settings._seed = scvi_seed  # its setter would seed everything again
        for name in _SET_BY_SCVI:
            os.environ.pop(name, None)
            if name in variables:
                os.environ[name] = variables[name]
        cudnn.deterministic = deterministic
        cudnn.benchmark = benchmark
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
