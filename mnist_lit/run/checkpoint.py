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
    best.ckpt after a validation with the highest          to test and use the network
              ``val_acc`` so far
    last.ckpt after each epoch                             to continue, also from an epoch that is not best
    last.ckpt every ``every_n_train_steps`` steps          a killed run loses at most this many steps
    last.ckpt after SIGINT (Ctrl-C) or SIGTERM; then       a stopped run loses nothing
              ``TrainingInterruptedError`` is raised
    last.ckpt when ``max_steps`` or a callback ends the    to continue from there
              run within an epoch
    ========= ============================================ ==============================================

    A run that is continued from either file ends as if it had never stopped, unless part of it draws from torch's
    global random numbers. After a signal, the run finishes its current step: with ``StepsPerExecution`` the round, with
    several processes up to ten steps. A second signal ends the process at once. While gradients are accumulated,
    ``last.ckpt`` waits for the optimizer step. Checkpoints are not replaced while the loss is infinite or NaN.

    It is used instead of ModelCheckpoint, whose ``save_last`` saves only after the best epochs, and whose checkpoints
    cannot be continued exactly if validation is rare or the run has ``max_steps``.

    Args:
        every_n_train_steps: Most steps between two saves of ``last.ckpt``; at least 1.

    Attributes:
        folder: The run's folder: ``lightning_logs/version_N`` in the Trainer's ``default_root_dir``.
        best_model_score: ``val_acc`` of ``best.ckpt``, in [0, 1].

    Raises:
        UserError: If ``every_n_train_steps`` is below 1; when a training starts, if its folder has checkpoints of
            another run, or if it cannot continue from the given checkpoint; when an epoch ends with an infinite or NaN
            loss.
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

    @property
    def best_model_path(self) -> str:
        """Path of ``best.ckpt``, or of ``last.ckpt`` if there was no validation; empty if neither exists."""
        return self._path("best.ckpt") or self.last_model_path

    @best_model_path.setter
    def best_model_path(self, path: str) -> None:
        # A strategy that trains in other processes sets it in this process.
        if path and (run_dir := run_dir_of(Path(path))):
            self.folder = self.folder or RunFolder()
            self.folder.path = run_dir

    @property
    def last_model_path(self) -> str:
        """Path of ``last.ckpt``; empty if it does not exist."""
        return self._path("last.ckpt")

    def _path(self, name: str) -> str:
        path = self.folder.path / "checkpoints" / name if self.folder and self.folder.path else None
        return str(path) if path and path.is_file() else ""

    def unfinished(self, module: LightningModule | None) -> str:
        """Return the checkpoint saved when a signal stopped the training of ``module``; empty if none was."""
        return self.last_model_path if self._is_interrupted and module is self._module else ""

    def is_of_another(self, module: LightningModule | None) -> bool:
        """Return whether the last fit trained another model than ``module``."""
        return self._module is not None and module is not self._module

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Get ready for a training."""
        if stage == "fit":
            use_whole_files(trainer)
            self._state.is_continued = False
            self.folder = RunConnector.of(trainer).folder

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note where a training continues; a test or validation of a checkpoint changes nothing.

        Raises:
            UserError: If the checkpoint was saved between two optimizer steps.
        """
        state = checkpoint["callbacks"].get(self.state_key)
        if trainer.state.fn != "fit" or state is None:
            return
        if state.get("accumulating"):
            raise UserError(
                f"{trainer.ckpt_path} was saved by a validation between two optimizer steps, and the gradients "
                "accumulated so far are not in it: continue from last.ckpt"
            )
        assert self.folder is not None
        continued = Path(trainer.ckpt_path or ".")
        if not any(isinstance(logger, RunLogger) for logger in trainer.loggers) and run_dir_of(continued):
            self.folder.choose(continued)
        self.best_model_score = state["best_model_score"] if self._path("best.ckpt") else None
        self._state.load(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the folder of the run."""
        if not self._state.is_continued:
            self._state.drop_unfinished_epoch(trainer)
        if not self._path("best.ckpt"):
            self.best_model_score = None
        self._module, self._is_interrupted = pl_module, False
        if not _keeps(trainer):
            return
        assert self.folder
        if self.folder.path is None:
            self.folder.adopt(trainer, self._state.is_continued)
        self.folder.path = Path(trainer.strategy.broadcast(self.folder.lock()))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue the run from where it is, and watch for signals."""
        self._state.resume(trainer, pl_module)
        self._interruption.watch(trainer, is_requeued=RunConnector.of(trainer).is_early)
        if (run_dir := self._run_dir(trainer)) and trainer.is_global_zero:
            forget_requeued(run_dir)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save ``last.ckpt`` if it is due, unless a validation or the end of the epoch follows.

        Raises:
            TrainingInterruptedError: If a signal came.
        """
        if self.folder:
            self.folder.has_stepped = True
        self._state.note_batch(trainer)
        self._interruption.agree(trainer, batch_idx)
        self._state.delay_stop(trainer)
        if not more_follows(trainer):
            self._save_within_epoch(trainer, outputs.get("loss"))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, within an epoch, ``best.ckpt`` if this is the best one, and ``last.ckpt`` if it is due."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.is_last_batch:
            self._state.delay_stop(trainer)
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
            return  # the epoch was cut short: it can be finished from the checkpoint of its last step
        self._save_best(trainer)
        self._save(trainer, "last.ckpt")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Note whether a signal stopped the training."""
        self._is_interrupted = isinstance(exception, TrainingInterruptedError)
        self._close(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release the folder, and remove it if the run made no step."""
        self._close(trainer)

    def _close(self, trainer: Trainer) -> None:
        if self.folder and trainer.state.fn == "fit":
            self.folder.end_fit()

    def _is_due(self, trainer: Trainer) -> bool:
        return (
            trainer.global_step % self.every_n_train_steps == 0
            or trainer.global_step == trainer.max_steps
            or self._interruption.signum > 0
            or (trainer.should_stop and trainer.fit_loop._can_stop_early)
        )

    def _save_within_epoch(self, trainer: Trainer, loss: Tensor | None) -> None:
        if self._state.is_accumulating or not self._is_due(trainer):
            return
        is_finite = trainer.strategy.reduce_boolean_decision(_is_finite(loss))
        if is_finite:
            self._save(trainer, "last.ckpt")
        if signum := self._interruption.signum:
            if is_finite and (run_dir := self._run_dir(trainer)):
                self._interruption.requeue(trainer, run_dir)
            raise TrainingInterruptedError(signum, self.last_model_path if is_finite else "")

    def _save_best(self, trainer: Trainer) -> None:
        score = trainer.callback_metrics.get("val_acc")  # of the newest validation of this fit
        if score is None or (self.best_model_score is not None and score <= self.best_model_score):
            return
        if _is_finite(trainer.callback_metrics.get("val_loss")):
            self.best_model_score = score
            self._save(trainer, "best.ckpt")

    def _save(self, trainer: Trainer, name: str) -> None:
        if run_dir := self._run_dir(trainer):
            for logger in trainer.loggers:
                logger.save()  # the curves up to here, so that a kill loses no points
            # False is the default, but without it Lightning prints a line.
            trainer.save_checkpoint(run_dir / "checkpoints" / name, weights_only=False)

    def _run_dir(self, trainer: Trainer) -> Path | None:
        return self.folder.path if self.folder and _keeps(trainer) else None

    def state_dict(self) -> dict[str, Any]:
        """Return the score and the position, but no paths: a run's folder can be moved."""
        return {"best_model_score": self.best_model_score, "accumulating": self._state.is_accumulating}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the metrics of an unfinished epoch."""
        self._state.save(trainer, pl_module, checkpoint)


def _keeps(trainer: Trainer) -> bool:
    return not getattr(trainer, "fast_dev_run", False)


def _is_finite(loss: Tensor | None) -> bool:
    return loss is None or bool(loss.isfinite())
