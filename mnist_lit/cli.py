"""The command ``fit``, made with LightningCLI."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from mnist_lit.checkpoints import Checkpoint, find_checkpoint, flatten, read_checkpoint
from mnist_lit.commands import TRAINER_DEFAULTS, check_given, make_checked_trainer, require_folders
from mnist_lit.config import SaveConfig, check_config, continue_command
from mnist_lit.errors import UserError
from mnist_lit.options import as_list, check_options
from mnist_lit.parsing import parse
from mnist_lit.run.checkpoint import RunCheckpoint


class FitCLI(LightningCLI):
    """LightningCLI for ``fit``, which finds a run's checkpoints and takes the hyperparameters from them."""

    def __init__(self, model: type[LightningModule], data: type[LightningDataModule], options: dict[str, Any]) -> None:
        self.classes = model, data
        self.checkpoint: Checkpoint | None = None  # of --ckpt_path
        super().__init__(
            *self.classes,
            SaveConfig,
            seed_everything_default=0,
            trainer_defaults={"max_epochs": 10} | TRAINER_DEFAULTS,
            parser_kwargs=options,
            run=False,
            auto_configure_optimizers=False,  # the module does
            load_from_checkpoint_support=False,  # the hyperparameters are plain values, which need no instantiator
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add options."""
        what = "Checkpoint to resume: a file | a run's folder | best | last"
        parser.add_argument("--ckpt_path", type=str | None, help=what)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, then find the checkpoint and take the hyperparameters from it.

        Raises:
            UserError: If there is no checkpoint, it is not one of ours, or an option contradicts it.
        """
        self.config = config = parse(parser)
        root = require_folders(config)
        if config.ckpt_path is None:
            return
        path = find_checkpoint(config.ckpt_path, root, "last")
        self.checkpoint = checkpoint = read_checkpoint(path, *(each.__qualname__ for each in self.classes))
        checkpoint.build(self.classes[0], checkpoint.hparams)
        checkpoint.build(self.classes[1], checkpoint.data_hparams)
        if checkpoint.weights.keys() != checkpoint.content["state_dict"].keys():
            raise UserError(f"{path} was trained with a compiled network: continue it in Python")
        recorded = {"model": checkpoint.hparams, "data": checkpoint.data_hparams}
        given = parser.parse_args(sys.argv[2:], defaults=False)
        check_given(given, config, recorded, path)
        for name, value in flatten(recorded, config).items():
            if name in config:
                config[name] = value

    def before_instantiate_classes(self) -> None:
        """Choose the Trainer, and whether the config is saved."""
        self.trainer_class = make_checked_trainer
        if self.config.trainer.barebones:
            self.save_config_callback = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer.

        Raises:
            UserError: If an option is one that Lightning would break on later.
        """
        config = self.config_init.trainer
        if self.checkpoint:  # what they found when the run began is in the checkpoint
            finders = LearningRateFinder, BatchSizeFinder
            config.callbacks = [callback for callback in as_list(config.callbacks) if not isinstance(callback, finders)]
        trainer = super().instantiate_trainer(**kwargs)
        for group, built in ("model", self.model), ("data", self.datamodule):
            if self.config[group] and not built.hparams:
                raise UserError(
                    f"{type(built).__qualname__} does not record its options --{group}.…, and could not be built "
                    "again: call self.save_hyperparameters() at the end of its __init__"
                )
        if self.save_config_callback:
            check_options(trainer, self.model)  # as fit does, later
            check_config(self.parser, self.config)
        return trainer


def fit(model: type[LightningModule], data: type[LightningDataModule], options: dict[str, Any], prog: str) -> None:
    """Train, with the parser's ``options``, and print what was reached, where it lies, and what to type next.

    Raises:
        UserError: If there was nothing to train, or another process of this run has ended before its time.
    """
    cli = FitCLI(model, data, options)
    trainer, checkpoint = cli.trainer, cli.checkpoint
    callbacks = getattr(trainer, "checkpoint_callbacks", [])
    run = next((callback for callback in callbacks if isinstance(callback, RunCheckpoint)), None)
    try:
        trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint.path if checkpoint else None)
    except RuntimeError as error:
        # torch has a class for the errors of one of its backends, and none for those of gloo.
        if trainer.world_size > 1 and (isinstance(error, torch.distributed.DistError) or "gloo" in str(error)):
            saved = run.last_model_path if run else ""
            then = f"continue with: {continue_command(saved, prog)}" if saved else "start again"
            raise UserError(f"another process of this run has ended; {then}") from error
        raise
    if trainer.global_step <= (checkpoint.content.get("global_step", 0) if checkpoint else 0):
        raise UserError(
            f"nothing to train: {trainer.current_epoch} epochs and {trainer.global_step} steps are done: see "
            "--trainer.max_epochs, --trainer.max_steps, --trainer.max_time and --trainer.limit_train_batches"
        )
    if not trainer.is_global_zero or run is None:
        return
    if getattr(trainer, "fast_dev_run", False):
        print("Nothing of this fast_dev_run was kept")
        return
    if run.best_model_score is not None:
        is_accuracy, best = run.monitor == "val_acc", float(run.best_model_score)
        print(f"Best validation accuracy: {100 * best:.2f} %" if is_accuracy else f"Best {run.monitor}: {best:.4f}")
    if not trainer.is_last_batch:
        print("The run ended within an epoch: its last.ckpt can be tested, but not continued")
    if path := run.best_model_path:
        print(f"Run: {os.path.relpath(Path(path).parent.parent)}")
        print(f"Next: {prog} test --ckpt_path {shlex.quote(os.path.relpath(path))}")
