"""``make_trainer``: a Trainer with everything that makes a run safe and fast."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, StochasticWeightAveraging, Timer
from lightning.pytorch.callbacks.progress.progress_bar import ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from mnist_lit.checkpoints import find_checkpoint, load_whole
from mnist_lit.errors import UserError
from mnist_lit.module import MNISTClassifier
from mnist_lit.quiet import one_thread, quiet
from mnist_lit.run.checkpoint import RunCheckpoint, begin_with_an_epoch
from mnist_lit.run.execution import StepsPerExecution
from mnist_lit.run.folder import folder_of, is_first_process, make_run_dir, run_dir_of
from mnist_lit.run.progress import EpochLines
from mnist_lit.run.termination import Termination
from mnist_lit.tools.tensorboard import TensorBoardSummary

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _adapted(method: _Method) -> _Method:
    """Return Trainer's ``fit``, ``validate``, ``test`` or ``predict`` with what RunTrainer adds to it."""

    @wraps(method)
    def run(self: "RunTrainer", *args: Any, **kwargs: Any) -> Any:
        call = signature(method).bind(self, *args, **kwargs)
        given, is_fit = call.arguments.get("model"), method is Trainer.fit
        model = self.lightning_module if given is None else getattr(given, "_orig_mod", given)  # of torch.compile
        threads = one_thread() if isinstance(model, MNISTClassifier) else nullcontext()
        prepared = self._fitting(model, call.arguments) if is_fit else self._evaluating(method.__name__, call.arguments)
        callbacks = [each for each in getattr(self, "callbacks", []) if isinstance(each, Termination)]
        termination = callbacks[0] if callbacks else Termination()
        with quiet(), threads, prepared, termination.handled(self._saved if is_fit else lambda: None):
            return method(*call.args, **call.kwargs)

    return cast(_Method, run)


class RunTrainer(Trainer):
    """A Trainer whose runs have a folder, and whose ``ckpt_path`` is a file, a run's folder, ``"best"`` or ``"last"``.

    The names are of this Trainer's run, or of the newest one. ``fit`` with ``ckpt_path`` continues in that run's
    folder. Without, it is a new run in a new folder, unless this Trainer goes on training the same model: after an
    interruption or an error, from ``last.ckpt``. ``fit`` raises a UserError if the run cannot begin; each method raises
    a RunInterruptedError after Ctrl-C or SIGTERM.
    """

    run_dir: Path | None = None  # of the last fit or the tested checkpoint, in the first process of a run
    has_own_logger = False  # whether fit, validate and test make the logger
    _trained: LightningModule | None = None  # the model whose run is in run_dir
    _is_unfinished = False  # whether its last fit was stopped

    fit, validate = _adapted(Trainer.fit), _adapted(Trainer.validate)
    test, predict = _adapted(Trainer.test), _adapted(Trainer.predict)

    @contextmanager
    def _fitting(self, model: LightningModule, arguments: dict[str, Any]) -> Iterator[None]:
        unfinished = self._saved() if self._is_unfinished and self._trained is model else None
        arguments["ckpt_path"] = path = self._find(arguments.get("ckpt_path") or unfinished, "last")
        if any(type(each) is StochasticWeightAveraging for each in getattr(self, "callbacks", [])):
            averaging = "WeightAveraging or EMAWeightAveraging"
            raise UserError(f"StochasticWeightAveraging does not save its average in checkpoints: use {averaging}")
        for option in "val_check_interval", "check_val_every_n_epoch", "accumulate_grad_batches":
            if getattr(self, option, None) == 0:  # the first is not set for an interval of time
                raise UserError(f"{option} must be above 0, got 0")
        if not path and self._trained and self.fit_loop.done:
            raise UserError("nothing to train: this Trainer's epochs or steps are done: make another Trainer")
        counts, modes = self.fit_loop.state_dict(), [(each, each.training) for each in model.modules()]
        if path:
            content = load_whole(Path(path))
            if "optimizer_states" not in content:
                raise UserError(f"{path} cannot be continued: it has only the weights, not the state of the training")
            self.fit_loop.load_state_dict(content["loops"]["fit_loop"])  # so that _folder knows where the run goes on
            # What they found when the run began is in the checkpoint; a subclass may search later.
            searches = LearningRateFinder.on_fit_start, BatchSizeFinder.on_fit_start
            callbacks: list[Callback] = getattr(self, "callbacks", [])
            self.callbacks = [each for each in callbacks if type(each).on_fit_start not in searches]
        self._is_unfinished = True
        try:
            with self._folder(model, path):
                yield
            self._is_unfinished = False
        except BaseException:
            for each, mode in modes:  # a validation may not have ended
                each.training = mode
            self.fit_loop.load_state_dict(counts)  # without the epoch that has not ended
            begin_with_an_epoch(self)
            raise

    @contextmanager
    def _evaluating(self, name: str, arguments: dict[str, Any]) -> Iterator[None]:
        # Lightning warns of callbacks that fit had and this Trainer lacks; no option says that none is needed.
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`, callbacks")
        arguments["ckpt_path"] = path = self._find(arguments.get("ckpt_path"), "best")
        if self.has_own_logger and name != "predict":
            # In a folder of its own: TensorBoard follows only the newest file in a folder, which stays the run's.
            folder = (run_dir_of(Path(path)) if path else self.run_dir) or Path(self.default_root_dir, "lightning_logs")
            self.logger = TensorBoardLogger(folder, name, default_hp_metric=False)
        yield

    def _saved(self) -> str:
        return str(next(self.run_dir.glob("checkpoints/last.ckpt"), "")) if self.run_dir else ""

    def _find(self, name: str | Path | None, of_folder: Literal["best", "last"]) -> str | None:
        if not name:
            return None
        own = getattr(self.checkpoint_callback, f"{name}_model_path", "") if name in ("best", "last") else str(name)
        if not own and self.global_step:
            raise UserError(f"ckpt_path {name!r}: this Trainer has saved no checkpoint")
        return str(find_checkpoint(own or str(name), os.path.relpath(self.default_root_dir), of_folder))

    @contextmanager
    def _folder(self, model: LightningModule, path: str | None) -> Iterator[None]:
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
        before, batches = set(run_dir.rglob("*")), self.fit_loop.epoch_loop.batch_progress.total.ready
        if self.has_own_logger:
            step = self.fit_loop.epoch_loop._batches_that_stepped if path else None  # in a logger's count
            self.logger = TensorBoardLogger(run_dir.parent, "", run_dir.name, default_hp_metric=False, purge_step=step)
        trained, self._trained = self._trained, model
        try:
            yield
        finally:
            is_elsewhere = isinstance(self.strategy.launcher, _MultiProcessingLauncher)  # the counts are there
            if not is_elsewhere and self.fit_loop.epoch_loop.batch_progress.total.ready <= batches:
                made = sorted(set(run_dir.rglob("*")) - before, reverse=True)  # files before their folders
                for each in [*made, run_dir, logs]:
                    with suppress(OSError):  # a folder is not empty
                        each.rmdir() if each.is_dir() else each.unlink()
                self.run_dir, self._trained = previous, trained


# Callbacks, the kinds that take their place, and the options that turn them off. They come before a user's: ckpt_path
# "best" is of the first checkpoint callback. The pictures at the end of a run come last, in no epoch's time.
_CALLBACKS: list[tuple[Callable[[], Callback], type, str]] = [
    (Termination, Termination, ""),
    (RunCheckpoint, RunCheckpoint, "enable_checkpointing"),
    (StepsPerExecution, StepsPerExecution, ""),
    (EpochLines, ProgressBar, "enable_progress_bar"),
    (TensorBoardSummary, TensorBoardSummary, "logger"),
]


def make_trainer(**options: Any) -> RunTrainer:
    """Return the Trainer of the command line: its runs have a folder, can be resumed exactly, and are fast.

    Only while a method runs, Lightning's messages about devices, seeds and tips are hidden, and torch computes with
    one thread if the model is an MNISTClassifier and ``OMP_NUM_THREADS`` is not set.

    Args:
        options: The Trainer's. By default ``devices`` is 1, ``max_epochs`` 10 if there is no other limit, and
            ``enable_model_summary`` false: most of its rows would be metrics. TensorBoard's logger and the callbacks
            are added unless the options have their own; with ``barebones`` none. ``max_time`` ends with an epoch.

    Raises:
        UserError: If ``default_root_dir`` is a URL: as a path, it would create a local folder with a strange name.
    """
    is_limited = options.get("max_steps", -1) != -1 or bool(options.get("max_time"))
    defaults = {"max_epochs": None if is_limited else 10, "devices": 1, "enable_model_summary": False}
    options |= {name: value for name, value in defaults.items() if options.get(name) is None}
    if "://" in str(root := options.get("default_root_dir")):
        raise UserError(f"default_root_dir {root}: runs are not written to a URL; name a local folder")
    with quiet():
        given = options.get("callbacks") or []
        callbacks = [given] if isinstance(given, Callback) else [*given]
        if duration := options.pop("max_time", None):
            callbacks.append(Timer(duration, interval="epoch"))
        kinds = [] if options.get("barebones") else _CALLBACKS
        ours: list[Callback] = [
            kind()
            for kind, replaced_by, option in kinds
            if options.get(option) not in (False, []) and not any(isinstance(each, replaced_by) for each in callbacks)
        ]
        options["callbacks"] = [*ours, *callbacks]
        has_own_logger = bool(kinds) and options.get("logger") in (None, True) and not options.get("fast_dev_run")
        trainer = RunTrainer(**options | ({"logger": False} if has_own_logger else {}))
    trainer.has_own_logger = has_own_logger
    return trainer
