"""The folder of a run."""

from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.errors import UserError
from mnist_lit.files import UNFINISHED


def is_first_process() -> bool:
    """Return whether this is the process of a run that writes and speaks."""
    return getattr(rank_zero_only, "rank", 0) == 0


class RunLogger(TensorBoardLogger):
    """TensorBoardLogger with a folder ``lightning_logs/version_N`` of its own, however many runs start at once.

    Lightning's takes the first number that is free when it looks, and makes the folder later: by then another run may
    have taken it. The folder is locked until the run ends, however it ends.

    Args:
        save_dir: Where ``lightning_logs`` is.
        version: Folder to go on in, ``version_3`` say; by default a new one, made when it is first asked for.
        step: First step to log in a folder to go on in; TensorBoard forgets what has been logged of it and later ones.

    Raises:
        UserError: If another run is at work in the folder.
    """

    def __init__(self, save_dir: Path, version: str | None = None, step: int | None = None) -> None:
        super().__init__(save_dir, version=version, default_hp_metric=False, purge_step=step)
        self.new_run_dir: Path | None = None
        self._lock: FileLock | None = None
        if version is not None:
            self._lock_folder(Path(self.root_dir, version))

    @property
    def version(self) -> int | str:
        """The name or number of the run's folder."""
        while self._version is None and is_first_process():
            version = self._get_next_version()
            run_dir = Path(self.root_dir, f"version_{version}")
            run_dir.parent.mkdir(parents=True, exist_ok=True)
            try:
                run_dir.mkdir()
            except FileExistsError:  # another run was faster
                continue
            self._version, self.new_run_dir = version, run_dir
            self._lock_folder(run_dir)
        return super().version

    def _lock_folder(self, run_dir: Path) -> None:
        if not is_first_process():
            return
        self._lock = FileLock(run_dir / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"another process is training in {run_dir}: wait until it has ended") from error
        for path in (run_dir / "checkpoints").glob(UNFINISHED):  # of a process of this run that was killed
            path.unlink()

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged; before that, nothing: of a run that goes on TensorBoard would forget points."""
        if self._experiment is not None:
            super().save()

    @rank_zero_only
    def rewrite_hparams(self, hparams: dict[str, Any]) -> None:
        """Write ``hparams.yaml`` anew: a callback may have changed the hyperparameters that it was begun with."""
        save_hparams_to_yaml(Path(self.log_dir, self.NAME_HPARAMS_FILE), hparams)

    def finalize(self, status: str) -> None:
        """Write what is left and unlock the folder."""
        super().finalize(status)
        if self._lock:
            self._lock.release()


class SaveConfigAtFirstStep(SaveConfigCallback):
    """Saves ``config.yaml``, and ``hparams.yaml`` anew, at the first step: a run that is refused changes nothing."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Do nothing yet."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save, the first time."""
        if self.already_saved:
            return
        datamodule = getattr(trainer, "datamodule", None)
        data_hparams = datamodule.hparams if datamodule else {}
        # Lightning's finders may have changed these two.
        self.config.model.lr = pl_module.hparams.get("lr")
        self.config.data.batch_size = data_hparams.get("batch_size")
        super().setup(trainer, pl_module, "fit")
        if isinstance(trainer.logger, RunLogger):
            trainer.logger.rewrite_hparams({**pl_module.hparams, **data_hparams})
