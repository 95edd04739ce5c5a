"""The ``config.yaml`` of a run, which repeats and continues it from the command line."""

import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import TensorBoardLogger
from yaml import YAMLError

from mnist_lit.errors import UserError


class SaveConfig(SaveConfigCallback):
    """Saves ``config.yaml``, and ``hparams.yaml`` again, when training begins: a refused run changes nothing.

    Lightning's finders may have changed hyperparameters by then.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Do nothing yet."""

    def on_train_epoch_start(self, trainer: Any, pl_module: LightningModule) -> None:
        """Save both files, the first time; raise UserError if an option cannot be written."""
        if self.already_saved or not trainer.is_global_zero or trainer.run_dir is None:
            return
        self.already_saved = True
        used = {"model": dict(pl_module.hparams), "data": dict(trainer.datamodule.hparams)}
        for group, name in ("model", "lr"), ("data", "batch_size"):
            if name in used[group] and name in self.config[group]:
                self.config[group][name] = used[group][name]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", ".*Unable to serialize")  # jsonargparse would write a text instead
                self.parser.save(self.config, trainer.run_dir / self.config_filename, overwrite=True)
        except (UserWarning, ValueError, YAMLError) as error:  # such as a Timer's interval
            raise UserError(
                "an argument of a callback or another class cannot be written to config.yaml, which repeats the run: "
                "use the class in Python, or --trainer.max_time instead of a Timer"
            ) from error
        if isinstance(trainer.logger, TensorBoardLogger):
            save_hparams_to_yaml(Path(trainer.logger.log_dir, "hparams.yaml"), used["model"] | used["data"])


def continue_command(checkpoint: str, prog: str) -> str:
    """Return the command that continues the run of this process from a checkpoint, for a program called ``prog``."""
    config = Path(checkpoint).parent.parent / "config.yaml"
    options = ["--config", os.path.relpath(config)] if config.is_file() else sys.argv[2:]
    return shlex.join([*prog.split(), "fit", *options, "--ckpt_path", os.path.relpath(checkpoint)])
