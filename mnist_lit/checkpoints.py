"""Finds, reads and checks checkpoints, and builds from them what was trained."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import nn

from mnist_lit.errors import UserError
from mnist_lit.network import MLP

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

PRETRAINED = Path(__file__).with_name("pretrained.ckpt")
"""Checkpoint of the network that comes with this package: weights and hyperparameters, without optimizer state."""

Built = TypeVar("Built", bound="LightningModule | LightningDataModule")
_MODEL, _DATAMODULE = "MNISTClassifier", "MNISTDataModule"  # the classes of this package
_DAMAGED = "is not a checkpoint of mnist_lit, or it is damaged"


def load_whole(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU, without running code in it.

    Raises:
        UserError: If it cannot be read, is not whole, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch.load does not compare the checksums
                raise zipfile.BadZipFile
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # torch raises anything for a file that is not a checkpoint
        raise UserError(f"{path} {_DAMAGED}") from error


def find_checkpoint(name: str, root: str | None = None, of_folder: str = "best") -> Path:
    """Return the checkpoint that ``--ckpt_path`` names.

    Args:
        name: A file; a run's folder; ``best`` or ``last``, of the newest run that has checkpoints; a folder that has
            ``lightning_logs``, or is it, for the newest run in it; or ``pretrained``, the one in this package.
        root: The folder that has ``lightning_logs``; by default the current one.
        of_folder: The checkpoint to take from a run's folder; the other one if it does not exist.

    Raises:
        UserError: If there is no such checkpoint.
    """
    if not name:
        raise UserError("--ckpt_path is empty")
    if name == "pretrained":
        return PRETRAINED
    if Path(name).is_file():
        return Path(name)
    folders, logs = [Path(name)], Path(name, "lightning_logs")
    if name in ("best", "last"):
        folders, logs, of_folder = [], Path(root or ".").expanduser() / "lightning_logs", name
    runs = {run.name.removeprefix("version_"): run for folder in (*folders, logs) for run in folder.glob("version_*")}
    newest_first = sorted((version for version in runs if version.isdecimal()), key=int, reverse=True)
    for folder in [*folders, *(runs[each] for each in newest_first)]:
        for kind in of_folder, "last", "best":  # a run may have only one of them
            path = folder / "checkpoints" / f"{kind}.ckpt"
            if path.is_file():
                return path
    problem = f"there is no checkpoint in {logs}: train first with the command 'fit'"
    if folders:
        problem = "there is no such file, and no folder of a run that has a checkpoint"
    whose = "'best' and 'last' are the newest run's, and 'pretrained' comes with the package"
    raise UserError(f"--ckpt_path {name}: {problem}; {whose}")


class Checkpoint:
    """A checkpoint of a model that was trained with a datamodule, read and checked.

    Args:
        model: Name of its class.
        datamodule: Name of its class; None admits any data.

    Raises:
        UserError: If it cannot be read, is not whole, holds more than tensors and plain values, is of other classes, or
            has weights that do not fit its hyperparameters.
    """

    def __init__(self, path: Path, model: str = _MODEL, datamodule: str | None = _DATAMODULE) -> None:
        self.path, self.content = path, load_whole(path)
        try:
            classes = self.content.get("classes", {"model": _MODEL, "datamodule": _DATAMODULE})
            trained = classes["model"], classes["datamodule"] or "loaders"
            if model == trained[0] == _MODEL:
                self.network()
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:  # not this package's
            raise UserError(f"{path} {_DAMAGED}") from error
        if model != trained[0] or datamodule not in (None, trained[1]):
            raise UserError(
                f"{path} is of {trained[0]!a} and {trained[1]!a}, not of {model} and {datamodule or 'any data'}: run "
                "the program that trained it, or name another checkpoint with --ckpt_path"
            )

    def network(self) -> MLP:
        """Return an MNISTClassifier's network, on the CPU, in single precision and evaluation mode."""
        hparams = self.content["hyper_parameters"]
        with torch.device("meta"):  # so a file with huge sizes takes no memory before its weights are compared
            network = MLP(hparams["hidden_sizes"], hparams["activation"], hparams["upright"])
        weights = {name.removeprefix("network."): value for name, value in self.content["state_dict"].items()}
        network.load_state_dict(weights, assign=True)
        return network.float().eval()  # weights may be stored in half precision

    def build(self, kind: type[Built], **options: Any) -> Built:
        """Return the model with its weights, in evaluation mode, or the datamodule, with ``options`` of this machine.

        Raises:
            UserError: If the class has other parameters or layers than when the checkpoint was saved.
        """
        try:
            built = cast(Built, kind.load_from_checkpoint(self.path, map_location="cpu", weights_only=True, **options))
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{self.path} does not fit {kind.__qualname__}: {error}") from error
        if isinstance(built, nn.Module):
            built.eval()
        return built
