"""Many training steps in one round of Lightning's loop.

This file uses private parts of Lightning, as checkpoint.py and trainer.py do for the counts of its loops. Manual
optimization over lists of batches is public and as fast, but changes what eight of the Trainer's options mean.
"""

from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar, Timer, TQDMProgressBar
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from typing_extensions import override

from mnist_lit.datamodule import Batch, MNISTDataModule
from mnist_lit.errors import check_range
from mnist_lit.module import Classifier
from mnist_lit.run.progress import EpochLines
from mnist_lit.run.termination import Termination

# Hooks that are called for each batch, and methods that are part of a step
_HOOKS = ["on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward"]
_HOOKS += ["on_after_backward", "on_before_optimizer_step"]
_STEP = ["forward", "training_step", "backward", "configure_gradient_clipping", "optimizer_step", "optimizer_zero_grad"]
_TRANSFER = ["on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"]


class StepsPerExecution(Callback):
    """Makes many steps in one round of Lightning's loop, whose hooks take half as long as the step of a small network.

    Keras has this as ``Model.compile(steps_per_execution=...)``. A run writes exactly what it would write with one step
    a round. Callbacks are called only for the last step of each round. A round ends early if something is due:
    validation, a point of a curve, the end of the epoch or of the run.

    It has no effect if a step is more than that of a plain loop, or if something is called for each step: several
    processes, another precision than 32 bits, accumulated or clipped gradients, a profiler, a user's callback with
    hooks for each batch, a ModelCheckpoint that does not save by epochs, a subclass of Classifier with other steps or
    with a ``loss`` that calls ``self.log`` (as the first step of an epoch shows), other data, data without a length.

    Args:
        steps: Most steps in one round, at least 1; else a UserError is raised.
    """

    def __init__(self, steps: int = 50) -> None:
        check_range("steps", steps, at_least=1, is_whole=True)
        self.steps = steps

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            trainer.fit_loop.epoch_loop = _Rounds(trainer, self.steps)


class _Rounds(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, with plain steps before each of its own."""

    def __init__(self, trainer: Trainer, steps_per_round: int) -> None:
        super().__init__(trainer)
        self.__dict__.update(trainer.fit_loop.epoch_loop.__dict__)  # it has the data already
        self._steps_per_round = self._most = steps_per_round

    @override
    def on_run_start(self, data_fetcher: Any) -> None:
        super().on_run_start(data_fetcher)
        # Without a length, the last batch of an epoch is recognized too late.
        self._most = self._steps_per_round if data_fetcher.length and _can_be_plain(self.trainer) else 1

    @override
    def advance(self, data_fetcher: Any) -> None:
        if self._most > 1 and self.batch_progress.current.ready and not self.trainer.should_stop:
            self._make_plain_steps(data_fetcher, self._steps_until_due() - 1)
        super().advance(data_fetcher)  # the first step of the epoch or the last one of the round, with all hooks
        if any(name.startswith("training_step.") for name in self._results):
            self._most = 1  # a user's loss calls self.log, which works only in Lightning's own steps

    def _steps_until_due(self) -> int:
        trainer, batches, steps = self.trainer, self.batch_progress.current.ready, self.global_step
        validated = self.batch_progress.total.ready if trainer.check_val_every_n_epoch is None else batches
        counts = [
            (batches, self._most),  # restarts in each epoch, so the progress bar moves evenly
            (batches, trainer.num_training_batches),
            (validated, trainer.val_check_batch),
            (self._batches_that_stepped, trainer.log_every_n_steps),
            (steps, max(self.max_steps, 0)),
        ]
        return int(min(period - count % period for count, period in counts if period))

    def _make_plain_steps(self, data_fetcher: Any, steps: int) -> None:
        trainer = self.trainer
        module, device = trainer.lightning_module, trainer.strategy.root_device
        (optimizer,) = trainer.optimizers
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs if config.interval == "step"]
        parameters = list(module.parameters())
        progress = self.automatic_optimization.optim_progress.optimizer

        def compute_gradients(batch: Batch) -> Tensor:
            loss: Tensor = module.training_step(batch, self.batch_idx + 1)
            for parameter in parameters:
                parameter.grad = None  # as optimizer.zero_grad() does, in a tenth of the time
            loss.backward()
            return loss

        for _ in range(steps):
            (images, labels), _, _ = next(data_fetcher)
            optimizer.step(partial(compute_gradients, (images.to(device), labels.to(device))))
            for scheduler in schedulers:
                scheduler.step()
            for counts in self.batch_progress, progress.zero_grad, progress.step:
                counts.increment_by(1)
            self.scheduler_progress.increment_by(len(schedulers))
            self._batches_that_stepped += 1


def _can_be_plain(trainer: Trainer) -> bool:
    """Return whether a step is that of a plain loop, and nothing is called for each step."""
    # These have nothing to do except at the end of a round.
    known = Callback, LearningRateMonitor, ModelCheckpoint, RichProgressBar, TQDMProgressBar, Timer
    hooks = {getattr(kind, name) for kind in (*known, EpochLines, Termination) for name in _HOOKS}
    module, datamodule = trainer.lightning_module, getattr(trainer, "datamodule", None)
    callbacks: list[Callback] = getattr(trainer, "callbacks", [])
    return (
        type(trainer.strategy) is SingleDeviceStrategy
        and type(trainer.precision_plugin) is Precision
        and type(getattr(trainer, "profiler", None)) is PassThroughProfiler
        and trainer.accumulate_grad_batches == 1
        and not trainer.gradient_clip_val
        and all(config.frequency == 1 and not config.reduce_on_plateau for config in trainer.lr_scheduler_configs)
        and all(_method(callback, name) in hooks for callback in callbacks for name in _HOOKS)
        and all(callback.every_n_epochs for callback in callbacks if isinstance(callback, ModelCheckpoint))
        and all(_method(module, name) is getattr(Classifier, name, None) for name in _HOOKS + _STEP + _TRANSFER)
        and _method(module, "lr_scheduler_step") is Classifier.lr_scheduler_step
        and all(_method(datamodule, name) is getattr(MNISTDataModule, name) for name in _TRANSFER)
    )


def _method(instance: object, name: str) -> object:
    # The method of its class; None if a function of the instance replaces it, as in LambdaCallback.
    return getattr(getattr(instance, name, None), "__func__", None)
