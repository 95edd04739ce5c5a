"""Where a run is: its state in a checkpoint beside Lightning's counters, and how a training continues from it."""

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
    """Position within the epoch, and the metrics of the epoch so far. Restored only when a training is continued.

    Lightning's counters tell how many batches of the epoch are done. Since the order of the images and their distortion
    depend only on (seed, epoch, batch), the run goes on exactly when as many batches are passed over.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, Any] | None = None  # of the epoch that is continued
        self._is_between_epochs = False  # whether the checkpoint that is continued was saved there
        self._cycle: int | None = None  # steps of the one_cycle of an earlier fit

    def save(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the metrics of an epoch that is not at its end."""
        is_within_epoch = trainer.fit_loop.epoch_loop.batch_progress.current.ready and not trainer.is_last_batch
        if isinstance(module, MNISTClassifier) and is_within_epoch and trainer.state.fn == "fit":
            losses, counts = module.train_metrics.totals(trainer.strategy)
            checkpoint["train_metrics"] = {"losses": losses, "counts": counts}

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Note where the checkpoint was saved; its counters may be changed."""
        self._metrics = checkpoint.get("train_metrics")
        self._is_between_epochs = _put_between_epochs(checkpoint)

    def drop_unfinished_epoch(self, trainer: Trainer) -> None:
        """Begin the epoch again in which an earlier fit of this trainer was broken off.

        Lightning would count it twice, and leave out an epoch when the run is continued from a checkpoint.
        """
        self._metrics, self._is_between_epochs = None, False
        progress = trainer.fit_loop.epoch_progress
        for counts in progress.total, progress.current:
            assert isinstance(counts, _ProcessedTracker)
            counts.completed = counts.processed
            counts.reset_on_restart()

    def resume(self, trainer: Trainer, module: LightningModule, is_continued: bool) -> None:
        """Go on where the run is: called when a training starts, after Lightning has restored its counters.

        Raises:
            UserError: If its one_cycle was made for another number of steps.
        """
        self._check_schedule(trainer, is_continued)
        for callback in getattr(trainer, "callbacks", []):
            if isinstance(callback, GradientAccumulationScheduler):  # Lightning calls it only when an epoch starts
                callback.on_train_epoch_start(trainer)
        if self._is_between_epochs:
            trainer.fit_loop.epoch_loop.restarting = False  # for Lightning it is, if there are max_steps
        elif is_continued and trainer.fit_loop.epoch_loop.restarting:
            self._pass_over_batches(trainer)
            if self._metrics is not None and isinstance(module, MNISTClassifier):
                # The counts are those of all processes: the others begin at 0.
                counts = map(int, self._metrics["counts"]) if is_first_process() else (0, 0)
                module.train_metrics.resume(self._metrics["losses"], *counts)
        self._metrics, self._is_between_epochs = None, False

    @staticmethod
    def _pass_over_batches(trainer: Trainer) -> None:
        fit_loop = trainer.fit_loop
        fetcher, loop, loader = fit_loop._data_fetcher, fit_loop.epoch_loop, fit_loop._combined_loader
        assert fetcher is not None
        assert loader is not None
        if any(hasattr(each, "load_state_dict") for each in loader.flattened):
            return  # a loader of the user's, which Lightning restores
        for each in loader.flattened:
            _set_sampler_epoch(each, trainer.current_epoch)
        # A checkpoint that was saved in the hook after a batch does not count this batch as completed yet.
        for _ in range(loop.batch_progress.current.completed + loop.restarted_on_train_batch_end):
            next(fetcher)
        fetcher.fetched = 0  # Lightning adds the batches that are done
        # Lightning knows only loaders that restore themselves.
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")

    def _check_schedule(self, trainer: Trainer, is_continued: bool) -> None:
        for config in trainer.lr_scheduler_configs:
            schedule, steps = config.scheduler, trainer.estimated_stepping_batches
            if not isinstance(schedule, OneCycleLR):
                continue
            before, self._cycle = schedule.total_steps if is_continued else self._cycle, int(steps)
            group, lr = schedule.optimizer.param_groups[0], trainer.lightning_module.hparams.get("lr")
            has_finder = any(isinstance(each, LearningRateFinder) for each in getattr(trainer, "callbacks", []))
            if has_finder and (group["max_lr"] != lr or group["lr"] != schedule.get_last_lr()[0]):
                trainer.strategy.setup_optimizers(trainer)  # LearningRateFinder has found another rate
                continue
            is_begun = is_continued or trainer.current_epoch > 0
            if is_begun and before is not None and (before != steps or not is_continued):
                raise UserError(
                    f"the one_cycle of this run is one of {before} steps, this training would have {steps}: continue "
                    "from a checkpoint, and keep max_epochs and the number of batches as they were (only a constant "
                    "schedule can go on for longer)"
                )


def more_follows(trainer: Trainer) -> bool:
    """Return whether a validation or the end of the epoch belongs to the last step: no run goes on from before it."""
    fit_loop = trainer.fit_loop
    assert fit_loop._data_fetcher is not None
    return trainer.is_last_batch or fit_loop.epoch_loop._should_check_val_fx(fit_loop._data_fetcher)


def _put_between_epochs(checkpoint: dict[str, Any]) -> bool:
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
    return True
