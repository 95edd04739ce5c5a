"""Files that are written whole or not at all; finding and reading checkpoints, which are checked to be whole."""

import errno
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import torch
from torch import Tensor

from mnist_lit.errors import UserError
from mnist_lit.network import MLP

PRETRAINED = Path(__file__).with_name("pretrained.ckpt")
"""Checkpoint of the network that comes with this package: weights and hyperparameters, without optimizer state."""

UNFINISHED = ".*.unfinished"
"""Pattern of the files that a killed process may leave behind."""


def require_local(path: Path, option: str) -> Path:
    """Return ``path``.

    Raises:
        UserError: If it was made from a URL: as a path, this would create a local folder with a strange name. If it is
            not UTF-8.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise UserError(f"{option} {path}: a URL cannot be written to; name a local folder or file")
    if any("\ud800" <= letter <= "\udfff" for letter in str(path)):  # neither config.yaml nor TensorBoard can hold it
        raise UserError(f"{option} {path!a}: this name is not UTF-8; choose another folder or file")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the exact path of a file to write in the folder of ``path``, and rename it to ``path`` when it is written.

    So ``path`` is never half a file, even if several processes write it at once, and the previous file stays if writing
    fails. A killed process leaves its unfinished file behind. Missing folders are made. A device or a pipe, for example
    ``/dev/stdout``, is written directly.

    Raises:
        UserError: If ``path`` was made from a URL.
        OSError: If it cannot be written, for example to a full disk; the message names ``path``.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        yield path
        return
    target = Path(os.path.realpath(require_local(path, "--output")))  # the target of a link, not the link
    unfinished = target.with_name(f".{uuid4().hex}.unfinished")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        with unfinished.open("rb+") as file:
            try:
                os.fsync(file.fileno())
            except OSError as error:
                if error.errno != errno.EINVAL:  # a file system without fsync
                    raise
        unfinished.replace(target)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch's zip writer was cut short
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror or str(cause), str(path)) from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def load_whole(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU, without running code in it.

    Raises:
        UserError: If it cannot be read, is not whole, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch.load does not compare the checksums
                raise UserError(damaged(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # torch raises anything for a file that is not a checkpoint
        raise UserError(damaged(path)) from error
    if not isinstance(content, dict):
        raise UserError(damaged(path))
    return content


_CLASSES = {"model": "MNISTClassifier", "datamodule": "MNISTDataModule"}  # of this package


def damaged(path: Path) -> str:
    """Return the message about a file that is not a checkpoint of this package."""
    return f"{path} is not a checkpoint of mnist_lit, or it is damaged"


def find_checkpoint(name: str, root: Path, of_folder: Literal["best", "last"] = "best") -> Path:
    """Return the checkpoint that ``--ckpt_path`` names.

    Args:
        name: A file; a run's folder; ``best`` or ``last``, of the newest run that has checkpoints; or ``pretrained``,
            the one in this package.
        root: The folder that has ``lightning_logs``.
        of_folder: The checkpoint to take from a run's folder; the other one if it does not exist.

    Raises:
        UserError: If there is no such checkpoint.
    """
    if name == "pretrained":
        return PRETRAINED
    if name not in ("best", "last"):
        path = Path(name)
        if path.is_dir():  # of a run
            candidates = [path / "checkpoints" / f"{kind}.ckpt" for kind in (of_folder, "last", "best")]
            path = next((candidate for candidate in candidates if candidate.is_file()), path)
        if not path.is_file():
            what = "this folder has no checkpoints of a run" if path.is_dir() else "there is no such file"
            raise UserError(
                f"--ckpt_path {name}: {what}; 'best' and 'last' are the newest run's, "
                "'pretrained' comes with the package"
            )
        return path
    runs = {run.name.removeprefix("version_"): run for run in (root / "lightning_logs").glob("version_*")}
    for version in sorted((version for version in runs if version.isdecimal()), key=int, reverse=True):
        for candidate in name, "last", "best":  # a run may have only one of them
            path = runs[version] / "checkpoints" / f"{candidate}.ckpt"
            if path.is_file():
                return path
    raise UserError(
        f"there is no checkpoint in {root / 'lightning_logs'}: train first with the command 'fit', or name a "
        "checkpoint with --ckpt_path ('pretrained' comes with the package)"
    )


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint of a run.

    Attributes:
        path: Its path.
        content: Its whole content.
        hparams: Hyperparameters of the model.
        data_hparams: Hyperparameters of the datamodule, except for ``data_dir``, which the user chooses.
        weights: The model's state_dict.
    """

    path: Path
    content: dict[str, Any]
    hparams: dict[str, Any]
    data_hparams: dict[str, Any]
    weights: dict[str, Tensor]

    def network(self) -> MLP:
        """Return an MNISTClassifier's network, on the CPU, in single precision and evaluation mode."""
        with torch.device("meta"):  # so a file with huge sizes takes no memory before its weights are compared
            network = MLP(self.hparams["hidden_sizes"], self.hparams["activation"], self.hparams["upright"])
        weights = {name.removeprefix("network."): value for name, value in self.weights.items()}
        network.load_state_dict(weights, assign=True)
        return network.float().eval()  # weights may be stored in half precision


def read_checkpoint(
    path: Path, model: str = _CLASSES["model"], datamodule: str | None = _CLASSES["datamodule"]
) -> Checkpoint:
    """Read a checkpoint of a model that was trained with a datamodule.

    Args:
        path: Its path.
        model: Name of the model's class.
        datamodule: Name of the datamodule's class; None admits any data.

    Raises:
        UserError: If it cannot be read, is not whole, holds more than tensors and plain values, is of other classes, or
            has weights that do not fit its hyperparameters.
    """
    content = load_whole(path)
    try:
        classes = content.get("classes", _CLASSES)
        if classes["model"] != model or datamodule not in (None, classes["datamodule"]):
            names = [f"{name or 'loaders'!a}" for name in (classes["model"], classes["datamodule"])]
            raise UserError(
                f"{path} is of {' and '.join(names)}, not of {model} and {datamodule or 'any data'}: run the program "
                "that trained it, or name another checkpoint with --ckpt_path"
            )
        data_hparams = dict(content.get("datamodule_hyper_parameters", {}))
        data_hparams.pop("data_dir", None)
        # torch.compile adds a prefix to the names of weights.
        weights = {name.replace("_orig_mod.", ""): value for name, value in content["state_dict"].items()}
        checkpoint = Checkpoint(path, content, dict(content.get("hyper_parameters", {})), data_hparams, weights)
        if model == _CLASSES["model"]:
            checkpoint.network()
    except UserError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:  # not this package's
        raise UserError(damaged(path)) from error
    return checkpoint
