"""``make_trainer``: a Trainer with all that makes a training of this package safe and fast."""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar

from mnist_lit.errors import UserError
from mnist_lit.run.checkpoint import RunCheckpoint
from mnist_lit.run.connector import RunConnector
from mnist_lit.run.execution import StepsPerExecution
from mnist_lit.run.folder import RunFolder, RunLogger, SaveConfigAtFirstStep
from mnist_lit.run.options import as_list
from mnist_lit.run.progress import EpochBar, EpochLines


def make_trainer(**options: Any) -> Trainer:
    """Return a Trainer with the callbacks, the logger and the folder of the command line.

    It has the folder of a run and its lock, whole checkpoint files, exact continuation, many steps in one round of
    Lightning's loop, and a line for each epoch where there is no terminal. ``ckpt_path`` of its methods also takes
    ``"best"`` and ``"last"``: its own run's, else the newest run's. Torch computes with one thread, unless
    ``OMP_NUM_THREADS`` says otherwise: a step is too small to share.

    Args:
        options: The Trainer's. By default ``max_epochs`` is 10 and ``devices`` 1; ``logger`` (TensorBoard's), the
            callbacks and the progress bar are added where they do not contain others; with ``barebones`` none are.

    Raises:
        UserError: If SLURM's variables and ``devices`` contradict each other.

    Example:
        >>> trainer = make_trainer(max_epochs=3)
        >>> trainer.checkpoint_callback.every_n_train_steps
        500
    """
    options = {"max_epochs": 10, "devices": 1} | options
    make_quiet()
    _check_slurm(options)
    if "OMP_NUM_THREADS" not in os.environ:
        # On an idle machine a second thread gains nothing, and on a busy one the two wait for each other so long that
        # an epoch of one second can take ten.
        torch.set_num_threads(1)
    if options.get("barebones"):
        return Trainer(**options)
    root = options.get("default_root_dir")
    folder = RunFolder(Path(root).expanduser() if root else None)
    callbacks = as_list(options.get("callbacks"))
    if options.get("logger") in (None, True):
        options["logger"] = RunLogger(folder)
    options["callbacks"] = callbacks = [*callbacks, *_own_callbacks(options, callbacks)]
    for callback in callbacks:
        if isinstance(callback, RunCheckpoint | SaveConfigAtFirstStep):
            callback.folder = folder
    if options.get("enable_model_summary") is None:
        options["enable_model_summary"] = False  # nearly all of its rows are metrics, without parameters
    trainer = Trainer(**options)
    RunConnector.of(trainer, folder, is_early=True)
    return trainer


def _own_callbacks(options: dict[str, Any], users: list[Any]) -> list[Callback]:
    callbacks: list[Callback] = []
    if not any(isinstance(callback, StepsPerExecution) for callback in users):
        callbacks.append(StepsPerExecution())
    checkpointing = options.get("enable_checkpointing") is not False
    if checkpointing and not any(isinstance(callback, RunCheckpoint) for callback in users):
        callbacks.append(RunCheckpoint())
    has_bar = any(isinstance(callback, ProgressBar) for callback in users)
    if options.get("enable_progress_bar") is not False and not has_bar:
        # The default bar, rich's, reads every metric whenever a step ends.
        is_terminal = sys.stdout.isatty()
        callbacks.append(EpochBar() if is_terminal else EpochLines())
    return callbacks


def _check_slurm(options: dict[str, Any]) -> None:
    processes = os.environ.get("SLURM_NTASKS", "1")
    if (
        options["devices"] in (1, "1")
        and options.get("num_nodes", 1) == 1
        and SLURMEnvironment.detect()
        and processes != "1"
    ):
        raise UserError(
            f"SLURM_NTASKS is {processes}, and this run has one process: start it with 'srun --ntasks 1', unset "
            "SLURM_NTASKS, or give --trainer.devices"
        )


def make_quiet() -> None:
    """Leave out Lightning's messages about devices, seeds and tips, and a deprecation that no user can avoid."""
    for name in "lightning.pytorch", "lightning.fabric":
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_was_asked_for)
    # Lightning 2.6.6 uses in every run what torch 2.14 calls deprecated, and no setting avoids it.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)


def _was_asked_for(record: logging.LogRecord) -> bool:
    # Below warnings Lightning announces devices, seeds, its makers' other packages and why it stopped. The user has
    # asked for the messages of a callback, a profiler or a tuner.
    asked_for = Path(record.pathname).parent.name in ("callbacks", "profilers", "tuner")
    return record.levelno >= logging.WARNING or asked_for
