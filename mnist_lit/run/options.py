"""Checks of Lightning's options that would fail later, or not do what their documentation says."""

import math
import re
import warnings

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, StochasticWeightAveraging, Timer

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import UserError
from mnist_lit.module import MNISTClassifier


def as_list(value: object) -> list[object]:
    """Return an option's value as a list; it may be None, one object or a list."""
    return value if isinstance(value, list) else [value] if value else []


def check_options(config: Namespace, model: MNISTClassifier, datamodule: MNISTDataModule, fits: bool) -> None:
    """Check the Trainer's options for which Lightning 2.6 would fail later, or name another option.

    Args:
        config: The options, with callbacks as objects.
        model: The model.
        datamodule: The data.
        fits: Whether the options are for a training.

    Raises:
        UserError: If an option cannot work.
    """
    stages = ["train", "val"] if datamodule.val_size and config.limit_val_batches != 0 else ["train"]
    metrics = [f"{stage}_{name}" for stage in stages for name in ("loss", "acc")]
    for callback in as_list(config.callbacks):
        if isinstance(callback, StochasticWeightAveraging):
            raise UserError(
                "StochasticWeightAveraging does not save its average in checkpoints: use WeightAveraging or "
                "EMAWeightAveraging"
            )
        if isinstance(callback, BatchSizeFinder) and model.hparams["schedule"] == "one_cycle":
            raise UserError("BatchSizeFinder needs more steps than a one_cycle has: set --model.schedule constant")
        monitor = getattr(callback, "monitor", None)
        if fits and monitor is not None and monitor not in metrics:
            raise UserError(f"{type(callback).__name__} monitors {monitor}, but the metrics are {', '.join(metrics)}")
    if isinstance(config.strategy, str) and config.strategy.endswith(("_spawn", "_fork", "_notebook")):
        raise UserError(f"--trainer.strategy {config.strategy} is for notebooks: use ddp")
    if config.val_check_interval == 0:
        raise UserError("--trainer.val_check_interval must be above 0, got 0")
    share = config.overfit_batches  # of the training images and of the validation images
    images = min(60_000 - datamodule.val_size, datamodule.val_size or 60_000)
    batches = math.ceil(images / datamodule.batch_size)
    if 0 < share < 1 and share * batches < 1:
        raise UserError(
            f"--trainer.overfit_batches {share} of {batches} batches is less than one batch: give at least "
            f"{math.ceil(1000 / batches) / 1000}, or a whole number of batches"
        )


def check_config(parser: ArgumentParser, config: Namespace) -> None:
    """Check that the options can be written to config.yaml, which repeats a run.

    Raises:
        UserError: If an argument of a callback or another class cannot: jsonargparse would write a text instead.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # else Python shows a warning only once
        try:
            parser.dump(config)
            problems = [text for warning in caught if "Unable to serialize" in (text := str(warning.message))]
        except ValueError as error:
            problems = [str(error)]
    for problem in problems:
        argument = re.search(r"(?:serialize instance|represent an object',) (\S+)", problem)
        raise UserError(
            f"{argument[1] if argument else problem}: this argument of a callback or another class cannot be written "
            "to config.yaml, which repeats the run: use the class in Python (instead of a Timer, --trainer.max_time)"
        )


def why_nothing(trainer: Trainer) -> str:
    """Return why a training made no step."""
    timers = [callback for callback in as_list(getattr(trainer, "callbacks", [])) if isinstance(callback, Timer)]
    if any((timer.time_remaining() or 0) <= 0 for timer in timers):
        return "the run has used up --trainer.max_time; give a longer time, for the whole run"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"{trainer.global_step} steps are done and --trainer.max_steps is {trainer.max_steps}"
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return f"{trainer.current_epoch} epochs are done and --trainer.max_epochs is {trainer.max_epochs}"
    if trainer.num_training_batches == 0:
        return "an epoch has no batches; see --trainer.limit_train_batches"
    return "a callback stopped the training before its first step"
