"""The folder of a run."""

from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


class RunLogger(TensorBoardLogger):
    """TensorBoardLogger with a folder ``lightning_logs/version_N`` of its own, however many runs start at once.

    Lightning's takes the first number that is free when it looks, and makes the folder later: by then another run may
    have taken it.

    Args:
        save_dir: Where ``lightning_logs`` is.
        version: Folder to go on in, ``version_3`` say; by default a new one, made when it is first asked for.
    """

    def __init__(self, save_dir: Path, version: str | None = None) -> None:
        super().__init__(save_dir, version=version, default_hp_metric=False)
        self.new_run_dir: Path | None = None

    @property
    def version(self) -> int | str:
        """The name or number of the run's folder."""
        while self._version is None and getattr(rank_zero_only, "rank", 0) == 0:
            version = self._get_next_version()
            run_dir = Path(self.root_dir, f"version_{version}")
            run_dir.parent.mkdir(parents=True, exist_ok=True)
            try:
                run_dir.mkdir()
            except FileExistsError:  # another run was faster
                continue
            self._version, self.new_run_dir = version, run_dir
        return super().version
