"""The functions of ``tools/`` as commands, with a checkpoint's model and data."""

import sys
from argparse import ArgumentError
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import LightningDataModule, LightningModule

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import UserError, explain
from mnist_lit.files import Checkpoint, damaged, find_checkpoint, read_checkpoint, require_local
from mnist_lit.module import MNISTClassifier

OF_NETWORK = "Checkpoint of the network: a file, a run's folder, best or last of the newest run, or pretrained"
"""Help for ``--ckpt_path``."""


def flatten(values: dict[str, Any], config: Namespace | None = None, prefix: str = "") -> dict[str, Any]:
    """Return nested options by their full names, such as ``data.augment.rotation``, as they are in ``config``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        is_group = isinstance(value, dict) and (config is None or isinstance(config.get(prefix + name), Namespace))
        flat |= flatten(value, config, f"{prefix}{name}.") if is_group else {prefix + name: value}
    return flat


def flags_of(parser: ArgumentParser) -> list[str]:
    """Return a parser's options, each beginning with ``--``."""
    return [f"--{name}" for name in sorted(parser.get_defaults().keys())]


Built = TypeVar("Built", bound=LightningModule | LightningDataModule)


def build(kind: type[Built], checkpoint: Checkpoint, **options: Any) -> Built:
    """Return a checkpoint's model, in evaluation mode, or its datamodule; raise UserError if it is damaged."""
    hparams = (checkpoint.hparams if issubclass(kind, LightningModule) else checkpoint.data_hparams) | options
    parameters = signature(kind).parameters
    if not any(each.kind == each.VAR_KEYWORD for each in parameters.values()):  # Lightning records the parents', too
        hparams = {name: value for name, value in hparams.items() if name in parameters}
    try:
        built = kind(**hparams)
        if isinstance(built, LightningModule):
            built.eval().load_state_dict(checkpoint.weights)
    except (RuntimeError, TypeError, ValueError) as error:
        is_ours = kind.__module__.startswith("mnist_lit.")
        problem = (
            damaged(checkpoint.path) if is_ours else f"{checkpoint.path} does not fit {kind.__qualname__}: {error}"
        )
        raise UserError(problem) from error
    return built


def run_tool(command: str, description: str) -> None:
    """Run a function of ``tools/`` with the options in ``sys.argv``.

    Args:
        command: Name of the function and of its file. Its parameters become options, except these, which are passed to
            it if it has them: ``model`` (MNISTClassifier with the checkpoint's weights), ``datamodule``
            (MNISTDataModule with the checkpoint's hyperparameters), ``checkpoint`` (its path) and ``epoch`` (its epoch,
            from 1).
        description: What the command does, in one sentence.
    """
    # Imported here: a tool's imports take time, and most of their packages come with an extra.
    tool: Callable[..., None] = getattr(import_module(f"mnist_lit.tools.{command}"), command)
    parser = ArgumentParser(prog=f"python -m mnist_lit {command}", description=description, exit_on_error=False)
    parser.add_argument("--ckpt_path", default="pretrained" if command == "demo" else "best", help=OF_NETWORK)
    parser.add_argument("--data.data_dir", default="data", help="Folder of the data, if they are needed.")
    parser.add_argument("--trainer.default_root_dir", default=".", help="Folder that contains lightning_logs.")
    given: set[str | int] = {"model", "datamodule", "checkpoint", "epoch"}
    parser.add_function_arguments(tool, as_group=False, skip=given)
    try:
        options = parser.parse_args(sys.argv[2:])
    except ArgumentError as error:
        raise ArgumentError(None, explain(str(error), parser.prog, flags_of(parser))) from error
    data_dir = require_local(Path(options.data.data_dir), "--data.data_dir")
    names, path = signature(tool).parameters, find_checkpoint(options.ckpt_path, Path(options.trainer.default_root_dir))
    checkpoint = read_checkpoint(path) if "datamodule" in names else read_checkpoint(path, datamodule=None)
    print(f"Checkpoint: {checkpoint.path}", file=sys.stderr)
    values = {
        **vars(options),
        "model": build(MNISTClassifier, checkpoint),
        "datamodule": build(MNISTDataModule, checkpoint, data_dir=data_dir) if "datamodule" in names else None,
        "checkpoint": checkpoint.path,
        "epoch": checkpoint.content["epoch"] + 1 if "epoch" in checkpoint.content else None,  # pretrained has none
    }
    tool(**{name: values[name] for name in names})
