"""The command ``fit``, made with LightningCLI."""

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import yaml
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import TensorBoardLogger
from yaml import YAMLError

from mnist_lit.checkpoints import Checkpoint, find_checkpoint
from mnist_lit.errors import UserError, check_range
from mnist_lit.parsing import parse
from mnist_lit.run.checkpoint import RunCheckpoint
from mnist_lit.run.folder import run_dir_of
from mnist_lit.run.trainer import RunTrainer, make_trainer


class SaveConfig(SaveConfigCallback):
    """Saves ``config.yaml``, and ``hparams.yaml`` again, when training begins: a refused run changes nothing.

    Lightning's finders may have changed hyperparameters by then.
    """

    setup = Callback.setup  # not yet

    def on_train_epoch_start(self, trainer: Any, pl_module: LightningModule) -> None:
        """Save both files, the first time; raise UserError if an option cannot be written."""
        if self.already_saved or not trainer.is_global_zero or trainer.run_dir is None:
            return
        self.already_saved, self.config.ckpt_path = True, None  # the file repeats the run, from its beginning
        for group, built, found in ("model", pl_module, "lr"), ("data", trainer.datamodule, "batch_size"):
            options = self.config.get(group, {})
            if found in options and found in built.hparams:
                options[found] = built.hparams[found]
        try:
            self.parser.save(self.config, trainer.run_dir / self.config_filename, overwrite=True)
        except YAMLError as error:  # such as a Timer's interval
            raise UserError(
                "an argument of a callback or another class cannot be written to config.yaml, which repeats the run: "
                "use the class in Python, or --trainer.max_time instead of a Timer"
            ) from error
        if isinstance(trainer.logger, TensorBoardLogger):
            hparams = {**pl_module.hparams, **trainer.datamodule.hparams}
            save_hparams_to_yaml(Path(trainer.logger.log_dir, "hparams.yaml"), hparams)


class FitCLI(LightningCLI):
    """LightningCLI for ``fit``, which finds a run's checkpoints and takes the hyperparameters from them."""

    checkpoint: Checkpoint | None = None  # of --ckpt_path

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add options."""
        what = "Checkpoint to resume: a file | a run's folder | best | last"
        parser.add_argument("--ckpt_path", type=str | None, help=what)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, find the checkpoint and take the hyperparameters from it; raise UserError if an option contradicts."""
        self.config = config = parse(parser)
        if type(config.seed_everything) is int:  # true draws one
            check_range("--seed_everything", config.seed_everything, at_least=0, at_most=2**32 - 1)
        self.trainer_class = make_trainer  # has Trainer's options, which LightningCLI has read from Trainer
        if config.ckpt_path is None:
            return
        path = find_checkpoint(config.ckpt_path, config.trainer.default_root_dir, "last")
        model, data = cast(list[type], [self._model_class, self._datamodule_class])
        self.checkpoint = Checkpoint(path, model.__qualname__, data.__qualname__)
        self.checkpoint.build(model)
        recorded = {
            f"{group}.{name}": value
            for group, key in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters"))
            for name, value in self.checkpoint.content.get(key, {}).items()
            if f"{group}.{name}" in config and name != "data_dir"  # which differs between machines
        }
        if (run_dir := run_dir_of(path)) and (run_dir / "config.yaml").is_file():
            with suppress(LookupError, TypeError, YAMLError):  # the user's own file, or an edited one
                recorded["seed_everything"] = yaml.safe_load((run_dir / "config.yaml").read_text())["seed_everything"]
        self.config = parser.parse_object(recorded, config)
        for name, value in parser.parse_args(sys.argv[2:], defaults=False).items():
            used = self.config[name]
            # None: a config.yaml without a seed, which follows another
            if name.startswith(("model.", "data.", "seed_everything")) and value not in (None, used):
                raise UserError(
                    f"--{name} is {value}, but {path} was trained with {used}: leave out the option, or the --config "
                    "that has it, or name another checkpoint with --ckpt_path"
                )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer; raise UserError if a class does not record its options."""
        for group, built in ("model", self.model), ("data", self.datamodule):
            missing = [name for name in self.config.as_dict().get(group, {}) if name not in built.hparams]
            if missing and (group == "model" or not built.hparams):  # data may have options of this machine
                raise UserError(
                    f"{type(built).__qualname__} does not record its option --{group}.{missing[0]}, and could not be "
                    "built again: call self.save_hyperparameters() at the end of its __init__"
                )
        return super().instantiate_trainer(**kwargs)


def fit(model: type[LightningModule], data: type[LightningDataModule], options: dict[str, Any], prog: str) -> None:
    """Train; print what was reached, where it lies, and what to type next. Raise UserError if no batch is left."""
    cli = FitCLI(
        model,
        data,
        SaveConfig,
        seed_everything_default=0,
        trainer_defaults={"max_epochs": 10, "devices": 1},  # several have nothing to gain here
        parser_kwargs=options,
        run=False,
        auto_configure_optimizers=False,  # the module does
        load_from_checkpoint_support=False,  # the hyperparameters are plain values, which need no instantiator
    )
    trainer, checkpoint = cast(RunTrainer, cli.trainer), cli.checkpoint
    trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint.path if checkpoint else None)
    if not trainer.is_global_zero:
        return
    if getattr(trainer, "fast_dev_run", False):
        print("Nothing of this fast_dev_run was kept")
        return
    run = next((each for each in trainer.checkpoint_callbacks if isinstance(each, RunCheckpoint)), None)
    if trainer.run_dir is None and (run or trainer.has_own_logger):
        raise UserError(
            f"nothing to train: {trainer.current_epoch} epochs and {trainer.global_step} steps are done: see "
            "--trainer.max_epochs, --trainer.max_steps, --trainer.max_time and --trainer.limit_train_batches"
        )
    if run is None:
        return
    if run.best_model_score is not None:
        is_accuracy, best = run.monitor == "val_acc", float(run.best_model_score)
        print(f"Best validation accuracy: {100 * best:.2f} %" if is_accuracy else f"Best {run.monitor}: {best:.4f}")
    batches = trainer.fit_loop.epoch_loop.batch_progress  # none if forked processes have trained
    if batches.total.ready and not batches.is_last_batch:
        print("The run ended within an epoch: its last.ckpt can be tested, but not continued")
    if path := run.best_model_path:
        folder = os.path.relpath(Path(path).parent.parent)
        print(f"Run: {folder}\nNext: {prog} test --ckpt_path {shlex.quote(folder)}")
