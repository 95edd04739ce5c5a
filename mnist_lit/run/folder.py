"""The folder of a run, and the files in it other than checkpoints."""

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from mnist_lit.errors import UserError
from mnist_lit.files import UNFINISHED

_NO_LOCKS = errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP  # a file system without a lock service


def is_first_process() -> bool:
    """Return whether this is the first process of a run, which writes and prints."""
    return getattr(rank_zero_only, "rank", 0) == 0


def run_dir_of(checkpoint: Path) -> Path | None:
    """Return the run's folder in ``lightning_logs`` that has this checkpoint; None for a file elsewhere."""
    folder, run_dir = checkpoint.resolve().parent, checkpoint.resolve().parent.parent
    return run_dir if folder.name == "checkpoints" and run_dir.parent.name == "lightning_logs" else None


class RunFolder:
    """The folder ``lightning_logs/version_N`` of a run, with any logger; runs that start at once get different folders.

    It is locked until the run ends, in whatever way.

    Args:
        root: The folder that has ``lightning_logs``; by default that of a continued run, else the current folder.

    Attributes:
        path: The folder; None before it is opened.
        is_new: Whether this run made it.
        has_stepped: Whether the current fit has made a step.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self.path: Path | None = None
        self.is_new = self.has_stepped = False
        self._lock: FileLock | None = None
        self._previous: Path | None = None  # the folder before a fit, until its first step
        self._is_made_by_fit = False

    def begin_fit(self) -> None:
        """Note the folder, to return to it if the fit fails before its first step."""
        self._previous, self._is_made_by_fit, self.has_stepped = self.path, False, False

    def begin_run(self) -> None:
        """Let the next fit be a new run, in a new folder."""
        self.release()
        self.path = None

    def choose(self, checkpoint: Path) -> None:
        """Continue in the folder of a checkpoint, or in a new one if the checkpoint is not in a run of ``root``."""
        run_dir = run_dir_of(checkpoint)
        if run_dir and self.root and run_dir.parent.parent != self.root.resolve():
            run_dir = None
        self.release()
        self.path, self.is_new = run_dir, False

    def adopt(self, trainer: Trainer, is_continued: bool) -> None:
        """Take the folder that a user's logger writes into, if it is one for a run.

        Raises:
            UserError: If it has checkpoints of another run.
        """
        if not isinstance(trainer.logger, CSVLogger | TensorBoardLogger):
            return
        run_dir = Path(trainer.logger.log_dir).resolve()
        is_ours = run_dir.parent == Path(trainer.default_root_dir).resolve() / "lightning_logs"
        if not is_ours or not re.fullmatch(r"version_\d+", run_dir.name):  # the commands would not find its checkpoints
            return
        if any(run_dir.glob("checkpoints/*.ckpt")) and not is_continued:
            raise UserError(
                f"{os.path.relpath(run_dir)} holds the checkpoints of another run: continue it with --ckpt_path, or "
                "give the logger another version"
            )
        self.path = run_dir

    def open(self) -> Path:
        """Return the folder; make it first if there is none."""
        if not is_first_process():
            return self.path or Path()  # the first process sends its path to the others
        logs = Path(self.root or "").absolute() / "lightning_logs"
        while self.path is None:
            logs.mkdir(parents=True, exist_ok=True)
            names = [run.name.removeprefix("version_") for run in logs.glob("version_*")]
            numbers = [int(name) for name in names if name.isdecimal()]
            run_dir = logs / f"version_{max(numbers, default=-1) + 1}"
            try:
                run_dir.mkdir()
            except FileExistsError:  # another run was faster
                continue
            self.path, self.is_new = run_dir, True
        return self.path

    def lock(self) -> Path:
        """Open the folder for a training, lock it, and return it.

        Raises:
            UserError: If another training is writing into it.
        """
        self._is_made_by_fit |= self.path is None and is_first_process()
        run_dir = self.open()
        if self._lock or not is_first_process():
            return run_dir
        self._lock = FileLock(run_dir / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            self._lock = None
            raise UserError(f"another training is writing into {run_dir}: wait until it has ended") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            rank_zero_warn(f"{run_dir} is not locked, since its file system has no locks: start no second run in it")
        for path in (run_dir / "checkpoints").glob(UNFINISHED):  # a killed process of this run left it
            path.unlink()
        return run_dir

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def end_fit(self) -> None:
        """Unlock the folder; if the fit made no step, return to the folder before it and remove its own."""
        self.release()
        if not self.has_stepped:
            if self.path and self._is_made_by_fit:
                shutil.rmtree(self.path, ignore_errors=True)
            self.path = self._previous
        self._is_made_by_fit = False  # so that a second call does not remove the previous folder


class RunLogger(TensorBoardLogger):
    """TensorBoardLogger that writes into a ``RunFolder``.

    Lightning's logger chooses a free number and makes the folder later, when another run may have taken it.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.root or "", default_hp_metric=False)
        self.folder = folder
        self._writes_into: Path | None = None

    @property
    def log_dir(self) -> str:
        """The run's folder."""
        return str(self.folder.open())

    @property
    def version(self) -> str:
        """The name of the run's folder."""
        return self.folder.open().name

    @property
    def root_dir(self) -> str:
        """The folder of all runs."""
        return str(self.folder.open().parent)

    @property
    def is_new_run(self) -> bool:
        """Whether the run is new, and not continued."""
        return self.folder.is_new

    def begin(self, step: int | None) -> None:
        """Lock the folder for a training.

        Args:
            step: Where a run continues; TensorBoard drops the points from there on.
        """
        run_dir = self.folder.lock()
        if step is not None or self._writes_into != run_dir:
            self._experiment, self._writes_into = None, run_dir
            self._kwargs["purge_step"] = step

    @rank_zero_only
    def save(self) -> None:
        """Write the logged points, if there are any: else TensorBoard would drop points of a continued run."""
        if self._experiment is not None and self.folder.path:
            super().save()

    @rank_zero_only
    def rewrite_hparams(self, hparams: dict[str, Any]) -> None:
        """Write ``hparams.yaml`` again, since a callback may have changed the hyperparameters."""
        save_hparams_to_yaml(Path(self.log_dir, self.NAME_HPARAMS_FILE), hparams)

    def finalize(self, status: str) -> None:
        """Write the last points and unlock the folder."""
        if self.folder.path:
            super().finalize(status)
        self.folder.release()


class SaveConfigAtFirstStep(SaveConfigCallback):
    """Saves ``config.yaml``, and ``hparams.yaml`` again, at the first step: a refused run changes nothing.

    Attributes:
        folder: The run's.
    """

    folder: RunFolder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Do nothing yet."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save both files, the first time."""
        if self.already_saved or not trainer.is_global_zero:
            return
        self.already_saved = True
        data_hparams = getattr(getattr(trainer, "datamodule", None), "hparams", {})
        # Lightning's finders may have changed these two.
        self.config.model.lr = pl_module.hparams.get("lr")
        self.config.data.batch_size = data_hparams.get("batch_size")
        path = self.folder.open() / self.config_filename
        self.parser.save(self.config, path, overwrite=self.overwrite, multifile=self.multifile)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.rewrite_hparams({**pl_module.hparams, **data_hparams})
