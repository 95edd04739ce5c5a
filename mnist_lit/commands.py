"""The commands that use a trained network: functions whose parameters become options."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from mnist_lit.checkpoints import find_checkpoint, read_checkpoint
from mnist_lit.datamodule import TensorBatches
from mnist_lit.errors import UserError
from mnist_lit.files import replacing
from mnist_lit.parsing import parse
from mnist_lit.run.folder import is_first_process, run_dir_of
from mnist_lit.run.trainer import RunTrainer, make_trainer
from mnist_lit.tools.predict import write_predictions


def run_function(
    command: str,
    function: Callable[..., None],
    model: type[LightningModule],
    data: type[LightningDataModule],
    options: dict[str, Any],
) -> None:
    """Run a function of a trained network, with the parser's ``options``.

    The parameters of ``function`` become options, except these, which are passed to it if it has them: ``model`` and
    ``datamodule`` of the checkpoint, ``checkpoint`` (its path), ``epoch`` (its epoch, from 1), ``trainer`` and
    ``command``.
    """
    names = signature(function).parameters
    parser = ArgumentParser(**options)
    default = "pretrained" if command == "demo" else "best"
    what = "Checkpoint: a file | a run's folder | best | last | pretrained"
    parser.add_argument("--ckpt_path", type=str, default=default, help=what)
    given: set[str | int] = {"command", "model", "datamodule", "checkpoint", "epoch", "trainer"}
    parser.add_function_arguments(function, as_group=False, skip=given)
    if "datamodule" in names:  # its other options are in the checkpoint
        others = signature(data).parameters.keys() - {"data_dir"}
        parser.add_class_arguments(data, "data", skip={*others}, fail_untyped=False, instantiate=False)
    if "trainer" in names:
        parser.add_argument("-c", "--config", action="config", help="Path to a YAML file with options.")
        parser.add_class_arguments(Trainer, "trainer", skip={"max_epochs"}, fail_untyped=False, instantiate=False)
        parser.set_defaults({"trainer.devices": 1})
    else:
        parser.add_argument("--trainer.default_root_dir", default=".", help="Folder that contains lightning_logs.")
    config = parse(parser)
    if config.get("output") and Path(config.output).is_dir():
        raise UserError(f"--output {config.output}: a folder has that name, and a file is needed")
    path = find_checkpoint(config.ckpt_path, Path(config.trainer.default_root_dir or ".").expanduser())
    classes = model.__qualname__, data.__qualname__ if "datamodule" in names else None
    checkpoint = read_checkpoint(path, *classes)
    if is_first_process():
        print(f"Checkpoint: {path}", file=sys.stderr)
    built = parser.instantiate(config)
    values = {**vars(built), "command": command, "checkpoint": path, "model": checkpoint.build(model)}
    values["epoch"] = checkpoint.content["epoch"] + 1 if "epoch" in checkpoint.content else None  # pretrained has none
    if "datamodule" in names:
        values["datamodule"] = checkpoint.build(data, **(vars(built.data) if "data" in built else {}))
    if "trainer" in names:
        try:
            values["trainer"] = trainer = make_trainer(**vars(built.trainer))
        except TypeError as error:  # Lightning raises it for an impossible number of devices
            raise UserError(str(error)) from error
        trainer.run_dir = run_dir_of(path)
        # Losses and accuracies are logged at the checkpoint's step.
        trainer.fit_loop.load_state_dict(checkpoint.content.get("loops", {}).get("fit_loop", {}))
    function(**{name: values[name] for name in names})


def evaluate(
    command: str,
    trainer: RunTrainer,
    model: LightningModule,
    datamodule: LightningDataModule,
    checkpoint: Path,
    output: Path | None = None,
) -> None:
    """Print loss and accuracy of a model on the validation or the test images.

    Args:
        command: ``validate`` or ``test``.
        trainer: Runs the model.
        model: Has the weights of ``checkpoint``.
        datamodule: Provides the images.
        checkpoint: Path.
        output: JSON file for the results (loss, accuracy, number of images, checkpoint, hyperparameters).

    Raises:
        UserError: If the run held out no validation images, or there are none to measure.
    """
    if command == "validate" and getattr(datamodule, "val_size", None) == 0:
        raise UserError("this checkpoint's run held out no validation images (val_size 0): test it instead")
    if not getattr(trainer, command)(model, datamodule=datamodule, verbose=False)[0]:
        raise UserError(
            f"nothing was measured: see --trainer.limit_{'val' if command == 'validate' else 'test'}_batches"
        )
    if not trainer.is_global_zero:
        return
    kind, prefix, loader, batches = "test", "test", trainer.test_dataloaders, trainer.num_test_batches
    if command == "validate":
        kind, prefix, loader, batches = "validation", "val", trainer.val_dataloaders, trainer.num_val_batches
    results: dict[str, Any] = {name: round(float(value), 6) for name, value in trainer.callback_metrics.items()}
    line = ", ".join(f"{name}: {value:.4f}" for name, value in results.items())  # of another module
    if isinstance(loader, TensorBatches) and f"{prefix}_acc" in results:
        size = min(len(loader.labels), int(sum(batches)) * loader.batch_size)
        loss, accuracy = results[f"{prefix}_loss"], results[f"{prefix}_acc"]
        results = {"loss": loss, "accuracy": accuracy, "images": size}
        line = f"Accuracy of the network on the {size} {kind} images: {100 * accuracy:.2f} %, loss: {loss:.4f}"
    if isinstance(trainer.logger, TensorBoardLogger):
        print(f"Pictures: tensorboard --logdir {shlex.quote(os.path.relpath(trainer.logger.log_dir))}")
    print(line)
    if output:
        results |= {"checkpoint": str(checkpoint), "hyperparameters": {**model.hparams, **datamodule.hparams}}
        with replacing(output) as unfinished:
            unfinished.write_text(json.dumps(results, indent=2, default=str) + "\n", encoding="utf-8")
        print(f"Wrote {output}", file=sys.stderr)


def predict(
    trainer: RunTrainer, model: LightningModule, datamodule: LightningDataModule, output: Path | None = None
) -> None:
    """Print which digit is in each test image, as CSV.

    Args:
        trainer: Runs the model.
        model: Predicts probabilities.
        datamodule: Provides the test images.
        output: CSV file for the predictions and all ten probabilities.

    Raises:
        UserError: If there are no images.
    """
    predictions = cast(list[Tensor], trainer.predict(model, datamodule=datamodule))
    if not predictions:
        raise UserError("there is nothing to predict with --trainer.limit_predict_batches 0")
    if trainer.is_global_zero:
        write_predictions(torch.cat(predictions), output)
