"""What a run goes on from: checkpoints, found and read without running anything in them."""

import os
import shlex
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.optim.lr_scheduler import OneCycleLR

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import UserError
from mnist_lit.files import damaged, load_whole
from mnist_lit.module import MNISTClassifier


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint of an ``MNISTClassifier``.

    Raises:
        UserError: If it cannot be read, is not whole, or holds anything but such a model.
    """
    checkpoint = load_whole(path)
    try:
        # A copy: load_state_dict leaves a note in what it loads from, by which the next one would assign, too.
        state_dict = dict(checkpoint["state_dict"])
        with torch.device("meta"):  # whatever sizes the file names, no memory is taken before they fit its weights
            MNISTClassifier(**checkpoint["hyper_parameters"]).load_state_dict(state_dict, assign=True)
        # Of a datamodule of the user's own there may be others.
        hparams = checkpoint.get("datamodule_hyper_parameters", {})
        hparams = {name: hparams[name] for name in signature(MNISTDataModule).parameters if name in hparams}
        MNISTDataModule(**hparams)
        checkpoint["datamodule_hyper_parameters"] = hparams
        return checkpoint
    except (AttributeError, KeyError, RuntimeError, TypeError, UserError) as error:  # it holds something else
        raise UserError(damaged(path)) from error


def put_between_epochs(checkpoint: dict[str, Any]) -> bool:
    """Take a checkpoint that was saved after the last batch of an epoch as one between this epoch and the next.

    In whatever hook it was saved: Lightning 2.6 would do parts of the epoch's end again, or leave out an epoch.

    Args:
        checkpoint: Its content, which is changed.

    Returns:
        Whether it was saved there.
    """
    fit_loop = checkpoint["loops"]["fit_loop"]
    if not fit_loop["epoch_loop.batch_progress"]["is_last_batch"]:
        return False
    epochs = fit_loop["epoch_progress"]
    if epochs["current"]["processed"] < epochs["current"]["ready"]:  # saved by the validation
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    for counts in epochs["total"], epochs["current"]:
        counts["processed"] = counts["completed"] = counts["ready"]
    for loader in fit_loop["state_dict"].get("combined_loader", []):
        loader["batches"] = 0
    return True


def check_schedule(trainer: Trainer) -> None:
    """Check that the one-cycle is that of this run, and make it anew if LearningRateFinder has found another rate.

    Raises:
        UserError: If the run is continued and its number of steps is another now.
    """
    for config in trainer.lr_scheduler_configs:
        schedule, steps = config.scheduler, trainer.estimated_stepping_batches
        if not isinstance(schedule, OneCycleLR):
            continue
        group, lr = schedule.optimizer.param_groups[0], getattr(trainer.lightning_module, "lr", None)
        if group["max_lr"] != lr or group["lr"] != schedule.get_last_lr()[0]:
            trainer.strategy.setup_optimizers(trainer)
        elif schedule.total_steps != steps:
            raise UserError(
                f"the checkpoint's one_cycle is one of {schedule.total_steps} steps, this run would have {steps}: "
                "keep max_epochs and the number of batches as they were (only a constant schedule can go on for longer)"
            )


def continue_command(checkpoint: Path) -> str:
    """Return the command that continues the run of this process from a checkpoint."""
    run_dir = checkpoint.parent.parent
    config = run_dir / "config.yaml"  # unless the user chose another logger, or none
    is_run = run_dir.name.startswith("version_") and config.is_file()
    options = ["--config", os.path.relpath(config)] if is_run else sys.argv[2:]
    return shlex.join(["python", "-m", "mnist_lit", "fit", *options, "--ckpt_path", os.path.relpath(checkpoint)])
