"""The ``config.yaml`` of a run, which repeats and continues it from the command line."""

import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import TensorBoardLogger

from mnist_lit.errors import UserError


class SaveConfig(SaveConfigCallback):
    """Saves ``config.yaml``, and ``hparams.yaml`` again, when training begins: a refused run changes nothing.

    Lightning's finders may have changed hyperparameters by then.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Do nothing yet."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save both files, the first time."""
        run_dir = getattr(trainer, "run_dir", None)
        if self.already_saved or not trainer.is_global_zero or run_dir is None:
            return
        self.already_saved = True
        used: dict[str, dict[str, Any]] = {"model": dict(pl_module.hparams), "data": {}}
        if datamodule := getattr(trainer, "datamodule", None):
            used["data"] = dict(datamodule.hparams)
        for group, name in ("model", "lr"), ("data", "batch_size"):
            if name in used[group] and name in self.config[group]:
                self.config[group][name] = used[group][name]
        self.parser.save(self.config, run_dir / self.config_filename, overwrite=True)
        if isinstance(trainer.logger, TensorBoardLogger):
            save_hparams_to_yaml(Path(trainer.logger.log_dir, "hparams.yaml"), used["model"] | used["data"])


def check_config(parser: ArgumentParser, config: Namespace) -> None:
    """Check that the options can be written to config.yaml, which repeats a run.

    Raises:
        UserError: If an argument of a callback or another class cannot: jsonargparse would write a text instead.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # else Python shows a warning only once
        try:
            parser.dump(config)
            problems = [text for warning in caught if "Unable to serialize" in (text := str(warning.message))]
        except ValueError as error:
            problems = [str(error)]
    if problems:
        raise UserError(
            f"an argument of a callback or another class cannot be written to config.yaml, which repeats the run: use "
            f"the class in Python, or --trainer.max_time instead of a Timer ({problems[0]})"
        )


def continue_command(checkpoint: str, prog: str) -> str:
    """Return the command that continues the run of this process from a checkpoint, for a program called ``prog``."""
    config = Path(checkpoint).parent.parent / "config.yaml"
    options = ["--config", os.path.relpath(config)] if config.is_file() else sys.argv[2:]
    return shlex.join([*prog.split(), "fit", *options, "--ckpt_path", os.path.relpath(checkpoint)])
