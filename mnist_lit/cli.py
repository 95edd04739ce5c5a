"""The command line: LightningCLI, with this project's defaults."""

import logging
import math
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import torch
from jsonargparse import SUPPRESS, ArgumentError, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    ProgressBar,
    StochasticWeightAveraging,
    Timer,
    TQDMProgressBar,
)
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from mnist_lit.callbacks import EpochLines, RunCheckpoint, TrainingInterruptedError
from mnist_lit.checkpoint import AtomicCheckpointIO, find_checkpoint, read_checkpoint
from mnist_lit.datamodule import MNISTDataModule, TensorBatches
from mnist_lit.errors import UserError
from mnist_lit.files import replacing, require_local
from mnist_lit.logger import RunLogger
from mnist_lit.module import MNISTClassifier
from mnist_lit.predict import find_pictures, format_csv, format_table, printable, read_digits
from mnist_lit.summary import TensorBoardSummary
from mnist_lit.trainer import MNISTTrainer


class SaveConfigAtFirstStep(SaveConfigCallback):
    """Saves ``config.yaml``, and ``hparams.yaml`` anew, at the first step: a run that is refused changes nothing."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Do nothing yet."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save, the first time."""
        if self.already_saved:
            return
        super().setup(trainer, pl_module, "fit")
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(trainer.logger, RunLogger) and isinstance(datamodule, MNISTDataModule):
            trainer.logger.rewrite_hparams({**pl_module.hparams, **datamodule.hparams})


class MNISTCLI(LightningCLI):
    """LightningCLI that knows where a run's checkpoints lie and never tests untrained weights."""

    _checkpoint: dict[str, Any] | None = None  # what --ckpt_path names
    _checkpoint_path: Path | None = None
    _logger: RunLogger | None = None  # of a training run, unless the user chose another
    _checkpoints: RunCheckpoint | None = None  # likewise

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return Lightning's subcommands and ours, each with the arguments that are no options."""
        ours = {name: {"model", "datamodule"} for name in ("report", "demo", "export")}
        return LightningCLI.subcommands() | ours

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Add what ``predict`` takes besides the options of the trainer's method, and shorten the help of our own."""
        super().setup_parser(*args, **kwargs)
        for subcommand in self.subcommands().keys() - LightningCLI.subcommands().keys():
            for action in self._parser(subcommand)._actions:
                # Some 150 options, few of which matter to them.
                if action.dest.startswith(("trainer", "model", "data", "seed")) and action.dest != "data.data_dir":
                    action.help = SUPPRESS
        predict = self._parser("predict")
        predict.add_argument(
            "--images",
            type=Path,
            nargs="+",
            help="Your own pictures of a digit each, in place of the test images: files and folders.",
        )
        predict.add_argument(
            "--output", type=Path | None, help="CSV file for the predictions and all ten probabilities."
        )
        predict.add_argument(
            "--show", type=Path | None, help="Folder for a picture of each of --images beside what the network sees."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, then find the checkpoint and take from it what it was trained with.

        LightningCLI does so too, but lets the checkpoint silently win over an option, and knows no newest run.
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
        if subcommand == "fit" and config.ckpt_path is None:
            return
        path = find_checkpoint(str(config.ckpt_path or "best"), Path(config.trainer.default_root_dir or "."))
        self._checkpoint = read_checkpoint(path)
        if subcommand == "fit" and "optimizer_states" not in self._checkpoint:
            raise UserError(f"{path} cannot be continued: it has the weights alone, not the state of the training")
        # Of the data, for all but fit, the split alone matters: validation images must stay unseen ones. And where the
        # data lie is for the user to say.
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
                # None is --data.seed where a config.yaml says that it was left out
                if option in given and config[option] not in (None, value):
                    raise UserError(
                        f"--{option} is {config[option]}, but {path} was trained with {value}: leave out the option, "
                        "or the --config that has it, or name another checkpoint with --ckpt_path"
                    )
                config[option] = value
        config.ckpt_path, self._checkpoint_path = str(path), path
        if subcommand != "fit" and _is_first_process():
            print(f"Checkpoint: {path}", file=sys.stderr)

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
            if self.subcommand in LightningCLI.subcommands():
                self.config_init[self.subcommand].ckpt_path = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer, with a logger, checkpoints and progress where the user did not choose otherwise.

        Raises:
            UserError: If an option is one that Lightning would break on later.
        """
        config = self.config_init[self.subcommand].trainer
        self.config[self.subcommand].ckpt_path = None  # config.yaml repeats a run from its start, continued or not
        theirs = config.callbacks if isinstance(config.callbacks, list) else [config.callbacks]
        callbacks: list[Callback] = []
        if self.subcommand == "fit" and not config.barebones:
            if config.logger in (None, True):
                self._logger = kwargs["logger"] = self._run_logger(Path(config.default_root_dir or ".").absolute())
            if config.logger not in (False, []):
                callbacks.append(TensorBoardSummary())
            if config.enable_checkpointing is not False:
                self._checkpoints = next((each for each in theirs if isinstance(each, RunCheckpoint)), None)
                if self._checkpoints is None:
                    self._checkpoints = RunCheckpoint()
                    callbacks.append(self._checkpoints)
                plugins = config.plugins if isinstance(config.plugins, list) else [config.plugins or ()]
                if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
                    kwargs["plugins"] = [*filter(None, plugins), AtomicCheckpointIO()]
        elif self.subcommand in ("validate", "test") and not config.barebones:
            if config.logger in (None, True):
                kwargs["logger"] = self._evaluation_logger(Path(config.default_root_dir or ".").absolute())
            if config.logger not in (False, []):
                callbacks.append(TensorBoardSummary())
        elif config.logger is None:
            kwargs["logger"] = False
        if not config.barebones:
            terminal = sys.stdout.isatty()
            if config.enable_model_summary is None:
                kwargs["enable_model_summary"] = terminal
            has_progress_bar = any(isinstance(callback, ProgressBar) for callback in theirs)
            if config.enable_progress_bar is not False and not has_progress_bar:
                # The default bar, rich's, reads every metric at every step: an epoch of 0.9 seconds takes 1.3 with it.
                callbacks.append(TQDMProgressBar(refresh_rate=50, leave=True) if terminal else EpochLines())
        if self.datamodule.val_size == 0:
            kwargs["limit_val_batches"] = 0  # Lightning warns of a loader without batches
        self.trainer_defaults["callbacks"] = callbacks
        require_local(Path(config.default_root_dir or "."), "--trainer.default_root_dir")
        for callback in theirs:
            if isinstance(callback, StochasticWeightAveraging):
                raise UserError(
                    "StochasticWeightAveraging puts its average into no checkpoint: use WeightAveraging or "
                    "EMAWeightAveraging"
                )
            if isinstance(callback, BackboneFinetuning):
                raise UserError("BackboneFinetuning needs a pretrained backbone, which this network does not have")
            if isinstance(callback, BatchSizeFinder) and self.model.schedule == "one_cycle":
                raise UserError(
                    "BatchSizeFinder tries steps that a one_cycle does not have: set --model.schedule constant"
                )
        if self.save_config_callback:
            self._check_that_the_config_can_be_saved()
        if isinstance(config.strategy, str) and config.strategy.endswith(("_spawn", "_fork", "_notebook")):
            raise UserError(f"--trainer.strategy {config.strategy} is for notebooks: use ddp")
        if config.val_check_interval == 0:  # Lightning 2.6.6 would divide by it after the first step
            raise UserError("--trainer.val_check_interval must be above 0, got 0")
        return super().instantiate_trainer(**kwargs)

    def _check_that_the_config_can_be_saved(self) -> None:
        with warnings.catch_warnings(record=True) as problems:
            warnings.filterwarnings("ignore")
            warnings.filterwarnings("always", r"\s*Unable to serialize instance")
            try:
                self._parser("fit").dump(self.config["fit"])
            except ValueError as error:
                problem = str(error)
            else:
                problem = str(problems[0].message) if problems else ""
        if problem:
            argument = re.search(r"(?:serialize instance|represent an object',) (\S+)", problem)
            raise UserError(
                f"{argument[1] if argument else problem}: this argument of a callback or another class cannot be "
                "written to config.yaml, from which the run could be repeated: use the class in Python (in place of a "
                "Timer there is --trainer.max_time)"
            )

    def _run_logger(self, root: Path) -> RunLogger:
        if self._checkpoint is not None and self._checkpoint_path is not None:
            run_dir = self._checkpoint_path.resolve().parent.parent
            if run_dir.parent == root.resolve() / "lightning_logs":  # go on in the run's own folder, which is not empty
                warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
                return RunLogger(root, version=run_dir.name, step=self._checkpoint["global_step"])
        return RunLogger(root)

    def _evaluation_logger(self, root: Path) -> TensorBoardLogger:
        # In a folder of its own: of two files of events TensorBoard follows the newer one, of a run under way no more.
        assert self._checkpoint_path is not None
        run_dir = self._checkpoint_path.resolve().parent.parent
        if run_dir.parent.name == "lightning_logs" and os.access(run_dir, os.W_OK):
            return TensorBoardLogger(run_dir, name=self.subcommand, default_hp_metric=False)
        return TensorBoardLogger(root / "lightning_logs", name=self.subcommand, default_hp_metric=False)

    def fit(self, **kwargs: Any) -> None:
        """Train; a run that ends before its first step leaves no folder behind.

        Raises:
            UserError: If there was nothing to train, or another process of this run has ended before its time.
        """
        first_step = self._checkpoint["global_step"] if self._checkpoint else 0
        try:
            self._check_monitors()
            self._check_overfit_batches()
            self.trainer.fit(**kwargs)
            if self.trainer.global_step <= first_step:
                raise UserError(f"nothing to train: {self._why_nothing()}")
        except BaseException as error:
            bar = self.trainer.progress_bar_callback
            if isinstance(error, TrainingInterruptedError) and isinstance(bar, TQDMProgressBar):
                bar.train_progress_bar.close()  # else it is drawn once more, behind what is said
            if self._logger and self._logger.new_run_dir and self.trainer.global_step <= first_step:
                shutil.rmtree(self._logger.new_run_dir, ignore_errors=True)
            # torch has a class for the errors of one of its backends, but none for those of gloo.
            lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
            if lost and isinstance(error, RuntimeError) and self.trainer.world_size > 1:
                saved = self._checkpoints.last_model_path if self._checkpoints else ""
                then = f"continue with: {_continue_command(Path(saved))}" if saved else "start again"
                raise UserError(f"another process of this run has ended; {then}") from error
            raise

    def _check_monitors(self) -> None:
        # EarlyStopping itself complains at the end of an epoch.
        stages = ("train", "val") if self.datamodule.val_size and self.trainer.limit_val_batches else ("train",)
        metrics = [f"{stage}_{name}" for stage in stages for name in ("loss", "acc")]
        for callback in _callbacks(self.trainer):
            monitor = getattr(callback, "monitor", None)
            if monitor is not None and monitor not in metrics:
                raise UserError(f"{type(callback).__name__} monitors {monitor}, and there are {', '.join(metrics)}")

    def _check_overfit_batches(self) -> None:
        # A part of the validation images, too, for Lightning, whose advice is of another option.
        share, val_size = getattr(self.trainer, "overfit_batches", 0.0), self.datamodule.val_size
        batches = math.ceil(min(val_size or 60_000, 60_000 - val_size) / self.datamodule.batch_size)
        if 0 < share < 1 and share * batches < 1:
            raise UserError(
                f"--trainer.overfit_batches {share} is less than one of {batches} batches: give at least "
                f"{math.ceil(1000 / batches) / 1000}, or a whole number of batches"
            )

    def _why_nothing(self) -> str:
        trainer = self.trainer
        for callback in _callbacks(trainer):
            remaining = callback.time_remaining() if isinstance(callback, Timer) else None
            if remaining is not None and remaining <= 0:
                return "the time of --trainer.max_time is used up; give a longer one, of all that the run may take"
        if 0 <= trainer.max_steps <= trainer.global_step:
            return f"{trainer.global_step} steps are done and --trainer.max_steps is {trainer.max_steps}"
        if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
            return f"{trainer.current_epoch} epochs are done and --trainer.max_epochs is {trainer.max_epochs}"
        if trainer.num_training_batches == 0:
            return "an epoch has no batches; see --trainer.limit_train_batches"
        return "a callback stopped the training before its first step"

    def after_fit(self) -> None:
        """Say what was reached, where it lies, and what to type next."""
        if not self.trainer.is_global_zero or self._checkpoints is None:
            return
        if getattr(self.trainer, "fast_dev_run", False):
            print("Nothing of this fast_dev_run was kept")
            return
        if self._checkpoints.best_model_score is not None:
            print(f"Best validation accuracy: {100 * self._checkpoints.best_model_score:.2f} %")
        path = Path(self._checkpoints.best_model_path or self._checkpoints.last_model_path)
        print(f"Run: {os.path.relpath(path.parent.parent)}")
        print(f"Next: python -m mnist_lit test --ckpt_path {shlex.quote(os.path.relpath(path))}")

    def before_validate(self) -> None:
        """Refuse to validate a run that trained on every image.

        Raises:
            UserError: If the checkpoint's run held out no validation images.
        """
        if self.datamodule.val_size == 0:
            raise UserError("this checkpoint's run held out no validation images (val_size 0): test it instead")

    def after_validate(self) -> None:
        """Say where the pictures are."""
        logger = self.trainer.logger
        if self.trainer.is_global_zero and isinstance(logger, TensorBoardLogger):
            print(f"Pictures: tensorboard --logdir {shlex.quote(os.path.relpath(logger.log_dir))}")

    def after_test(self) -> None:
        """Say where the pictures are, and print the article's line."""
        self.after_validate()
        if self.trainer.is_global_zero and "test_acc" in self.trainer.callback_metrics:
            images = min(10_000, int(sum(self.trainer.num_test_batches)) * self.datamodule.batch_size)
            accuracy = 100 * self.trainer.callback_metrics["test_acc"]
            print(f"Accuracy of the network on the {images} test images: {accuracy:.2f} %")

    def predict(self, **kwargs: Any) -> None:
        """Say which digit is in each of the user's pictures, or else in each test image.

        Raises:
            UserError: If the options contradict each other.
            SystemExit: With status 1 if there was no digit in a picture, when all others have been predicted.
        """
        options = self.config_init.predict
        if options.show and not options.images:
            raise UserError("--show needs --images: it shows your own pictures")
        if options.show and options.show.exists() and not options.show.is_dir():
            raise UserError(f"--show {options.show}: a file has that name, and a folder is needed")
        if options.return_predictions is False and (options.images or options.output):
            raise UserError("--return_predictions false leaves nothing to write: leave it out")
        digits: dict[Path, Tensor] = {}
        failures: dict[Path, str] = {}
        predictions: list[Tensor] | None = None
        if options.images:
            pictures = find_pictures(options.images, options.output, options.show)
            digits, failures = read_digits(pictures, options.show if _is_first_process() else None)
        if digits:
            images = torch.cat(list(digits.values())).mul(255).round().byte()
            batches = TensorBatches(images, torch.zeros(len(images)), self.datamodule.batch_size)
            kwargs |= {"dataloaders": batches, "datamodule": None}
        if not failures or digits:
            predictions = cast(list[Tensor] | None, self.trainer.predict(**kwargs))
        if not self.trainer.is_global_zero:
            return
        if predictions:  # with --return_predictions false there are none
            probabilities = torch.cat(predictions)
            paths = list(digits)[: len(probabilities)]  # fewer with --trainer.limit_predict_batches
            text = format_csv(paths, probabilities)
            if options.output:
                with replacing(options.output) as unfinished:
                    unfinished.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
                print(f"Wrote {options.output}", file=sys.stderr)
            if options.images:
                print(format_table(paths, probabilities))
            elif not options.output:
                print(text, end="")
        for path, reason in failures.items():
            print(f"error: {printable(path)}: {reason}", file=sys.stderr)
        if failures:
            sys.exit(1)


def _callbacks(trainer: Trainer) -> list[Callback]:
    callbacks: list[Callback] = getattr(trainer, "callbacks", [])  # Lightning declares no type for it
    return callbacks


def _is_first_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


def _report_thread_error(args: threading.ExceptHookArgs) -> None:
    # TensorBoard's writer cannot write; the next call of it raises the same in the main thread, which says so.
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)


def _is_raised_by_lightning(traceback: TracebackType | None) -> bool:
    # Of its own accord it raises an error for an option; what it calls may have a defect.
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_globals["__name__"].startswith("lightning.")


def _was_asked_for(record: logging.LogRecord) -> bool:
    # Below warnings Lightning announces devices, seeds, its makers' other packages and why it stopped; what a callback,
    # a profiler or a tuner says, the user has asked for.
    asked_for = Path(record.pathname).parent.name in ("callbacks", "profilers", "tuner")
    return record.levelno >= logging.WARNING or asked_for


def _continue_command(checkpoint: Path) -> str:
    run_dir = checkpoint.parent.parent
    config = run_dir / "config.yaml"  # unless the user chose another logger, or none
    is_run = run_dir.name.startswith("version_") and config.is_file()
    options = ["--config", os.path.relpath(config)] if is_run else sys.argv[2:]
    return shlex.join(["python", "-m", "mnist_lit", "fit", *options, "--ckpt_path", os.path.relpath(checkpoint)])


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: With status 1 and one sentence on an error that the user can mend, 2 on one in the arguments, and
            128 plus its number after a signal, as the shell has it.
    """
    for name in "lightning.pytorch", "lightning.fabric":
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_was_asked_for)
    # Lightning 2.6.6 uses in every run what torch 2.15 has deprecated, and no setting avoids it.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
    if "OMP_NUM_THREADS" not in os.environ:
        # A step is too small to share: on an idle machine a second thread gains nothing, and on a busy one the two
        # wait for each other so long that an epoch of one second can take ten.
        torch.set_num_threads(1)
    threading.excepthook = _report_thread_error
    parser_kwargs: dict[str, Any] = {command: {"exit_on_error": False} for command in MNISTCLI.subcommands()}
    try:
        MNISTCLI(
            MNISTClassifier,
            MNISTDataModule,
            trainer_class=MNISTTrainer,
            save_config_callback=SaveConfigAtFirstStep,
            save_config_kwargs={"overwrite": True},  # by the run itself, when it is continued
            seed_everything_default=0,
            trainer_defaults={"max_epochs": 10, "devices": 1},  # several devices have nothing to gain here
            parser_kwargs=parser_kwargs
            | {
                "exit_on_error": False,
                "prog": "python -m mnist_lit",
                "description": "Train, test and use a small network on MNIST.",
            },
            auto_configure_optimizers=False,  # the module does
            load_from_checkpoint_support=False,  # the hyperparameters are plain values, which need no instantiator
        )
    except TrainingInterruptedError as stop:
        if not _is_first_process():
            sys.exit(0)  # the first process, when it started this one, would be killed for another status
        print(f"{stop}\nContinue: {_continue_command(Path(stop.path))}", file=sys.stderr)
        sys.exit(128 + stop.signum)
    except SIGTERMException:
        sys.exit(128 + signal.SIGTERM)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # which Lightning makes status 1 of
            sys.exit(128 + signal.SIGINT)
        raise
    except ArgumentError as error:
        message, status = re.sub(r"(?<=required: )\w+\.", "--", str(error)), 2
    except BrokenPipeError:  # whoever reads the output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        hint = "data go to --data.data_dir, runs to --trainer.default_root_dir, results to --output"
        message, status = f"{where}{error.strerror or error} ({hint})", 1
    except (UserError, MisconfigurationException) as error:
        message, status = str(error), 1
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        if not _is_raised_by_lightning(error.__traceback__):
            raise  # a defect: it keeps its traceback
        message, status = str(error), 1
    else:
        return
    finally:
        # Lightning does so for NCCL alone; gloo's threads, if still there when the process ends, may abort it.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    print("error:", " ".join(message.split()), file=sys.stderr)
    sys.exit(status)
