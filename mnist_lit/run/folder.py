"""The folder of a run."""

from contextlib import suppress
from os.path import abspath
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


def is_first_process() -> bool:
    """Return whether this is the first process of a run, which writes and prints."""
    return getattr(rank_zero_only, "rank", 0) == 0


def run_dir_of(checkpoint: Path) -> Path | None:
    """Return the run's folder that has this checkpoint in ``checkpoints``; None for a file elsewhere."""
    folder = Path(abspath(checkpoint)).parent  # noqa: PTH100  # absolute() keeps '..', and resolve() follows links
    return folder.parent if folder.name == "checkpoints" else None


def make_run_dir(root: Path) -> Path:
    """Make and return the next ``lightning_logs/version_N``; runs that start at once get different folders."""
    while True:
        run_dir = root / "lightning_logs" / f"version_{TensorBoardLogger(root).version}"  # the next one
        with suppress(FileExistsError):  # another run was faster
            run_dir.mkdir(parents=True)
            return run_dir


def folder_of(logger: Logger | None) -> Path | None:
    """Return the folder that a logger writes this run into; None if the logger has none of its own."""
    return Path(logger.log_dir) if isinstance(logger, CSVLogger | TensorBoardLogger) else None
