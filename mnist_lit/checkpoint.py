"""Checkpoints as files: found, read without running anything, written."""

import pickle
import re
import zipfile
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import UserError
from mnist_lit.files import replacing
from mnist_lit.module import PRETRAINED, MNISTClassifier

_RUN_CHECKPOINTS = "checkpoints/best.ckpt", "checkpoints/last.ckpt"  # a run without validation has no best one


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


def find_checkpoint(name: str, root: Path) -> Path:
    """Return the checkpoint that ``--ckpt_path`` names.

    Args:
        name: A file; the folder of a run, for its best or else its last one; ``best`` or ``last``, of the newest run
            that has one; or ``pretrained``, that of this package.
        root: Where ``lightning_logs`` is.

    Raises:
        UserError: If there is none.
    """
    if name == "pretrained":
        return PRETRAINED
    if name not in ("best", "last"):
        path = Path(name)
        if path.is_dir():  # of a run
            path = next((each for each in map(path.joinpath, _RUN_CHECKPOINTS) if each.is_file()), path)
        if not path.is_file():
            raise UserError(
                f"--ckpt_path {name}: there is no such file; 'best' and 'last' are the newest run's, "
                "'pretrained' comes with the package"
            )
        return path
    runs = {run.name.removeprefix("version_"): run for run in (root / "lightning_logs").glob("version_*")}
    for version in sorted((version for version in runs if version.isdecimal()), key=int, reverse=True):
        for candidate in name, "last":  # a run without validation has no best one but its last
            path = runs[version] / "checkpoints" / f"{candidate}.ckpt"
            if path.is_file():
                return path
    raise UserError(
        f"there is no checkpoint in {root / 'lightning_logs'}: train first with 'python -m mnist_lit fit', "
        "or name a checkpoint with --ckpt_path, 'pretrained' for the one that comes with the package"
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint of an ``MNISTClassifier``.

    Raises:
        UserError: If it cannot be read, is not whole, or holds anything but such a model.
    """
    damaged = f"{path} is not a checkpoint of mnist_lit, or it is damaged"
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch.load does not compare the checksums
                raise UserError(damaged)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever a file that is no checkpoint makes torch raise
        raise UserError(damaged) from error
    try:
        # A copy: load_state_dict leaves a note in what it loads from, by which the next one would assign, too.
        state_dict = dict(checkpoint["state_dict"])
        with torch.device("meta"):  # whatever sizes the file names, no memory is taken before they fit its weights
            MNISTClassifier(**checkpoint["hyper_parameters"]).load_state_dict(state_dict, assign=True)
        # Of a datamodule of the user's own there may be others.
        hparams = checkpoint.get("datamodule_hyper_parameters", {})
        hparams = {name: hparams[name] for name in signature(MNISTDataModule).parameters if name in hparams}
        MNISTDataModule(**hparams)
        checkpoint["datamodule_hyper_parameters"] = hparams
        return checkpoint
    except (AttributeError, KeyError, RuntimeError, TypeError, UserError) as error:  # it holds something else
        raise UserError(damaged) from error
