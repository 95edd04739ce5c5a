"""Checks of Lightning's options that would fail later, or not do what their documentation says."""

import math

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, EarlyStopping, ModelCheckpoint, StochasticWeightAveraging

from mnist_lit.datamodule import EVALUATION_BATCH, MNISTDataModule
from mnist_lit.errors import UserError
from mnist_lit.module import Classifier


def as_list(value: object) -> list[object]:
    """Return an option's value as a list; it may be None, one object or a list."""
    return value if isinstance(value, list) else [value] if value else []


def check_options(trainer: Trainer, model: LightningModule, data: object) -> None:
    """Check the options of a run of ``model`` with a datamodule or loaders; raise UserError if one cannot work."""
    callbacks = as_list(getattr(trainer, "callbacks", []))
    if any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
        raise UserError(
            "StochasticWeightAveraging does not save its average in checkpoints: use WeightAveraging or "
            "EMAWeightAveraging"
        )
    if trainer.val_check_interval == 0:
        raise UserError("--trainer.val_check_interval must be above 0, got 0")
    if isinstance(model, Classifier) and isinstance(data, MNISTDataModule):
        _check_our_own(trainer, callbacks, model, data)


def _check_our_own(trainer: Trainer, callbacks: list[object], model: Classifier, data: MNISTDataModule) -> None:
    if model.hparams.get("schedule") == "one_cycle" and any(isinstance(each, BatchSizeFinder) for each in callbacks):
        raise UserError("BatchSizeFinder needs more steps than a one_cycle has: set --model.schedule constant")
    stages = ["train", "val"] if data.val_size and trainer.limit_val_batches != 0 else ["train"]
    metrics = [f"{stage}_{name}" for stage in stages for name in ("loss", "acc")]
    for callback in callbacks:
        monitor = callback.monitor if isinstance(callback, EarlyStopping | ModelCheckpoint) else None
        if monitor is not None and monitor not in metrics:
            raise UserError(f"{type(callback).__name__} monitors {monitor}, but the metrics are {', '.join(metrics)}")
    share: float = getattr(trainer, "overfit_batches", 0)
    loaders = [(60_000 - data.val_size) / data.batch_size, data.val_size / EVALUATION_BATCH]
    batches = min(math.ceil(length) for length in loaders if length)
    if 0 < share < 1 and share * batches < 1:
        raise UserError(
            f"--trainer.overfit_batches {share} of {batches} batches is less than one batch: give at least "
            f"{math.ceil(1000 / batches) / 1000}, or a whole number of batches"
        )
