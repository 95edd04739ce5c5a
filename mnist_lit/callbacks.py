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
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from torch import Tensor

from mnist_lit.errors import UserError


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


class RunCheckpoint(Checkpoint):
    """Keeps ``best.ckpt``, from the epoch of the highest ``val_acc``, and ``last.ckpt``, from the last steps.

    A run that is continued from either ends as if it had never stopped, unless something in it draws from torch's
    global random numbers. On SIGINT (Ctrl-C) and SIGTERM ``last.ckpt`` is saved after the step under way, in a run of
    several processes within ten steps, and ``TrainingInterruptedError`` is raised; a second signal ends the process at
    once. Weights of a training that has diverged replace no checkpoint.

    Not ModelCheckpoint, whose ``save_last`` keeps the last one only of the epochs that are the best so far, and which
    cannot be continued exactly where validation is rare or the run has ``max_steps``.

    Args:
        every_n_train_steps: Save ``last.ckpt`` at least this often, in steps; at least 1.

    Attributes:
        best_model_path: Path of ``best.ckpt``; empty if there is none.
        best_model_score: Its ``val_acc``, in [0, 1].
        last_model_path: Path of ``last.ckpt``; empty if there is none.

    Raises:
        UserError: If ``every_n_train_steps`` is below 1; and when a training starts, if there are already checkpoints
            of another run where its own would go, or if it cannot be continued from the checkpoint that was given.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        if every_n_train_steps < 1:
            raise UserError(f"every_n_train_steps must be at least 1, got {every_n_train_steps}")
        self.every_n_train_steps = every_n_train_steps
        self.best_model_path = self.last_model_path = ""
        self.best_model_score: Tensor | None = None
        self._folder: Path | None = None  # of the checkpoints; none where nothing is to be kept
        self._is_ours = False  # whether what is in it is of this run
        self._between_epochs = False  # whether the checkpoint that is continued was saved there
        self._step = self._signum = self._agreed_signum = 0
        self._accumulating = self._due = self._stop_is_due = self._validated = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder."""
        if stage != "fit" or getattr(trainer, "fast_dev_run", False):
            return
        run_dir = Path(trainer.default_root_dir)
        if logger := trainer.logger:
            version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
            run_dir = Path(logger.save_dir or run_dir, str(logger.name), version)
        folder = Path(trainer.strategy.broadcast(run_dir.resolve() / "checkpoints"))
        self._is_ours = folder == self._folder  # from an earlier fit of the same trainer
        self._folder = folder

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take a checkpoint that was saved after the last batch of an epoch as one between this epoch and the next.

        Whatever hook it was saved in: Lightning would do parts of the epoch's end again, or leave out an epoch.
        """
        continued = Path(trainer.ckpt_path or ".").resolve().parent
        if self._folder and continued.name == "checkpoints" and continued.parent.parent == self._folder.parent.parent:
            self._folder, self._is_ours = continued, True  # also with a logger that opens a new folder
        if checkpoint["callbacks"].get(self.state_key, {}).get("accumulating"):
            raise UserError(
                f"{trainer.ckpt_path} was saved by a validation between two optimizer steps, and the gradients "
                "accumulated so far are not in it: continue from last.ckpt"
            )
        fit_loop = checkpoint["loops"]["fit_loop"]
        self._between_epochs = fit_loop["epoch_loop.batch_progress"]["is_last_batch"]
        if not self._between_epochs:
            return
        epochs = fit_loop["epoch_progress"]
        if epochs["current"]["processed"] < epochs["current"]["ready"]:  # saved by the validation
            fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
        for counts in epochs["total"], epochs["current"]:
            counts["processed"] = counts["completed"] = counts["ready"]
        for loader in fit_loop["state_dict"].get("combined_loader", []):
            loader["batches"] = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to overwrite another run."""
        if self._folder and not self._is_ours and any(self._folder.glob("*.ckpt")):
            raise UserError(
                f"{os.path.relpath(self._folder)} holds the checkpoints of another run: continue it with --ckpt_path, "
                "or choose another folder with --trainer.default_root_dir or the options of the logger"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals: Lightning's handlers stop in the middle of a step and save nothing."""
        if self._between_epochs:
            trainer.fit_loop.epoch_loop.restarting = False  # which it is for Lightning where there are max_steps
        self._between_epochs = False
        self._step = trainer.global_step
        self._accumulating = self._due = self._stop_is_due = self._validated = False
        self._signum = self._agreed_signum = 0
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
        self._accumulating, self._step = trainer.global_step == self._step, trainer.global_step
        on_time = self._step % self.every_n_train_steps == 0 and not self._accumulating
        self._due = self._due or on_time or self._step == trainer.max_steps or self._agreed_signum > 0
        self._note_stop(trainer)
        # A validation or the end of the epoch that follows is a part of this step: their hooks save then.
        fit_loop = trainer.fit_loop
        assert fit_loop._data_fetcher is not None
        if trainer.is_last_batch or fit_loop.epoch_loop._should_check_val_fx(fit_loop._data_fetcher):
            return
        self._save_within_epoch(trainer, outputs.get("loss"))

    def _note_stop(self, trainer: Trainer) -> None:
        # Gradients that have been accumulated are in no checkpoint: who stops the training waits for their step.
        if self._accumulating:
            self._stop_is_due |= trainer.should_stop
            trainer.should_stop = False
        else:
            trainer.should_stop |= self._stop_is_due
            epochs_are_enough = trainer.current_epoch >= (trainer.min_epochs or 0)
            self._due |= trainer.should_stop and epochs_are_enough and self._step >= (trainer.min_steps or 0)

    def _save_within_epoch(self, trainer: Trainer, loss: Tensor | None) -> None:
        if not self._due or self._accumulating:
            return
        if _is_finite(loss):
            self._due = False
            self._save_last(trainer)
        if self._agreed_signum:
            raise TrainingInterruptedError(self._agreed_signum, self.last_model_path)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the checkpoints, if this is the best one and if it is time for the last one."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._validated = True
        if not trainer.is_last_batch:
            self._note_stop(trainer)
            self._save_best(trainer)
            self._save_within_epoch(trainer, trainer.callback_metrics.get("val_loss"))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the checkpoints: the best one if this is it, and the last one."""
        if not trainer.is_last_batch:
            return  # the epoch was cut short: from the checkpoint of its last step it can be finished
        self._due = False
        self._save_best(trainer)
        self._save_last(trainer)

    def _save_best(self, trainer: Trainer) -> None:
        score = trainer.callback_metrics.get("val_acc") if self._validated else None
        self._validated = False
        if score is None or (self.best_model_score is not None and score <= self.best_model_score):
            return
        if _is_finite(trainer.callback_metrics.get("val_loss")):
            self.best_model_score = score
            self.best_model_path = self._save(trainer, "best.ckpt")

    def _save_last(self, trainer: Trainer) -> None:
        self.last_model_path = self._save(trainer, "last.ckpt")

    def _save(self, trainer: Trainer, name: str) -> str:
        if self._folder is None:
            return ""
        for logger in trainer.loggers:
            logger.save()  # the curves up to here, so that none of their points is missing after a kill
        path = str(self._folder / name)
        trainer.save_checkpoint(path)
        return path

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs: no paths, since a run's folder can be moved."""
        return {"best_model_score": self.best_model_score, "accumulating": self._accumulating}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the run that is continued, if its best checkpoint is here."""
        score, best = state_dict["best_model_score"], Path(self._folder or ".", "best.ckpt")
        if score is not None and best.is_file():
            self.best_model_path, self.best_model_score = str(best), score


def _is_finite(loss: Tensor | None) -> bool:
    return loss is None or bool(loss.isfinite())


class EpochLines(ProgressBar):
    """Prints a line for each epoch, for output that is not a terminal.

    ``Epoch 1: [550/550], Loss: 0.2927, Validation accuracy: 96.20 %``: the number of the epoch, its batches, the mean
    of their losses, and the accuracy on the validation images if it was measured.
    """

    def __init__(self) -> None:
        super().__init__()
        self._batches = 0
        self._validated = False
        self._enabled = True

    def disable(self) -> None:
        """Print nothing: on the other processes, and while a rate or a batch size is searched."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

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
        if self._batches and "train_loss" in metrics and self._enabled:
            line = f"Epoch {trainer.current_epoch}: [{self._batches}/{trainer.num_training_batches}]"
            line += f", Loss: {metrics['train_loss']:.4f}"
            if self._validated:
                line += f", Validation accuracy: {100 * metrics['val_acc']:.2f} %"
            print(line, flush=True)
        self._batches, self._validated = 0, False
