"""The checkpoints of a run."""

import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, GradientAccumulationScheduler
from torch import Tensor

from mnist_lit.errors import UserError
from mnist_lit.files import replacing
from mnist_lit.run.interruption import Interruption, TrainingInterruptedError
from mnist_lit.run.resume import check_schedule, put_between_epochs


class RunCheckpoint(Checkpoint):
    """Keeps ``best.ckpt``, from the epoch of the highest ``val_acc``, and ``last.ckpt``, from the last steps.

    A run that is continued from either ends as if it had never stopped, unless something in it draws from torch's
    global random numbers. On SIGINT (Ctrl-C) and SIGTERM ``last.ckpt`` is saved after the step under way, with
    ``StepsPerExecution`` after the last one of its round, in a run of several processes within ten steps, and
    ``TrainingInterruptedError`` is raised; a second signal ends the process at once. Weights of a training that has
    diverged replace no checkpoint.

    Not ModelCheckpoint, whose ``save_last`` keeps the last one only of the epochs that are the best so far, and which
    cannot be continued exactly where validation is rare or the run has ``max_steps``.

    Args:
        every_n_train_steps: Save ``last.ckpt`` at least this often, in steps; at least 1.

    Attributes:
        best_model_path: Path of ``best.ckpt``; empty if there is none.
        best_model_score: Its ``val_acc``, in [0, 1].
        last_model_path: Path of ``last.ckpt``; empty if there is none.

    Raises:
        UserError: If ``every_n_train_steps`` is below 1; and when a training starts, if checkpoints of another run are
            where its own would go, or if it cannot be continued from the checkpoint that was given.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        if every_n_train_steps < 1:
            raise UserError(f"every_n_train_steps must be at least 1, got {every_n_train_steps}")
        self.every_n_train_steps = every_n_train_steps
        self.best_model_path = self.last_model_path = ""
        self.best_model_score: Tensor | None = None
        self._interruption = Interruption()
        self._folder: Path | None = None  # of the checkpoints; none where nothing is to be kept
        self._trainer: Trainer | None = None  # that of the last fit
        self._is_ours = False  # whether what is in the folder is of this run
        self._between_epochs = False  # whether the checkpoint that is continued was saved there
        self._step = self._signum = 0
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
        self._is_ours = folder == self._folder and trainer is self._trainer  # from an earlier fit
        if not self._is_ours:
            self.best_model_path, self.last_model_path, self.best_model_score = "", "", None
        self._folder, self._trainer = folder, trainer

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on in the folder of the checkpoint, and between two epochs if it was saved at the end of one."""
        continued = Path(trainer.ckpt_path or ".").resolve().parent
        # A logger of the user's may open a new folder beside that of the run, whose checkpoints stay together.
        is_beside = trainer.logger and self._folder and continued.parent.parent == self._folder.parent.parent
        if continued == self._folder or (is_beside and continued.name == "checkpoints"):
            self._folder, self._is_ours = continued, True
        if checkpoint["callbacks"].get(self.state_key, {}).get("accumulating"):
            raise UserError(
                f"{trainer.ckpt_path} was saved by a validation between two optimizer steps, and the gradients "
                "accumulated so far are not in it: continue from last.ckpt"
            )
        self._between_epochs = put_between_epochs(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to overwrite another run."""
        if self._folder and not self._is_ours and any(self._folder.glob("*.ckpt")):
            raise UserError(
                f"{os.path.relpath(self._folder)} holds the checkpoints of another run: continue it with --ckpt_path, "
                "or choose another folder with --trainer.default_root_dir or the options of the logger"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the run goes on as it began, and watch for signals."""
        check_schedule(trainer)
        for callback in getattr(trainer, "callbacks", []):
            if isinstance(callback, GradientAccumulationScheduler):  # Lightning calls it at the start of an epoch alone
                callback.on_train_epoch_start(trainer)
        if self._between_epochs:
            trainer.fit_loop.epoch_loop.restarting = False  # for Lightning it is, if there are max_steps
        self._between_epochs = False
        self._step, self._signum = trainer.global_step, 0
        self._accumulating = self._due = self._stop_is_due = self._validated = False
        self._interruption.watch()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the last checkpoint if it is due, and the run can go on from here.

        Raises:
            TrainingInterruptedError: If a signal came.
        """
        self._accumulating, self._step = trainer.global_step == self._step, trainer.global_step
        self._signum = self._interruption.signum(trainer, batch_idx)
        self._due |= self._step % self.every_n_train_steps == 0 and not self._accumulating
        self._due |= self._step == trainer.max_steps or self._signum > 0
        self._note_stop(trainer)
        if not _more_follows(trainer):
            self._save_within_epoch(trainer, outputs.get("loss"))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the checkpoints within an epoch, if this is the best one and if the last one is due."""
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

    def _note_stop(self, trainer: Trainer) -> None:
        # Accumulated gradients are in no checkpoint: a callback that stops the training has to wait for their step.
        if self._accumulating:
            self._stop_is_due |= trainer.should_stop
            trainer.should_stop = False
        else:
            trainer.should_stop |= self._stop_is_due
            enough_epochs = trainer.current_epoch >= (trainer.min_epochs or 0)
            self._due |= trainer.should_stop and enough_epochs and self._step >= (trainer.min_steps or 0)

    def _save_within_epoch(self, trainer: Trainer, loss: Tensor | None) -> None:
        if not self._due or self._accumulating:
            return
        is_finite = _is_finite(loss)
        if is_finite:
            self._due = False
            self._save_last(trainer)
        if self._signum:
            raise TrainingInterruptedError(self._signum, self.last_model_path if is_finite else "")

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
        trainer.save_checkpoint(path, weights_only=False)  # the default; unless it is said, a line is printed
        return path

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs: no paths, since a run's folder can be moved."""
        return {"best_model_score": self.best_model_score, "accumulating": self._accumulating}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the run that is continued, if its best checkpoint is here."""
        score, best = state_dict["best_model_score"], Path(self._folder or ".", "best.ckpt")
        if score is not None and best.is_file():
            self.best_model_path, self.best_model_score = str(best), score


def _more_follows(trainer: Trainer) -> bool:
    # A validation or the end of the epoch that follows belongs to the step: the run cannot go on from before it.
    fit_loop = trainer.fit_loop
    assert fit_loop._data_fetcher is not None
    return trainer.is_last_batch or fit_loop.epoch_loop._should_check_val_fx(fit_loop._data_fetcher)


def _is_finite(loss: Tensor | None) -> bool:
    return loss is None or bool(loss.isfinite())


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there, so that its name never stands for half a file.

    Lightning's own writes it into the folder for temporary files, and where that is another file system the move is a
    copy, which can be interrupted.
    """

    _checked = False  # whether what is written can be read

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save ``checkpoint`` as ``path``.

        Raises:
            OSError: If it cannot be written, on a full disk for one; what was at ``path`` is as it was.
            UserError: If it holds more than tensors and plain values, the state of a user's callback for one.
        """
        path = Path(path)
        try:
            with replacing(path) as unfinished:
                with unfinished.open("wb") as file:
                    torch.save(checkpoint, file)
                if not self._checked:
                    self.load_checkpoint(unfinished)
                    self._checked = True
        except pickle.UnpicklingError as error:
            kind = re.search(r"GLOBAL (\S+)", str(error))
            raise UserError(
                f"{path} was not saved: it could not be read again, since something in it is a "
                f"{kind[1] if kind else 'program'}, where tensors and plain values alone are allowed"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = lambda storage, _: storage, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Load tensors and plain values; a checkpoint that holds anything else is refused, whatever is asked."""
        return super().load_checkpoint(path, map_location, weights_only=True)
