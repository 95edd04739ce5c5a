"""``make_trainer``: a Trainer with everything that makes a run safe and fast."""

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer
from lightning.pytorch.loggers import TensorBoardLogger

from mnist_lit.errors import RunInterruptedError, UserError
from mnist_lit.files import find_checkpoint, load_whole
from mnist_lit.module import MNISTClassifier
from mnist_lit.options import as_list, check_options
from mnist_lit.quiet import one_thread, quiet
from mnist_lit.run.checkpoint import RunCheckpoint, begin_with_an_epoch
from mnist_lit.run.execution import StepsPerExecution
from mnist_lit.run.folder import folder_of, is_first_process, make_run_dir, run_dir_of
from mnist_lit.run.progress import EpochLines
from mnist_lit.run.termination import Termination
from mnist_lit.tools.tensorboard import TensorBoardSummary


class RunTrainer(Trainer):
    """A Trainer whose runs have a folder, and whose ``ckpt_path`` is a file, a run's folder, ``"best"`` or ``"last"``.

    The names are of this Trainer's run, or of the newest one. ``fit`` with ``ckpt_path`` continues in that run's
    folder. Without, it is a new run in a new folder, unless this Trainer goes on training the same model: after an
    interruption or an error, from ``last.ckpt``.

    Only while a method runs, Lightning's messages about devices, seeds and tips are hidden, and torch computes with
    one thread if the model is an MNISTClassifier and ``OMP_NUM_THREADS`` is not set.

    Attributes:
        run_dir: The folder of the last fit, in the first process of a run; None before.
    """

    run_dir: Path | None = None
    has_own_logger = False  # whether fit makes the logger
    _trained: LightningModule | None = None  # the model whose run is in run_dir
    _is_unfinished = False  # whether its last fit was stopped

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Train.

        Raises:
            UserError: If the training cannot begin.
            RunInterruptedError: After Ctrl-C or SIGTERM.
        """
        with quiet(), one_thread() if isinstance(model, MNISTClassifier) else nullcontext():
            path = self._find(ckpt_path, "last")
            if path is None and self._is_unfinished and self._trained is model:
                path = self._saved or None
            check_options(self, model, datamodule if train_dataloaders is None else train_dataloaders)
            start, counts = self._check_start(path), self.fit_loop.state_dict()
            try:
                with self._folder(model, path, *start), self._interruptible(is_fit=True):
                    super().fit(model, train_dataloaders, val_dataloaders, datamodule, path, weights_only)
                self._is_unfinished = False
            except BaseException:
                self._is_unfinished = True
                self.fit_loop.load_state_dict(counts)  # without the epoch that has not ended
                begin_with_an_epoch(self)
                raise

    def validate(self, *args: Any, **kwargs: Any) -> Any:
        """Validate, as Lightning's Trainer."""
        return self._evaluate(super().validate, *args, **kwargs)

    def test(self, *args: Any, **kwargs: Any) -> Any:
        """Test, as Lightning's Trainer."""
        return self._evaluate(super().test, *args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict, as Lightning's Trainer."""
        return self._evaluate(super().predict, *args, **kwargs)

    def _evaluate(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = signature(method).bind(*args, **kwargs)
        model = call.arguments.get("model") or self.lightning_module
        threads = one_thread() if isinstance(model, MNISTClassifier) else nullcontext()
        with quiet(), threads, self._interruptible(is_fit=False):
            # Lightning misses callbacks that were saved by fit, such as ModelCheckpoint: no evaluation uses them.
            warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`, callbacks")
            call.arguments["ckpt_path"] = self._find(call.arguments.get("ckpt_path"), "best")
            if self.has_own_logger and self.logger is None:
                self.logger = TensorBoardLogger(self.default_root_dir, f"lightning_logs/{method.__name__}")
            return method(*call.args, **call.kwargs)

    @property
    def _saved(self) -> str:
        """The checkpoint that the run in ``run_dir`` continues from; empty if there is none."""
        path = self.run_dir and self.run_dir / "checkpoints" / "last.ckpt"
        return str(path) if path and path.is_file() else ""

    def _find(self, name: str | Path | None, of_folder: Literal["best", "last"]) -> str | None:
        root = Path(os.path.relpath(self.default_root_dir))
        if name is None:
            if SLURMEnvironment.detect() and any(root.glob("hpc_ckpt_*.ckpt")):
                raise UserError(f"Lightning would start from {root}/hpc_ckpt_*.ckpt: move it, or give a ckpt_path")
            return None
        own = getattr(self.checkpoint_callback, f"{name}_model_path", "") if name in ("best", "last") else str(name)
        if not own and self.global_step:
            raise UserError(f"ckpt_path {name!r}: this Trainer has saved no checkpoint")
        return str(find_checkpoint(own or str(name), root, of_folder))

    def _check_start(self, path: str | None) -> tuple[int | None, int]:
        """Return where a checkpoint continues: the step, in a logger's count, and the batch. UserError if it cannot."""
        if path is None:
            return None, self.fit_loop.epoch_loop.batch_progress.total.ready
        content = load_whole(Path(path))
        if "optimizer_states" not in content:
            raise UserError(f"{path} cannot be continued: it has only the weights, not the state of the training")
        epochs = content["epoch"] + 1
        if self.max_epochs is not None and 0 <= self.max_epochs < epochs:
            raise UserError(
                f"{path} is in epoch {epochs}, and max_epochs is {self.max_epochs}: give a larger one, or its run's "
                "config.yaml with --config"
            )
        loops = content.get("loops", {}).get("fit_loop", {})
        step = loops.get("epoch_loop.state_dict", {}).get("_batches_that_stepped", content["global_step"])
        return step, loops.get("epoch_loop.batch_progress", {"total": {"ready": 0}})["total"]["ready"]

    @contextmanager
    def _folder(self, model: LightningModule, path: str | None, step: int | None, batch: int) -> Iterator[None]:
        """Choose or make the run's folder and logger; a fit that makes no step leaves no file."""
        keeps = self.has_own_logger or any(isinstance(each, RunCheckpoint) for each in self.checkpoint_callbacks)
        if not keeps or getattr(self, "fast_dev_run", False) or not is_first_process():
            if self.has_own_logger:
                self.logger = TensorBoardLogger(self.default_root_dir, version=0)  # of another process: not written
            yield
            return
        previous, logs = self.run_dir, Path(self.default_root_dir).absolute() / "lightning_logs"
        run_dir = run_dir_of(Path(path)) if path else previous if self._trained is model else None
        if not path and not run_dir and not self.has_own_logger and (folder := folder_of(self.logger)):
            run_dir = folder.absolute() if folder.resolve().parent == logs.resolve() else None
        self.run_dir = run_dir = run_dir or make_run_dir(logs.parent)
        before = set(run_dir.rglob("*"))
        if self.has_own_logger:
            self.logger = TensorBoardLogger(
                run_dir.parent, name="", version=run_dir.name, default_hp_metric=False, purge_step=step
            )
        trained, self._trained = self._trained, model
        try:
            yield
        finally:
            made = set(run_dir.rglob("*")) - before
            is_elsewhere = getattr(self.strategy.launcher, "is_interactive_compatible", False)  # in forked processes
            has_trained = self.fit_loop.epoch_loop.batch_progress.total.ready > batch
            if not has_trained and not is_elsewhere and not any(each.suffix == ".ckpt" for each in made):
                for each in sorted(made, reverse=True):  # files before their folders
                    each.rmdir() if each.is_dir() else each.unlink()
                if not before:
                    run_dir.rmdir()
                with suppress(OSError):  # it is not empty
                    logs.rmdir()
                self.run_dir, self._trained = previous, trained

    @contextmanager
    def _interruptible(self, is_fit: bool) -> Iterator[None]:
        """Make RunInterruptedError of Ctrl-C, which Lightning makes SystemExit of, and of SIGTERM."""
        callbacks: list[Callback] = getattr(self, "callbacks", [])
        termination = next((each for each in callbacks if isinstance(each, Termination)), Termination())
        try:
            with termination.handled():
                yield
        except BaseException as error:
            cause = error.__context__ if isinstance(error, SystemExit) else error
            signum = termination.signum  # it may have ended a loader's worker, too, which is another error
            if signum or isinstance(cause, KeyboardInterrupt):
                raise RunInterruptedError(signum or signal.SIGINT, self._saved if is_fit else None) from None
            raise


def make_trainer(**options: Any) -> RunTrainer:
    """Return a Trainer that changes nothing outside its methods, with all that the command line has.

    It has a run's folder, whole checkpoint files, exact continuation, many steps in one round of Lightning's loop,
    TensorBoard's curves and pictures, and, without a terminal, a line for each epoch.

    Args:
        options: The Trainer's. By default ``devices`` is 1, and ``max_epochs`` 10 if there is no other limit.
            TensorBoard's logger, the callbacks and the progress bar are added unless the options have their own; with
            ``barebones`` nothing is added. ``max_time`` ends with an epoch.

    Example:
        >>> trainer = make_trainer(max_epochs=3)
        >>> trainer.checkpoint_callback.monitor
        'val_acc'
    """
    is_limited = any(options.get(name) for name in ("max_steps", "max_time"))
    options = {"max_epochs": None if is_limited else 10, "devices": 1} | options
    with quiet():
        if options.get("barebones"):
            return RunTrainer(**options)
        callbacks = [*as_list(options.get("callbacks"))]
        if duration := options.pop("max_time", None):
            callbacks.append(Timer(duration, interval="epoch"))
        # Ours come first: ckpt_path "best" is the file of the first of all checkpoint callbacks.
        options["callbacks"] = callbacks = [*_own_callbacks(options, callbacks), *callbacks]
        if options.get("enable_model_summary") is None:
            options["enable_model_summary"] = False  # nearly all of its rows are metrics, without parameters
        has_own_logger = options.get("logger") in (None, True) and not options.get("fast_dev_run")
        trainer = RunTrainer(**options | ({"logger": False} if has_own_logger else {}))
    trainer.has_own_logger = has_own_logger
    return trainer


def _own_callbacks(options: dict[str, Any], users: list[Any]) -> list[Callback]:
    def has_none(option: str, *kinds: type) -> bool:
        return options.get(option) not in (False, []) and not any(isinstance(each, kinds) for each in users)

    callbacks: list[Callback] = [Termination()]
    if has_none("enable_checkpointing", RunCheckpoint):
        callbacks.append(RunCheckpoint())
    if has_none("", StepsPerExecution):
        callbacks.append(StepsPerExecution())
    if has_none("enable_progress_bar", ProgressBar):
        callbacks.append(EpochLines())
    if has_none("logger", TensorBoardSummary):
        callbacks.append(TensorBoardSummary())  # last: its pictures, at the end of a run, take no epoch's time
    return callbacks
