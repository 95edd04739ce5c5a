"""Checks of Lightning's options that would fail later, or not do what their documentation says."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, StochasticWeightAveraging

from mnist_lit.errors import UserError


def as_list(value: object) -> list[object]:
    """Return an option's value as a list; it may be None, one object or a list."""
    return value if isinstance(value, list) else [value] if value else []


def check_options(trainer: Trainer, model: LightningModule) -> None:
    """Check the options of a run that trains ``model``; raise UserError if one cannot work."""
    kinds = {type(callback) for callback in as_list(getattr(trainer, "callbacks", []))}
    if StochasticWeightAveraging in kinds:
        raise UserError(
            "StochasticWeightAveraging does not save its average in checkpoints: use WeightAveraging or "
            "EMAWeightAveraging"
        )
    if BatchSizeFinder in kinds and model.hparams.get("schedule") == "one_cycle":
        raise UserError("BatchSizeFinder needs more steps than a one_cycle has: choose a constant schedule")
    if getattr(trainer, "val_check_interval", None) == 0:  # Lightning does not set it for an interval of time
        raise UserError("val_check_interval must be above 0, got 0")
