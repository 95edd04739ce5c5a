"""The checkpoint that a call of the Trainer starts from."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.states import TrainerFn

from mnist_lit.files import find_checkpoint, load_whole
from mnist_lit.run.folder import RunFolder, RunLogger
from mnist_lit.run.interruption import find_requeued


class RunConnector(_CheckpointConnector):
    """Chooses the checkpoint that a call of the Trainer starts from, and with it the folder of the run.

    Lightning has no public place for this. Its own class finds "best" and "last" only for ModelCheckpoint, and under
    SLURM starts from any ``hpc_ckpt_N.ckpt`` in the current folder.
    """

    _folder: RunFolder

    @classmethod
    def install(cls, trainer: Trainer, folder: RunFolder) -> None:
        """Put one into ``trainer``, unless it has one."""
        if not isinstance(trainer._checkpoint_connector, cls):
            connector = cls(trainer)
            connector.__dict__.update(trainer._checkpoint_connector.__dict__)  # it may have been given a path
            connector._folder = folder
            trainer._checkpoint_connector = connector

    def _select_ckpt_path(
        self, state_fn: TrainerFn, ckpt_path: Any, model_provided: bool, model_connected: bool
    ) -> str | None:
        run = next((each for each in self.trainer.checkpoint_callbacks if hasattr(each, "unfinished")), None)
        root, is_fit = self._folder.root or Path(), state_fn == TrainerFn.FITTING
        if ckpt_path in ("best", "last"):
            ckpt_path = getattr(run, f"{ckpt_path}_model_path", "") or str(find_checkpoint(ckpt_path, root))
        elif ckpt_path is None and is_fit and not self._user_managed:
            # The training that a signal stopped, of this model in this Trainer, or of this job of SLURM.
            ckpt_path = (run.unfinished(self.trainer.lightning_module) if run else "") or find_requeued(root)
        if ckpt_path is not None or self._user_managed or not model_provided:
            ckpt_path = super()._select_ckpt_path(state_fn, ckpt_path, model_provided, model_connected)
        step = None
        if is_fit and ckpt_path:
            self._folder.choose(Path(ckpt_path))
            step = load_whole(Path(ckpt_path)).get("global_step") if self._folder.path else None
        for logger in self.trainer.loggers:
            if is_fit and isinstance(logger, RunLogger):
                logger.begin(step)
        return str(ckpt_path) if ckpt_path else None
