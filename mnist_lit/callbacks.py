"""What a run keeps and prints: its checkpoints, and a line for each epoch.

Lightning calls each callback six times a step, whether it has anything to do or not, which takes 1 % of the time of a
small network like this: so there are few of them.
"""

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar


class TrainingInterruptedError(Exception):
    """A signal stopped the training, which can be continued.

    Args:
        signum: The signal's number.
        path: The checkpoint that was saved.
    """

    def __init__(self, signum: int, path: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; saved {os.path.relpath(path)}")
        self.signum = signum
        self.path = path


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, from the epoch of the highest ``val_acc``, and ``last.ckpt``, from the last steps.

    A run that is continued from ``last.ckpt`` ends as if it had never stopped, unless something in it draws from
    torch's global random numbers. On SIGINT (Ctrl-C) and SIGTERM ``last.ckpt`` is saved after the step under way, in a
    run of several processes within ten steps, and ``TrainingInterruptedError`` is raised; a second signal ends the
    process at once.

    ModelCheckpoint's own ``save_last`` keeps the last one only of the epochs that are the best so far.

    Args:
        every_n_train_steps: Greatest number of steps that ``last.ckpt`` may be old, at least 1.

    Raises:
        ValueError: If ``every_n_train_steps`` is below 1.
    """

    # ModelCheckpoint's key lists its settings, anew in each of its hooks in each step: 2 % of an epoch.
    state_key = "RunCheckpoint"

    def __init__(self, every_n_train_steps: int = 500) -> None:
        if every_n_train_steps < 1:
            raise ValueError(f"every_n_train_steps must be at least 1, got {every_n_train_steps}")
        super().__init__(filename="best", monitor="val_acc", mode="max", enable_version_counter=False)
        self._interval = every_n_train_steps  # not ModelCheckpoint's every_n_train_steps, which is of best.ckpt
        self._due = False
        self._last_step = 0
        self._signum = self._agreed_signum = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep no best checkpoint where there will be no ``val_acc``."""
        if stage == "fit" and not trainer.enable_validation:
            self.monitor, self.save_top_k = None, 0
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals: Lightning's handlers stop in the middle of a step and save nothing."""
        super().on_train_start(trainer, pl_module)
        self._due, self._last_step, self._signum, self._agreed_signum = False, 0, 0, 0
        if threading.current_thread() is threading.main_thread():  # Lightning gives them back at the end
            for signum in signal.SIGINT, signal.SIGTERM:
                signal.signal(signum, self._note_signal)

    def _note_signal(self, signum: int, _: FrameType | None) -> None:
        if self._signum:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self._signum = signum

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the last checkpoint if it is time or a signal came, and this is a step to continue from.

        Raises:
            TrainingInterruptedError: If a signal came.
        """
        if trainer.world_size == 1:
            self._agreed_signum = self._signum
        elif batch_idx % 10 == 0:  # all processes must stop at the same step, whichever of them got the signal
            signum = torch.tensor(self._signum, device=pl_module.device)
            self._agreed_signum = int(trainer.strategy.reduce(signum, reduce_op="max"))
        fit_loop, loop, step = trainer.fit_loop, trainer.fit_loop.epoch_loop, trainer.global_step
        on_time = step % self._interval == 0 and not loop._should_accumulate()
        stops = step == trainer.max_steps or (trainer.should_stop and fit_loop._can_stop_early)
        self._due = self._due or on_time or stops or self._agreed_signum > 0
        # Gradients accumulated so far are not in a checkpoint; and from the end of a step Lightning continues with the
        # next step, not with validation or the end of the epoch: the hooks of these save then.
        if not self._due or loop._should_accumulate() or trainer.is_last_batch:
            return
        if fit_loop._data_fetcher and loop._should_check_val_fx(fit_loop._data_fetcher):
            return
        self._save_last(trainer)
        if self._agreed_signum:
            raise TrainingInterruptedError(self._agreed_signum, self.last_model_path)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the best checkpoint if this is it, and the last one if it is time."""
        super().on_validation_end(trainer, pl_module)
        within_epoch = not trainer.sanity_checking and not trainer.is_last_batch
        if self._due and within_epoch and not trainer.fit_loop.epoch_loop._should_accumulate():
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last checkpoint, and the best one if this is it."""
        if self.monitor in trainer.callback_metrics:  # else ModelCheckpoint warns; an epoch may have no validation
            super().on_train_epoch_end(trainer, pl_module)
        if not trainer.is_last_batch and self._last_step == trainer.global_step:
            return  # the epoch was cut short: from the checkpoint of its last step it can be finished
        ends = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        if trainer.global_step < trainer.max_steps and not ends:
            self._due = True  # with max_steps, Lightning 2.6.6 would end this epoch a second time: save after a step
            return
        self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        self._due, self._last_step = False, trainer.global_step
        if not self.dirpath or getattr(trainer, "fast_dev_run", False):  # then nothing is to be kept
            return
        for logger in trainer.loggers:
            logger.save()  # the curves up to here, so that none of their points is missing after a kill
        self.last_model_path = str(Path(self.dirpath, "last.ckpt"))
        trainer.save_checkpoint(self.last_model_path)

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs: no paths, since a run's folder can be moved."""
        return {"best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the run that is continued, if its best checkpoint is here."""
        score, best = state_dict["best_model_score"], Path(self.dirpath or ".", "best.ckpt")
        if score is not None and best.is_file():
            self.best_model_path = self.kth_best_model_path = str(best)
            self.best_model_score = self.current_score = self.kth_value = score
            self.best_k_models = {self.best_model_path: score}


class EpochLines(ProgressBar):
    """Prints a line for each epoch, for output that is not a terminal.

    ``Epoch 1: [550/550], Loss: 0.2927, Validation accuracy: 96.20 %``: the number of the epoch, its batches, the mean
    of their losses, and the accuracy on the validation images if it was measured.
    """

    def __init__(self) -> None:
        super().__init__()
        self._batches = 0
        self._validated = False

    def disable(self) -> None:
        """Do nothing: this prints on the main process alone."""

    # Callbacks hear of an epoch's end before the module, which then logs train_loss: so each line waits for what
    # comes next, another epoch or the end.

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Print the line of the epoch before."""
        self._print_line(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Print the last epoch's line."""
        self._print_line(trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note that there is a line to print, and of how many batches."""
        self._batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Note that the line has a validation accuracy."""
        self._validated = not trainer.sanity_checking

    def _print_line(self, trainer: Trainer) -> None:
        metrics = trainer.callback_metrics
        if self._batches and "train_loss" in metrics and trainer.is_global_zero:
            line = f"Epoch {trainer.current_epoch}: [{self._batches}/{trainer.num_training_batches}]"
            line += f", Loss: {metrics['train_loss']:.4f}"
            if self._validated:
                line += f", Validation accuracy: {100 * metrics['val_acc']:.2f} %"
            print(line, flush=True)
        self._batches, self._validated = 0, False
