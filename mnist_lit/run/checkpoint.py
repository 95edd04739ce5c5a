"""The checkpoints of a run."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from mnist_lit.errors import UserError, check_range
from mnist_lit.run.checkpoint_io import use_whole_files
from mnist_lit.run.connector import RunConnector
from mnist_lit.run.folder import RunFolder, RunLogger, run_dir_of
from mnist_lit.run.interruption import Interruption, TrainingInterruptedError, forget_requeued
from mnist_lit.run.state import RunState, more_follows


class RunCheckpoint(Checkpoint):
    """Keeps ``best.ckpt`` and ``last.ckpt`` in ``checkpoints`` of the run's folder.

    ========= ============================================ ==============================================
    file      saved                                        why
    ========= ============================================ ==============================================
    best.ckpt after a validation whose ``val_acc`` is the  to be tested and used
              highest so far
    last.ckpt after each epoch                             whatever the validation says, it is continued
    last.ckpt every ``every_n_train_steps`` steps          a killed run loses no more steps than these
    last.ckpt after SIGINT (Ctrl-C) or SIGTERM, and then   a stopped run loses nothing
              ``TrainingInterruptedError`` is raised
    last.ckpt when ``max_steps`` or a callback ends the    it can go on from there
              run within an epoch
    ========= ============================================ ==============================================

    A run that is continued from either file ends as if it had never stopped, unless something in it draws from torch's
    global random numbers. After a signal the step under way is finished, with ``StepsPerExecution`` its round, in a run
    of several processes at most ten steps. A second signal ends the process at once. Between the steps over which
    gradients are accumulated nothing is saved. If the loss is not finite no checkpoint is replaced.

    Not ModelCheckpoint, whose ``save_last`` keeps the last one only of the epochs that are the best so far, and which
    cannot be continued exactly where validation is rare or the run has ``max_steps``.

    Args:
        every_n_train_steps: Save ``last.ckpt`` at least this often, in steps; at least 1.

    Attributes:
        folder: Of the run; ``lightning_logs/version_N`` of the Trainer's ``default_root_dir`` or, if a logger writes
            into such a folder, that one.
        best_model_score: ``val_acc`` of ``best.ckpt``, in [0, 1].

    Raises:
        UserError: If ``every_n_train_steps`` is below 1; and when a training starts, if checkpoints of another run are
            where its own would go, or if it cannot be continued from the checkpoint that was given; and when an epoch
            ends with a loss that is infinite or not a number.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        check_range("every_n_train_steps", every_n_train_steps, at_least=1)
        self.every_n_train_steps = every_n_train_steps
        self.folder: RunFolder | None = None
        self.best_model_score: Tensor | None = None
        self._state = RunState()
        self._interruption = Interruption()
        self._module: LightningModule | None = None  # of the last fit
        self._is_interrupted = False  # whether a signal stopped it
        self._keeps = self._is_continued = False
        self._step = self._signum = 0
        self._accumulating = self._due = self._stop_is_due = self._validated = False

    @property
    def best_model_path(self) -> str:
        """Path of ``best.ckpt``, of ``last.ckpt`` if there was no validation; empty if there is neither."""
        return self._path("best.ckpt") or self.last_model_path

    @best_model_path.setter
    def best_model_path(self, path: str) -> None:
        # A strategy that trains in other processes gives it to the Trainer of this one.
        if path and (run_dir := run_dir_of(Path(path))):
            self.folder = self.folder or RunFolder()
            self.folder.path = run_dir

    @property
    def last_model_path(self) -> str:
        """Path of ``last.ckpt``; empty if there is none."""
        return self._path("last.ckpt")

    def _path(self, name: str) -> str:
        path = self.folder.path / "checkpoints" / name if self.folder and self.folder.path else None
        return str(path) if path and path.is_file() else ""

    def unfinished(self, module: LightningModule | None) -> str:
        """Return the checkpoint that was saved when a signal stopped the training of ``module``; empty if none."""
        return self.last_model_path if self._is_interrupted and module is self._module else ""

    def is_of_another(self, module: LightningModule | None) -> bool:
        """Return whether the last fit trained another model than ``module``."""
        return self._module is not None and module is not self._module

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Get ready for a training."""
        if stage != "fit":
            return
        self._keeps = not getattr(trainer, "fast_dev_run", False)
        use_whole_files(trainer)
        self._is_continued = False
        self.folder = RunConnector.of(trainer).folder

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note where a training is continued; a test or validation of a checkpoint changes nothing.

        Raises:
            UserError: If the checkpoint lies between the steps over which gradients are accumulated.
        """
        state = checkpoint["callbacks"].get(self.state_key)
        if trainer.state.fn != "fit" or state is None:
            return
        if state.get("accumulating"):
            raise UserError(
                f"{trainer.ckpt_path} was saved by a validation between two optimizer steps, and the gradients "
                "accumulated so far are not in it: continue from last.ckpt"
            )
        self._is_continued = True
        assert self.folder is not None
        continued = Path(trainer.ckpt_path or ".")
        if not any(isinstance(logger, RunLogger) for logger in trainer.loggers) and run_dir_of(continued):
            self.folder.choose(continued)
        self.best_model_score = state["best_model_score"] if self._path("best.ckpt") else None
        self._state.load(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the folder of the run."""
        if not self._is_continued:
            self._state.drop_unfinished_epoch(trainer)
        if not self._path("best.ckpt"):
            self.best_model_score = None
        self._module, self._is_interrupted = pl_module, False
        if not self._keeps:
            return
        assert self.folder
        if self.folder.path is None:
            self.folder.adopt(trainer, self._is_continued)
        self.folder.path = Path(trainer.strategy.broadcast(self.folder.lock()))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on where the run is, and watch for signals."""
        self._state.resume(trainer, pl_module, self._is_continued)
        self._step, self._signum = trainer.global_step, 0
        self._accumulating = self._due = self._stop_is_due = self._validated = False
        self._interruption.watch(trainer, is_requeued=RunConnector.of(trainer).is_early)
        if self._keeps and self.folder and self.folder.path and trainer.is_global_zero:
            forget_requeued(self.folder.path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the last checkpoint if it is due, and the run can go on from here.

        Raises:
            TrainingInterruptedError: If a signal came.
        """
        if self.folder:
            self.folder.has_stepped = True
        self._accumulating, self._step = trainer.global_step == self._step, trainer.global_step
        self._signum = self._interruption.signum(trainer, batch_idx)
        self._due |= self._step % self.every_n_train_steps == 0 and not self._accumulating
        self._due |= self._step == trainer.max_steps or self._signum > 0
        self._note_stop(trainer)
        if not more_follows(trainer):
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
        """Save the checkpoints at the end of an epoch.

        Raises:
            UserError: If the loss is infinite or not a number: the training has diverged.
        """
        loss = trainer.callback_metrics.get("train_loss")
        if not _is_finite(loss):
            raise UserError(
                f"the training diverged in epoch {trainer.current_epoch + 1}: its loss is {loss} with --model.lr "
                f"{pl_module.hparams.get('lr')}; try a lower learning rate"
            )
        if not trainer.is_last_batch:
            return  # the epoch was cut short: from the checkpoint of its last step it can be finished
        self._due = False
        self._save_best(trainer)
        self._save(trainer, "last.ckpt")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remember whether a signal stopped the training."""
        self._is_interrupted = isinstance(exception, TrainingInterruptedError)
        self._close(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave no folder of a run without a step."""
        self._close(trainer)

    def _close(self, trainer: Trainer) -> None:
        if self.folder and trainer.state.fn == "fit":
            self.folder.end_fit()

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
            self._save(trainer, "last.ckpt")
        if self._signum:
            if is_finite and self._keeps and self.folder and self.folder.path:
                self._interruption.requeue(trainer, self.folder.path, self._signum)
            raise TrainingInterruptedError(self._signum, self.last_model_path if is_finite else "")

    def _save_best(self, trainer: Trainer) -> None:
        score = trainer.callback_metrics.get("val_acc") if self._validated else None
        self._validated = False
        if score is None or (self.best_model_score is not None and score <= self.best_model_score):
            return
        if _is_finite(trainer.callback_metrics.get("val_loss")):
            self.best_model_score = score
            self._save(trainer, "best.ckpt")

    def _save(self, trainer: Trainer, name: str) -> None:
        if not self._keeps or self.folder is None or self.folder.path is None:
            return
        for logger in trainer.loggers:
            logger.save()  # the curves up to here, so that none of their points is missing after a kill
        path = self.folder.path / "checkpoints" / name
        trainer.save_checkpoint(path, weights_only=False)  # the default; without it Lightning prints a line

    def state_dict(self) -> dict[str, Any]:
        """Return the score and the position: no paths, since a run's folder can be moved."""
        return {"best_model_score": self.best_model_score, "accumulating": self._accumulating}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the metrics of an epoch that is not at its end."""
        self._state.save(trainer, pl_module, checkpoint)


def _is_finite(loss: Tensor | None) -> bool:
    return loss is None or bool(loss.isfinite())
