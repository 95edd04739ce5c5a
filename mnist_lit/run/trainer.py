"""``make_trainer``: a Trainer with everything that makes a training of this package safe and fast."""

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

    It has a run's folder with a lock, whole checkpoint files, exact continuation, many steps in one round of
    Lightning's loop, and, without a terminal, a line for each epoch. ``ckpt_path`` of its methods also takes ``"best"``
    and ``"last"``: checkpoints of its own run, else of the newest one. Torch computes with one thread, unless
    ``OMP_NUM_THREADS`` is set: a step is too small to share.

    Args:
        options: The Trainer's. By default ``max_epochs`` is 10 and ``devices`` 1. TensorBoard's logger, the callbacks
            and the progress bar are added unless the options have their own; with ``barebones`` nothing is added.

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
        # On an idle machine a second thread gains nothing. On a busy one the two wait for each other, and an epoch of
        # one second can take ten.
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
        if isinstance(callback, EpochLines):
            options["enable_progress_bar"] = False
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
    has_bar = any(isinstance(callback, ProgressBar | EpochLines) for callback in users)
    if options.get("enable_progress_bar") is not False and not has_bar:
        # Lightning's default bar, rich's, reads every metric after each step.
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
            f"SLURM_NTASKS is {processes}, but this run has one process: start it with 'srun --ntasks 1', unset "
            "SLURM_NTASKS, or give --trainer.devices"
        )


def make_quiet() -> None:
    """Hide Lightning's messages about devices, seeds and tips, and a deprecation that users cannot avoid."""
    for name in "lightning.pytorch", "lightning.fabric":
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_was_asked_for)
    # Every run of Lightning 2.6.6 uses a function that torch 2.14 has deprecated; no setting avoids it.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)


def _was_asked_for(record: logging.LogRecord) -> bool:
    # Below warnings, Lightning reports devices, seeds, its makers' other packages and why it stopped. The user has
    # asked for the messages of a callback, a profiler or a tuner.
    asked_for = Path(record.pathname).parent.name in ("callbacks", "profilers", "tuner")
    return record.levelno >= logging.WARNING or asked_for
