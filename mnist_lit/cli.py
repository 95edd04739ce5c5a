"""The commands: LightningCLI for those that need a Trainer, plain functions for the others."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from torch import Tensor

from mnist_lit.batches import TensorBatches
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import UserError
from mnist_lit.files import find_checkpoint, require_local
from mnist_lit.module import MNISTClassifier
from mnist_lit.run.checkpoint import AtomicCheckpointIO, RunCheckpoint
from mnist_lit.run.execution import StepsPerExecution
from mnist_lit.run.folder import RunLogger, SaveConfigAtFirstStep, is_first_process
from mnist_lit.run.interruption import TrainingInterruptedError
from mnist_lit.run.options import as_list, check_config, check_options, why_nothing
from mnist_lit.run.progress import EpochLines
from mnist_lit.run.resume import continue_command, read_checkpoint
from mnist_lit.tools.predict import write_predictions
from mnist_lit.tools.tensorboard import TensorBoardSummary

_OF_NETWORK = (
    "Checkpoint of the network: a file, a run's folder, best (the default) or last of the newest run, or pretrained"
)
_TO_CONTINUE = "Checkpoint to continue from: a file, a run's folder, or best or last of the newest run"


class MNISTCLI(LightningCLI):
    """LightningCLI that knows where a run's checkpoints lie and never tests untrained weights."""

    _checkpoint: dict[str, Any] | None = None  # what --ckpt_path names
    _checkpoint_path: Path | None = None
    _run_logger: RunLogger | None = None  # of a training, unless the user chose another
    _checkpoints: RunCheckpoint | None = None  # likewise

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Add what ``predict`` takes besides the options of the trainer's method, and help for ``--ckpt_path``."""
        super().setup_parser(*args, **kwargs)
        for name in self.subcommands():  # Lightning's is that of the trainer's methods, which know no runs
            action = self._parser(name)._option_string_actions["--ckpt_path"]
            action.help = _TO_CONTINUE if name == "fit" else _OF_NETWORK
        self._parser("predict").add_argument(
            "--output", type=Path | None, help="CSV file for the predictions and all ten probabilities."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, then find the checkpoint and take from it what it was trained with.

        LightningCLI does so too, but lets the checkpoint win over an option without a word, and knows no newest run.
        Without ``--ckpt_path`` every subcommand but ``fit`` takes the newest run's best checkpoint.

        Raises:
            UserError: If there is no checkpoint, it is not one of ours, or an option contradicts it.
        """
        try:
            super().parse_arguments(parser, args)
        except UnicodeDecodeError as error:
            raise UserError(f"a --config file is not UTF-8 text: {error}") from error
        subcommand = self.config.subcommand
        config = self.config[subcommand]
        root = require_local(Path(config.trainer.default_root_dir or "."), "--trainer.default_root_dir")
        require_local(Path(config.data.data_dir), "--data.data_dir")
        if subcommand == "fit" and config.ckpt_path is None:
            return
        path = find_checkpoint(str(config.ckpt_path or "best"), root, "last" if subcommand == "fit" else "best")
        self._checkpoint = read_checkpoint(path)
        if subcommand == "fit" and "optimizer_states" not in self._checkpoint:
            raise UserError(f"{path} cannot be continued: it has the weights alone, not the state of the training")
        # Except for fit, the split alone matters of the data: validation images must be the same. And where the data
        # lie is for the user to say.
        names = {"val_size"} if subcommand != "fit" else set(config.data.keys()) - {"data_dir"}
        data_hparams = self._checkpoint.get("datamodule_hyper_parameters", {})
        data_hparams = {name: value for name, value in data_hparams.items() if name in names}
        if isinstance(args, dict | Namespace):
            given = parser.parse_object(args, defaults=False)[subcommand]
        else:
            given = parser.parse_args(args, defaults=False)[subcommand]
        for key, hparams in ("model", self._checkpoint["hyper_parameters"]), ("data", data_hparams):
            for name, value in hparams.items():
                option = f"{key}.{name}"
                is_unset = option == "data.seed" and config[option] is None  # a config.yaml says that it was left out
                if option in given and config[option] != value and not is_unset:
                    if option == "model.teacher" and value and config[option] and subcommand == "fit":
                        continue  # it may have moved: the training compares its checksums
                    raise UserError(
                        f"--{option} is {config[option]}, but {path} was trained with {value}: leave out the option, "
                        "or the --config that has it, or name another checkpoint with --ckpt_path"
                    )
                config[option] = value
        config.ckpt_path, self._checkpoint_path = str(path), path
        if subcommand != "fit":
            _say_checkpoint(path)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: LightningCLI would take each hyperparameter from the checkpoint, whatever the options say."""

    def before_instantiate_classes(self) -> None:
        """Save the config where it belongs to a run: the other subcommands leave nothing behind."""
        trainer = self.config[self.subcommand].trainer
        if self.subcommand != "fit" or trainer.logger in (False, []) or trainer.barebones:
            self.save_config_callback = None

    def after_instantiate_classes(self) -> None:
        """Load the weights, unless the trainer has a whole run to continue."""
        if self._checkpoint is not None and self.subcommand != "fit":
            # Given its own ckpt_path, the trainer would warn that the training run's callbacks are missing.
            self.model.load_state_dict(self._checkpoint["state_dict"])
            self.config_init[self.subcommand].ckpt_path = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer, with a logger, checkpoints and progress where the user did not choose otherwise.

        Raises:
            UserError: If an option is one that Lightning would break on later.
        """
        config = self.config_init[self.subcommand].trainer
        check_options(config, self.model, self.datamodule, fits=self.subcommand == "fit")
        if self.save_config_callback:
            check_config(self._parser("fit"), self.config["fit"])
        if self._checkpoint and self.subcommand == "fit":  # what they found when the run began is in the checkpoint
            finders = LearningRateFinder, BatchSizeFinder
            config.callbacks = [callback for callback in as_list(config.callbacks) if not isinstance(callback, finders)]
        self.config[self.subcommand].ckpt_path = None  # config.yaml repeats a run from its start, continued or not
        kwargs["logger"] = self._logger(config)
        if not config.barebones:
            self.trainer_defaults["callbacks"] = self._callbacks(config)
            if config.enable_model_summary is None:
                kwargs["enable_model_summary"] = sys.stdout.isatty()
            plugins = as_list(config.plugins)
            if self._checkpoints and not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
                kwargs["plugins"] = [*plugins, AtomicCheckpointIO()]
        if self.datamodule.val_size == 0:
            kwargs["limit_val_batches"] = 0  # Lightning warns of a loader without batches
        try:
            return super().instantiate_trainer(**kwargs)
        except TypeError as error:  # what Lightning raises for a number of devices that is none
            raise UserError(str(error)) from error

    def _logger(self, config: Namespace) -> Any:
        root = Path(config.default_root_dir or ".").absolute()
        if config.logger not in (None, True) or config.barebones:
            return config.logger
        run_dir = self._checkpoint_path.resolve().parent.parent if self._checkpoint_path else None
        if self.subcommand == "fit":
            if run_dir and run_dir.parent.name == "lightning_logs" and config.default_root_dir is None:
                root = run_dir.parent.parent  # where the run is, wherever this command is typed
            if self._checkpoint and run_dir and run_dir.parent == root.resolve() / "lightning_logs":
                self._run_logger = RunLogger(root, version=run_dir.name, step=self._checkpoint["global_step"])
            else:
                self._run_logger = RunLogger(root)
            return self._run_logger
        if self.subcommand in ("validate", "test"):
            # In a folder of its own: TensorBoard follows the newest file of events in a folder alone, and no longer
            # that of a run under way.
            assert run_dir is not None
            if run_dir.parent.name == "lightning_logs" and os.access(run_dir, os.W_OK):
                return TensorBoardLogger(run_dir, name=self.subcommand, default_hp_metric=False)
            return TensorBoardLogger(root / "lightning_logs", name=self.subcommand, default_hp_metric=False)
        return config.logger or False

    def _callbacks(self, config: Namespace) -> list[Callback]:
        callbacks: list[Callback] = []
        if self.subcommand != "predict" and config.logger not in (False, []):
            callbacks.append(TensorBoardSummary())
        users = as_list(config.callbacks)
        if self.subcommand == "fit" and not any(isinstance(callback, StepsPerExecution) for callback in users):
            callbacks.append(StepsPerExecution())
        if self.subcommand == "fit" and config.enable_checkpointing is not False:
            self._checkpoints = next((callback for callback in users if isinstance(callback, RunCheckpoint)), None)
            if self._checkpoints is None:
                self._checkpoints = RunCheckpoint()
                callbacks.append(self._checkpoints)
        if config.enable_progress_bar is not False and not any(isinstance(callback, ProgressBar) for callback in users):
            # The default bar, rich's, reads every metric whenever it hears of a step.
            is_terminal = sys.stdout.isatty()
            callbacks.append(TQDMProgressBar(refresh_rate=50, leave=True) if is_terminal else EpochLines())
        return callbacks

    def fit(self, model: LightningModule, **kwargs: Any) -> None:
        """Train; a run that ends before its first step leaves no folder behind.

        Raises:
            UserError: If there was nothing to train, or another process of this run has ended before its time.
        """
        first_step = self._checkpoint["global_step"] if self._checkpoint else 0
        try:
            self.trainer.fit(model, **kwargs)
            if self.trainer.global_step <= first_step:
                raise UserError(f"nothing to train: {why_nothing(self.trainer)}")
        except BaseException as error:
            bar = self.trainer.progress_bar_callback
            if isinstance(error, TrainingInterruptedError) and isinstance(bar, TQDMProgressBar):
                bar.train_progress_bar.close()  # else it is drawn once more, behind what is said
            if self._run_logger and self._run_logger.new_run_dir and self.trainer.global_step <= first_step:
                shutil.rmtree(self._run_logger.new_run_dir, ignore_errors=True)
            # torch has a class for the errors of one of its backends, but none for those of gloo.
            lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
            if lost and isinstance(error, RuntimeError) and self.trainer.world_size > 1:
                saved = self._checkpoints.last_model_path if self._checkpoints else ""
                then = f"continue with: {continue_command(Path(saved))}" if saved else "start again"
                raise UserError(f"another process of this run has ended; {then}") from error
            raise

    def after_fit(self) -> None:
        """Say what was reached, where it lies, and what to type next."""
        if not self.trainer.is_global_zero or self._checkpoints is None:
            return
        if getattr(self.trainer, "fast_dev_run", False):
            print("Nothing of this fast_dev_run was kept")
            return
        if self._checkpoints.best_model_score is not None:
            print(f"Best validation accuracy: {100 * self._checkpoints.best_model_score:.2f} %")
        if path := self._checkpoints.best_model_path or self._checkpoints.last_model_path:
            print(f"Run: {os.path.relpath(Path(path).parent.parent)}")
            print(f"Next: python -m mnist_lit test --ckpt_path {shlex.quote(os.path.relpath(path))}")

    def before_validate(self) -> None:
        """Refuse to validate a run that trained on every image.

        Raises:
            UserError: If the checkpoint's run held out no validation images.
        """
        if self.datamodule.val_size == 0:
            raise UserError("this checkpoint's run held out no validation images (val_size 0): test it instead")

    def after_validate(self) -> None:
        """Say where the pictures are, and the accuracy."""
        self._say_accuracy("validation", "val_acc", self.trainer.num_val_batches, self.datamodule.val_dataloader())

    def after_test(self) -> None:
        """Say where the pictures are, and the accuracy in the article's words."""
        self._say_accuracy("test", "test_acc", self.trainer.num_test_batches, self.datamodule.test_dataloader())

    def _say_accuracy(self, kind: str, metric: str, batches: Sequence[float], loader: TensorBatches) -> None:
        logger, metrics = self.trainer.logger, self.trainer.callback_metrics
        if self.trainer.is_global_zero and isinstance(logger, TensorBoardLogger):
            print(f"Pictures: tensorboard --logdir {shlex.quote(os.path.relpath(logger.log_dir))}")
        if self.trainer.is_global_zero and metric in metrics:
            images = min(len(loader.labels), int(sum(batches)) * loader.batch_size)
            print(f"Accuracy of the network on the {images} {kind} images: {100 * metrics[metric]:.2f} %")

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


def run_lightning(descriptions: dict[str, str]) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``, as ``sys.argv`` says.

    Args:
        descriptions: What each command does, in one sentence.
    """
    MNISTCLI(
        MNISTClassifier,
        MNISTDataModule,
        save_config_callback=SaveConfigAtFirstStep,
        save_config_kwargs={"overwrite": True},  # by the run itself, when it is continued
        seed_everything_default=0,
        trainer_defaults={"max_epochs": 10, "devices": 1},  # several devices have nothing to gain here
        parser_kwargs={
            "exit_on_error": False,
            "prog": "python -m mnist_lit",
            **{name: {"exit_on_error": False, "description": descriptions[name]} for name in MNISTCLI.subcommands()},
        },
        auto_configure_optimizers=False,  # the module does
        load_from_checkpoint_support=False,  # the hyperparameters are plain values, which need no instantiator
    )


def run_tool(command: str, description: str) -> None:
    """Run a function of ``tools/`` with the options in ``sys.argv``.

    Args:
        command: The function's name, and its file's. Its parameters become options, except for these, which it is given
            if it has them: ``model`` (MNISTClassifier with the checkpoint's weights), ``datamodule`` (MNISTDataModule
            with the checkpoint's hyperparameters), ``checkpoint`` (its path) and ``epoch`` (its epoch, from 1).
        description: What it does, in one sentence.
    """
    # Imported here: most of what a tool needs comes with an extra, and takes its time.
    tool: Callable[..., None] = getattr(import_module(f"mnist_lit.tools.{command}"), command)
    parser = ArgumentParser(prog=f"python -m mnist_lit {command}", description=description, exit_on_error=False)
    parser.add_argument("--ckpt_path", default="best", help=_OF_NETWORK)
    parser.add_argument("--data.data_dir", default="data", help="Folder of the data, if they are needed.")
    parser.add_argument("--trainer.default_root_dir", default=".", help="Where lightning_logs is.")
    given: set[str | int] = {"model", "datamodule", "checkpoint", "epoch"}
    parser.add_function_arguments(tool, as_group=False, skip=given)
    options = parser.parse_args(sys.argv[2:])
    data_dir = require_local(Path(options.data.data_dir), "--data.data_dir")
    path = find_checkpoint(options.ckpt_path, Path(options.trainer.default_root_dir))
    checkpoint = read_checkpoint(path)
    _say_checkpoint(path)
    model = MNISTClassifier(**checkpoint["hyper_parameters"]).eval()
    model.load_state_dict(checkpoint["state_dict"])
    values = {
        **vars(options),
        "model": model,
        "datamodule": MNISTDataModule(data_dir, **checkpoint["datamodule_hyper_parameters"]),
        "checkpoint": path,
        "epoch": checkpoint["epoch"] + 1 if "epoch" in checkpoint else None,  # that of the package has none
    }
    tool(**{name: values[name] for name in signature(tool).parameters})


def _say_checkpoint(path: Path) -> None:
    if is_first_process():
        print(f"Checkpoint: {path}", file=sys.stderr)
