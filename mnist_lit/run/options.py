"""Checks of Lightning's options that would fail later, or not do what their documentation says."""

import math

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    ModelCheckpoint,
    StochasticWeightAveraging,
)

from mnist_lit.datamodule import EVALUATION_BATCH, MNISTDataModule
from mnist_lit.errors import UserError
from mnist_lit.module import MNISTClassifier


def as_list(value: object) -> list[object]:
    """Return an option's value as a list; it may be None, one object or a list."""
    return value if isinstance(value, list) else [value] if value else []


def check_options(trainer: Trainer, model: LightningModule, data: object) -> None:
    """Check the options of a training for which Lightning 2.6 would fail later, or name another option.

    Args:
        trainer: The Trainer.
        model: The model.
        data: The datamodule or the loaders.

    Raises:
        UserError: If an option cannot work.
    """
    limit = trainer.limit_val_batches
    for callback in as_list(getattr(trainer, "callbacks", [])):
        if isinstance(callback, StochasticWeightAveraging):
            raise UserError(
                "StochasticWeightAveraging does not save its average in checkpoints: use WeightAveraging or "
                "EMAWeightAveraging"
            )
        if isinstance(callback, BatchSizeFinder) and model.hparams.get("schedule") == "one_cycle":
            raise UserError("BatchSizeFinder needs more steps than a one_cycle has: set --model.schedule constant")
        monitor = getattr(callback, "monitor", None)
        if isinstance(callback, EarlyStopping | ModelCheckpoint) and isinstance(data, MNISTDataModule):
            stages = ["train", "val"] if data.val_size and limit != 0 else ["train"]
            metrics = [f"{stage}_{name}" for stage in stages for name in ("loss", "acc")]
            if monitor is not None and isinstance(model, MNISTClassifier) and monitor not in metrics:
                raise UserError(
                    f"{type(callback).__name__} monitors {monitor}, but the metrics are {', '.join(metrics)}"
                )
    if trainer.val_check_interval == 0:
        raise UserError("--trainer.val_check_interval must be above 0, got 0")
    share: float = getattr(trainer, "overfit_batches", 0)
    if 0 < share < 1 and isinstance(data, MNISTDataModule):
        batches = math.ceil((60_000 - data.val_size) / data.batch_size)
        if data.val_size:
            batches = min(batches, math.ceil(data.val_size / EVALUATION_BATCH))
        if share * batches < 1:
            raise UserError(
                f"--trainer.overfit_batches {share} of {batches} batches is less than one batch: give at least "
                f"{math.ceil(1000 / batches) / 1000}, or a whole number of batches"
            )
