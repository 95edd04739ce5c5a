"""The commands that use a trained network: functions whose parameters become options."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from mnist_lit.checkpoints import Checkpoint, find_checkpoint
from mnist_lit.datamodule import TensorBatches
from mnist_lit.errors import UserError
from mnist_lit.files import replacing
from mnist_lit.parsing import parse
from mnist_lit.run.folder import is_first_process, run_dir_of
from mnist_lit.run.trainer import RunTrainer, make_trainer


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
        # The short help would list max_epochs, which is of training.
        parser.add_class_arguments(Trainer, "trainer", skip={"max_epochs"}, fail_untyped=False, instantiate=False)
        parser.set_defaults({"trainer.devices": 1})
    else:
        parser.add_argument("--trainer.default_root_dir", default=".", help="Folder that contains lightning_logs.")
    config = parse(parser)
    output = config.get("output")
    if output and (Path(output).is_dir() or (str(output) == "-" and command != "predict")):
        raise UserError(f"--output {output}: a file is needed, and this is a folder or the standard output")
    path = find_checkpoint(config.ckpt_path, config.trainer.default_root_dir)
    checkpoint = Checkpoint(path, model.__qualname__, data.__qualname__ if "datamodule" in names else None)
    if is_first_process():
        print(f"Checkpoint: {path}", file=sys.stderr)
    built = parser.instantiate(config)
    values = {**vars(built), "command": command, "checkpoint": path, "model": checkpoint.build(model)}
    values["epoch"] = checkpoint.content["epoch"] + 1 if "epoch" in checkpoint.content else None  # pretrained has none
    if "datamodule" in names:
        values["datamodule"] = checkpoint.build(data, **(vars(built.data) if "data" in built else {}))
    if "trainer" in names:
        values["trainer"] = trainer = make_trainer(**vars(built.trainer))
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
    epoch: int | None,
    output: Path | None = None,
) -> None:
    """Print loss and accuracy of a model on the validation or the test images; raise UserError if there are none.

    Args:
        output: JSON file for the results (loss, accuracy, number of images, checkpoint, its epoch, hyperparameters).
    """
    kind, stage = ("validation", "val") if command == "validate" else ("test", "test")
    getattr(trainer, command)(model, datamodule=datamodule, verbose=False)
    if not trainer.callback_metrics:
        why = "the run held out no validation images (val_size 0), or " if stage == "val" else ""
        raise UserError(f"nothing was measured: {why}--trainer.limit_{stage}_batches is 0")
    if not trainer.is_global_zero:
        return
    results: dict[str, Any] = {name: round(float(value), 6) for name, value in trainer.callback_metrics.items()}
    line = ", ".join(f"{name}: {value:.4f}" for name, value in results.items())  # of another module
    loader, batches = getattr(trainer, f"{stage}_dataloaders"), getattr(trainer, f"num_{stage}_batches")
    if isinstance(loader, TensorBatches) and f"{stage}_acc" in results:
        size = min(len(loader.labels), int(sum(batches)) * loader.batch_size)
        loss, accuracy = results[f"{stage}_loss"], results[f"{stage}_acc"]
        results = {"loss": loss, "accuracy": accuracy, "images": size}
        line = f"Accuracy of the network on the {size} {kind} images: {100 * accuracy:.2f} %, loss: {loss:.4f}"
    if isinstance(trainer.logger, TensorBoardLogger):
        print(f"Pictures: tensorboard --logdir {shlex.quote(os.path.relpath(trainer.logger.log_dir))}")
    print(line)
    if output:
        hyperparameters = {**model.hparams, **datamodule.hparams}
        results |= {"checkpoint": str(checkpoint), "epoch": epoch, "hyperparameters": hyperparameters}
        with replacing(output) as unfinished:
            unfinished.write_text(json.dumps(results, indent=2, default=str) + "\n", encoding="utf-8")
        print(f"Wrote {output}", file=sys.stderr)
