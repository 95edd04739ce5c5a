"""Finds, reads and checks checkpoints, and builds from them what was trained."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from jsonargparse import Namespace
from torch import Tensor, nn

from mnist_lit.errors import UserError
from mnist_lit.network import MLP

PRETRAINED = Path(__file__).with_name("pretrained.ckpt")
"""Checkpoint of the network that comes with this package: weights and hyperparameters, without optimizer state."""

Built = TypeVar("Built")
_CLASSES = {"model": "MNISTClassifier", "datamodule": "MNISTDataModule"}  # of this package


def load_whole(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU, without running code in it.

    Raises:
        UserError: If it cannot be read, is not whole, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch.load does not compare the checksums
                raise _damaged(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # torch raises anything for a file that is not a checkpoint
        raise _damaged(path) from error
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is not a checkpoint of mnist_lit, or it is damaged")


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
    if name in ("best", "last"):
        runs = {run.name.removeprefix("version_"): run for run in (root / "lightning_logs").glob("version_*")}
        newest_first = sorted((version for version in runs if version.isdecimal()), key=int, reverse=True)
        folders, of_folder = [runs[version] for version in newest_first], cast(Literal["best", "last"], name)
        problem = f"there is no checkpoint in {root / 'lightning_logs'}: train first with the command 'fit', or"
    elif Path(name).is_file():
        return Path(name)
    else:
        folders = [Path(name)]
        problem = f"--ckpt_path {name}: there is no such file, and no run's folder with checkpoints:"
    for folder in folders:
        for kind in of_folder, "last", "best":  # a run may have only one of them
            path = folder / "checkpoints" / f"{kind}.ckpt"
            if path.is_file():
                return path
    raise UserError(
        f"{problem} name another with --ckpt_path ('best' and 'last' are the newest run's, 'pretrained' comes with the "
        "package)"
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

    def build(self, kind: type[Built], hparams: dict[str, Any]) -> Built:
        """Return a model with the weights, in evaluation mode, or a datamodule; raise UserError if it does not fit."""
        parameters = signature(kind).parameters
        if not any(each.kind == each.VAR_KEYWORD for each in parameters.values()):
            # Lightning records the parents', too
            hparams = {name: value for name, value in hparams.items() if name in parameters}
        try:
            built = kind(**hparams)
            if isinstance(built, nn.Module):
                built.eval().load_state_dict(self.weights)
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{self.path} does not fit {kind.__qualname__}: {error}") from error
        return built


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
        raise _damaged(path) from error
    return checkpoint


def flatten(values: Mapping[str, Any], config: Namespace | None = None, prefix: str = "") -> dict[str, Any]:
    """Return nested hyperparameters by their full names, such as ``augment.rotation``, as they are in ``config``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        is_group = isinstance(value, Mapping) and (config is None or isinstance(config.get(prefix + name), Namespace))
        flat |= flatten(value, config, f"{prefix}{name}.") if is_group else {prefix + name: value}
    return flat
