"""The commands that need a Trainer, made with LightningCLI, and the functions of ``tools/`` as commands."""

import os
import shlex
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, Timer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from mnist_lit.config import SaveConfig, check_config, continue_command
from mnist_lit.datamodule import MNISTDataModule, TensorBatches
from mnist_lit.errors import UserError, explain
from mnist_lit.files import Checkpoint, find_checkpoint, read_checkpoint, require_local
from mnist_lit.module import MNISTClassifier
from mnist_lit.options import as_list, check_options
from mnist_lit.run.checkpoint import RunCheckpoint
from mnist_lit.run.folder import is_first_process, run_dir_of
from mnist_lit.run.trainer import make_trainer
from mnist_lit.tools.command import OF_NETWORK, build, flags_of, flatten
from mnist_lit.tools.predict import write_predictions

_TO_CONTINUE = "Checkpoint to continue from: a file, a run's folder, or best or last of the newest run"


class MNISTCLI(LightningCLI):
    """LightningCLI that finds a run's checkpoints and never tests untrained weights."""

    _checkpoint: Checkpoint | None = None  # of --ckpt_path

    def __init__(self, model: type[LightningModule], datamodule: type[LightningDataModule], **kwargs: Any) -> None:
        self.classes = model, datamodule
        self.parsers: dict[str, LightningArgumentParser] = {}
        super().__init__(model, datamodule, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the subcommands, and the arguments of the Trainer's methods that are no options."""
        skipped = LightningCLI.subcommands().items()
        return {name: names | {"ckpt_path", "weights_only"} for name, names in skipped}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Keep the parser of each subcommand, and add options."""
        subcommand = list(self.subcommands())[len(self.parsers)]
        self.parsers[subcommand] = parser
        what = _TO_CONTINUE if subcommand == "fit" else f"{OF_NETWORK}; best by default"
        parser.add_argument("--ckpt_path", type=str | None, help=what)
        if subcommand == "predict":
            parser.add_argument(
                "--output", type=Path | None, help="CSV file for the predictions and all ten probabilities."
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, then find the checkpoint and take the hyperparameters from it.

        LightningCLI does so too, but lets the checkpoint win over an option without a word, and does not look for the
        newest run. Without ``--ckpt_path`` every subcommand except ``fit`` takes the newest run's best checkpoint.

        Raises:
            UserError: If there is no checkpoint, it is not one of ours, or an option contradicts it.
        """
        try:
            super().parse_arguments(parser, args)
        except UnicodeDecodeError as error:
            raise UserError(f"a --config file is not UTF-8 text: {error}") from error
        except ArgumentError as error:
            command = next(argument for argument in [*sys.argv, "fit"] if argument in self.subcommands())
            options = flags_of(self.parsers[command])
            raise ArgumentError(None, explain(str(error), f"{parser.prog} {command}", options)) from error
        config, is_fit = self.config[self.config.subcommand], self.config.subcommand == "fit"
        root = require_local(Path(config.trainer.default_root_dir or ".").expanduser(), "--trainer.default_root_dir")
        require_local(Path(config.data.get("data_dir", "")), "--data.data_dir")
        name = config.ckpt_path or (None if is_fit else "best")
        if name is None:
            return
        path = find_checkpoint(str(name), root, "last" if is_fit else "best")
        self._checkpoint = checkpoint = read_checkpoint(path, *(each.__qualname__ for each in self.classes))
        build(self.classes[0], checkpoint)
        build(self.classes[1], checkpoint)
        if is_fit and checkpoint.weights.keys() != checkpoint.content["state_dict"].keys():
            raise UserError(f"{path} was trained with a compiled network: continue it in Python")
        self._take_hparams(parser, checkpoint)
        config.ckpt_path = None  # else LightningCLI would take each hyperparameter from it, whatever the options say
        if not is_fit and is_first_process():
            print(f"Checkpoint: {path}", file=sys.stderr)

    def _take_hparams(self, parser: LightningArgumentParser, checkpoint: Checkpoint) -> None:
        subcommand = self.config.subcommand
        config = self.config[subcommand]
        # Except for fit only the split of our own data matters: validation images must be the same.
        is_free = subcommand != "fit" and issubclass(self.classes[1], MNISTDataModule)
        names = {"val_size"} if is_free else checkpoint.data_hparams.keys()
        data = {name: value for name, value in checkpoint.data_hparams.items() if name in names}
        given = parser.parse_args(defaults=False)[subcommand]
        for name, value in flatten({"model": checkpoint.hparams, "data": data}, config).items():
            if name not in config:  # not an option of the class
                continue
            is_unset = name == "data.seed" and config[name] is None  # in a config.yaml: it was left out
            is_same = config[name] == (list(value) if isinstance(value, tuple) else value)
            if name in given and not is_same and not is_unset:
                raise UserError(
                    f"--{name} is {config[name]}, but {checkpoint.path} was trained with {value}: leave out the "
                    "option, or the --config that has it, or name another checkpoint with --ckpt_path"
                )
            config[name] = value

    def before_instantiate_classes(self) -> None:
        """Save the config only where it belongs to a run: the other subcommands leave nothing behind."""
        self.trainer_class = make_trainer
        if self.subcommand != "fit" or self.config.fit.trainer.barebones:
            self.save_config_callback = None

    def after_instantiate_classes(self) -> None:
        """Load the weights, unless the trainer has a whole run to continue."""
        if self._checkpoint is not None and self.subcommand != "fit":
            # Given its own ckpt_path, the trainer would warn that the training run's callbacks are missing.
            self.model.load_state_dict(self._checkpoint.weights)
            # test and validate log at the checkpoint's step
            self.trainer.fit_loop.load_state_dict(self._checkpoint.content.get("loops", {}).get("fit_loop", {}))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer.

        Raises:
            UserError: If an option is one that Lightning would break on later.
        """
        config, is_fit = self.config_init[self.subcommand].trainer, self.subcommand == "fit"
        if isinstance(config.strategy, str) and config.strategy.endswith(("_spawn", "_fork", "_notebook")):
            raise UserError(f"--trainer.strategy {config.strategy} is for notebooks: use ddp")
        if self._checkpoint and is_fit:  # what they found when the run began is in the checkpoint
            finders = LearningRateFinder, BatchSizeFinder
            config.callbacks = [callback for callback in as_list(config.callbacks) if not isinstance(callback, finders)]
        if config.logger in (None, True) and not is_fit:
            kwargs["logger"] = self._logger(config)
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except TypeError as error:  # Lightning raises it for an impossible number of devices
            raise UserError(str(error)) from error
        for group, built in ("model", self.model), ("data", self.datamodule):
            if is_fit and self.config.fit[group] and not built.hparams:
                raise UserError(
                    f"{type(built).__qualname__} does not record its options --{group}.…, and could not be built "
                    "again: call self.save_hyperparameters() at the end of its __init__"
                )
        if self.save_config_callback:
            check_options(trainer, self.model, self.datamodule)  # as fit does, later
            check_config(self.parsers["fit"], self.config["fit"])
        return trainer

    def _logger(self, config: Namespace) -> TensorBoardLogger | bool:
        # In a folder of its own: TensorBoard follows only the newest file in a folder, which should stay the run's.
        assert self._checkpoint is not None
        folder = run_dir_of(self._checkpoint.path)
        if folder is None or not os.access(folder, os.W_OK):
            folder = Path(config.default_root_dir or ".").expanduser().absolute() / "lightning_logs"
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        if self.subcommand == "predict" or config.barebones or not os.access(existing, os.W_OK):
            return False
        return TensorBoardLogger(folder, name=self.subcommand, default_hp_metric=False)

    @property
    def _run(self) -> RunCheckpoint | None:
        callbacks = getattr(self.trainer, "checkpoint_callbacks", [])
        return next((callback for callback in callbacks if isinstance(callback, RunCheckpoint)), None)

    def fit(self, model: LightningModule, **kwargs: Any) -> None:
        """Train.

        Raises:
            UserError: If there was nothing to train, or another process of this run has ended before its time.
        """
        first_step = self._checkpoint.content.get("global_step", 0) if self._checkpoint else 0
        kwargs["ckpt_path"] = self._checkpoint and self._checkpoint.path
        try:
            self.trainer.fit(model, **kwargs)
        except Exception as error:
            # torch has a class for the errors of one of its backends, and none for those of gloo.
            lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
            if lost and isinstance(error, RuntimeError) and self.trainer.world_size > 1:
                saved = self._run.last_model_path if self._run else ""
                then = f"continue with: {continue_command(saved, self.parser.prog)}" if saved else "start again"
                raise UserError(f"another process of this run has ended; {then}") from error
            raise
        if self.trainer.global_step <= first_step:
            raise UserError(f"nothing to train: {_why_nothing(self.trainer)}")

    def after_fit(self) -> None:
        """Print what was reached, where it lies, and what to type next."""
        run = self._run
        if not self.trainer.is_global_zero or run is None:
            return
        if getattr(self.trainer, "fast_dev_run", False):
            print("Nothing of this fast_dev_run was kept")
            return
        if run.best_model_score is not None:
            print(f"Best validation accuracy: {100 * run.best_model_score:.2f} %")
        if not self.trainer.is_last_batch:
            print("The run ended within an epoch: its last.ckpt can be tested, but not continued")
        if path := run.best_model_path:
            print(f"Run: {os.path.relpath(Path(path).parent.parent)}")
            print(f"Next: {self.parser.prog} test --ckpt_path {shlex.quote(os.path.relpath(path))}")

    def before_validate(self) -> None:
        """Refuse to validate a run that trained on every image.

        Raises:
            UserError: If the checkpoint's run held out no validation images.
        """
        if getattr(self.datamodule, "val_size", None) == 0:
            raise UserError("this checkpoint's run held out no validation images (val_size 0): test it instead")

    def after_validate(self) -> None:
        """Print where the pictures are, and the accuracy."""
        self._print_accuracy("validation", "val_acc", self.trainer.num_val_batches, self.trainer.val_dataloaders)

    def after_test(self) -> None:
        """Print where the pictures are, and the accuracy in the article's words."""
        self._print_accuracy("test", "test_acc", self.trainer.num_test_batches, self.trainer.test_dataloaders)

    def _print_accuracy(self, kind: str, metric: str, batches: Sequence[float], loader: object) -> None:
        logger, metrics = self.trainer.logger, self.trainer.callback_metrics
        if self.trainer.is_global_zero and isinstance(logger, TensorBoardLogger):
            print(f"Pictures: tensorboard --logdir {shlex.quote(os.path.relpath(logger.log_dir))}")
        if self.trainer.is_global_zero and metric in metrics:
            size = ""
            if isinstance(loader, TensorBatches):
                size = f"{min(len(loader.labels), int(sum(batches)) * loader.batch_size)} "
            print(f"Accuracy of the network on the {size}{kind} images: {100 * metrics[metric]:.2f} %")

    def predict(self, **kwargs: Any) -> None:
        """Write which digit is in each test image, as CSV.

        Raises:
            UserError: If the options contradict each other.
        """
        options = self.config_init.predict
        if options.output and require_local(options.output, "--output").is_dir():
            raise UserError(f"--output {options.output}: a folder has that name, and a file is needed")
        if options.return_predictions is False and options.output:
            raise UserError("--return_predictions false leaves nothing to write: leave it out")
        predictions = cast(list[Tensor] | None, self.trainer.predict(**kwargs))
        if not sum(self.trainer.num_predict_batches):
            raise UserError("there is nothing to predict with --trainer.limit_predict_batches 0")
        if predictions and self.trainer.is_global_zero:  # with --return_predictions false there are none
            write_predictions(torch.cat(predictions), options.output)


def _why_nothing(trainer: Trainer) -> str:
    """Return why a training made no step."""
    timers = [callback for callback in as_list(getattr(trainer, "callbacks", [])) if isinstance(callback, Timer)]
    if any((timer.time_remaining() or 0) <= 0 for timer in timers):
        return "the run has used up --trainer.max_time; give a longer time, for the whole run"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"{trainer.global_step} steps are done and --trainer.max_steps is {trainer.max_steps}"
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return f"{trainer.current_epoch} epochs are done and --trainer.max_epochs is {trainer.max_epochs}"
    if trainer.num_training_batches == 0:
        return "an epoch has no batches; see --trainer.limit_train_batches"
    return "a callback stopped the training before its first step"


def run_lightning(
    model_class: type[LightningModule] | None,
    datamodule_class: type[LightningDataModule] | None,
    prog: str,
    descriptions: dict[str, str],
) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``, as ``sys.argv`` says.

    Args:
        model_class: The model's class; by default MNISTClassifier.
        datamodule_class: The datamodule's class; by default MNISTDataModule.
        prog: How the program is called.
        descriptions: What each command does, in one sentence.
    """
    MNISTCLI(
        model_class or MNISTClassifier,
        datamodule_class or MNISTDataModule,
        save_config_callback=SaveConfig,
        seed_everything_default=0,
        trainer_defaults={"max_epochs": 10, "devices": 1},  # several devices have nothing to gain here
        parser_kwargs={
            "default_env": True,
            "exit_on_error": False,
            "prog": prog,
            **{name: {"exit_on_error": False, "description": descriptions[name]} for name in MNISTCLI.subcommands()},
        },
        auto_configure_optimizers=False,  # the module does
        load_from_checkpoint_support=False,  # the hyperparameters are plain values, which need no instantiator
    )
