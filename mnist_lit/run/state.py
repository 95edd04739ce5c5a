"""The position of a run: what a checkpoint stores beside Lightning's counters, and how a training continues."""

import warnings
from typing import Any

from lightning.fabric.utilities.data import _set_sampler_epoch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, LearningRateFinder
from lightning.pytorch.loops.progress import _ProcessedTracker
from torch.optim.lr_scheduler import OneCycleLR

from mnist_lit.errors import UserError
from mnist_lit.module import MNISTClassifier
from mnist_lit.run.folder import is_first_process


class RunState:
    """Position within the epoch, and the metrics of the epoch so far; restored only when a training continues.

    Lightning counts the finished batches of the epoch. The order and the distortion of the images depend only on
    (seed, epoch, batch), so skipping these batches continues the run exactly.
    """

    def __init__(self) -> None:
        self.is_continued = False  # whether this fit continues from a checkpoint
        self.is_accumulating = self._stop_is_delayed = False  # until the next optimizer step
        self._step = 0  # after the last batch
        self._metrics: dict[str, Any] | None = None  # of the epoch that continues
        self._is_between_epochs = False  # whether the loaded checkpoint was saved there
        self._cycle: int | None = None  # steps of the one_cycle of an earlier fit

    def note_batch(self, trainer: Trainer) -> None:
        """Set ``is_accumulating`` after a batch."""
        self.is_accumulating, self._step = trainer.global_step == self._step, trainer.global_step

    def delay_stop(self, trainer: Trainer) -> None:
        """Let a callback stop the training only after an optimizer step: checkpoints hold no accumulated gradients."""
        if self.is_accumulating:
            self._stop_is_delayed |= trainer.should_stop
            trainer.should_stop = False
        else:
            trainer.should_stop |= self._stop_is_delayed

    def save(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the metrics of an unfinished epoch."""
        is_within_epoch = trainer.fit_loop.epoch_loop.batch_progress.current.ready and not trainer.is_last_batch
        if isinstance(module, MNISTClassifier) and is_within_epoch and trainer.state.fn == "fit":
            losses, counts = module.train_metrics.totals(trainer.strategy)
            checkpoint["train_metrics"] = {"losses": losses, "counts": counts}

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Note where the checkpoint was saved; its counters may be changed."""
        self.is_continued = True
        self._metrics = checkpoint.get("train_metrics")
        self._is_between_epochs = _put_between_epochs(checkpoint)

    def drop_unfinished_epoch(self, trainer: Trainer) -> None:
        """Begin the epoch again in which an earlier fit of this trainer stopped.

        Lightning would count it twice, and skip an epoch when the run continues from a checkpoint.
        """
        self._metrics, self._is_between_epochs = None, False
        progress = trainer.fit_loop.epoch_progress
        for counts in progress.total, progress.current:
            assert isinstance(counts, _ProcessedTracker)
            counts.completed = counts.processed
            counts.reset_on_restart()

    def resume(self, trainer: Trainer, module: LightningModule) -> None:
        """Continue from where the run is: called when a training starts, after Lightning has restored its counters.

        Raises:
            UserError: If its one_cycle was made for another number of steps.
        """
        self.is_accumulating, self._step, self._stop_is_delayed = False, trainer.global_step, False
        self._check_schedule(trainer)
        for callback in getattr(trainer, "callbacks", []):
            if isinstance(callback, GradientAccumulationScheduler):  # Lightning calls it only when an epoch starts
                callback.on_train_epoch_start(trainer)
        if self._is_between_epochs:
            trainer.fit_loop.epoch_loop.restarting = False  # Lightning sets it if the run has max_steps
        elif self.is_continued and trainer.fit_loop.epoch_loop.restarting:
            self._skip_batches(trainer)
            if self._metrics is not None and isinstance(module, MNISTClassifier):
                # The counts are sums over all processes, so only the first process takes them.
                counts = map(int, self._metrics["counts"]) if is_first_process() else (0, 0)
                module.train_metrics.resume(self._metrics["losses"], *counts)
        self._metrics, self._is_between_epochs = None, False

    @staticmethod
    def _skip_batches(trainer: Trainer) -> None:
        fit_loop = trainer.fit_loop
        fetcher, loop, loader = fit_loop._data_fetcher, fit_loop.epoch_loop, fit_loop._combined_loader
        assert fetcher is not None
        assert loader is not None
        if any(hasattr(each, "load_state_dict") for each in loader.flattened):
            return  # the user's own loader, which Lightning restores
        for each in loader.flattened:
            _set_sampler_epoch(each, trainer.current_epoch)
        # A checkpoint saved in the hook after a batch does not count this batch as completed.
        for _ in range(loop.batch_progress.current.completed + loop.restarted_on_train_batch_end):
            next(fetcher)
        fetcher.fetched = 0  # Lightning adds the finished batches
        # Untrue here: Lightning warns unless a loader restores itself, and this one is at its batch already.
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")

    def _check_schedule(self, trainer: Trainer) -> None:
        for config in trainer.lr_scheduler_configs:
            schedule, steps = config.scheduler, trainer.estimated_stepping_batches
            if not isinstance(schedule, OneCycleLR):
                continue
            before, self._cycle = schedule.total_steps if self.is_continued else self._cycle, int(steps)
            group, lr = schedule.optimizer.param_groups[0], trainer.lightning_module.hparams.get("lr")
            has_finder = any(isinstance(each, LearningRateFinder) for each in getattr(trainer, "callbacks", []))
            if has_finder and (group["max_lr"] != lr or group["lr"] != schedule.get_last_lr()[0]):
                trainer.strategy.setup_optimizers(trainer)  # LearningRateFinder has found another rate
                continue
            is_begun = self.is_continued or trainer.current_epoch > 0
            if is_begun and before is not None and (before != steps or not self.is_continued):
                raise UserError(
                    f"the one_cycle of this run has {before} steps, this training would have {steps}: continue from a "
                    "checkpoint, and keep max_epochs and the number of batches (only a run with a constant schedule "
                    "can be extended)"
                )


def more_follows(trainer: Trainer) -> bool:
    """Return whether a validation or the end of the epoch follows the last step: a run cannot continue before it."""
    fit_loop = trainer.fit_loop
    assert fit_loop._data_fetcher is not None
    return trainer.is_last_batch or fit_loop.epoch_loop._should_check_val_fx(fit_loop._data_fetcher)


def _put_between_epochs(checkpoint: dict[str, Any]) -> bool:
    """Change a checkpoint saved after an epoch's last batch into one between two epochs, and return whether it was one.

    It may be saved in any hook: Lightning 2.6 would repeat parts of the epoch's end, or skip an epoch.
    """
    fit_loop = checkpoint["loops"]["fit_loop"]
    if not fit_loop["epoch_loop.batch_progress"]["is_last_batch"]:
        return False
    epochs = fit_loop["epoch_progress"]
    if epochs["current"]["processed"] < epochs["current"]["ready"]:  # saved by the validation
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    for counts in epochs["total"], epochs["current"]:
        counts["processed"] = counts["completed"] = counts["ready"]
    return True
