"""The checkpoint that a call of the Trainer starts from."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.states import TrainerFn

from mnist_lit.errors import UserError
from mnist_lit.files import find_checkpoint, load_whole
from mnist_lit.run.folder import RunFolder, RunLogger
from mnist_lit.run.interruption import find_requeued


class RunConnector(_CheckpointConnector):
    """Chooses the checkpoint that a call of the Trainer starts from, and with it the folder of the run.

    Lightning has no public API for this. Its own class finds "best" and "last" only for ModelCheckpoint, and under
    SLURM starts from any ``hpc_ckpt_N.ckpt`` in the current folder.
    """

    folder: RunFolder
    is_early: bool  # whether the Trainer had it before its first call, as one from make_trainer does

    @classmethod
    def of(cls, trainer: Trainer, folder: RunFolder | None = None, is_early: bool = False) -> "RunConnector":
        """Return the connector of ``trainer``; if it is Lightning's own, replace it first."""
        if isinstance(trainer._checkpoint_connector, cls):
            return trainer._checkpoint_connector
        connector = cls(trainer)
        connector.__dict__.update(trainer._checkpoint_connector.__dict__)  # it may have been given a path
        connector.folder = folder or RunFolder(Path(trainer.default_root_dir))
        connector.is_early = is_early
        trainer._checkpoint_connector = connector
        return connector

    def _select_ckpt_path(
        self, state_fn: TrainerFn, ckpt_path: Any, model_provided: bool, model_connected: bool
    ) -> str | None:
        trainer, folder, is_fit = self.trainer, self.folder, state_fn == TrainerFn.FITTING
        run: Any = next((each for each in trainer.checkpoint_callbacks if hasattr(each, "unfinished")), None)
        self._loaded_checkpoint = {}  # a failed call may have left one
        if is_fit:
            folder.begin_fit()
        if ckpt_path in ("best", "last"):
            own = getattr(run, f"{ckpt_path}_model_path", "")
            if not own and trainer.global_step:
                raise UserError(f"ckpt_path {ckpt_path!r}: this Trainer has saved no checkpoint")
            ckpt_path = own or str(find_checkpoint(ckpt_path, folder.root or Path()))
        elif ckpt_path is not None and (ckpt_path == "pretrained" or Path(ckpt_path).is_dir()):
            ckpt_path = str(find_checkpoint(str(ckpt_path), Path(), "last" if is_fit else "best"))
        elif ckpt_path is None and is_fit and not self._user_managed:
            # Continue the training of this model in this Trainer, or of this SLURM job, that a signal stopped.
            ckpt_path = (run.unfinished(trainer.lightning_module) if run else "") or find_requeued(
                folder.root or Path(), trainer
            )
            if not ckpt_path and run and run.is_of_another(trainer.lightning_module):
                folder.begin_run()
        if ckpt_path or self._user_managed or not model_provided:
            ckpt_path = super()._select_ckpt_path(state_fn, ckpt_path or None, model_provided, model_connected)
        step = None
        if is_fit and ckpt_path:
            folder.choose(Path(ckpt_path))
            step = self._check_epochs(Path(ckpt_path)) if folder.path else None
        for logger in trainer.loggers:
            if is_fit and isinstance(logger, RunLogger):
                logger.begin(step)
        return str(ckpt_path) if ckpt_path else None

    def _check_epochs(self, ckpt_path: Path) -> int | None:
        """Return the checkpoint's step; a UserError if the Trainer has no epoch left for it."""
        content, most = load_whole(ckpt_path), self.trainer.max_epochs
        if most is not None and 0 <= most < content.get("epoch", 0) + 1:
            raise UserError(
                f"{ckpt_path} is in epoch {content['epoch'] + 1}, and max_epochs is {most}: give a larger one, or "
                "its run's config.yaml with --config"
            )
        step: int | None = content.get("global_step")
        return step
