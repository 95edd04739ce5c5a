"""What a run keeps and shows: its checkpoints, a line for each epoch, and in TensorBoard what belongs with the curves.

Lightning calls each callback six times a step, whether it has anything to do or not, which takes 1 % of the time of a
small network like this: so there are few of them.
"""

import os
import signal
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error
from torchmetrics.utilities.distributed import gather_all_tensors

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.figures import draw_confusion_matrix, draw_distortions, draw_first_layer, draw_mistakes
from mnist_lit.network import MLP

_PROJECTED = 1000  # images


class TrainingInterruptedError(Exception):
    """A signal stopped the training, which can be continued.

    Args:
        signum: The signal's number.
        path: The checkpoint that was saved.
    """

    def __init__(self, signum: int, path: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; saved {os.path.relpath(path)}")
        self.signum = signum
        self.path = path


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, from the epoch of the highest ``val_acc``, and ``last.ckpt``, from the last steps.

    A run that is continued from ``last.ckpt`` ends as if it had never stopped, unless something in it draws from
    torch's global random numbers. On SIGINT (Ctrl-C) and SIGTERM ``last.ckpt`` is saved after the step under way, in a
    run of several processes within ten steps, and ``TrainingInterruptedError`` is raised; a second signal ends the
    process at once.

    ModelCheckpoint's own ``save_last`` keeps the last one only of the epochs that are the best so far.

    Args:
        every_n_train_steps: Greatest number of steps that ``last.ckpt`` may be old, at least 1.

    Raises:
        ValueError: If ``every_n_train_steps`` is below 1.
    """

    # ModelCheckpoint's key lists its settings, anew in each of its hooks in each step: 2 % of an epoch.
    state_key = "RunCheckpoint"

    def __init__(self, every_n_train_steps: int = 500) -> None:
        if every_n_train_steps < 1:
            raise ValueError(f"every_n_train_steps must be at least 1, got {every_n_train_steps}")
        super().__init__(filename="best", monitor="val_acc", mode="max", enable_version_counter=False)
        self._interval = every_n_train_steps  # not ModelCheckpoint's every_n_train_steps, which is of best.ckpt
        self._due = False
        self._last_step = 0
        self._signum = self._agreed_signum = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep no best checkpoint where there will be no ``val_acc``."""
        if stage == "fit" and not trainer.enable_validation:
            self.monitor, self.save_top_k = None, 0
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals: Lightning's handlers stop in the middle of a step and save nothing."""
        super().on_train_start(trainer, pl_module)
        self._due, self._last_step, self._signum, self._agreed_signum = False, 0, 0, 0
        if threading.current_thread() is threading.main_thread():  # Lightning gives them back at the end
            for signum in signal.SIGINT, signal.SIGTERM:
                signal.signal(signum, self._note_signal)

    def _note_signal(self, signum: int, _: FrameType | None) -> None:
        if self._signum:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self._signum = signum

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the last checkpoint if it is time or a signal came, and this is a step to continue from.

        Raises:
            TrainingInterruptedError: If a signal came.
        """
        if trainer.world_size == 1:
            self._agreed_signum = self._signum
        elif batch_idx % 10 == 0:  # all processes must stop at the same step, whichever of them got the signal
            signum = torch.tensor(self._signum, device=pl_module.device)
            self._agreed_signum = int(trainer.strategy.reduce(signum, reduce_op="max"))
        fit_loop, loop, step = trainer.fit_loop, trainer.fit_loop.epoch_loop, trainer.global_step
        on_time = step % self._interval == 0 and not loop._should_accumulate()
        stops = step == trainer.max_steps or (trainer.should_stop and fit_loop._can_stop_early)
        self._due = self._due or on_time or stops or self._agreed_signum > 0
        # Gradients accumulated so far are not in a checkpoint; and from the end of a step Lightning continues with the
        # next step, not with validation or the end of the epoch: the hooks of these save then.
        if not self._due or loop._should_accumulate() or trainer.is_last_batch:
            return
        if fit_loop._data_fetcher and loop._should_check_val_fx(fit_loop._data_fetcher):
            return
        self._save_last(trainer)
        if self._agreed_signum:
            raise TrainingInterruptedError(self._agreed_signum, self.last_model_path)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the best checkpoint if this is it, and the last one if it is time."""
        super().on_validation_end(trainer, pl_module)
        within_epoch = not trainer.sanity_checking and not trainer.is_last_batch
        if self._due and within_epoch and not trainer.fit_loop.epoch_loop._should_accumulate():
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last checkpoint, and the best one if this is it."""
        if self.monitor in trainer.callback_metrics:  # else ModelCheckpoint warns; an epoch may have no validation
            super().on_train_epoch_end(trainer, pl_module)
        if not trainer.is_last_batch and self._last_step == trainer.global_step:
            return  # the epoch was cut short: from the checkpoint of its last step it can be finished
        ends = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        if trainer.global_step < trainer.max_steps and not ends:
            self._due = True  # with max_steps, Lightning 2.6.6 would end this epoch a second time: save after a step
            return
        self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        self._due, self._last_step = False, trainer.global_step
        if not self.dirpath or getattr(trainer, "fast_dev_run", False):  # then nothing is to be kept
            return
        for logger in trainer.loggers:
            logger.save()  # the curves up to here, so that none of their points is missing after a kill
        self.last_model_path = str(Path(self.dirpath, "last.ckpt"))
        trainer.save_checkpoint(self.last_model_path)

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs: no paths, since a run's folder can be moved."""
        return {"best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the run that is continued, if its best checkpoint is here."""
        score, best = state_dict["best_model_score"], Path(self.dirpath or ".", "best.ckpt")
        if score is not None and best.is_file():
            self.best_model_path = self.kth_best_model_path = str(best)
            self.best_model_score = self.current_score = self.kth_value = score
            self.best_k_models = {self.best_model_path: score}


class EpochLines(ProgressBar):
    """Prints a line for each epoch, for output that is not a terminal.

    ``Epoch 1: [550/550], Loss: 0.2927, Validation accuracy: 96.20 %``: the number of the epoch, its batches, the mean
    of their losses, and the accuracy on the validation images if it was measured.
    """

    def __init__(self) -> None:
        super().__init__()
        self._batches = 0
        self._validated = False

    def disable(self) -> None:
        """Do nothing: this prints on the main process alone."""

    # Callbacks hear of an epoch's end before the module, which then logs train_loss: so each line waits for what
    # comes next, another epoch or the end.

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Print the line of the epoch before."""
        self._print_line(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Print the last epoch's line."""
        self._print_line(trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note that there is a line to print, and of how many batches."""
        self._batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Note that the line has a validation accuracy."""
        self._validated = not trainer.sanity_checking

    def _print_line(self, trainer: Trainer) -> None:
        metrics = trainer.callback_metrics
        if self._batches and "train_loss" in metrics and trainer.is_global_zero:
            line = f"Epoch {trainer.current_epoch}: [{self._batches}/{trainer.num_training_batches}]"
            line += f", Loss: {metrics['train_loss']:.4f}"
            if self._validated:
                line += f", Validation accuracy: {100 * metrics['val_acc']:.2f} %"
            print(line, flush=True)
        self._batches, self._validated = 0, False


class TensorBoardSummary(LearningRateMonitor):
    """Adds to TensorBoard's curves what explains them.

    The learning rate has a curve, with other loggers too. Custom Scalars gets a chart with train and validation
    together for the loss and one for the accuracy, Graphs the network, HParams the hyperparameters with
    ``best_val_acc``, the highest ``val_acc`` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.best_val_acc = 0.0
        self._logged_hparams = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lay out the charts and draw the network."""
        super().on_train_start(trainer)
        network = pl_module.get_submodule("network")
        charts = {name: ["Multiline", [f"train_{name}$", f"val_{name}$"]] for name in ("loss", "acc")}
        for logger in _tensorboard_loggers(trainer):
            if getattr(logger, "new_run_dir", True) is None:  # a run that is continued: they are there
                continue
            logger.experiment.add_custom_scalars({"train and validation": charts})
            with warnings.catch_warnings():
                # TensorBoard's graphs are made with torch.jit.trace, which torch 2.15 has deprecated.
                warnings.filterwarnings("ignore", r"`torch\.jit\.trace", FutureWarning)
                logger.experiment.add_graph(network, next(network.parameters()).new_zeros(1, 1, 28, 28))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log ``best_val_acc``, and the first time the hyperparameters."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        step = trainer.global_step - 1  # where Lightning logs val_acc
        self.best_val_acc = max(self.best_val_acc, float(trainer.callback_metrics["val_acc"]))
        for logger in _tensorboard_loggers(trainer):
            metric = {"best_val_acc": self.best_val_acc}
            if not self._logged_hparams:
                datamodule = getattr(trainer, "datamodule", None)
                hparams = {**pl_module.hparams, **(datamodule.hparams if datamodule else {})}
                hparams["max_epochs"] = trainer.max_epochs
                logger.log_hyperparams(hparams, metric, step=step)
            else:
                logger.log_metrics(metric, step=step)
        self._logged_hparams = True

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs."""
        return {"best_val_acc": self.best_val_acc}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the run that is continued."""
        self.best_val_acc = state_dict["best_val_acc"]


class EvaluationFigures(Callback):
    """Shows in TensorBoard what a network gets right, what it mistakes, and how.

    After each validation and after a test: the accuracy of each digit's images, and the expected calibration error
    (Guo et al. 2017), how far the probabilities of the guesses are from the part of them that is right. At the end of
    the training and of ``trainer.validate`` and ``trainer.test``, since it takes a third of a second: the confusion
    matrix, the most confident mistakes, and what the first layer looks for. Before the training: the digits as they are
    distorted. After a test: the last hidden layer of 1,000 images, for the projector.

    Attributes:
        logits: What the network answered in the last validation or test, float ``(N, 10)``.
        labels: The digits, int64 ``(N,)``.
        mistakes: The images that it got wrong, float ``(M, 1, 28, 28)``, in their order.
    """

    def __init__(self) -> None:
        self.logits = self.labels = self.mistakes = torch.empty(0)
        self._outputs: list[tuple[Tensor, Tensor, Tensor]] = []
        self._images: list[Tensor] = []  # the first ones of a test

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show distorted digits."""
        datamodule = getattr(trainer, "datamodule", None)
        picture = draw_distortions(datamodule) if isinstance(datamodule, MNISTDataModule) else None
        for logger in _tensorboard_loggers(trainer):
            if picture is not None:
                logger.experiment.add_image("distorted_training_digits", picture, trainer.global_step)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Keep what the network answered."""
        images, labels = batch
        self._outputs.append((outputs, labels, images[outputs.argmax(dim=1) != labels]))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Keep what the network answered, and the first images."""
        self.on_validation_batch_end(trainer, pl_module, outputs, batch)
        if batch_idx * len(batch[0]) < _PROJECTED:
            self._images.append(batch[0])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures, and show the pictures if there is no training."""
        self._gather(trainer)
        if trainer.sanity_checking:
            return
        self._log_scores(trainer, "val")
        if trainer.state.fn == "validate":
            self._show(trainer, pl_module, "val")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the pictures."""
        self._show(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures and show the pictures, and the last hidden layer in the projector."""
        self._gather(trainer)
        self._log_scores(trainer, "test")
        self._show(trainer, pl_module, "test")
        images = torch.cat(self._images)[:_PROJECTED]
        labels = self.labels[: len(images)]
        self._images.clear()
        network = pl_module.get_submodule("network")
        for logger in _tensorboard_loggers(trainer):
            if isinstance(network, MLP):
                hidden = network.last_hidden(images)
                logger.experiment.add_embedding(hidden, labels.tolist(), images, tag="last_hidden_layer")

    def _gather(self, trainer: Trainer) -> None:
        shares = [torch.cat(outputs) for outputs in zip(*self._outputs, strict=True)]
        if trainer.world_size > 1:
            shares = [torch.cat(gather_all_tensors(share)) for share in shares]
        self.logits, self.labels, self.mistakes = shares[0].float(), shares[1], shares[2].float()
        self._outputs.clear()

    def _log_scores(self, trainer: Trainer, stage: str) -> None:
        by_digit = multiclass_accuracy(self.logits, self.labels, num_classes=10, average="none")
        scores = {f"{stage}_acc_by_digit/{digit}": float(acc) for digit, acc in enumerate(by_digit)}
        scores[f"{stage}_calibration_error"] = float(multiclass_calibration_error(self.logits, self.labels, 10))
        step = max(trainer.global_step - 1, 0)  # where Lightning logs val_acc
        for logger in trainer.loggers:
            logger.log_metrics(scores, step)

    def _show(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        step = max(trainer.global_step - 1, 0)
        network = pl_module.get_submodule("network")
        for logger in _tensorboard_loggers(trainer):
            writer = logger.experiment
            if isinstance(network, MLP):
                writer.add_image("first_layer", draw_first_layer(network), step)
            if len(self.logits):
                wrong = self.logits.argmax(dim=1) != self.labels
                mistakes = draw_mistakes(self.mistakes, self.logits[wrong].softmax(dim=1), self.labels[wrong])
                writer.add_image(f"{stage}_mistakes", mistakes, step)
                confusion = draw_confusion_matrix(self.logits, self.labels)
                if confusion is not None:
                    writer.add_figure(f"{stage}_confusion_matrix", confusion, step)


def _tensorboard_loggers(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
