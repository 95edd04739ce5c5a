"""The functions of ``tools/`` as commands, with a checkpoint's model and data."""

import sys
from argparse import ArgumentError
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import UserError, explain
from mnist_lit.files import Checkpoint, damaged, find_checkpoint, read_checkpoint, require_local
from mnist_lit.module import MNISTClassifier

OF_NETWORK = (
    "Checkpoint of the network: a file, a run's folder, best (the default) or last of the newest run, or pretrained"
)
"""Help for ``--ckpt_path``."""


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options by their full names, such as ``data.augment.rotation``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def make_model(checkpoint: Checkpoint) -> MNISTClassifier:
    """Return a checkpoint's model in evaluation mode, or raise a UserError if the checkpoint is damaged."""
    try:
        model = MNISTClassifier(**checkpoint.hparams).eval()
        model.load_state_dict(checkpoint.weights)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(damaged(checkpoint.path)) from error
    return model


def make_datamodule(checkpoint: Checkpoint, data_dir: Path = Path("data")) -> MNISTDataModule:
    """Return a checkpoint's datamodule, or raise a UserError if the checkpoint is damaged."""
    try:
        return MNISTDataModule(data_dir, **checkpoint.data_hparams)
    except (TypeError, ValueError) as error:
        raise UserError(damaged(checkpoint.path)) from error


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
    parser.add_argument("--ckpt_path", default="best", help=OF_NETWORK)
    parser.add_argument("--data.data_dir", default="data", help="Folder of the data, if they are needed.")
    parser.add_argument("--trainer.default_root_dir", default=".", help="Folder that contains lightning_logs.")
    given: set[str | int] = {"model", "datamodule", "checkpoint", "epoch"}
    parser.add_function_arguments(tool, as_group=False, skip=given)
    try:
        options = parser.parse_args(sys.argv[2:])
    except ArgumentError as error:
        raise ArgumentError(None, explain(str(error), command, parser._option_string_actions)) from error
    data_dir = require_local(Path(options.data.data_dir), "--data.data_dir")
    checkpoint = read_checkpoint(find_checkpoint(options.ckpt_path, Path(options.trainer.default_root_dir)))
    names = signature(tool).parameters
    if "datamodule" in names:
        checkpoint.require_mnist()
    print(f"Checkpoint: {checkpoint.path}", file=sys.stderr)
    values = {
        **vars(options),
        "model": make_model(checkpoint),
        "datamodule": make_datamodule(checkpoint, data_dir),
        "checkpoint": checkpoint.path,
        "epoch": checkpoint.content["epoch"] + 1 if "epoch" in checkpoint.content else None,  # pretrained has none
    }
    tool(**{name: values[name] for name in names})
